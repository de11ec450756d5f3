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
        bridges: None,
        layer2: Some(vanguards),
        layer3: None,
        is_bound: false,
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
        let exists_without = |firsts: &[RsaId], barred: Option<&RsaId>| {
            firsts.iter().any(|first| {
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
                if rules.last.is_some_and(|last| *last == second) {
                    let exists = exists_without(&[first], rules.last);
                    prop_assert!(!exists, "apart, wherever that is possible with the guard");
                }
            }
            Err(_) => prop_assert!(!exists_without(&entries, None)),
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
        let behind = Behind {
            path: &path.hops,
            excluded: &[id(9)],
            permits: FREE,
            is_distinct: true,
            distinct_subnets: true,
        };
        let intro = behind.intro_point(&view, &mut rng).unwrap();
        let barred = [1, 2, 3, 4, 5, 9].map(id);
        assert!(!barred.contains(&intro.rsa_id) && ![second, third].contains(&intro.rsa_id));
    }
    assert_eq!(seconds, [id(6), id(7)].into());
    // The guard is to come last, too: it stays the guard, or its absence would tell who it is.
    let rules = OnionRules {
        last: Some(&entries[0]),
        ..rules(&entries, &vanguards)
    };
    for _ in 0..50 {
        let path = choose(&view, &rules, &mut rng).unwrap();
        assert_eq!(path.hops[0].rsa_id, id(1));
        assert!(path.hops[1..].iter().all(|hop| hop.rsa_id != id(1)));
    }
    assert!(
        choose(
            &view,
            &OnionRules {
                entries: &[],
                bridges: None,
                ..rules
            },
            &mut rng
        )
        .is_err()
    );
}

#[test]
fn full_vanguards_bind_and_near_relays_may_stand_together() {
    let mut rng = Rng::from_seed([9; 32]);
    let mut relays: Vec<DrawnRelay> = (1..=12).map(|n| DrawnRelay::new(n, &mut rng)).collect();
    for relay in &mut relays {
        relay.family_ids.push("ed25519:one".to_owned());
    }
    let view = Documents::new(&relays, "", start()).view();
    let id = |n: usize| RsaId::from([n as u8; 20]);
    let entries = [id(1), id(2)];
    let (second, third) = ([1, 3, 4, 5].map(id), [2, 3, 4, 6, 7, 8].map(id));
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for last in [None, Some(&id(1)), Some(&id(3)), Some(&id(6))] {
        let full = OnionRules {
            layer3: Some(&third),
            last,
            ..rules(&entries, &second)
        };
        for _ in 0..200 {
            let path = choose(&view, &full, &mut rng).unwrap();
            let [a, b, c] = path.hops.each_ref().map(|hop| hop.rsa_id);
            assert_eq!(a, id(1));
            assert!(second.contains(&b) && third.contains(&c));
            assert!(a != b && b != c && a != c && Some(&b) != last && Some(&c) != last);
            seen[0].insert(b);
            seen[1].insert(c);
        }
    }
    assert_eq!(seen[0], [3, 4, 5].map(id).into());
    assert_eq!(seen[1], third.into());
    // Rather none than one of others.
    let none = OnionRules {
        layer3: Some(&third[..1]),
        last: Some(&third[0]),
        ..rules(&entries, &second)
    };
    assert!(choose(&view, &none, &mut rng).is_err());
}

#[test]
fn without_vanguards_any_relay_is_a_second_hop() {
    let mut rng = Rng::from_seed([9; 32]);
    let relays: Vec<DrawnRelay> = (1..=12).map(|n| DrawnRelay::new(n, &mut rng)).collect();
    let view = Documents::new(&relays, "", start()).view();
    let entries = [relays[0].rsa];
    let off = OnionRules {
        layer2: None,
        ..rules(&entries, &[])
    };
    let second = |rng: &mut Rng| choose(&view, &off, rng).unwrap().hops[1].rsa_id;
    let seen: BTreeSet<RsaId> = (0..1000).map(|_| second(&mut rng)).collect();
    assert_eq!(seen.len(), 11);
}
