//! The keys of a running relay: rotated, saved, handed to links and switches.

use std::sync::Arc;
use std::time::Duration;

use cepa_link::LinkIdentity;
use cepa_wire::Now;
use tracing::{info, warn};

use super::{Command, Relay, TlsKeyJob};
use crate::key_files::KeyFileError;
use crate::signing::DAY;

/// So long before the end of a signing key it is told, where no other can be made.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often in the last day.
const ENDS_TOLD_EVERY: Duration = Duration::from_secs(60 * 60);

impl Relay {
    /// Asks for the signing key on disk if ours ends soon: another may have been put there.
    pub(super) fn look_for_signing_key(&mut self, now: Now) {
        let left = self.keys.signing_left(now);
        if left.is_some_and(|left| left < ENDS_SOON) {
            self.commands.push_back(Command::ReadSigningKey);
        }
    }

    /// The signing key and its certificate as they are on disk: the answer to
    /// [`Command::ReadSigningKey`], and whenever somebody may have renewed them.
    ///
    /// # Errors
    /// Why they can't be used; then those from before go on being used.
    pub fn handle_signing_key(
        &mut self,
        secret: &[u8],
        cert: &[u8],
        now: Now,
    ) -> Result<(), KeyFileError> {
        let taken = match self.keys.signing_left(now) {
            None => return Ok(()),
            Some(_) => self.keys.take_signing(secret, cert, now),
        };
        if taken == Ok(true) {
            info!("the renewed signing key is in use");
            self.ends_told = None;
            self.make_link_identity(now);
            self.publisher.changed();
        }
        self.warn_of_end(now);
        self.advance(now);
        match taken {
            // That has just been said.
            Err(KeyFileError::Ended) => Ok(()),
            taken => taken.map(|_| ()),
        }
    }

    /// Says that the signing key ends soon: once a day, then once an hour.
    fn warn_of_end(&mut self, now: Now) {
        let left = self.keys.signing_left(now);
        let Some(left) = left.filter(|left| *left < ENDS_SOON) else {
            return;
        };
        let every = if left > DAY { DAY } else { ENDS_TOLD_EVERY };
        let is_recent = |told| now.mono.saturating_duration_since(told) < every;
        if self.ends_told.is_some_and(is_recent) {
            return;
        }
        self.ends_told = Some(now.mono);
        let remedy = "renew it where the master key is (cepa relay keygen --renew), copy its two \
            files here, and send SIGHUP";
        if left.is_zero() {
            tracing::error!("the signing key has ended: nobody believes this relay; {remedy}");
        } else {
            let (days, hours) = (left.as_secs() / 86_400, left.as_secs() / 3600 % 24);
            warn!("the signing key ends in {days} d {hours} h: {remedy}");
        }
    }

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
        self.commands.push_back(Command::MakeTlsKey(TlsKeyJob {
            identity,
            times: self.config.key_times.links,
        }));
    }

    pub(super) fn make_link_identity(&mut self, now: Now) {
        let Some(tls) = &self.tls else { return };
        let v4 = std::net::IpAddr::V4(*self.config.or_address.ip());
        let v6 = self
            .config
            .or_address_v6
            .map(|address| std::net::IpAddr::V6(*address.ip()));
        let known = std::iter::once(v4).filter(|ip| !ip.is_unspecified());
        let addresses: Vec<_> = known.chain(v6).collect();
        let (keys, times) = (self.keys.link_keys(), self.config.key_times.links);
        match LinkIdentity::make_for(keys, &tls.cert_der, &addresses, times, now, &mut self.rng) {
            Ok(identity) => {
                let (tls, identity) = (Arc::clone(tls), Arc::new(identity));
                self.commands.push_back(Command::Link { tls, identity });
            }
            Err(error) => warn!(%error, "links cannot be authenticated"),
        }
    }
}
