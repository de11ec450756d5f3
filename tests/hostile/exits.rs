//! An exit that lies to its clients: addresses of their own house, answers without end, data beyond
//! every window. The honest fetch through the same exit, which does not lie about one page.

use std::io::Read as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use cepa_netdoc::policy::AddrPolicy;

use crate::attacker::descriptor::Forger;
use crate::attacker::liar::{Liar, PAGE_LEN};
use crate::attacker::{Sources, http};
use crate::support::client::Client;
use crate::support::fetch::{self, SocksError, document};
use crate::support::{now, until};
use crate::trial::{FLOOD, Flood, Trial};
use crate::world::{GUARD, World};

const NICKNAME: &str = "liar";
/// How long an upload may take to be in a consensus that a client has.
const LISTED_MAX: Duration = Duration::from_secs(90);
/// How long what was lied about may take to end.
const END_MAX: Duration = Duration::from_secs(20);
/// Names that the exit lies about.
const LIES: [&str; 5] = [
    "twice.example",
    "ends.example",
    "strange.example",
    "long.example",
    "before.example",
];

/// A client whose exits all lie.
pub(crate) fn lies(world: &World) {
    let liar = listed(world);
    let (client, socks) = client_of_liars(world);
    let fetch = || {
        let started = now();
        let user = format!("{}", now().duration_since(world.started).as_nanos());
        match fetch::fetch_from(socks, Some(&user), ("page.example", 80), "/") {
            Ok(page) if page.len == PAGE_LEN as u64 => Ok(now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    };
    until(LISTED_MAX, "a page by way of the exit", || fetch().ok());
    let name = "an exit that lies";
    let mut trial = Trial::begin(name, client.process.0.id(), Box::new(fetch));
    let refused = |answer: Result<_, SocksError>| matches!(answer, Err(SocksError::Refused(_)));
    let private = fetch::connect(socks, None, "private.example", 80);
    assert!(
        refused(private.map(drop)),
        "a private address in CONNECTED was believed"
    );
    let private = fetch::resolve(socks, "private.example");
    assert!(
        refused(private.map(drop)),
        "a private address in RESOLVED was believed"
    );
    let before = liar.destroyed();
    // Not read, so that no window opens again.
    let unread = fetch::connect(socks, Some("unread"), "beyond.example", 80).unwrap();
    until(
        END_MAX,
        "an end of the circuit that carries too much",
        || (liar.destroyed() > before).then_some(()),
    );
    drop(unread);
    let flood = Flood::start(2, move |thread, goes_on| {
        let mut told = 0;
        for (number, name) in LIES.iter().cycle().enumerate().take_while(|_| goes_on()) {
            let user = format!("{thread}-{number}");
            told += 1;
            let Ok(mut stream) = fetch::connect(socks, Some(&user), name, 80) else {
                continue;
            };
            stream.set_read_timeout(Some(END_MAX)).unwrap();
            // Whatever comes, it comes to an end.
            let mut all = Vec::new();
            if let Err(error) = stream.read_to_end(&mut all) {
                let is_end = error.kind() != std::io::ErrorKind::WouldBlock;
                assert!(is_end, "{name}: neither bytes nor an end");
            }
        }
        told
    });
    let asked = trial.during_flood(flood, FLOOD);
    println!("{asked} times asked, {} lies", liar.lies());
    trial.end(liar.lies(), "lies", 48, 32);
    drop(client);
}

/// The exit, once it is in the consensus.
fn listed(world: &World) -> Liar {
    let port = world.target(GUARD).or.port();
    let or = SocketAddrV4::new([127, 98, 0, 1].into(), port);
    let forger = Forger::new(200);
    let liar = Liar::listen(or.into(), &forger);
    let policy = AddrPolicy::parse_config(["accept *:*"]).unwrap();
    let text = forger.descriptor_at(NICKNAME, or, policy, |text| text);
    for dir in world.dirs() {
        let answer = http::post(Sources::claim().one(), dir, "/tor/", text.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    let dir = world.dirs()[0];
    until(LISTED_MAX, "a consensus with the exit", || {
        let text = document(dir, "/tor/status-vote/current/consensus")?;
        text.contains(&format!("\nr {NICKNAME} ")).then_some(())
    });
    liar
}

fn client_of_liars(world: &World) -> (Client, SocketAddr) {
    let rules = format!(
        "client_dns_reject_internal_addresses = true\n\
         outbound_bind_address = \"{}\"\n\
         [paths]\nentry = [\"{GUARD}\"]\nexit = [\"{NICKNAME}\"]\n",
        Sources::claim().one()
    );
    let socks = SocketAddr::from(([127, 0, 0, 1], world.network.socks().port() + 21));
    let network = &world.network.summary.network;
    let folder = world.folder("believer");
    (
        Client::start(network, &folder, "believer", socks, &rules),
        socks,
    )
}
