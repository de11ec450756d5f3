//! How fast streams go: their SENDMEs, or XON and XOFF where the circuit has congestion control
//! (tor-spec 7.4; proposal 324, 4).
//!
//! What the stream wants told is sent right after what caused it. A stream that has used up the
//! rate which the client told it waits in `paced`; a timer adds to all of them at once, and
//! lists those that may go on, so that no single cell asks a clock.

use std::time::Duration;

use cepa_circuit::relay::RelayViolation;
use cepa_circuit::{CircuitKey, FlowMessage, StreamKey, StreamViolation};
use cepa_wire::Now;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::xon::{Xoff, Xon, XonError};
use tracing::debug;

use super::Streams;
use crate::switch::context::Context;

/// How often streams that go at a rate may go on.
const PACE: Duration = Duration::from_millis(20);

impl Streams {
    /// A stream-level SENDME: the client's application has taken 50 cells.
    pub(crate) fn handle_sendme(&mut self, key: CircuitKey, id: StreamId, ctx: &mut Context<'_>) {
        let Some((stream, edge)) = self.of_circuit(key, id, ctx.circuits) else {
            return;
        };
        match edge.stream.handle_sendme() {
            Ok(()) if edge.waits_for_room.replace(false) => self.list(stream),
            Err(StreamViolation::Window(violation)) => {
                let violation = RelayViolation::Window(violation);
                ctx.circuits.violated(key, violation, ctx.shared);
            }
            Ok(()) | Err(StreamViolation::State) => {}
        }
    }

    /// XOFF or XON. What is malformed, or has no business on this circuit, is dropped.
    pub(crate) fn handle_flow_message(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        command: RelayCommand,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let message = match read_flow_message(command, data) {
            Ok(message) => message,
            Err(error) => return debug!(%error, "dropped"),
        };
        let Some((stream, edge)) = self.of_circuit(key, id, ctx.circuits) else {
            return;
        };
        debug!(%command, ?message, "flow control came");
        match edge.stream.handle_message(message, ctx.now.mono) {
            Ok(()) if message == FlowMessage::Xoff => {}
            Ok(()) => {
                if edge.waits_for_room.replace(false) {
                    self.list(stream);
                }
                self.pace(stream, ctx.now);
            }
            Err(error) => debug!(%error, %command, "dropped"),
        }
    }

    /// Tells the client what a stream has to say about its flow.
    pub(super) fn send_flow(&mut self, key: StreamKey, ctx: &mut Context<'_>) {
        let Some(edge) = self.edges.get_mut(key) else {
            return;
        };
        let (Some(circuit), id) = (edge.circuit, edge.stream.id()) else {
            return;
        };
        let message = edge.stream.message_due();
        for _ in 0..edge.stream.sendmes_due() {
            ctx.send(circuit, RelayCommand::SENDME, id, &[]);
        }
        let mut body = Vec::new();
        let command = match message {
            None => return,
            Some(FlowMessage::Xoff) => {
                Xoff.write(&mut body);
                RelayCommand::XOFF
            }
            Some(FlowMessage::Xon(kbps)) => {
                Xon { kbps }.write(&mut body);
                RelayCommand::XON
            }
        };
        debug!(%command, ?message, "flow control goes");
        ctx.send(circuit, command, id, &body);
    }

    /// If only its rate keeps a stream from sending, it waits for the timer.
    pub(super) fn pace(&mut self, key: StreamKey, now: Now) {
        let Some(edge) = self.edges.get_mut(key) else {
            return;
        };
        if edge.stream.is_paced() && !std::mem::replace(&mut edge.is_paced, true) {
            self.paced.push(key);
            self.next_pace.get_or_insert(now.mono + PACE);
        }
    }

    /// Adds to the streams that go at a rate, and lists those that may go on.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.next_pace.is_none_or(|at| at > now.mono) {
            return;
        }
        let mut paced = std::mem::take(&mut self.paced);
        paced.retain(|key| {
            let Some(edge) = self.edges.get_mut(*key) else {
                return false;
            };
            edge.stream.refill(now.mono);
            edge.is_paced = edge.stream.is_paced();
            let is_paced = edge.is_paced;
            if !is_paced && edge.waits_for_room.replace(false) {
                self.list(*key);
            }
            is_paced
        });
        self.next_pace = (!paced.is_empty()).then_some(now.mono + PACE);
        self.paced = paced;
    }
}

fn read_flow_message(command: RelayCommand, data: &[u8]) -> Result<FlowMessage, XonError> {
    if command == RelayCommand::XOFF {
        return Xoff::read(data).map(|_| FlowMessage::Xoff);
    }
    Xon::read(data).map(|xon| FlowMessage::Xon(xon.kbps))
}
