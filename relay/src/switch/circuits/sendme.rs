//! The windows of circuits: their SENDMEs (tor-spec 7.3; proposal 324, 3).
//!
//! DATA counts for its circuit's window whether or not its stream is known.

use cepa_circuit::{CircuitKey, LocalQueue, RelayCircuit, SendmeTag};
use cepa_wire::Now;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::sendme::{self, Sendme};

use super::Circuits;
use crate::switch::shared::Shared;

impl Circuits {
    /// A DATA cell came, whose acknowledgement must have this tag: the client is told, when it is
    /// time.
    pub(crate) fn delivered(
        &mut self,
        key: CircuitKey,
        tag: &SendmeTag,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let due = circuit.relay.as_mut().is_some_and(RelayCircuit::delivered);
        if due && let Some(tag) = sendme::SendmeTag::from_bytes(tag.as_bytes()) {
            let mut body = Vec::with_capacity(23);
            Sendme::Authenticated(tag).write(&mut body);
            let command = RelayCommand::SENDME;
            self.send(key, command, StreamId::NONE, &body, shared, now);
        }
    }

    /// A circuit-level SENDME: the client has taken 100 cells, or as many as were agreed on.
    /// Whether there may be room again for streams.
    pub(crate) fn handle_sendme(
        &mut self,
        key: CircuitKey,
        data: &[u8],
        shared: &mut Shared,
        now: Now,
    ) -> bool {
        let Some(circuit) = self.circuit_mut(key) else {
            return false;
        };
        let (Some(relay), previous) = (&mut circuit.relay, circuit.previous) else {
            return false;
        };
        let link = shared.channels.get(previous.channel);
        let queue = link.map(|link| LocalQueue {
            cells: link.channel.queued(previous.circ_id),
            is_blocked: link.channel.is_blocked(previous.circ_id),
        });
        let handled = match Sendme::read_from(data, shared.config.sendme_accept_min) {
            Ok(_) => relay.handle_sendme(data, queue.unwrap_or_default(), now.mono),
            Err(error) => Err(error.into()),
        };
        match handled {
            Ok(()) => true,
            Err(violation) => {
                self.violated(key, violation, shared);
                false
            }
        }
    }
}
