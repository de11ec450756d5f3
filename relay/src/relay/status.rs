//! The snapshot of a relay's control core ([`crate::status`]).

use cepa_wire::Now;

use super::Relay;
use crate::status::{AccountingStatus, LimitsStatus, RelayStatus};

impl Relay {
    /// How it stands.
    #[must_use]
    pub fn status(&self, now: Now) -> RelayStatus {
        let (config, keys, memory) = (&self.config, &self.keys, &self.memory);
        let view = self.download.view();
        let rules = self.exit_policy.rules().rules().iter();
        let since = keys.ntor_since();
        RelayStatus {
            nickname: config.nickname.clone(),
            rsa: keys.rsa_id(),
            ed: keys.ed25519_id(),
            or_address: config.or_address,
            or_address_v6: config.or_address_v6,
            published: self.own.as_ref().map(|own| own.descriptor.published),
            consensus_valid_after: view.map(|view| view.consensus().lifetime.valid_after),
            uptime_secs: now.mono.saturating_duration_since(self.started).as_secs(),
            onion_key_since: since,
            onion_key_until: since + self.life.rotation,
            signing_key_until: keys.signing_until(),
            is_exit: self.exit_policy.is_exit(),
            exit_policy: rules.map(ToString::to_string).collect(),
            limits: LimitsStatus {
                bandwidth_rate: config.bandwidth_rate,
                bandwidth_burst: config.bandwidth_burst,
                bandwidth_observed: self.history.observed(),
                memory_bytes: memory.total_bytes(),
                memory_bytes_max: memory.max_bytes(),
            },
            wakefulness: self.wakefulness,
            accounting: self.accounting.as_ref().map(|used| {
                let (read_bytes, written_bytes) = used.bytes();
                AccountingStatus {
                    read_bytes,
                    written_bytes,
                    max_bytes: used.max(),
                    wakes: used.wakes(),
                }
            }),
        }
    }
}
