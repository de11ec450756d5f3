//! The guards against a naive model: it keeps what was done, and computes each answer anew from the
//! definitions of guard-spec 4. What is drawn (new guards, dates) it takes over from the guards,
//! after a look at whether the specification allows it.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::*;

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
const NETWORK: u16 = 130;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Circuit {
    /// `usable_on_completion`.
    First,
    /// `usable_if_no_better_guard`.
    Spare,
    Waiting,
    Complete,
}

#[derive(Debug, Clone)]
struct Known {
    rsa: RsaId,
    sampled_on: SystemTime,
    unlisted_since: Option<SystemTime>,
    confirmed_on: Option<SystemTime>,
    is_up: Option<bool>,
    failing_since: u64,
    tried: u64,
}

struct Model {
    guards: Vec<Known>,
    primary: Vec<RsaId>,
    listed: Vec<RsaId>,
    allowed: Vec<RsaId>,
    circuits: BTreeMap<GuardAttempt, (RsaId, Circuit, u64, Vec<RsaId>)>,
    succeeded_last: Option<u64>,
}

impl Model {
    fn filtered(&self, one: &Known) -> bool {
        self.listed.contains(&one.rsa) && self.allowed.contains(&one.rsa)
    }

    fn usable(&self, one: &Known, now: u64) -> bool {
        let wait = self.wait(one, now);
        self.filtered(one) && (one.is_up != Some(false) || now >= one.tried + wait)
    }

    /// A.1, in minutes there.
    fn wait(&self, one: &Known, now: u64) -> u64 {
        let is_primary = self.primary.contains(&one.rsa);
        let hours = (now - one.failing_since.min(now)) / 3600;
        let minutes = match (is_primary, hours) {
            (true, 0..6) => 10,
            (true, 6..96) => 90,
            (true, 96..168) => 240,
            (true, _) => 540,
            (false, 0..6) => 60,
            (false, 6..96) => 240,
            (false, 96..168) => 1080,
            (false, _) => 2160,
        };
        minutes * MINUTE
    }

    fn choose_primary(&mut self) {
        let of = |wanted: &dyn Fn(&Known) -> bool| {
            let found = self.guards.iter().filter(|one| wanted(one));
            found.map(|one| one.rsa).collect::<Vec<_>>()
        };
        let filtered = of(&|one| self.filtered(one));
        let mut list = of(&|one| one.confirmed_on.is_some());
        list.extend(&self.primary);
        list.extend(&filtered);
        let mut chosen = Vec::new();
        for rsa in list {
            if filtered.contains(&rsa) && !chosen.contains(&rsa) {
                chosen.push(rsa);
            }
        }
        chosen.truncate(3);
        self.primary = chosen;
    }

    /// Retries change what is known for good: a guard that is due counts as untried.
    fn refresh(&mut self, now: u64) {
        for at in 0..self.guards.len() {
            let one = &self.guards[at];
            if one.is_up == Some(false) && now >= one.tried + self.wait(one, now) {
                self.guards[at].is_up = None;
            }
        }
    }

    fn pending(&self, rsa: &RsaId) -> bool {
        let mut circuits = self.circuits.values();
        circuits.any(|one| one.0 == *rsa && one.1 == Circuit::Spare)
    }

    fn ranked(&self, now: u64) -> Vec<RsaId> {
        let usable: Vec<&Known> = self
            .guards
            .iter()
            .filter(|one| self.usable(one, now))
            .collect();
        let is_usable = |rsa: &&RsaId| usable.iter().any(|one| one.rsa == **rsa);
        let mut ranked: Vec<RsaId> = self.primary.iter().filter(is_usable).copied().collect();
        for (is_pending, is_confirmed) in
            [(false, true), (false, false), (true, true), (true, false)]
        {
            let fitting = usable.iter().filter(|one| {
                self.pending(&one.rsa) == is_pending && one.confirmed_on.is_some() == is_confirmed
            });
            ranked.extend(fitting.map(|one| one.rsa));
        }
        let mut seen = BTreeSet::new();
        ranked.retain(|rsa| seen.insert(*rsa));
        ranked
    }

    fn known(&mut self, rsa: &RsaId) -> Option<&mut Known> {
        self.guards.iter_mut().find(|one| one.rsa == *rsa)
    }

    /// 4.3, with guards that work but are not confirmed yet before those of which nobody knows.
    fn is_better(&self, a: &RsaId, b: &RsaId) -> bool {
        let place = |rsa: &RsaId| self.guards.iter().position(|one| one.rsa == *rsa);
        let key = |rsa: &RsaId| {
            let at = place(rsa)?;
            let one = &self.guards[at];
            let tried = if self.pending(rsa) { one.tried } else { 0 };
            Some(
                match (one.confirmed_on.is_some(), one.is_up == Some(true)) {
                    (true, _) => (0, 0, at),
                    (false, true) => (1, 0, at),
                    (false, false) if self.pending(rsa) => (2, tried, at),
                    (false, false) => (3, 0, at),
                },
            )
        };
        match (key(a), key(b)) {
            (Some(a), Some(b)) => a < b,
            _ => false,
        }
    }

    /// 4.9: the circuits that may be used now.
    fn free(&mut self, now: u64) -> BTreeSet<GuardAttempt> {
        self.refresh(now);
        let down = |excluded: &[RsaId]| {
            let counts = |rsa: &&RsaId| !excluded.contains(rsa);
            let up = |rsa: &RsaId| {
                let mut guards = self.guards.iter();
                guards.any(|one| one.rsa == *rsa && self.usable(one, now))
            };
            !self.primary.iter().filter(counts).any(up)
        };
        let is_free = |circuit: &(RsaId, Circuit, u64, Vec<RsaId>)| {
            let (rsa, stage, _, excluded) = circuit;
            let blocks = |other: &(RsaId, Circuit, u64, Vec<RsaId>)| {
                !excluded.contains(&other.0)
                    && self.is_better(&other.0, rsa)
                    && match other.1 {
                        Circuit::Complete | Circuit::Waiting => true,
                        Circuit::Spare => now - other.2 < 15,
                        Circuit::First => false,
                    }
            };
            let is_known = self.guards.iter().any(|one| one.rsa == *rsa);
            *stage == Circuit::Waiting
                && is_known
                && (self.primary.contains(rsa)
                    || (down(excluded) && !self.circuits.values().any(blocks)))
        };
        let circuits = self.circuits.iter();
        circuits
            .filter(|(_, one)| is_free(one))
            .map(|(id, _)| *id)
            .collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A circuit over the n-th best guard, that may not be over so many of the best.
    Begin(usize, usize),
    Built(usize),
    Failed(usize),
    Ended(usize),
    Wait(u64),
    Consensus(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (prop_oneof![Just(0_usize), 0_usize..4], prop_oneof![Just(0_usize), 0_usize..5])
            .prop_map(|(place, excluded)| Step::Begin(place, excluded)),
        3 => any::<usize>().prop_map(Step::Built),
        5 => any::<usize>().prop_map(Step::Failed),
        1 => any::<usize>().prop_map(Step::Ended),
        3 => prop_oneof![1_u64..20, 60_u64..900, 3000_u64..9000].prop_map(Step::Wait),
        1 => any::<u64>().prop_map(Step::Consensus),
    ];
    prop::collection::vec(step, 1..120)
}

/// The guards and the model, side by side.
struct Pair {
    world: World,
    model: Model,
    secs: u64,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Pair {
            world: world(0),
            model: Model {
                guards: Vec::new(),
                primary: Vec::new(),
                listed: Vec::new(),
                allowed: Vec::new(),
                circuits: BTreeMap::new(),
                succeeded_last: None,
            },
            secs: 1,
        };
        pair.consensus(1);
        pair
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Begin(place, excluded) => self.begin(place, excluded),
            Step::Built(n) => self.built(n),
            Step::Failed(n) => {
                if let Some(id) = self.nth(n, true) {
                    let (rsa, ..) = self.model.circuits.remove(&id).unwrap();
                    self.world.guards.handle_failure(id, self.world.now);
                    let now = self.secs;
                    if let Some(one) = self.model.known(&rsa) {
                        if one.failing_since == 0 {
                            one.failing_since = now;
                        }
                        one.is_up = Some(false);
                    }
                }
            }
            Step::Ended(n) => {
                if let Some(id) = self.nth(n, false) {
                    self.model.circuits.remove(&id);
                    self.world.guards.handle_end(id);
                }
            }
            Step::Wait(secs) => {
                self.secs += secs;
                self.world.wait(secs);
            }
            Step::Consensus(seed) => self.consensus(seed),
        }
        self.events();
        self.compare();
    }

    /// A circuit, of those being built or of all.
    fn nth(&self, n: usize, in_the_making: bool) -> Option<GuardAttempt> {
        let making = |stage| matches!(stage, Circuit::First | Circuit::Spare);
        let circuits = self.model.circuits.iter();
        let fitting: Vec<GuardAttempt> = circuits
            .filter(|(_, one)| !in_the_making || making(one.1))
            .map(|(id, _)| *id)
            .collect();
        let len = fitting.len().max(1);
        fitting.get(n % len).copied()
    }

    fn begin(&mut self, place: usize, excluded: usize) {
        let mut ranked = self.world.ranked(GuardUse::Data);
        self.adopt(&[], false);
        let left = ranked.split_off(excluded.min(ranked.len() - 1));
        let rsa = left[place.min(left.len() - 1)];
        let now = self.world.now;
        let id = self
            .world
            .guards
            .begin(&rsa, GuardUse::Data, ranked.clone(), now);
        let stage = match self.model.primary.contains(&rsa) {
            true => Circuit::First,
            false => Circuit::Spare,
        };
        let secs = self.secs;
        self.model.known(&rsa).unwrap().tried = secs;
        let circuit = (rsa, stage, secs, ranked);
        self.model.circuits.insert(id.unwrap(), circuit);
    }

    fn built(&mut self, n: usize) {
        let Some(id) = self.nth(n, true) else { return };
        let usability = self.world.built(id);
        let now = self.secs;
        let model = &mut self.model;
        let before = model.succeeded_last.replace(now);
        let was_down = before.is_none_or(|before| now - before > 10 * MINUTE);
        let (rsa, stage, ..) = model.circuits[&id].clone();
        let Some(one) = model.known(&rsa) else {
            assert_eq!(usability, GuardUsability::Never);
            model.circuits.remove(&id);
            return self.world.guards.handle_end(id);
        };
        (one.is_up, one.failing_since) = (Some(true), 0);
        let is_primary = model.primary.contains(&rsa);
        if !is_primary && was_down {
            for rsa in model.primary.clone() {
                let one = model.known(&rsa).unwrap();
                if one.is_up == Some(false) {
                    one.is_up = None;
                }
            }
        }
        if stage == Circuit::First || is_primary {
            assert_eq!(usability, GuardUsability::Now);
            return self.complete(id);
        }
        let circuit = model.circuits.get_mut(&id).unwrap();
        (circuit.1, circuit.2) = (Circuit::Waiting, now);
        let mut free = BTreeSet::new();
        if !was_down {
            free = self.model.free(now);
            for id in &free {
                self.complete(*id);
            }
        }
        let expected = match free.contains(&id) {
            true => GuardUsability::Now,
            false => GuardUsability::Waiting,
        };
        assert_eq!(usability, expected);
        // The others will be told.
        free.remove(&id);
        for _ in free {
            assert!(matches!(self.world.event(), Some(GuardEvent::Usable(_))));
        }
    }

    fn complete(&mut self, id: GuardAttempt) {
        let circuit = self.model.circuits.get_mut(&id).unwrap();
        circuit.1 = Circuit::Complete;
        let rsa = circuit.0;
        let of = |status: &GuardStatus| status.rsa == rsa;
        let on = self.world.guards.statuses().into_iter().find(of);
        let on = on.unwrap().confirmed_on.unwrap();
        let now = self.world.now.wall;
        let known = self.model.known(&rsa).unwrap();
        if known.confirmed_on.is_none() {
            assert!(on <= now && on > now - Duration::from_secs(12 * DAY));
            known.confirmed_on = Some(on);
            self.model.choose_primary();
        }
        assert_eq!(self.model.known(&rsa).unwrap().confirmed_on, Some(on));
    }

    fn events(&mut self) {
        let mut told = Vec::new();
        while let Some(event) = self.world.event() {
            told.push(event);
        }
        let mut expected = Vec::new();
        let now = self.secs;
        self.model.circuits.retain(|id, circuit| {
            let is_over = circuit.1 == Circuit::Waiting && now - circuit.2 >= 10 * MINUTE;
            expected.extend(is_over.then_some(GuardEvent::Unwanted(*id)));
            !is_over
        });
        loop {
            let free = self.model.free(now);
            if free.is_empty() {
                break;
            }
            for id in free {
                self.complete(id);
                expected.push(GuardEvent::Usable(id));
            }
        }
        assert_eq!(told, expected);
        for event in told {
            if let GuardEvent::Unwanted(id) = event {
                self.world.guards.handle_end(id);
            }
        }
    }

    /// Some of the network, a few days later or at once.
    fn consensus(&mut self, seed: u64) {
        let mut rng = Rng::from_seed([seed as u8; 32]);
        let later = [0, 0, DAY / 2, 9 * DAY][(seed >> 8) as usize % 4];
        self.secs += later;
        self.world.wait(later);
        let mut listed = candidates(NETWORK);
        listed.retain(|_| rng.below(10) > 0);
        for one in &mut listed {
            one.allowed = rng.below(10) > 0;
        }
        self.world.consensus(listed.clone());
        let model = &mut self.model;
        model.listed = listed.iter().map(|one| one.rsa).collect();
        let allowed = listed.iter().filter(|one| one.allowed);
        model.allowed = allowed.map(|one| one.rsa).collect();
        let now = self.world.now.wall;
        let days = |time: SystemTime| now.duration_since(time).unwrap().as_secs() / DAY;
        let is_over = |time: SystemTime, limit: u64| {
            let age = now.duration_since(time).unwrap();
            age > Duration::from_secs(limit * DAY) && days(time) >= limit
        };
        let names = model.listed.clone();
        model.guards.retain(|one| {
            let is_listed = names.contains(&one.rsa);
            let unlisted = !is_listed && one.unlisted_since.is_some_and(|at| is_over(at, 20));
            let confirmed_lately = one.confirmed_on.is_some_and(|on| !is_over(on, 60));
            let old = is_over(one.sampled_on, 120) && !confirmed_lately;
            !unlisted && !old
        });
        let left: Vec<RsaId> = model.guards.iter().map(|one| one.rsa).collect();
        model.primary.retain(|rsa| left.contains(rsa));
        model.choose_primary();
        self.adopt(&names, true);
        self.model.choose_primary();
    }

    /// Takes over what the guards have drawn, if they were right to draw.
    fn adopt(&mut self, listed: &[RsaId], is_consensus: bool) {
        let (now, secs) = (self.world.now.wall, self.secs);
        let sampled = self.world.sampled();
        let before: Vec<RsaId> = self.model.guards.iter().map(|one| one.rsa).collect();
        assert_eq!(
            sampled[..before.len()],
            before,
            "none left that had to stay"
        );
        let statuses = self.world.guards.statuses();
        let status = |rsa: &RsaId| statuses.iter().find(|one| one.rsa == *rsa).unwrap();
        for (at, rsa) in sampled.iter().enumerate().skip(before.len()) {
            let model = &self.model;
            let count = |counts: &dyn Fn(&Known) -> bool| {
                model.guards.iter().filter(|one| counts(one)).count()
            };
            let is_short = model.primary.len() < 3;
            let usable = count(&|one| model.usable(one, secs));
            let is_preferred = |one: &Known| {
                let is_first = model.primary.contains(&one.rsa) || one.confirmed_on.is_some();
                is_first && model.usable(one, secs)
            };
            let may = match is_consensus {
                true => {
                    let listed = count(&|one| model.listed.contains(&one.rsa));
                    listed < 20 || (is_short && usable < 20)
                }
                false => usable < 20 && count(&is_preferred) == 0,
            };
            assert!(may, "the sample is large enough");
            assert!(
                at < (model.listed.len() / 5).clamp(20, 60),
                "the limit holds"
            );
            assert!(model.listed.contains(rsa) && !before.contains(rsa));
            let on = status(rsa).sampled_on;
            assert!(on <= now && on > now - Duration::from_secs(12 * DAY));
            self.model.guards.push(Known {
                rsa: *rsa,
                sampled_on: on,
                unlisted_since: None,
                confirmed_on: None,
                is_up: None,
                failing_since: 0,
                tried: 0,
            });
        }
        if is_consensus {
            for one in &mut self.model.guards {
                let since = status(&one.rsa).unlisted_since;
                assert_eq!(since.is_none(), listed.contains(&one.rsa));
                match (one.unlisted_since, since) {
                    (None, Some(at)) => {
                        assert!(at <= now && at > now - Duration::from_secs(4 * DAY));
                    }
                    (before, since) => assert!(since.is_none() || before == since),
                }
                one.unlisted_since = since;
            }
        }
    }

    fn compare(&mut self) {
        self.model.refresh(self.secs);
        let mut ranked = self.world.ranked(GuardUse::Data);
        self.adopt(&[], false);
        if self.model.ranked(self.secs).is_empty() {
            for one in &mut self.model.guards {
                one.is_up = None;
            }
        }
        let expected = self.model.ranked(self.secs);
        assert_eq!(ranked, expected);
        assert_eq!(self.world.guards.primary(), self.model.primary);
        ranked.retain(|rsa| !self.model.allowed.contains(rsa));
        assert!(ranked.is_empty());
        assert!(
            self.world.guards.poll_timeout(self.world.now) > Some(self.world.now.mono)
                || self.world.guards.poll_timeout(self.world.now).is_none()
        );
    }
}

proptest! {
    #[test]
    fn the_guards_do_as_the_model_does(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
    }
}
