//! Visitors of an onion service who do not read, and directories of services that are filled.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use cepa_crypto::ed25519::Keypair;
use cepa_netdoc::hs_descriptor::{HsDescriptorBuilder, HsPlaintext};
use cepa_wire::relay::RelayCommand;

use crate::attacker::circuit::Circuit;
use crate::attacker::link::Link;
use crate::attacker::{descriptor, http, one_of_many};
use crate::support::fetch;
use crate::support::now;
use crate::support::onion::Service;
use crate::trial::{Flood, Trial};
use crate::world::{GUARD, World};

/// Streams that are opened and not read.
const STREAMS: usize = 300;
/// Their circuits.
const VISITORS: usize = 3;

/// Streams of visitors who ask for much and read nothing.
pub(crate) fn unread(world: &World) {
    let network = &world.network.summary.network;
    let service = Service::start(
        network,
        &world.folder("onion").join("service"),
        world.server,
    );
    let (socks, address) = (world.network.socks(), service.address.clone());
    let honest = || {
        let started = now();
        let target = (address.as_str(), 80);
        let user = format!("{}", now().duration_since(world.started).as_nanos());
        let page = fetch::fetch_from(world.user(), Some(&user), target, "/bytes/20000");
        match page {
            Ok(page) if page.len == 20_000 => Ok(now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    };
    let pid = service.process.0.id();
    let name = "streams of an onion service that nobody reads";
    let mut trial = Trial::begin(name, pid, Box::new(honest));
    let visit = |number: usize| -> Option<TcpStream> {
        let user = format!("visitor{}", number % VISITORS);
        let mut stream = fetch::connect(socks, Some(&user), &service.address, 80).ok()?;
        let head = "GET /bytes/50000000 HTTP/1.0\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        Some(stream)
    };
    let held: Vec<_> = (0..STREAMS).filter_map(visit).collect();
    std::thread::sleep(Duration::from_secs(2));
    trial.during();
    let cost = format!("{} streams on {VISITORS} circuits", held.len());
    drop(held);
    trial.end(&cost, 64, 32);
}

/// Descriptors of services that there are not, as fast as they can be signed.
pub(crate) fn filled(world: &World) {
    let or = world.target(GUARD).or;
    let mut trial = world.fetchers("descriptors of onion services without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(one_of_many(number), or) else {
                continue;
            };
            while goes_on() && upload(&mut link).is_some() {
                sent += 1;
            }
        }
        sent
    });
    std::thread::sleep(Duration::from_secs(4));
    trial.during();
    let cost = format!("{} uploads", flood.stop());
    // What was taken stays for its time; the store has a bound of its own.
    trial.end(&cost, 96, 96);
}

/// One upload over a circuit of its own.
fn upload(link: &mut Link) -> Option<()> {
    let [identity, signing] = [(); 2].map(|()| Keypair::generate(&mut link.rng));
    let builder = HsDescriptorBuilder {
        identity: &identity.public(),
        // No directory can tell whose it is.
        blinded: &identity.expand(),
        signing: &signing,
        revision: 1,
        lifetime_minutes: 180,
        plaintext: &HsPlaintext::default(),
        clients: &[],
    };
    let text = builder.encode(descriptor::now(), &mut link.rng).unwrap();
    let mut circuit = Circuit::fast(link).ok()?;
    circuit.send(link, RelayCommand::BEGIN_DIR, 1, &[]).ok()?;
    circuit.wait_for(link, RelayCommand::CONNECTED).ok()?;
    let head = http::head("POST", "/tor/hs/3/publish", text.len());
    let all = head + &text;
    for part in all.as_bytes().chunks(498) {
        circuit.send(link, RelayCommand::DATA, 1, part).ok()?;
    }
    circuit.wait_for(link, RelayCommand::END).ok()?;
    circuit.destroy(link).ok()
}
