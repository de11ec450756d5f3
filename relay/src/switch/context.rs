//! What the machines above the circuits work with: streams, points, padding, new circuits.

use cepa_circuit::CircuitKey;
use cepa_link::PeerIdentity;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::circuits::Circuits;
use super::shared::Shared;

/// What a machine works with while one input is worked off.
pub(super) struct Context<'a> {
    /// The circuits that begin at channels of ours.
    pub(super) circuits: &'a mut Circuits,
    /// What is below, beside and above.
    pub(super) shared: &'a mut Shared,
    /// The time.
    pub(super) now: Now,
}

impl<'a> Context<'a> {
    /// The context of an input that comes now.
    pub(super) fn new(circuits: &'a mut Circuits, shared: &'a mut Shared, now: Now) -> Self {
        Context {
            circuits,
            shared,
            now,
        }
    }

    /// Sends a message to the client of a circuit; `false` if that ended the circuit, or it was
    /// gone.
    pub(super) fn send(
        &mut self,
        circuit: CircuitKey,
        command: RelayCommand,
        stream: StreamId,
        data: &[u8],
    ) -> bool {
        self.circuits
            .send(circuit, command, stream, data, self.shared, self.now)
    }

    /// Ends a circuit and tells both sides.
    pub(super) fn destroy(&mut self, circuit: CircuitKey, reason: DestroyReason) {
        self.circuits.destroy(circuit, reason, self.shared);
    }

    /// The relay that a circuit comes from; `None` if that is a client.
    pub(super) fn previous_peer(&self, circuit: CircuitKey) -> Option<PeerIdentity> {
        let channel = self.circuits.get(circuit)?.previous.channel;
        self.shared.channels.peer(channel)
    }
}
