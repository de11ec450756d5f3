//! A client with full vanguards, over relays in memory (proposal 292, 1.2; vanguards-spec).

use std::time::Duration;

use cepa_crypto::RsaId;
use cepa_wire::relay::RelayCommand;

use super::onion::hosted_in;
use super::world::World;
use super::*;
use crate::onion::Purpose;
use crate::select::vanguards::VanguardMode;

fn full() -> ClientConfig {
    ClientConfig {
        vanguards: Some(VanguardMode::Full),
        ..ClientConfig::default()
    }
}

fn layers(world: &World) -> [Vec<RsaId>; 2] {
    let (vanguards, now) = (&world.client.circuits.choice.vanguards, world.now);
    [vanguards.layer2(now), vanguards.layer3(now)].map(|layer| layer.unwrap())
}

#[test]
fn paths_are_those_of_full_vanguards() {
    for seed in 1..=8 {
        let mut net = hosted_in(World::drawn_as((seed, 16), full()), |_| {});
        net.visit("");
        let mut asked = net.world.net.onion.asked.clone();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, [(Purpose::Fetch, 5), (Purpose::Upload, 4)]);
        let [layer2, layer3] = layers(&net.world);
        assert_eq!((layer2.len(), layer3.len()), (4, 8));
        let told = net.world.client.guards_status(net.world.now);
        assert_eq!(told.vanguard_mode, VanguardMode::Full);
        let hops = |hop| {
            told.vanguards
                .iter()
                .map(|one| &one.vanguard)
                .filter(move |one| one.hop == hop)
        };
        assert!(hops(1).all(|one| layer2.contains(&one.id)));
        assert_eq!((hops(1).count(), hops(2).count()), (4, 8));
        let guard = net.world.client.circuits.choice.guards.primary()[0];
        for (command, hops) in [
            (RelayCommand::ESTABLISH_INTRO, 4),
            (RelayCommand::INTRODUCE1, 5),
            (RelayCommand::ESTABLISH_RENDEZVOUS, 4),
            (RelayCommand::RENDEZVOUS1, 5),
        ] {
            for path in net.world.net.onion.paths_of(command) {
                assert_eq!(path.len(), hops, "{command:?} {path:?}");
                assert_eq!(path[0], guard);
                assert!(layer2.contains(&path[1]) && layer3.contains(&path[2]));
                let [behind @ .., last] = &path[1..] else {
                    panic!("{path:?}");
                };
                assert!(path[1] != path[0] && path[2] != path[0], "{path:?}");
                assert!(!behind.contains(last), "{path:?}");
            }
        }
    }
}

#[test]
fn both_layers_are_the_same_after_a_restart() {
    let net = hosted_in(World::drawn_as((3, 16), full()), |_| {});
    let before = layers(&net.world);
    let later = net.world.now + Duration::from_secs(60);
    let state = net.world.saved_state();
    assert!(state.vanguards.is_some());
    let again = hosted_in(World::restarted((3, 16), full(), state, later), |_| {});
    assert_eq!(layers(&again.world), before);
}

#[test]
fn the_death_of_vanguards_of_both_layers_is_survived() {
    for seed in 1..=8 {
        for (layer, deaths) in [(0, 4), (1, 7)] {
            let mut net = hosted_in(World::drawn_as((seed, 16), full()), |_| {});
            net.visit("");
            let victims = &layers(&net.world)[layer][..deaths];
            for victim in victims {
                net.world.kill(*victim);
            }
            let [ours, _] = net.visit_again_within(30);
            assert!(net.path(ours).iter().all(|id| !victims.contains(id)));
        }
    }
}
