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
        if stream_id == StreamId::NONE && command == RelayCommand::PADDING_NEGOTIATED {
            return self.handle_negotiated(circuit, hop, data);
        }
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
        let Some(stream) = self.streams.get(key).filter(|stream| stream.hop == hop) else {
            entry.dropped_cells += 1;
            return;
        };
        let is_resolve = stream.kind == StreamKind::Resolve;
        let outcome = match command {
            RelayCommand::DATA if !is_resolve => self.handle_data(key, data, now),
            RelayCommand::SENDME if !is_resolve => self.handle_stream_sendme(key),
            RelayCommand::XOFF | RelayCommand::XON if !is_resolve => {
                self.handle_flow_message(key, command, data, now)
            }
            // For a stream of the peer's, the state refuses it.
            RelayCommand::CONNECTED if !is_resolve => self.handle_connected(key, data, now),
            RelayCommand::RESOLVED if is_resolve => {
                self.handle_resolved(circuit, stream_id, key, data);
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
            Err(StreamViolation::State) => self.count_dropped(circuit),
        }
    }

    pub(super) fn count_dropped(&mut self, circuit: CircuitKey) {
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.dropped_cells += 1;
        }
    }

    fn handle_data(
        &mut self,
        key: StreamKey,
        data: &[u8],
        now: Now,
    ) -> Result<(), StreamViolation> {
        let Some(entry) = self.streams.get_mut(key) else {
            return Ok(());
        };
        entry.stream.handle_data(data, now.mono)?;
        if !data.is_empty() {
            entry.held.came(data.len(), now.mono);
            self.ledger.came(data.len());
            self.ready.stream(key, &mut entry.ready);
        }
        // DATA without bytes is acknowledged without waiting for the application.
        self.send_stream_flow(key, now);
        Ok(())
    }

    fn handle_connected(
        &mut self,
        key: StreamKey,
        data: &[u8],
        now: Now,
    ) -> Result<(), StreamViolation> {
        let Some(entry) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let Ok(connected) = Connected::read(data) else {
            self.fail_stream(key, EndReason::TORPROTOCOL, now);
            return Ok(());
        };
        entry.stream.handle_connected()?;
        self.ready.stream(key, &mut entry.ready);
        let address = connected.address;
        self.events.push_back(Event::StreamConnected {
            stream: key,
            address,
        });
        Ok(())
    }

    /// RESOLVED came, well-formed or not: the look-up is over (tor-spec 6.4).
    fn handle_resolved(
        &mut self,
        circuit: CircuitKey,
        stream_id: StreamId,
        key: StreamKey,
        data: &[u8],
    ) {
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.streams.remove(&stream_id);
        }
        match Resolved::read(data) {
            Ok(Resolved { answers }) => {
                self.streams.remove(key);
                self.events.push_back(Event::StreamResolved {
                    stream: key,
                    answers,
                });
            }
            Err(_) => self.end_stream(key, EndReason::TORPROTOCOL.into()),
        }
    }
}
