//! A service that is killed and comes back, seen by visitors with the descriptor from before: ours,
//! and `tor` beside it. Its old introduction points refuse or are gone; the directories may still
//! have what it said before.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::fetch::{SocksError, fetch_from};
use crate::support::network::CEPA;
use crate::support::onion::{Service, address_of};
use crate::support::processes::{Process, send};
use crate::support::{now, server, until};
use crate::tor::is_tor_here;
use crate::world::World;

/// How long a visit of ours may take once the service is back.
const VISIT_MAX: Duration = Duration::from_secs(3);
/// How long anybody may need to get in for the first time.
const FIRST_MAX: Duration = Duration::from_secs(60);
const RESTARTS: usize = 2;
const VISITS: usize = 10;

/// A visit: how long it took, and what came of it.
type Visit = (Duration, Result<(), SocksError>);

fn visit(socks: SocketAddr, user: &str, address: &str) -> Visit {
    let started = now();
    let fetched = fetch_from(socks, Some(user), (address, 80), "/bytes/1000");
    (now().duration_since(started), fetched.map(|_| ()))
}

fn served(network: &Path, folder: &Path, server: SocketAddr) -> Child {
    let mut command = Command::new(CEPA);
    command.args(["onion", "serve", "--launched", "--network"]);
    command.arg(network).arg("--dir").arg(folder);
    // By a name, which is looked up for each visitor.
    command.arg(format!("80=localhost:{}", server.port()));
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    started.unwrap()
}

fn shown(visits: &[Visit]) -> String {
    let one = |(took, result): &Visit| match result {
        Ok(()) => format!("{:.2}", took.as_secs_f64()),
        Err(error) => format!("{:.2} {error:?}", took.as_secs_f64()),
    };
    visits.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn visitors_find_a_service_that_was_killed_and_is_back() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args = "--authorities 3 --relays 5 --exits 1 --clients 0";
    let args: Vec<_> = args.split_whitespace().collect();
    let world = World::up(dir.path(), "", &args);
    let (_ours, ours) = world.client("ours", 0, "");
    let (_tor, theirs) = world.tor_client("theirs", 1, "");
    let (server, folder) = (server::start(), world.folder("service"));
    let network = &world.network.summary.network;
    let first = Service::start(network, &folder, server);
    let address = first.address.clone();
    for socks in [ours, theirs] {
        until(FIRST_MAX, "a visit before", || {
            visit(socks, "before", &address).1.ok()
        });
    }
    let mut process = first.process;
    for restart in 1..=RESTARTS {
        send(process.0.id(), Signal::KILL);
        process.0.wait().unwrap();
        let killed = now();
        process = Process(served(network, &folder, server));
        let visits = |socks: SocketAddr, who: &'static str| {
            let address = address.clone();
            std::thread::spawn(move || {
                // The first of them come while it is not back yet.
                let visit = |one| visit(socks, &format!("{who} {restart} {one}"), &address);
                (0..VISITS).map(visit).collect::<Vec<_>>()
            })
        };
        let (by_us, by_tor) = (visits(ours, "ours"), visits(theirs, "tor"));
        assert_eq!(address_of(&mut process.0), address);
        let back = now().duration_since(killed);
        let (by_us, by_tor) = (by_us.join().unwrap(), by_tor.join().unwrap());
        println!("restart {restart}: back in {:.2} s", back.as_secs_f64());
        println!("ours: {}", shown(&by_us));
        println!("tor: {}", shown(&by_tor));
        for (took, result) in by_us {
            assert!(result.is_ok(), "{result:?}");
            assert!(took <= back + VISIT_MAX, "{took:?}");
        }
    }
}
