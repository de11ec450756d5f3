//! How fast streams go: their SENDMEs, or XON and XOFF where the hop has congestion control
//! (tor-spec 7.4; proposal 324, 4).
//!
//! What the stream wants told is sent right after what caused it. A stream that has used up the
//! rate which the far end told it waits in `paced`; a timer adds to all of them at once, and lists
//! those that may go on, so that no single cell asks a clock.

use std::time::Duration;

use cepa_circuit::window::STREAM_WINDOW_INCREMENT_CELLS;
use cepa_circuit::{FlowMessage, StreamKey, StreamViolation};
use cepa_wire::Now;
use cepa_wire::relay::RelayCommand;
use cepa_wire::xon::{Xoff, Xon};

use super::Plane;
use super::streams::PlaneStreams;

/// How often streams that go at a rate may go on.
const PACE: Duration = Duration::from_millis(20);

impl PlaneStreams {
    /// A stream-level SENDME came.
    pub(super) fn sendme(&mut self, key: StreamKey) -> Result<(), StreamViolation> {
        let Some(entry) = self.entry_mut(key) else {
            return Ok(());
        };
        entry.stream.handle_sendme()?;
        // Only a stream that was at the end of its window waits to be told.
        if entry.stream.room_cells() == usize::from(STREAM_WINDOW_INCREMENT_CELLS) {
            self.wake(key, None);
        }
        Ok(())
    }

    /// XOFF or XON came. What is malformed, or has no business at this hop, is dropped.
    pub(super) fn flow_message(
        &mut self,
        key: StreamKey,
        command: RelayCommand,
        data: &[u8],
        now: Now,
    ) -> Result<(), StreamViolation> {
        let message = match command {
            RelayCommand::XOFF => Xoff::read(data).map(|_| FlowMessage::Xoff),
            _ => Xon::read(data).map(|xon| FlowMessage::Xon(xon.kbps)),
        };
        let message = message.map_err(|_| StreamViolation::State)?;
        let Some(entry) = self.entry_mut(key) else {
            return Ok(());
        };
        entry.stream.handle_message(message, now.mono)?;
        if message != FlowMessage::Xoff {
            self.wake(key, None);
            self.pace(key, now);
        }
        Ok(())
    }

    /// If only its rate keeps a stream from sending, it waits for the timer.
    pub(super) fn pace(&mut self, key: StreamKey, now: Now) {
        let Some(entry) = self.entry_mut(key) else {
            return;
        };
        if entry.stream.is_paced() && !std::mem::replace(&mut entry.is_paced, true) {
            self.paced.push(key);
            self.pace_at.get_or_insert(now.mono + PACE);
        }
    }

    /// Adds to the streams that go at a rate, and lists those that may go on.
    pub(super) fn handle_pace(&mut self, now: Now) {
        if self.pace_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let mut paced = std::mem::take(&mut self.paced);
        paced.retain(|key| {
            let Some(entry) = self.entry_mut(*key) else {
                return false;
            };
            entry.stream.refill(now.mono);
            entry.is_paced = entry.stream.is_paced();
            let waits = entry.is_paced;
            if !waits {
                self.wake(*key, None);
            }
            waits
        });
        self.pace_at = (!paced.is_empty()).then_some(now.mono + PACE);
        self.paced = paced;
    }
}

impl Plane {
    /// Tells the far end what a stream has to say about its flow.
    pub(super) fn send_stream_flow(&mut self, key: StreamKey, now: Now) {
        let Some(entry) = self.streams.entry_mut(key) else {
            return;
        };
        let (sendmes, message) = (entry.stream.sendmes_due(), entry.stream.message_due());
        let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
        for _ in 0..sendmes {
            self.send_message(circuit, hop, RelayCommand::SENDME, id, &[], now);
        }
        if let Some(message) = message {
            let mut body = Vec::new();
            let command = write(message, &mut body);
            self.send_message(circuit, hop, command, id, &body, now);
        }
    }
}

/// Writes what a stream has to say about its flow.
fn write(message: FlowMessage, body: &mut Vec<u8>) -> RelayCommand {
    match message {
        FlowMessage::Xoff => {
            Xoff.write(body);
            RelayCommand::XOFF
        }
        FlowMessage::Xon(kbps) => {
            Xon { kbps }.write(body);
            RelayCommand::XON
        }
    }
}

#[cfg(test)]
mod tests;
