//! `tor`'s defences against who asks a relay for too much (`cepa_limits::dos`): circuits by
//! address, streams by circuit. Relays of the consensus are exempt from what is counted by address.

use cepa_circuit::CircuitKey;
use cepa_limits::dos::{StreamDefense, StreamRules};
use cepa_limits::{Account, DosRule, Meter};
use cepa_link::ChannelKey;
use cepa_wire::Now;

use super::Switch;
use super::edge::EdgeKind;

/// What a circuit has asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    streams: Meter,
    begin_dir: Meter,
    has_begin_dir: bool,
}

impl Switch {
    /// Counts what is beyond a rule; whether it is refused.
    pub(super) fn refuses(&mut self, rule: DosRule) -> bool {
        self.dos_counts.count(rule);
        !self.config.dos.is_dry_run
    }

    /// Whether a CREATE cell is refused (`DoSCircuitCreation…`).
    pub(super) fn refuses_circuit(&mut self, channel: ChannelKey, now: Now) -> bool {
        let Some(link) = self.channels.get(channel) else {
            return false;
        };
        let peer = link.channel.link().peer;
        let is_relay = peer.is_some_and(|peer| self.relays.ids.contains_key(&peer.rsa));
        let Some(account) = link.account.as_deref().filter(|_| !is_relay) else {
            return false;
        };
        let rules = &self.config.dos.circuit;
        let verdict = Account::take_circuit(account, rules, &mut self.rng, now.mono);
        if verdict.is_marked_now {
            self.dos_counts.count(DosRule::MarkedAddress);
        }
        verdict.is_refused && self.refuses(DosRule::CircuitRejected)
    }

    /// What becomes of a stream (`DoSStreamCreation…`, `DoSBeginDir…`); `None`: it may be opened.
    pub(super) fn refuses_stream(
        &mut self,
        key: CircuitKey,
        kind: EdgeKind,
        now: Now,
    ) -> Option<StreamDefense> {
        let dos = self.config.dos;
        let is_relays = dos.begin_dir_once && self.previous_peer(key).is_some();
        let asked = self.circuits.get_mut(key)?.asked.get_or_insert_default();
        let is_over = |rules: &StreamRules, meter: &mut Meter| {
            let rate = rules.rate.filter(|_| rules.is_enabled);
            rate.is_some_and(|rate| !meter.take(rate, now.mono))
        };
        let (rule, defense) = match kind {
            EdgeKind::Exit | EdgeKind::Resolve => {
                if !is_over(&dos.stream, &mut asked.streams) {
                    return None;
                }
                (DosRule::StreamRejected, dos.stream.defense)
            }
            EdgeKind::Dir => {
                if std::mem::replace(&mut asked.has_begin_dir, true) && is_relays {
                    (DosRule::BeginDirRejected, StreamDefense::Reject)
                } else if is_over(&dos.begin_dir, &mut asked.begin_dir) {
                    (DosRule::BeginDirRateRejected, dos.begin_dir.defense)
                } else {
                    return None;
                }
            }
        };
        let acts = self.refuses(rule) && defense != StreamDefense::None;
        acts.then_some(defense)
    }
}
