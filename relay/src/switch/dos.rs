//! `tor`'s defences against who asks a relay for too much (`cepa_limits::dos`): circuits by
//! address, streams by circuit. Relays of the consensus are exempt from what is counted by address.

use cepa_crypto::Rng;
use cepa_limits::dos::{StreamDefense, StreamRules};
use cepa_limits::{Account, DosCounts, DosParams, DosRule, Meter};
use cepa_wire::Now;

use super::channels::Link;
use super::known::KnownRelays;

/// What a circuit has asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    streams: Meter,
    begin_dir: Meter,
    has_begin_dir: bool,
}

/// The defences, and what they have refused.
#[derive(Debug, Default)]
pub(super) struct Defenses {
    pub(super) counts: DosCounts,
}

impl Defenses {
    /// Counts what is beyond a rule; whether it is refused.
    pub(super) fn refuses(&mut self, rule: DosRule, params: &DosParams) -> bool {
        self.counts.count(rule);
        !params.is_dry_run
    }

    /// Whether a CREATE cell of a channel is refused (`DoSCircuitCreation…`).
    pub(super) fn refuses_circuit(
        &mut self,
        link: &Link,
        relays: &KnownRelays,
        params: &DosParams,
        rng: &mut Rng,
        now: Now,
    ) -> bool {
        let peer = link.channel.link().peer;
        let is_relay = peer.is_some_and(|peer| relays.ids.contains_key(&peer.rsa));
        let Some(account) = link.account.as_deref().filter(|_| !is_relay) else {
            return false;
        };
        let verdict = Account::take_circuit(account, &params.circuit, rng, now.mono);
        if verdict.is_marked_now {
            self.counts.count(DosRule::MarkedAddress);
        }
        verdict.is_refused && self.refuses(DosRule::CircuitRejected, params)
    }

    /// What becomes of a BEGIN or RESOLVE (`DoSStreamCreation…`); `None`: it may go on.
    pub(super) fn refuses_stream(
        &mut self,
        asked: &mut Asked,
        params: &DosParams,
        now: Now,
    ) -> Option<StreamDefense> {
        if !is_over(&params.stream, &mut asked.streams, now) {
            return None;
        }
        self.acts(DosRule::StreamRejected, params.stream.defense, params)
    }

    /// What becomes of a BEGIN_DIR (`DoSBeginDir…`), which came from a relay or from a client
    /// itself; `None`: it may go on.
    pub(super) fn refuses_begin_dir(
        &mut self,
        asked: &mut Asked,
        is_from_relay: bool,
        params: &DosParams,
        now: Now,
    ) -> Option<StreamDefense> {
        let has_begin_dir = std::mem::replace(&mut asked.has_begin_dir, true);
        if has_begin_dir && is_from_relay && params.begin_dir_once {
            return self.acts(DosRule::BeginDirRejected, StreamDefense::Reject, params);
        }
        if !is_over(&params.begin_dir, &mut asked.begin_dir, now) {
            return None;
        }
        let defense = params.begin_dir.defense;
        self.acts(DosRule::BeginDirRateRejected, defense, params)
    }

    /// Counts what is beyond a rule; what is done about it.
    fn acts(
        &mut self,
        rule: DosRule,
        defense: StreamDefense,
        params: &DosParams,
    ) -> Option<StreamDefense> {
        let acts = self.refuses(rule, params) && defense != StreamDefense::None;
        acts.then_some(defense)
    }
}

fn is_over(rules: &StreamRules, meter: &mut Meter, now: Now) -> bool {
    let rate = rules.rate.filter(|_| rules.is_enabled);
    rate.is_some_and(|rate| !meter.take(rate, now.mono))
}
