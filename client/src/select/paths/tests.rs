//! Paths through drawn networks, against the rules in the specification's words.

mod shares;

use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::drawn::{Documents, DrawnRelay, start};
use crate::select::rules::{Permits, RelaySet, Rules};

const WEIGHTS: &str = "Wbd=0 Wbe=0 Wbg=0 Wbm=10000 Wdb=10000 Web=10000 Wed=3000 Wee=10000 \
    Weg=3000 Wem=10000 Wgb=10000 Wgd=2000 Wgg=6000 Wgm=0 Wmb=10000 Wmd=5000 Wme=0 Wmg=4000 \
    Wmm=10000";

fn seed() -> Rng {
    Rng::from_seed([9; 32])
}

/// A network in which everything that paths must heed happens.
fn draw_network(rng: &mut Rng) -> Vec<DrawnRelay> {
    let count = 3 + rng.below(10) as u8;
    let mut relays: Vec<DrawnRelay> = (1..=count).map(|n| DrawnRelay::new(n, rng)).collect();
    let chance = |percent: u64, rng: &mut Rng| rng.below(100) < percent;
    let names: Vec<(RsaId, String)> = relays
        .iter()
        .map(|relay| (relay.rsa, relay.nickname.clone()))
        .collect();
    for relay in &mut relays {
        relay.ip = [
            10,
            rng.below(u64::from(count) * 2) as u8,
            0,
            relay.ip.octets()[1],
        ]
        .into();
        relay.bandwidth = rng.below(1000) as u32 * u32::from(chance(90, rng));
        for (flag, percent) in [
            (Flags::GUARD, 50),
            (Flags::EXIT, 50),
            (Flags::FAST, 80),
            (Flags::STABLE, 80),
            (Flags::RUNNING, 90),
            (Flags::VALID, 90),
            (Flags::BAD_EXIT, 10),
            (Flags::MIDDLE_ONLY, 10),
        ] {
            relay.flags.set(flag, chance(percent, rng));
        }
        let policies = [
            None,
            Some("accept 80,443"),
            Some("accept 443"),
            Some("reject 25,80"),
            Some("accept 1-65535"),
        ];
        relay.policy = policies[rng.below(5) as usize];
        for (id, nickname) in &names {
            if chance(25, rng) {
                relay.family.push(match rng.below(3) {
                    0 => nickname.to_uppercase(),
                    1 => format!("${id}"),
                    _ => format!("${id}~{nickname}"),
                });
            }
        }
        if chance(20, rng) {
            relay.family_ids.push(format!("ed25519:{}", rng.below(2)));
        }
    }
    relays
}

/// The rules again, in the words of the specification.
fn lists(a: &DrawnRelay, b: &DrawnRelay) -> bool {
    a.family
        .iter()
        .any(|word| word.eq_ignore_ascii_case(&b.nickname) || word.contains(&format!("${}", b.rsa)))
}

fn conflict(a: &DrawnRelay, b: &DrawnRelay) -> bool {
    let same_net = a.ip.octets()[..2] == b.ip.octets()[..2];
    let same_key = a.family_ids.iter().any(|id| b.family_ids.contains(id));
    a.rsa == b.rsa || same_net || same_key || (lists(a, b) && lists(b, a))
}

fn is_up(relay: &DrawnRelay) -> bool {
    relay.flags.contains(Flags::RUNNING) && relay.flags.contains(Flags::VALID)
}

fn exits_to(relay: &DrawnRelay, port: u16) -> bool {
    let policy = relay.policy.unwrap_or("reject 1-65535");
    let allows = cepa_netdoc::policy::PortPolicy::parse(policy)
        .unwrap()
        .allows(port);
    allows && !relay.flags.contains(Flags::BAD_EXIT) && !relay.flags.contains(Flags::MIDDLE_ONLY)
}

/// A set of an operator's: nicknames, and the second byte of addresses 10.x.
#[derive(Debug, Default)]
struct DrawnSet {
    nicknames: Vec<String>,
    nets: Vec<u8>,
}

impl DrawnSet {
    fn draw(relays: &[DrawnRelay], percent: u64, rng: &mut Rng) -> Self {
        let mut set = DrawnSet::default();
        for relay in relays {
            match rng.below(100) {
                n if n < percent / 2 => set.nicknames.push(relay.nickname.to_uppercase()),
                n if n < percent => set.nets.push(relay.ip.octets()[1]),
                _ => {}
            }
        }
        set
    }

    fn read(&self) -> RelaySet {
        let nets = self.nets.iter().map(|net| format!("10.{net}.7.0/16"));
        let all = self.nicknames.iter().cloned().chain(nets);
        RelaySet(all.map(|text| text.parse().unwrap()).collect())
    }

    fn has(&self, relay: &DrawnRelay) -> bool {
        let names = &self.nicknames;
        names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&relay.nickname))
            || self.nets.contains(&relay.ip.octets()[1])
    }

    /// An empty set says nothing.
    fn lets(&self, relay: &DrawnRelay) -> bool {
        self.nicknames.is_empty() && self.nets.is_empty() || self.has(relay)
    }
}

/// An operator's rules.
#[derive(Debug)]
struct DrawnRules {
    sets: [DrawnSet; 3],
    exclude: DrawnSet,
    exclude_exit: DrawnSet,
}

impl DrawnRules {
    fn draw(relays: &[DrawnRelay], rng: &mut Rng) -> Self {
        let mut set = |chance: u64, percent: u64| match rng.below(100) < chance {
            true => DrawnSet::draw(relays, percent, rng),
            false => DrawnSet::default(),
        };
        DrawnRules {
            sets: [(); 3].map(|()| set(25, 60)),
            exclude: set(30, 20),
            exclude_exit: set(20, 30),
        }
    }

    fn read(&self) -> Rules {
        let [entry, middle, exit] = self.sets.each_ref().map(DrawnSet::read);
        Rules {
            entry,
            middle,
            exit,
            exclude: self.exclude.read(),
            exclude_exit: self.exclude_exit.read(),
            ..Rules::default()
        }
    }

    /// Whether a relay may stand at this place of a path.
    fn let_stand(&self, relay: &DrawnRelay, place: usize) -> bool {
        let is_excluded = self.exclude.has(relay) || place == 2 && self.exclude_exit.has(relay);
        is_up(relay) && self.sets[place].lets(relay) && !is_excluded
    }
}

/// Whether any three relays make a path.
fn naive_finds(relays: &[DrawnRelay], rules: &DrawnRules, entries: &[RsaId], port: u16) -> bool {
    let at = |place: usize| relays.iter().filter(move |one| rules.let_stand(one, place));
    at(2).filter(|exit| exits_to(exit, port)).any(|exit| {
        at(0)
            .filter(|one| entries.contains(&one.rsa) && !conflict(one, exit))
            .any(|entry| at(1).any(|one| !conflict(one, exit) && !conflict(one, entry)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 0, ..Default::default() })]

    #[test]
    fn ten_thousand_drawn_networks(seed: [u8; 32]) {
        let mut rng = Rng::from_seed(seed);
        let relays = draw_network(&mut rng);
        let view = Documents::new(&relays, WEIGHTS, start()).view();
        let by_id: BTreeMap<RsaId, &DrawnRelay> =
            relays.iter().map(|relay| (relay.rsa, relay)).collect();
        let mut entries: Vec<RsaId> = relays
            .iter()
            .filter(|relay| relay.flags.contains(Flags::GUARD))
            .map(|relay| relay.rsa)
            .collect();
        crate::select::shuffle(&mut entries, &mut rng);
        let port = [80, 443, 22][rng.below(3) as usize];
        let drawn = DrawnRules::draw(&relays, &mut rng);
        let permits = drawn.read().permits(view.consensus());
        let need = ExitNeed::Port { port, is_ipv6: false };
        let rules = PathRules {
            need,
            entries: &entries,
            bridges: None,
            permits: &permits,
            excluded_exits: &[],
            distinct_subnets: true,
            long_lived: &LONG_LIVED_PORTS,
        };
        match choose(&view, &rules, &mut rng) {
            Ok(path) => {
                let [entry, middle, exit] = path.hops.each_ref().map(|hop| by_id[&hop.rsa_id]);
                for (a, b) in [(entry, middle), (middle, exit), (entry, exit)] {
                    prop_assert!(!conflict(a, b), "{} and {}", a.nickname, b.nickname);
                }
                for (place, hop) in [entry, middle, exit].into_iter().enumerate() {
                    prop_assert!(drawn.let_stand(hop, place), "{place}: {hop:?}");
                }
                prop_assert!(entry.flags.contains(Flags::GUARD));
                prop_assert!(exits_to(exit, port));
            }
            Err(error) => {
                prop_assert!(!naive_finds(&relays, &drawn, &entries, port));
                let is_exit = |one: &DrawnRelay| drawn.let_stand(one, 2) && exits_to(one, port);
                let no_exit = !relays.iter().any(is_exit);
                prop_assert_eq!(error == PathError::NoExit, no_exit);
                prop_assert_eq!(has_exit(&view, &rules), !no_exit);
            }
        }
    }
}

/// Six relays and two exits.
fn eight(rng: &mut Rng) -> Vec<DrawnRelay> {
    let mut relays: Vec<DrawnRelay> = (1..=8).map(|n| DrawnRelay::new(n, rng)).collect();
    for exit in &mut relays[6..] {
        exit.flags.insert(Flags::EXIT);
        exit.policy = Some("accept 1-65535");
    }
    relays
}

const WEB: ExitNeed = ExitNeed::Port {
    port: 80,
    is_ipv6: false,
};

#[test]
fn draws_follow_the_weights() {
    let mut rng = seed();
    let mut relays = eight(&mut rng);
    relays[7].bandwidth = 300;
    relays[3].bandwidth = 200;
    let view = Documents::new(&relays, WEIGHTS, start()).view();
    let (entries, permits) = ([relays[0].rsa], Permits::default());
    let rules = PathRules {
        need: WEB,
        entries: &entries,
        bridges: None,
        permits: &permits,
        excluded_exits: &[],
        distinct_subnets: true,
        long_lived: &LONG_LIVED_PORTS,
    };
    let mut drawn: BTreeMap<(usize, RsaId), u32> = BTreeMap::new();
    for _ in 0..8000 {
        let path = choose(&view, &rules, &mut rng).unwrap();
        for (at, hop) in path.hops.iter().enumerate() {
            *drawn.entry((at, hop.rsa_id)).or_default() += 1;
        }
    }
    let share =
        |at, n: usize| f64::from(drawn.get(&(at, relays[n].rsa)).copied().unwrap_or(0)) / 8000.0;
    assert!((share(0, 0) - 1.0).abs() < 1e-9);
    assert!((share(2, 7) - 0.75).abs() < 0.02, "{}", share(2, 7));
    // Middles: guards count with Wmg 4000, of bandwidth 100 but one of 200; the other exit, a
    // guard too, with Wmd 5000, of bandwidth 100 or 300.
    let others = 4.0 * 100.0 * 0.4 + 200.0 * 0.4;
    let expected = 0.75 * (80.0 / (others + 50.0)) + 0.25 * (80.0 / (others + 150.0));
    assert!(
        (share(1, 3) - expected).abs() < 0.02,
        "{} {expected}",
        share(1, 3)
    );
}

#[test]
fn pins_and_excluded_exits() {
    let mut rng = seed();
    let relays = eight(&mut rng);
    let view = Documents::new(&relays, WEIGHTS, start()).view();
    let entries: Vec<RsaId> = relays.iter().map(|relay| relay.rsa).collect();
    let set = |word: &str| RelaySet(vec![word.parse().unwrap()]);
    let sets = Rules {
        middle: set("RELAY3"),
        exit: set(&relays[7].rsa.to_string()),
        ..Rules::default()
    };
    let permits = sets.permits(view.consensus());
    let mut rules = PathRules {
        need: WEB,
        entries: &entries,
        bridges: None,
        permits: &permits,
        excluded_exits: &[],
        distinct_subnets: true,
        long_lived: &LONG_LIVED_PORTS,
    };
    for _ in 0..50 {
        let hops = choose(&view, &rules, &mut rng).unwrap().hops;
        assert_eq!(hops[0].rsa_id, relays[0].rsa, "the first entry that fits");
        assert_eq!(
            (&*hops[1].nickname, &*hops[2].nickname),
            ("relay3", "relay8")
        );
    }
    let failed = [relays[7].rsa];
    rules.excluded_exits = &failed;
    assert_eq!(
        choose(&view, &rules, &mut rng).unwrap_err(),
        PathError::NoExit
    );
    let unpinned = Permits::default();
    rules.permits = &unpinned;
    let hops = choose(&view, &rules, &mut rng).unwrap().hops;
    assert_eq!(hops[2].rsa_id, relays[6].rsa);
    rules.need = ExitNeed::Port {
        port: 80,
        is_ipv6: true,
    };
    assert_eq!(
        choose(&view, &rules, &mut rng).unwrap_err(),
        PathError::NoExit
    );
}

#[test]
fn slow_relays_are_the_last_resort() {
    let mut rng = seed();
    let mut relays = eight(&mut rng);
    relays[7].flags.remove(Flags::FAST);
    relays[6].flags.remove(Flags::STABLE);
    let view = Documents::new(&relays, WEIGHTS, start()).view();
    let entries = [relays[0].rsa];
    let permits = Permits::default();
    let rules = |need, excluded_exits| PathRules {
        need,
        entries: &entries,
        bridges: None,
        permits: &permits,
        excluded_exits,
        distinct_subnets: true,
        long_lived: &LONG_LIVED_PORTS,
    };
    let ssh = ExitNeed::Port {
        port: 22,
        is_ipv6: false,
    };
    let ports = &LONG_LIVED_PORTS;
    assert!(ssh.wants_stable(ports) && !WEB.wants_stable(ports));
    assert!(WEB.wants_stable(&[80]) && !ssh.wants_stable(&[80]));
    for need in [WEB, ssh] {
        let hops = choose(&view, &rules(need, &[]), &mut rng).unwrap().hops;
        assert_eq!(hops[2].rsa_id, relays[6].rsa);
    }
    let failed = [relays[6].rsa];
    let hops = choose(&view, &rules(WEB, &failed), &mut rng).unwrap().hops;
    assert_eq!(hops[2].rsa_id, relays[7].rsa);
}

#[test]
fn hops_as_they_are_extended_to() {
    let mut rng = seed();
    let relays = eight(&mut rng);
    let view = Documents::new(&relays, WEIGHTS, start()).view();
    let relay = view.relay(&relays[0].rsa).unwrap();
    let spec = hop_spec(relay, false);
    assert!(matches!(spec.key, HopKey::NtorV3 { ed, .. } if ed == relays[0].ed));
    assert_eq!(spec.link_specifiers.ed25519_id(), None);
    assert_eq!(spec.link_specifiers.rsa_id(), Some(relays[0].rsa));
    assert_eq!(
        hop_spec(relay, true).link_specifiers.ed25519_id(),
        Some(relays[0].ed)
    );
    let target = link_target(relay);
    assert_eq!(
        target.addrs,
        [std::net::SocketAddr::from(([127, 1, 0, 1], 5000))]
    );
    assert_eq!(target.ed, Some(relays[0].ed));
}

#[test]
fn every_hop_is_asked_for_what_it_knows() {
    let mut rng = seed();
    let mut relays = eight(&mut rng);
    relays[1].protocols = "FlowCtrl=1-2 Relay=2-6";
    relays[2].protocols = "FlowCtrl=1-2 Relay=2-4";
    let view = Documents::new(&relays, WEIGHTS, start()).view();
    let hops = [1, 2, 3].map(|at: usize| view.relay(&relays[at].rsa).unwrap().clone());
    let (_, first, rest) = Path { hops }.specs(view.params());
    let asked = [&first, &rest[0], &rest[1]];
    let ciphers = asked.map(|hop| hop.congestion.as_ref().map(|asked| asked.cipher));
    assert_eq!(ciphers, [Some(Cipher::Cgo), Some(Cipher::Tor1), None]);
}
