//! Paths for onion services through drawn networks, against the rules in words.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::drawn::{Documents, DrawnRelay, start};

fn draw_network(rng: &mut Rng, count: u8) -> Vec<DrawnRelay> {
    let mut relays: Vec<DrawnRelay> = (1..=count).map(|n| DrawnRelay::new(n, rng)).collect();
    for relay in &mut relays {
        let half = |rng: &mut Rng| rng.below(2) == 0;
        relay.ip = [
            10,
            rng.below(u64::from(count)) as u8,
            0,
            relay.ip.octets()[1],
        ]
        .into();
        for (flag, percent) in [
            (Flags::GUARD, 50),
            (Flags::FAST, 80),
            (Flags::STABLE, 80),
            (Flags::RUNNING, 90),
            (Flags::MIDDLE_ONLY, 20),
        ] {
            relay.flags.set(flag, rng.below(100) < percent);
        }
        if half(rng) {
            relay.family_ids.push(format!("ed25519:{}", rng.below(4)));
        }
    }
    relays
}

fn ids(relays: &[DrawnRelay], flag: Flags) -> Vec<RsaId> {
    let flagged = relays.iter().filter(|relay| relay.flags.contains(flag));
    flagged.map(|relay| relay.rsa).collect()
}

const FREE: &Permits = &Permits::FREE;

fn rules<'a>(entries: &'a [RsaId], vanguards: &'a [RsaId]) -> OnionRules<'a> {
    OnionRules {
        entries,
        vanguards,
        last: None,
        ends: None,
        permits: FREE,
        distinct_subnets: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn in_drawn_networks(seed: [u8; 32], count in 3_u8..14) {
        let mut rng = Rng::from_seed(seed);
        let relays = draw_network(&mut rng, count);
        let view = Documents::new(&relays, "", start()).view();
        let running = ids(&relays, Flags::RUNNING);
        let entries = ids(&relays, Flags::GUARD | Flags::RUNNING);
        let vanguards: Vec<RsaId> = running.iter().take(4).copied().collect();
        let last = RsaId::from([1 + rng.below(u64::from(count)) as u8; 20]);
        let excluded = [RsaId::from([1 + rng.below(u64::from(count)) as u8; 20])];
        let ends = (rng.below(2) == 0).then_some(&excluded[..]);
        let rules = OnionRules {
            last: ends.is_none().then_some(&last),
            ends,
            ..rules(&entries, &vanguards)
        };
        let meets = |id: &RsaId| {
            let relay = relays.iter().find(|relay| relay.rsa == *id).unwrap();
            !relay.flags.contains(Flags::MIDDLE_ONLY) && !excluded.contains(id)
        };
        // A naive search: three that run and differ, the last of them as it must be.
        let beside = |third: &RsaId| match rules.ends {
            Some(_) => meets(third),
            None => *third != last,
        };
        let exists_without = |barred: Option<&RsaId>| {
            entries.iter().filter(|id| Some(*id) != barred).any(|first| {
                running.iter().filter(|id| Some(*id) != barred).any(|second| {
                    let different = |third: &&RsaId| ![first, second].contains(third);
                    first != second && running.iter().filter(different).any(beside)
                })
            })
        };
        match choose(&view, &rules, &mut rng) {
            Ok(path) => {
                let [first, second, third] = path.hops.each_ref().map(|hop| hop.rsa_id);
                prop_assert!(entries.contains(&first));
                prop_assert!([first, second, third].iter().all(|id| running.contains(id)));
                let once: BTreeSet<RsaId> = [first, second, third].into();
                prop_assert_eq!(once.len(), 3);
                prop_assert!(beside(&third));
                if rules.last.is_some_and(|last| once.contains(last)) {
                    prop_assert!(!exists_without(rules.last), "once, wherever that is possible");
                }
            }
            Err(_) => prop_assert!(!exists_without(None)),
        }
    }
}

#[test]
fn rules_hold_where_there_is_a_choice() {
    let mut rng = Rng::from_seed([8; 32]);
    let mut relays: Vec<DrawnRelay> = (1..=12).map(|n| DrawnRelay::new(n, &mut rng)).collect();
    // The guard's subnet and family; a slow one; one that no client may meet at.
    relays[1].ip = [127, 1, 0, 2].into();
    relays[2].family_ids.push("ed25519:x".to_owned());
    relays[0].family_ids.push("ed25519:x".to_owned());
    relays[3].flags.remove(Flags::STABLE);
    relays[4].flags.insert(Flags::MIDDLE_ONLY);
    let view = Documents::new(&relays, "", start()).view();
    let id = |n: usize| RsaId::from([n as u8; 20]);
    let entries = [id(1), id(12)];
    let vanguards = [id(1), id(2), id(6), id(7)];
    let last = id(8);
    let mut seconds = BTreeSet::new();
    for _ in 0..200 {
        let rules = OnionRules {
            last: Some(&last),
            ..rules(&entries, &vanguards)
        };
        let path = choose(&view, &rules, &mut rng).unwrap();
        let [first, second, third] = path.hops.each_ref().map(|hop| hop.rsa_id);
        assert_eq!(first, id(1), "the first guard, as long as it serves");
        seconds.insert(second);
        let barred = [1, 2, 3, 4, 5, 8].map(id);
        assert!(!barred.contains(&third));
        let intro = choose_intro_point(&view, &path.hops, &[id(9)], FREE, true, &mut rng).unwrap();
        let barred = [1, 2, 3, 4, 5, 9].map(id);
        assert!(!barred.contains(&intro.rsa_id) && ![second, third].contains(&intro.rsa_id));
    }
    assert_eq!(seconds, [id(6), id(7)].into());
    // The guard is to come last: another guard, and none if that is the only one.
    let rules = OnionRules {
        last: Some(&entries[0]),
        ..rules(&entries, &vanguards)
    };
    let path = choose(&view, &rules, &mut rng).unwrap();
    assert_eq!(path.hops[0].rsa_id, id(12));
    let only = OnionRules {
        entries: &entries[..1],
        ..rules
    };
    let path = choose(&view, &only, &mut rng).unwrap();
    assert!(path.hops[0].rsa_id == id(1) && path.hops[2].rsa_id != id(1));
    assert!(
        choose(
            &view,
            &OnionRules {
                entries: &[],
                ..rules
            },
            &mut rng
        )
        .is_err()
    );
}
