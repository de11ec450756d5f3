//! The keys of a running relay: rotated, saved, handed to links and switches.

use std::sync::Arc;

use cepa_link::LinkIdentity;
use cepa_wire::Now;
use tracing::{info, warn};

use super::{Command, Relay, TlsKeyJob};

impl Relay {
    pub(super) fn rotate_keys(&mut self, now: Now) {
        let rotated = match self.keys.rotate(self.life, now, &mut self.rng) {
            Ok(rotated) => rotated,
            Err(error) => return warn!(%error, "keys could not be rotated"),
        };
        if !rotated.any() {
            return;
        }
        info!(?rotated, "keys rotated");
        self.save_keys();
        if rotated.onion || rotated.grace_over {
            self.hand_out_onion_keys();
        }
        if rotated.signing {
            self.make_link_identity(now);
        }
        if rotated.onion || rotated.signing {
            self.publisher.changed();
        }
    }

    pub(super) fn save_keys(&mut self) {
        let files = self.keys.files(&self.config.nickname);
        let ntor_since = self.keys.ntor_since();
        self.commands
            .push_back(Command::SaveKeys { files, ntor_since });
    }

    pub(super) fn hand_out_onion_keys(&mut self) {
        self.commands
            .push_back(Command::OnionKeys(Arc::new(self.keys.onion_keys())));
    }

    pub(super) fn make_tls_key(&mut self) {
        self.tls_due = None;
        let identity = Arc::clone(self.keys.identity());
        self.commands
            .push_back(Command::MakeTlsKey(TlsKeyJob { identity }));
    }

    pub(super) fn make_link_identity(&mut self, now: Now) {
        let Some(tls) = &self.tls else { return };
        let v4 = std::net::IpAddr::V4(*self.config.or_address.ip());
        let v6 = self
            .config
            .or_address_v6
            .map(|address| std::net::IpAddr::V6(*address.ip()));
        let addresses: Vec<_> = std::iter::once(v4).chain(v6).collect();
        let keys = self.keys.link_keys();
        match LinkIdentity::make(keys, &tls.cert_der, &addresses, now, &mut self.rng) {
            Ok(identity) => {
                let (tls, identity) = (Arc::clone(tls), Arc::new(identity));
                self.commands.push_back(Command::Link { tls, identity });
            }
            Err(error) => warn!(%error, "links cannot be authenticated"),
        }
    }
}
