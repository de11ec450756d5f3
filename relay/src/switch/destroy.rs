//! The end of circuits and channels: DESTROY, both ways (tor-spec 5.4).
//!
//! DESTROY from the client's side ends the whole circuit, and the next hop is told. From ahead it
//! ends what lies ahead: the client gets RELAY_TRUNCATED and may extend anew. A channel that closes
//! ends all its circuits, and the other sides are told. Streams end with their circuit.

use cepa_circuit::CircuitKey;
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::Switch;
use super::circuit::{Hop, Leg, Next, Place, Side};
use super::command::{ChannelClose, Command, Handover};

impl Switch {
    /// Ends a circuit and tells both sides.
    pub(super) fn destroy(&mut self, key: CircuitKey, reason: DestroyReason, now: Now) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        let Leg { channel, circ_id } = circuit.previous;
        self.end_circuit(key, reason, now);
        self.send_destroy(channel, circ_id, reason);
    }

    /// Ends a circuit and tells the next hop.
    fn end_circuit(&mut self, key: CircuitKey, reason: DestroyReason, now: Now) {
        let Some(circuit) = self.circuits.remove(key) else {
            return;
        };
        let Leg { channel, circ_id } = circuit.previous;
        self.forget(channel, circ_id);
        if let Some(hop) = circuit.next.hop() {
            self.close_next(key, hop, reason);
        }
        if let Next::Wanted(wanted) = &circuit.next {
            let (circuit, rsa) = (key, wanted.rsa);
            self.commands
                .push_back(Command::ChannelUnwanted { circuit, rsa });
        }
        self.end_point(key, circuit.next, reason, now);
        for stream in circuit.streams.into_values() {
            self.orphan(stream, now);
        }
    }

    /// Tells the next hop that the circuit is over.
    pub(super) fn close_next(&mut self, key: CircuitKey, hop: Hop, reason: DestroyReason) {
        if hop.worker == self.worker {
            self.forget(hop.channel, hop.circ_id);
            self.send_destroy(hop.channel, hop.circ_id, reason);
        } else if hop.circ_id != CircId::NONE {
            let circuit = Place {
                worker: self.worker,
                circuit: key,
                side: Side::Next,
            }
            .pack();
            let Hop {
                channel, circ_id, ..
            } = hop;
            self.hand_over(
                hop.worker,
                Handover::Close {
                    circuit,
                    channel,
                    circ_id,
                    reason,
                },
            );
        }
        // Without an id yet, the answer to Handover::Open finds the circuit gone, and closes it.
    }

    pub(super) fn send_destroy(
        &mut self,
        channel: ChannelKey,
        circ_id: CircId,
        reason: DestroyReason,
    ) {
        let queued = self.channels.queue_destroy(channel, circ_id, reason);
        if queued.is_err() {
            self.close_unread(channel);
        }
    }

    pub(super) fn handle_destroy(&mut self, channel: ChannelKey, cell: &mut CellBuf, now: Now) {
        let Some(link) = self.channels.get(channel) else {
            return;
        };
        let circ_id = cell::circ_id(cell);
        let Some(circuit) = link.channel.circuit(circ_id) else {
            return;
        };
        let place = Place::unpack(circuit);
        let reason = DestroyReason::read(cell::payload(cell));
        match place.side {
            Side::Previous => self.end_circuit(place.circuit, reason, now),
            Side::Next if place.worker == self.worker => {
                self.forget(channel, circ_id);
                self.next_destroyed(place.circuit, reason, now);
            }
            Side::Next => {
                self.forget(channel, circ_id);
                let item = Handover::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                self.hand_over(place.worker, item);
            }
        }
    }

    /// The next hop ended the circuit; it has been forgotten on its channel.
    pub(super) fn next_destroyed(&mut self, key: CircuitKey, reason: DestroyReason, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        circuit.next = Next::None;
        let data = reason.truncated_data();
        self.send_message(key, RelayCommand::TRUNCATED, StreamId::NONE, &data, now);
    }

    /// The client wants the circuit to end here (RELAY_TRUNCATE).
    pub(super) fn truncate(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut circuit.next, Next::None) {
            // The channel that was asked for may still be found, and be taken for that of another
            // EXTEND2. No client does this.
            Next::Wanted(_) => return self.destroy(key, DestroyReason::REQUESTED, now),
            // Neither does it before the other worker has answered.
            Next::Creating(hop) if hop.circ_id == CircId::NONE => {
                return self.destroy(key, DestroyReason::REQUESTED, now);
            }
            Next::Creating(hop) | Next::Open(hop) => {
                self.close_next(key, hop, DestroyReason::REQUESTED);
            }
            Next::None => {}
            // A point of an onion service is not what lies ahead.
            point => {
                circuit.next = point;
                return self.destroy(key, DestroyReason::REQUESTED, now);
            }
        }
        let data = DestroyReason::REQUESTED.truncated_data();
        self.send_message(key, RelayCommand::TRUNCATED, StreamId::NONE, &data, now);
    }

    /// The connection under a channel is gone.
    pub fn channel_closed(&mut self, channel: ChannelKey, now: Now) {
        let Some(link) = self.channels.remove(channel) else {
            return;
        };
        self.onionskins.forget(channel);
        let reason = DestroyReason::CHANNEL_CLOSED;
        for (circ_id, circuit) in link.channel.circuit_refs() {
            let place = Place::unpack(circuit);
            match place.side {
                Side::Previous => self.end_circuit(place.circuit, reason, now),
                Side::Next if place.worker == self.worker => {
                    self.destroy(place.circuit, reason, now);
                }
                Side::Next => {
                    let item = Handover::Closed {
                        circuit: place.circuit,
                        circ_id,
                        reason,
                    };
                    self.hand_over(place.worker, item);
                }
            }
        }
        self.tell_memory();
    }

    /// Closes a channel of ours.
    pub(super) fn close_channel(&mut self, channel: ChannelKey, reason: ChannelClose, now: Now) {
        self.commands
            .push_back(Command::CloseChannel { channel, reason });
        self.channel_closed(channel, now);
    }
}
