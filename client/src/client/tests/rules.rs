//! The operator's rules hold for every circuit, and are told when they leave none.

use std::collections::BTreeSet;

use cepa_crypto::RsaId;
use cepa_wire::socks::SocksStatus;

use super::world::World;
use crate::select::rules::{RelaySet, Rules};

fn set(words: &[&str]) -> RelaySet {
    RelaySet(words.iter().map(|word| word.parse().unwrap()).collect())
}

fn id(n: u8) -> RsaId {
    RsaId::from([n; 20])
}

#[test]
fn hops_are_those_that_the_rules_allow() {
    let mut world = World::ruled(Rules {
        entry: set(&["relay3", "relay5"]),
        middle: set(&["127.2.0.0/15", "relay4", "relay5"]),
        exit: set(&["$0808080808080808080808080808080808080808"]),
        exclude: set(&["relay5"]),
        ..Rules::default()
    });
    assert_eq!(world.client.bootstrap().percent, 100);
    for user in ["a", "b", "c", "d"] {
        let request = world.connect("example.net", 80, user, b"");
        world.connected(request);
    }
    let mut middles = BTreeSet::new();
    for path in world.net.paths().iter().filter(|path| path.len() == 3) {
        assert_eq!((path[0], path[2]), (id(3), id(8)));
        middles.insert(path[1]);
    }
    assert!(middles.is_subset(&[id(2), id(4)].into()) && !middles.is_empty());
    assert!(world.net.paths().iter().all(|path| !path.contains(&id(5))));
    assert!(world.client.guards().primary() == [id(3)]);
}

#[test]
fn an_excluded_authority_is_not_asked() {
    let world = World::ruled(Rules {
        exclude: set(&["127.1.0.1"]),
        ..Rules::default()
    });
    assert_eq!(world.client.bootstrap().percent, 0);
    assert_eq!(world.net.paths(), [] as [Vec<RsaId>; 0]);
}

#[test]
fn rules_that_leave_no_path_refuse_at_once() {
    let mut world = World::ruled(Rules {
        entry: set(&["relay3"]),
        exclude: set(&["relay3", "nobody"]),
        ..Rules::default()
    });
    assert!(world.client.bootstrap().percent < 100);
    let told: Vec<&str> = world
        .client
        .circuits
        .choice
        .warned()
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(
        told,
        [
            "`exclude`: no relay of the network has the nickname nobody",
            "no path: `exclude` leaves no first hop: all 1 that there were are excluded",
        ]
    );
    let request = world.connect("example.net", 80, "", b"");
    assert_eq!(world.failed(request), SocksStatus::NOT_ALLOWED);
    assert!(world.net.paths().iter().all(|path| path.len() == 1));
}
