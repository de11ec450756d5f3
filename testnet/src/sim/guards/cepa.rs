//! The guards of production, driven as the client drives them.

use std::collections::BTreeMap;

use cepa_client::guards::{
    GuardAttempt, GuardCandidate, GuardEvent, GuardParams, GuardUsability, GuardUse, Guards,
};
use cepa_crypto::{Rng, RsaId};
use cepa_wire::Now;

use super::world::Relay;
use super::{Chooser, TRIES_MAX};

/// The guards of production.
#[derive(Debug)]
pub(super) struct Cepa {
    guards: Guards,
    listed: Vec<Relay>,
    rng: Rng,
    is_fresh: bool,
}

impl Cepa {
    pub(super) fn new(rng: Rng) -> Self {
        Cepa {
            guards: Guards::new(GuardParams::default()),
            listed: Vec::new(),
            rng,
            is_fresh: false,
        }
    }

    fn told(&mut self, now: Now) -> Option<GuardAttempt> {
        while let Some(event) = self.guards.poll_event(now, &mut self.rng) {
            match event {
                GuardEvent::Usable(attempt) => return Some(attempt),
                GuardEvent::Unwanted(attempt) => self.guards.handle_end(attempt),
            }
        }
        None
    }

    fn apply(&mut self, now: Now) {
        let candidate = |relay: &Relay| GuardCandidate {
            rsa: Relay::rsa(relay.number),
            ed: None,
            nickname: String::new(),
            bridge: None,
            weight: relay.weight,
            allowed: true,
        };
        let listed: Vec<GuardCandidate> = self.listed.iter().map(candidate).collect();
        let params = GuardParams::default();
        self.guards
            .handle_consensus(params, listed, true, now, &mut self.rng);
        self.is_fresh = true;
    }
}

fn number_of(id: &RsaId) -> u32 {
    let bytes = id.as_bytes().first_chunk();
    bytes.map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes))
}

impl Chooser for Cepa {
    fn consensus(&mut self, listed: &[Relay], now: Now) {
        self.listed = listed.to_vec();
        self.apply(now);
    }

    fn circuit(
        &mut self,
        is_excluded: &dyn Fn(u32) -> bool,
        try_guard: &mut dyn FnMut(u32) -> bool,
        now: Now,
    ) -> Option<u32> {
        if !self.is_fresh {
            // The kept consensus, after a restart.
            self.apply(now);
        }
        let mut begun: BTreeMap<GuardAttempt, u32> = BTreeMap::new();
        let mut carries = None;
        for _ in 0..TRIES_MAX {
            let ranked = self.guards.ranked(GuardUse::Data, now, &mut self.rng);
            let excluded: Vec<RsaId> = self
                .guards
                .sampled()
                .filter(|id| is_excluded(number_of(id)))
                .collect();
            let Some(id) = ranked.into_iter().find(|id| !excluded.contains(id)) else {
                break;
            };
            let number = number_of(&id);
            let attempt = self.guards.begin(&id, GuardUse::Data, excluded, now)?;
            begun.insert(attempt, number);
            if !try_guard(number) {
                self.guards.handle_failure(attempt, now);
            } else if self.guards.handle_success(attempt, now, &mut self.rng) == GuardUsability::Now
            {
                carries = Some(number);
            }
            if let Some(usable) = self.told(now) {
                carries = carries.or(begun.get(&usable).copied());
            }
            if carries.is_some() {
                break;
            }
        }
        for attempt in begun.into_keys() {
            self.guards.handle_end(attempt);
        }
        carries
    }

    fn restart(&mut self) {
        if let Ok(guards) = Guards::parse(&self.guards.encode(), GuardParams::default()) {
            self.guards = guards;
        }
        self.is_fresh = false;
    }

    fn sample(&self) -> Vec<u32> {
        self.guards.sampled().map(|id| number_of(&id)).collect()
    }
}
