//! Visitors of an onion service who do not read, and directories of services that are filled.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use cepa_crypto::Rng;
use cepa_crypto::ed25519::Keypair;
use cepa_netdoc::hs_descriptor::{HsDescriptorBuilder, HsPlaintext};

use crate::attacker::circuit::{Circuit, Ended, Target};
use crate::attacker::link::Link;
use crate::attacker::{Sources, descriptor, http, introduction};
use crate::support::fetch;
use crate::support::now;
use crate::support::onion::{Service, hosted_from};
use crate::trial::{Flood, Trial};
use crate::world::{GUARD, World};

/// A directory of onion services, as each relay of a small network is.
const DIRECTORY: &str = "relay2";
/// Streams that are opened and not read.
const STREAMS: usize = 300;
/// Their circuits.
const VISITORS: usize = 3;

/// A service at whose port the test's server is, with an address of its own: relays count honest
/// people by theirs too.
fn start(world: &World, name: &str) -> Service {
    let network = &world.network.summary.network;
    hosted_from(
        Sources::claim().one(),
        network,
        &world.folder(name),
        world.server,
    )
}

/// A trial of a service, whose honest visitors fetch a page.
fn visitors<'w>(world: &'w World, name: &'static str, service: &Service) -> Trial<'w> {
    let (pid, address) = (service.process.0.id(), service.address.clone());
    let honest = move || {
        let started = now();
        let user = format!("{}", now().duration_since(world.started).as_nanos());
        let target = (address.as_str(), 80);
        let page = fetch::fetch_from(world.user(), Some(&user), target, "/bytes/20000");
        match page {
            Ok(page) if page.len == 20_000 => Ok(now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    };
    Trial::begin(name, pid, Box::new(honest))
}

/// Streams of visitors who ask for much and read nothing.
pub(crate) fn unread(world: &World) {
    let (service, socks) = (start(world, "onion"), world.network.socks());
    let name = "streams of an onion service that nobody reads";
    let mut trial = visitors(world, name, &service);
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
    let done = held.len();
    drop(held);
    let what = format!("streams on {VISITORS} circuits");
    trial.end(done, &what, 64, 32);
}

/// Descriptors of services that there are not, as fast as they can be signed.
pub(crate) fn filled(world: &World) {
    let from = Sources::claim();
    let relays = [GUARD, DIRECTORY].map(|nickname| world.target(nickname).clone());
    let mut trial = world.fetchers("descriptors of onion services without end", DIRECTORY);
    let flood = Flood::start(3, move |thread, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let from = from.host(thread * 1000 + sent);
            // Each refusal is a fault, as anybody may publish here.
            sent += publish(from, &relays, goes_on).unwrap();
        }
        sent
    });
    let sent = trial.during_flood(flood, Duration::from_secs(4));
    // What was taken stays for its time: a fifth of the relay's 256 MiB at most.
    trial.end(sent, "uploads", 96, 96);
}

/// Uploads over circuits of one link; how many were taken.
fn publish(
    from: Ipv4Addr,
    [guard, directory]: &[Target; 2],
    goes_on: &dyn Fn() -> bool,
) -> Result<usize, Ended> {
    const OF_A_CIRCUIT: u16 = 20;
    let mut link = Link::open(from, guard.or)?;
    let mut sent = 0;
    while goes_on() {
        let mut circuit = Circuit::fast(&mut link)?;
        circuit.extend(&mut link, directory)?;
        for stream in (1..=OF_A_CIRCUIT).take_while(|_| goes_on()) {
            let text = descriptor_of_nobody(&mut link.rng);
            let head = http::head("POST", "/tor/hs/3/publish", text.len());
            let answer = circuit.request(&mut link, stream, &(head + &text))?;
            sent += usize::from(answer.status == 200);
        }
        circuit.destroy(&mut link)?;
    }
    Ok(sent)
}

fn descriptor_of_nobody(rng: &mut Rng) -> String {
    let [identity, signing] = [(); 2].map(|()| Keypair::generate(rng));
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
    builder.encode(descriptor::now(), rng).unwrap()
}

/// How often somebody is introduced who is not there: a service that meets more of them than it has
/// time for has none for others, as nobody has to prove work (proposal 327) here.
const INTRODUCE_EVERY: Duration = Duration::from_millis(20);

/// Good introductions at each point of a service, to be met where nobody waits.
pub(crate) fn introductions(world: &World) {
    let (service, from) = (start(world, "introduced"), Sources::claim());
    let found = introduction::of(world, from.one(), &service.address);
    let mut points = found.points_among(&world.targets);
    // No relay extends to itself.
    points.retain(|(relay, _)| relay.rsa != world.target(GUARD).rsa);
    assert!(!points.is_empty(), "a service with one point");
    let relays = [GUARD, DIRECTORY].map(|nickname| world.target(nickname).clone());
    let mut trial = visitors(world, "introductions that lead nowhere", &service);
    let flood = Flood::start(1, move |_, goes_on| {
        let [guard, meeting] = &relays;
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(from.host(sent), guard.or) else {
                continue;
            };
            for (relay, point) in points.iter().cycle().take_while(|_| goes_on()) {
                let told = found.introduce(&mut link, (relay, point), meeting);
                if told.is_err() {
                    break;
                }
                sent += 1;
                std::thread::sleep(INTRODUCE_EVERY);
            }
        }
        sent
    });
    let sent = trial.during_flood(flood, Duration::from_secs(4));
    trial.end(sent, "introductions", 64, 48);
}
