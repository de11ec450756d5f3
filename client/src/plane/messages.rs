//! Messages of hops about streams (tor-spec 6).
//!
//! Only the hop at which a stream was opened, or which opened it, may speak of it. What no open
//! stream waits for is measured against the half-closed ones, and dropped; what no honest hop sends
//! is counted as well. Only violations of a window destroy the circuit.

use cepa_circuit::half_closed::Late;
use cepa_circuit::origin::OriginViolation;
use cepa_circuit::{CircuitKey, StreamKey, StreamViolation};
use cepa_wire::Now;
use cepa_wire::connected::Connected;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::Resolved;

use super::streams::StreamKind;
use super::{Event, Plane};

impl Plane {
    /// Takes a message of a hop about a stream.
    pub(super) fn handle_message(
        &mut self,
        circuit: CircuitKey,
        hop: usize,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        now: Now,
    ) {
        let Some(entry) = self.circuits.get_mut(circuit) else {
            return;
        };
        if stream_id == StreamId::NONE {
            return self.handle_control(circuit, hop, command, data);
        }
        let is_begin = matches!(command, RelayCommand::BEGIN | RelayCommand::BEGIN_DIR);
        if is_begin && entry.takes_begin(hop, stream_id) {
            return self.handle_begin(circuit, command, stream_id, data, now);
        }
        let Some(key) = entry.streams.get(&stream_id).copied() else {
            let late = entry.half_closed.handle(stream_id, command);
            entry.dropped_cells += u64::from(late == Late::Unexpected);
            return;
        };
        let Some(stream) = self.streams.entry(key).filter(|stream| stream.hop == hop) else {
            entry.dropped_cells += 1;
            return;
        };
        let is_resolve = stream.kind == StreamKind::Resolve;
        let outcome = match command {
            RelayCommand::DATA if !is_resolve => {
                let taken = self.streams.data(key, data, now);
                if taken.is_ok() {
                    // DATA without bytes is acknowledged without waiting for the application.
                    self.send_stream_flow(key, now);
                }
                taken
            }
            RelayCommand::SENDME if !is_resolve => self.streams.sendme(key),
            RelayCommand::XOFF | RelayCommand::XON if !is_resolve => {
                self.streams.flow_message(key, command, data, now)
            }
            // For a stream of the peer's, the state refuses it.
            RelayCommand::CONNECTED if !is_resolve => self.handle_connected(key, data, now),
            RelayCommand::RESOLVED if is_resolve => {
                entry.streams.remove(&stream_id);
                self.handle_resolved(key, data);
                Ok(())
            }
            RelayCommand::END => {
                entry.streams.remove(&stream_id);
                self.end_stream(key, End::read(data));
                Ok(())
            }
            _ => Err(StreamViolation::State),
        };
        match outcome {
            Ok(()) => {}
            Err(StreamViolation::Window(violation)) => {
                self.destroy_circuit(circuit, OriginViolation::from(violation).into());
            }
            Err(StreamViolation::State) => {
                if let Some(circuit) = self.circuits.get_mut(circuit) {
                    circuit.dropped_cells += 1;
                }
            }
        }
    }

    /// Takes a message of a hop about no stream.
    fn handle_control(
        &mut self,
        circuit: CircuitKey,
        hop: usize,
        command: RelayCommand,
        data: &[u8],
    ) {
        let Some(entry) = self.circuits.get_mut(circuit) else {
            return;
        };
        if command == RelayCommand::PADDING_NEGOTIATED {
            let is_known = entry.padding.handle_negotiated(hop, data);
            entry.dropped_cells += u64::from(!is_known);
        } else if entry.awaits(hop, command) {
            let data = data.to_vec();
            self.events.push_back(Event::CircuitMessage {
                circuit,
                command,
                data,
            });
        } else {
            entry.dropped_cells += 1;
        }
    }

    fn handle_connected(
        &mut self,
        key: StreamKey,
        data: &[u8],
        now: Now,
    ) -> Result<(), StreamViolation> {
        let Ok(connected) = Connected::read(data) else {
            self.fail_stream(key, EndReason::TORPROTOCOL, now);
            return Ok(());
        };
        self.streams.connected(key)?;
        let address = connected.address;
        self.events.push_back(Event::StreamConnected {
            stream: key,
            address,
        });
        Ok(())
    }

    /// RESOLVED came, well-formed or not: the look-up is over (tor-spec 6.4).
    fn handle_resolved(&mut self, stream: StreamKey, data: &[u8]) {
        match Resolved::read(data) {
            Ok(Resolved { answers }) => {
                self.streams.remove(stream);
                let event = Event::StreamResolved { stream, answers };
                self.events.push_back(event);
            }
            Err(_) => self.end_stream(stream, EndReason::TORPROTOCOL.into()),
        }
    }
}
