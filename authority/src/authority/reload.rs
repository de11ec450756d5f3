//! What an operator changes while an authority runs: how it votes, and its certificate.

use cepa_wire::Now;

use super::Authority;
use crate::command::Command;
use crate::config::{Config, Keys};

impl Authority {
    /// Votes by this from the next vote on: contact, parameters, versions, and what is said of
    /// single relays. Who the authorities are, and the timing, stay as they were.
    pub fn set_config(&mut self, config: Config, now: Now) {
        let before = &self.config;
        self.config = Config {
            authorities: before.authorities.clone(),
            timing: before.timing,
            initial_interval_secs: before.initial_interval_secs,
            initial_delays_secs: before.initial_delays_secs,
            is_testing: before.is_testing,
            allows_private_addresses: before.allows_private_addresses,
            first_vote_after_relays: before.first_vote_after_relays,
            ..config
        };
        let mut commands = Vec::new();
        self.relays.reject(&self.config.rules, &mut commands);
        self.commands.extend(commands);
        self.advance(now);
    }

    /// Signs with a renewed key from the next round on; says whether it is ours: of the same
    /// identity, and made after the one in use.
    pub fn renew_keys(&mut self, keys: Keys, now: Now) -> bool {
        let held = &self.keys.cert;
        let is_ours = keys.cert.identity == held.identity && keys.cert.published > held.published;
        if is_ours {
            self.next_keys = Some(keys);
            self.advance(now);
        }
        is_ours
    }

    /// Not within a round: what was voted with one key is signed with it.
    pub(super) fn take_next_keys(&mut self) {
        if self.round.is_some() {
            return;
        }
        if let Some(keys) = self.next_keys.take() {
            self.add_certificate(&keys.cert);
            self.commands
                .extend(keys.certificates().map(Command::Serve));
            self.keys = keys;
            tracing::info!("the renewed certificate is in use");
        }
    }
}
