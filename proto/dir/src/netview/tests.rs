//! The view of small networks: weights, families, what is missing.

use std::time::Duration;

use cepa_netdoc::microdesc::split_microdescs;
use cepa_netdoc::routerstatus::Flags;

use super::*;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

fn microdescs() -> Vec<Microdesc> {
    split_microdescs(real!("microdescs"))
        .map(|text| Microdesc::parse(text).unwrap())
        .collect()
}

fn view() -> NetworkView {
    NetworkView::new(ConsensusText::parse(real!("consensus-microdesc-2")).unwrap())
}

#[test]
fn microdescriptors_make_relays() {
    let mut view = view();
    assert_eq!(view.missing_microdescs().len(), 9);
    assert!(view.relays().is_empty() && !view.is_enough());
    assert_eq!(view.usable_fraction(), 0.0);
    let mut found = microdescs();
    let last = found.pop().unwrap();
    assert_eq!(view.add_microdescs(found.clone()), 8);
    assert_eq!(view.add_microdescs(found), 0);
    assert_eq!(view.missing_microdescs(), [last.digest]);
    assert_eq!(view.add_microdescs([last]), 1);
    assert_eq!((view.relays().len(), view.usable_fraction()), (9, 1.0));
    assert!(view.is_enough());
    for relay in view.relays() {
        assert_eq!(view.relay(&relay.rsa_id).unwrap().rsa_id, relay.rsa_id);
        let by_ed = view.relay_by_ed25519(&relay.ed25519_id.unwrap()).unwrap();
        assert_eq!(by_ed.rsa_id, relay.rsa_id);
        assert!(relay.protocols.supports("Relay", 4));
        assert_eq!(
            relay.policy().allows(80),
            relay.nickname.starts_with("exit")
        );
    }
    view.replace_consensus(ConsensusText::parse(real!("consensus-microdesc-1")).unwrap());
    assert_eq!(view.relays().len(), 9);
}

#[test]
fn families_and_neighbours() {
    let mut view = view();
    view.add_microdescs(microdescs());
    let [a, b, ..] = view.relays() else {
        panic!("nine relays")
    };
    assert!(a.is_family_of(a) && !a.is_family_of(b) && a.is_near(b));
    let list = |relay: &Relay, other: &Relay| {
        let mut microdesc = Microdesc::clone(&relay.microdesc);
        microdesc.family = cepa_netdoc::family::Family::parse(&format!("${}", other.rsa_id));
        Relay {
            microdesc: Arc::new(microdesc),
            ..relay.clone()
        }
    };
    let (a_lists, b_lists) = (list(a, b), list(b, a));
    assert!(!a_lists.is_family_of(b) && a_lists.is_family_of(&b_lists));
    let far = Relay {
        or_addr: "10.1.2.3:9".parse().unwrap(),
        or_addr_v6: None,
        ..a.clone()
    };
    assert!(!far.is_near(b));
}

#[test]
fn draws_follow_the_weights() {
    let mut view = view();
    view.add_microdescs(microdescs());
    let mut rng = Rng::from_seed([5; 32]);
    for role in [Role::Guard, Role::Middle, Role::Exit] {
        let total: u64 = view
            .relays()
            .iter()
            .map(|relay| view.weight(relay, role))
            .sum();
        let mut drawn: BTreeMap<RsaId, u32> = BTreeMap::new();
        for _ in 0..20_000 {
            let Some(relay) = view.choose(&mut rng, role, |_| true) else {
                continue;
            };
            assert!(role.allows(relay.flags));
            *drawn.entry(relay.rsa_id).or_default() += 1;
        }
        if total == 0 {
            continue;
        }
        for relay in view.relays() {
            let expected = view.weight(relay, role) as f64 / total as f64;
            let seen = f64::from(drawn.get(&relay.rsa_id).copied().unwrap_or(0)) / 20_000.0;
            assert!((expected - seen).abs() < 0.02, "{role:?} {expected} {seen}");
        }
    }
    let only = view.relays()[3].rsa_id;
    let chosen = view.choose(&mut rng, Role::Middle, |relay| relay.rsa_id == only);
    assert_eq!(chosen.map(|relay| relay.rsa_id), Some(only));
    assert!(view.choose(&mut rng, Role::Exit, |_| false).is_none());
}

#[test]
fn without_weights_each_is_as_likely() {
    let text = real!("consensus-microdesc-2");
    let mut consensus = Consensus::clone(ConsensusText::parse(text).unwrap().consensus());
    for router in &mut consensus.routers {
        router.bandwidth = None;
    }
    let mut view = NetworkView::new(ConsensusText::parse(consensus.encode()).unwrap());
    view.add_microdescs(microdescs());
    assert_eq!(view.usable_fraction(), 1.0);
    let mut rng = Rng::from_seed([6; 32]);
    let mut drawn: BTreeMap<RsaId, u32> = BTreeMap::new();
    for _ in 0..9_000 {
        let relay = view.choose(&mut rng, Role::Middle, |_| true).unwrap();
        *drawn.entry(relay.rsa_id).or_default() += 1;
    }
    assert!(drawn.len() == 9 && drawn.values().all(|count| (850..1150).contains(count)));
}

#[test]
fn roles_ask_for_flags() {
    let good = Flags::RUNNING | Flags::VALID;
    assert!(Role::Middle.allows(good) && !Role::Middle.allows(Flags::RUNNING));
    assert!(!Role::Guard.allows(good | Flags::GUARD));
    assert!(Role::Guard.allows(good | Flags::GUARD | Flags::V2_DIR));
    assert!(Role::Exit.allows(good | Flags::EXIT));
    assert!(!Role::Exit.allows(good | Flags::EXIT | Flags::BAD_EXIT));
    assert_eq!(
        view().consensus().lifetime.interval(),
        Duration::from_secs(20)
    );
}

/// The relays of the vector weigh so much, by hand: bandwidth 100, and these flags.
fn weighed(weights: &str, role: Role, flags: Flags) -> u64 {
    let text = real!("consensus-microdesc-2");
    let mut consensus = Consensus::clone(ConsensusText::parse(text).unwrap().consensus());
    consensus.bandwidth_weights = Params::parse(weights).unwrap();
    let mut status = consensus.routers[0].clone();
    status.flags = flags;
    status.bandwidth = Some(cepa_netdoc::routerstatus::Bandwidth {
        bandwidth: 100,
        ..Default::default()
    });
    NetworkView::new(ConsensusText::parse(consensus.encode()).unwrap()).weigh(&status, role)
}

#[test]
fn each_position_has_its_weights() {
    let all = "Wbd=1 Wbe=1 Wbg=1 Wbm=1 Wdb=9000 Web=8000 Wed=16 Wee=15 Weg=14 Wem=13 Wgb=7000 \
        Wgd=1200 Wgg=1100 Wgm=1000 Wmb=6000 Wmd=23 Wme=22 Wmg=21 Wmm=20";
    let (guard, exit, dir) = (Flags::GUARD, Flags::EXIT, Flags::V2_DIR);
    for (role, flags, expected) in [
        (Role::Guard, guard, 110_000),
        (Role::Guard, guard | exit, 120_000),
        (Role::Guard, exit, 0),
        (Role::Guard, Flags::FAST, 100_000),
        (Role::Middle, guard, 2_100),
        (Role::Middle, exit, 2_200),
        (Role::Middle, guard | exit, 2_300),
        (Role::Middle, Flags::NONE, 2_000),
        (Role::Exit, guard, 1_400),
        (Role::Exit, exit, 1_500),
        (Role::Exit, guard | exit, 1_600),
        (Role::Exit, Flags::NONE, 1_300),
        // An exit that misbehaves is none.
        (Role::Middle, exit | Flags::BAD_EXIT, 2_000),
        (Role::Guard, guard | dir, 77_000),
        (Role::Guard, guard | exit | dir, 108_000),
        (Role::Guard, dir, 60_000),
    ] {
        assert_eq!(weighed(all, role, flags), expected, "{role:?} {flags:?}");
    }
    // One of a position is missing: none of it counts. The others do.
    let less = all.replace("Wmg=21", "");
    let less = less.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(weighed(&less, Role::Middle, Flags::NONE), 1_000_000);
    assert_eq!(weighed(&less, Role::Exit, exit), 1_500);
    assert_eq!(weighed("", Role::Exit, guard), 1_000_000);
    // More than the scale is the scale.
    let more = all.replace("Wmm=20", "Wmm=20000");
    assert_eq!(weighed(&more, Role::Middle, Flags::NONE), 1_000_000);
}

#[test]
fn what_may_be_used_must_be_known() {
    let mut view = view();
    let routers = view.consensus().routers.clone();
    let guards: Vec<&RouterStatus> = (routers.iter())
        .filter(|one| Role::Guard.allows(one.flags))
        .collect();
    let (missing, known) = (guards[0], guards[1]);
    let mut found = microdescs();
    found.retain(|one| Some(one.digest) != missing.microdesc_digest);
    view.add_microdescs(found);
    let all = view.usable_fraction();
    assert!(0.0 < all && all < 1.0);
    let only = |role: Role, id: RsaId| move |one: Role, other: &RsaId| one != role || *other == id;
    // The one that may be used is the one that is missing.
    for role in [Role::Guard, Role::Middle] {
        assert_eq!(view.usable_fraction_of(only(role, missing.rsa_id)), 0.0);
        assert!(!view.is_enough_of(only(role, missing.rsa_id)));
        // It is another: no more than what is known of all.
        let share = view.usable_fraction_of(only(role, known.rsa_id));
        assert!((share - all).abs() < 1e-9, "{share} {all}");
    }
    // A set that leaves none does not wait for what never comes.
    let none = |role: Role, _: &RsaId| role != Role::Guard;
    assert!((view.usable_fraction_of(none) - all).abs() < 1e-9);
}
