//! Onion services: those that the client hosts, and the keys to those it visits.

use cepa_circuit::StreamKey;
use cepa_crypto::curve25519;
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::Client;
#[cfg(doc)]
use crate::command::Command;
use crate::names::ServiceId;
use crate::onion::services::ServiceConfig;

impl Client {
    /// Hosts a service from now on; [`Command::OnionPublished`] tells when it can be found.
    pub fn add_service(&mut self, config: ServiceConfig, now: Now) -> ServiceId {
        self.wake(now);
        let id = self.onion.services.add(config, now);
        self.onion.used(now);
        self.settle(now);
        id
    }

    /// Hosts a service with other ports, clients, limits or introduction points from now on.
    /// Streams that are open stay.
    pub fn change_service(&mut self, id: ServiceId, config: ServiceConfig, now: Now) {
        self.onion.services.change(id, config, now);
        self.settle(now);
    }

    /// Hosts a service no longer: its circuits and streams are closed at once.
    pub fn remove_service(&mut self, id: ServiceId, now: Now) {
        self.onion.services.remove(id, now);
        self.settle(now);
    }

    /// The connection for [`Command::OnionStream`] stands. False if the visitor has given up
    /// meanwhile: the stream has ended, and is to be closed.
    pub fn onion_stream_connected(&mut self, stream: StreamKey, now: Now) -> bool {
        let accepted = self.shared.plane.stream_accept(stream, now);
        self.settle_events(now);
        accepted
    }

    /// There is no connection for [`Command::OnionStream`]; the stream is gone.
    pub fn onion_stream_refused(&mut self, stream: StreamKey, now: Now) {
        let reason = EndReason::CONNECTREFUSED;
        self.shared.plane.stream_refuse(stream, reason, now);
        self.settle_events(now);
    }

    /// Takes the key with which a service that is not for everybody knows us. Whether there was
    /// room for it, below [`crate::onion::CLIENT_KEYS_MAX`].
    #[must_use]
    pub fn add_onion_client_key(
        &mut self,
        address: OnionAddress,
        key: curve25519::SecretKey,
        now: Now,
    ) -> bool {
        let has_room = self.onion.visits.add_client_key(address, key);
        self.settle(now);
        has_room
    }

    /// Forgets such a key. Whether there was one.
    pub fn remove_onion_client_key(&mut self, address: &OnionAddress) -> bool {
        self.onion.visits.remove_client_key(address)
    }
}
