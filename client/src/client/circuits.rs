//! Circuits of the client: begun, built, lost (path-spec 2.1, 2.5; guard-spec 4.7, 4.8).

use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::Client;
use crate::command::LinkTarget;
use crate::guards::GuardUse;
use crate::links::Need;
use crate::network::Pins;
use crate::paths::{self, ExitNeed, PathError, PathRules};
use crate::plane::CircuitClose;
use crate::pool::{PoolId, Purpose, REVIEW_AGAIN, Stage};

/// Circuits that may fail in a row before the next ones wait.
const FAILURES_FREE: u32 = 3;
/// The first wait then, which doubles with each further failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

impl Client {
    /// Begins a circuit to an exit that meets a need.
    pub(super) fn launch(
        &mut self,
        need: ExitNeed,
        excluded_exits: &[RsaId],
        now: Now,
    ) -> Result<Option<PoolId>, PathError> {
        let entries = self.entries(now);
        let Some(view) = self.download.view() else {
            return Ok(None);
        };
        let rules = PathRules {
            need,
            entries: &entries,
            pins: &self.config.pins,
            excluded_exits,
            distinct_subnets: !self.config.subnets_shared,
        };
        let path = paths::choose(view, &rules, &mut self.rng)?;
        let with_ed = view.params().value("ExtendByEd25519ID", 0, 0, 1) == 1;
        let (target, first, rest) = path.specs(with_ed);
        let [_, _, exit] = path.hops;
        self.guards.handle_attempt(&target.rsa, now);
        let purpose = Purpose::General(Box::new(exit));
        Ok(self.open_circuit(purpose, target, first, rest, now))
    }

    /// The first hops to choose from, best first.
    pub(super) fn entries(&mut self, now: Now) -> Vec<RsaId> {
        let pins = &self.config.pins.entry;
        let view = self.download.view().filter(|_| !pins.is_empty());
        match view {
            Some(view) => {
                let pinned = view
                    .relays()
                    .iter()
                    .filter(|relay| Pins::allow(pins, relay));
                let mut ids: Vec<RsaId> = pinned.map(|relay| relay.rsa_id).collect();
                crate::guards::shuffle(&mut ids, &mut self.rng);
                ids
            }
            None => self.guards.ranked(GuardUse::Data, now, &mut self.rng),
        }
    }

    /// Begins a circuit, with a channel if there is one; `None` if there are too many.
    pub(super) fn open_circuit(
        &mut self,
        purpose: Purpose,
        target: LinkTarget,
        first: HopSpec,
        rest: Vec<HopSpec>,
        now: Now,
    ) -> Option<PoolId> {
        let id = self.pool.insert(purpose, (target.rsa, first), rest, now)?;
        match self.links.need(target, now, &mut self.commands) {
            Need::Open(channel) => self.begin_circuit(id, channel, now),
            Need::Opening => {}
            Need::Full => {
                self.pool.remove(id);
            }
        }
        self.pool.entry(id).map(|_| id)
    }

    /// The channel to the first hop stands.
    pub(super) fn begin_circuit(&mut self, id: PoolId, channel: ChannelKey, now: Now) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let Stage::Channel(first, rest) = &entry.stage else {
            return;
        };
        let (first, rest) = (HopSpec::clone(first), rest.clone());
        match self.plane.open_circuit(channel, first, rest, now) {
            Ok(key) => self.pool.began(id, key),
            Err(error) => {
                tracing::warn!("a circuit cannot be begun: {error}");
                self.drop_circuit(id, now);
            }
        }
    }

    pub(super) fn circuit_built(&mut self, key: CircuitKey, now: Now) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        let Some(entry) = self.pool.built(id, now) else {
            return;
        };
        let first = entry.first;
        let is_onion = entry.onion_path().is_some();
        if matches!(entry.purpose, Purpose::Directory) {
            return self.directory_circuit_built(id, key, now);
        }
        self.upkeep.failures = 0;
        self.upkeep.has_built = true;
        if !self.guards.handle_success(&first, now, &mut self.rng) {
            // The network was down: better guards come first.
            self.plane.close_circuit(key, DestroyReason::NONE, now);
        } else if is_onion {
            self.onion_circuit_built(id, key, now);
        }
    }

    /// A circuit of the plane's is gone; with the hop that was being added if it was not built.
    pub(super) fn circuit_gone(
        &mut self,
        key: CircuitKey,
        failed: Option<usize>,
        reason: CircuitClose,
        now: Now,
    ) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        let first = self.pool.entry(id).map(|entry| entry.first);
        if let (Some(0), Some(first)) = (failed, first) {
            // A channel that closed says nothing yet: the next try to connect will.
            if reason != CircuitClose::ChannelClosed {
                self.guards.handle_failure(&first, now);
            }
        }
        if failed.is_some() {
            self.drop_circuit(id, now);
        } else {
            self.forget_circuit(id, Some(reason), now);
        }
    }

    /// A circuit was not built in time, or a worn one is no longer used.
    pub(super) fn review_circuit(&mut self, id: PoolId, now: Now) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let (key, is_built, first) = (entry.key(), entry.built().is_some(), entry.first);
        let status = key.and_then(|key| self.plane.circuit_status(key));
        if is_built {
            if self.keeps_onion_circuit(id, now) {
                return;
            }
            if status.is_some_and(|status| status.stream_count > 0) {
                let later = now.mono + REVIEW_AGAIN;
                if let Some(entry) = self.pool.entry_mut(id) {
                    entry.review_at = later;
                }
                return;
            }
            self.forget_circuit(id, None, now);
        } else {
            tracing::debug!("a circuit was not built in time");
            if status.is_none_or(|status| status.hop_count == 0) {
                self.guards.handle_failure(&first, now);
            }
            self.drop_circuit(id, now);
        }
        if let Some(key) = key {
            self.plane.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    /// A circuit that was not built is gone: the next ones may have to wait.
    pub(super) fn drop_circuit(&mut self, id: PoolId, now: Now) {
        let entry = self.pool.entry(id);
        if entry.is_some_and(|entry| !matches!(entry.purpose, Purpose::Directory)) {
            self.upkeep.failures = self.upkeep.failures.saturating_add(1);
            let beyond = self.upkeep.failures.saturating_sub(FAILURES_FREE);
            if beyond > 0 {
                let wait = BACKOFF_MIN * 2_u32.saturating_pow(beyond.min(10) - 1);
                self.upkeep.launch_after = now.mono + wait.min(BACKOFF_MAX);
            }
        }
        self.forget_circuit(id, None, now);
    }

    fn forget_circuit(&mut self, id: PoolId, reason: Option<CircuitClose>, now: Now) {
        self.pool.remove(id);
        self.directory_circuit_gone(id, now);
        self.onion_circuit_gone(id, reason, now);
    }
}
