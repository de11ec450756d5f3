//! What onion services need of a circuit beside streams of ours: messages without a stream, a peer
//! joined beyond the rendezvous point, and streams that this peer opens (rend-spec-v3 3, 4).
//!
//! ```text
//! built ─listen()─▶ listening ─join()─┬─ visits: we open streams at the joined hop
//!                                     └─ serves: it opens streams: Requested ─▶ accept / refuse
//! ```
//!
//! Messages count only from the last hop, before the join; BEGIN only from the joined hop of a
//! circuit that serves. Everything else is dropped, and counted. A peer has a bounded number of
//! streams ([`INBOUND_STREAMS_MAX`](super::INBOUND_STREAMS_MAX)); beyond, it is told RESOURCELIMIT.

use cepa_circuit::{CircuitKey, Congestion, HopWindow, Stream, StreamKey, StreamSide, StreamState};
use cepa_crypto::layer::HopLayer;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::circuits::JoinError;
use super::streams::StreamKind;
use super::{Event, Plane};

impl Plane {
    /// From now on, messages of the last hop are told by [`Event::CircuitMessage`].
    pub fn listen(&mut self, key: CircuitKey) {
        if let Some(circuit) = self.circuits.get_mut(key) {
            circuit.listen();
        }
    }

    /// Sends a message without a stream to the last hop. False if the circuit is not there, or its
    /// queue was full, which closes it; or if the body does not fit a cell.
    pub fn send_control(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        body: &[u8],
        now: Now,
    ) -> bool {
        let origin = match self.circuits.get(key) {
            Some(circuit) if circuit.origin.is_built() => &circuit.origin,
            _ => return false,
        };
        match origin.hop_count().checked_sub(1) {
            Some(hop) if body.len() <= origin.data_max(hop, command) => {
                self.send_message(key, hop, command, StreamId::NONE, body, now)
            }
            _ => false,
        }
    }

    /// Adds the peer beyond the rendezvous point as the last hop, at which we open streams, or
    /// which, with `serves`, opens them here; under congestion control if the service's descriptor
    /// offered it and the visitor asked for it.
    ///
    /// # Errors
    /// If the circuit is not built or has been joined before.
    pub fn join_circuit(
        &mut self,
        key: CircuitKey,
        layer: HopLayer,
        congestion: Option<Congestion>,
        serves: bool,
    ) -> Result<(), JoinError> {
        let circuit = self.circuits.get_mut(key).ok_or(JoinError::NoCircuit)?;
        circuit.join(layer, congestion, serves)
    }

    /// KH of the last hop that was built (rend-spec-v3 3.1.1); `None` before the first.
    #[must_use]
    pub fn circuit_kh(&self, key: CircuitKey) -> Option<&[u8; 20]> {
        let circuit = self.circuits.get(key)?;
        (circuit.origin.hop_count() > 0).then(|| circuit.origin.kh())
    }

    /// Our connection for a stream of the peer's stands: CONNECTED is sent, and what came before
    /// may be taken. False if the peer has given up meanwhile.
    pub fn stream_accept(&mut self, key: StreamKey, now: Now) -> bool {
        let Some(entry) = self.streams.entry_mut(key) else {
            return false;
        };
        if entry.stream.state() != StreamState::Connecting {
            return false;
        }
        entry.stream.connected();
        let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
        self.streams.wake(key, None);
        // Where a service lives is not told.
        self.send_message(circuit, hop, RelayCommand::CONNECTED, id, &[], now)
    }

    /// Tells the peer that there is no stream, and why. The key goes stale.
    pub fn stream_refuse(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.stream_close(key, reason, now);
    }

    /// Takes BEGIN or BEGIN_DIR of the joined hop.
    pub(super) fn handle_begin(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        id: StreamId,
        data: &[u8],
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        // The peer uses the id again, so that it has seen our END.
        circuit.half_closed.forget(id);
        let Some(hop) = circuit.origin.hop_count().checked_sub(1) else {
            return;
        };
        let has_room = |_| self.ledger.takes_streams();
        let refusal = match circuit.take_begin(command, data, has_room) {
            Err(refusal) => refusal,
            Ok(begin) => {
                let agreed = circuit.origin.window(hop).and_then(HopWindow::agreed);
                let stream = Stream::accept(id).with_congestion(agreed, StreamSide::Client);
                let stream = self.streams.add((key, hop), StreamKind::Inbound, stream);
                circuit.streams.insert(id, stream);
                let event = Event::StreamRequested { stream, begin };
                return self.events.push_back(event);
            }
        };
        self.send_end(key, hop, id, refusal, now);
    }
}

#[cfg(test)]
mod tests;
