//! One stream at one end of a circuit: client's or exit's (tor-spec 6.2, 6.3, 7.4).
//!
//! ```text
//! client: begin ──▶ Begun ──CONNECTED──▶ Open ──END──▶ Ended
//! exit:   accept ─▶ Connecting ─connected()─▶ Open ──END──▶ Ended
//! ```
//!
//! An END closes both directions at once. Bytes for the application wait in `inbound`, which
//! [`crate::stream_flow`] bounds (500 cells of 498 bytes with windows); nothing else is kept. When
//! our side ends first, the stream becomes a [`crate::half_closed::HalfClosed`]. Bytes may be sent
//! before the answer (optimistic data); only an exit accepts them before it has answered.

use std::collections::VecDeque;
use std::time::Instant;

use cepa_wire::end::EndReason;
use cepa_wire::relay::StreamId;

use crate::congestion::Congestion;
use crate::stream_flow::{FlowMessage, StreamFlow, StreamSide, XonFlow};
use crate::window::{StreamWindow, WindowViolation};

/// Room for bytes that a stream keeps while none wait; a busy one has more only as long as it is.
const INBOUND_KEPT_MAX: usize = 64 * 1024;

/// How far a stream is between its beginning and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// We sent BEGIN, BEGIN_DIR or RESOLVE and wait for the answer.
    Begun,
    /// The peer sent BEGIN or BEGIN_DIR and waits for our answer.
    Connecting,
    /// Both directions carry data.
    Open,
    /// The peer sent END: nothing more is sent; what arrived before may still be taken.
    Ended(EndReason),
}

/// What a peer did against the rules of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamViolation {
    /// Against its window; the consequence is to destroy the circuit.
    #[error(transparent)]
    Window(#[from] WindowViolation),
    /// A message that this state does not wait for; it is dropped.
    #[error("a message that the stream does not wait for")]
    State,
}

/// What [`Stream::take`] leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRead {
    /// True if more bytes wait.
    pub more: bool,
    /// Why the stream ended: only once all bytes were taken and the peer has sent END.
    pub end: Option<EndReason>,
}

/// One end of a stream.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    state: StreamState,
    flow: StreamFlow,
    inbound: VecDeque<u8>,
}

impl Stream {
    /// The stream for which we send BEGIN, BEGIN_DIR or RESOLVE.
    #[must_use]
    pub fn begin(id: StreamId) -> Self {
        Stream::new(id, StreamState::Begun)
    }

    /// The stream for which the peer sent BEGIN or BEGIN_DIR.
    #[must_use]
    pub fn accept(id: StreamId) -> Self {
        Stream::new(id, StreamState::Connecting)
    }

    fn new(id: StreamId, state: StreamState) -> Self {
        Stream {
            id,
            state,
            flow: StreamFlow::Window(StreamWindow::new()),
            inbound: VecDeque::new(),
        }
    }

    /// The new stream at a hop with this congestion control, if any: stopped by XOFF, not by a
    /// window. To be said before anything else happens.
    #[must_use]
    pub fn with_congestion(mut self, agreed: Option<&Congestion>, side: StreamSide) -> Self {
        if let Some(congestion) = agreed {
            self.flow = StreamFlow::Xon(Box::new(XonFlow::new(congestion, side)));
        }
        self
    }

    /// Its id on its circuit.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// How far the stream is.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.state
    }

    /// DATA cells that the peer may have under way.
    #[must_use]
    pub fn deliverable_cells(&self) -> u16 {
        self.flow.deliverable_cells()
    }

    /// Stream-level SENDMEs, or XONs and XOFFs, that the peer may have under way.
    #[must_use]
    pub fn messages_pending(&self) -> u16 {
        self.flow.messages_pending()
    }

    /// Exit: our connection stands, CONNECTED is being sent.
    pub fn connected(&mut self) {
        debug_assert_eq!(self.state, StreamState::Connecting);
        self.state = StreamState::Open;
    }

    /// Client: CONNECTED came.
    pub fn handle_connected(&mut self) -> Result<(), StreamViolation> {
        if self.state != StreamState::Begun {
            return Err(StreamViolation::State);
        }
        self.state = StreamState::Open;
        Ok(())
    }

    /// DATA came: its bytes go behind those that wait. Ask [`Stream::sendmes_due`] and
    /// [`Stream::message_due`] next.
    pub fn handle_data(&mut self, data: &[u8], now: Instant) -> Result<(), StreamViolation> {
        if matches!(self.state, StreamState::Begun | StreamState::Ended(_)) {
            return Err(StreamViolation::State);
        }
        self.flow.delivered(data.len(), now)?;
        self.inbound.extend(data);
        Ok(())
    }

    /// A stream-level SENDME came.
    pub fn handle_sendme(&mut self) -> Result<(), StreamViolation> {
        Ok(self.flow.handle_sendme()?)
    }

    /// XOFF or XON came: it stops the stream, or tells how fast it may send.
    pub fn handle_message(
        &mut self,
        message: FlowMessage,
        now: Instant,
    ) -> Result<(), StreamViolation> {
        if self.flow.handle_message(message, now) {
            Ok(())
        } else {
            Err(StreamViolation::State)
        }
    }

    /// END came. Of two, the first counts.
    pub fn handle_end(&mut self, reason: EndReason) {
        if !matches!(self.state, StreamState::Ended(_)) {
            self.state = StreamState::Ended(reason);
        }
    }

    /// DATA cells that the stream itself lets us send now; 0 once it has ended.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        match self.state {
            StreamState::Ended(_) => 0,
            _ => self.flow.room_cells(),
        }
    }

    /// One DATA cell with `bytes` bytes was sent.
    pub fn packaged(&mut self, bytes: usize) {
        self.flow.packaged(bytes);
    }

    /// True if only the rate that the peer told keeps the stream from sending: it is to be given
    /// to [`Stream::refill`] every few milliseconds until this is false.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        !matches!(self.state, StreamState::Ended(_)) && self.flow.is_paced()
    }

    /// Adds what the peer's rate has allowed since the last time.
    pub fn refill(&mut self, now: Instant) {
        self.flow.refill(now);
    }

    /// Why nothing more comes, once the peer has sent END.
    #[must_use]
    pub fn end(&self) -> Option<EndReason> {
        match self.state {
            StreamState::Ended(reason) => Some(reason),
            StreamState::Begun | StreamState::Connecting | StreamState::Open => None,
        }
    }

    /// Bytes that wait for the application.
    #[must_use]
    pub fn inbound_bytes(&self) -> usize {
        self.inbound.len()
    }

    /// Moves up to `bytes_max` bytes that arrived to the end of `out`. The peer learns of it only
    /// by [`Stream::written`].
    pub fn take(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> StreamRead {
        let bytes = self.inbound.len().min(bytes_max);
        let (front, back) = self.inbound.as_slices();
        let (front, back) = (
            front.get(..bytes.min(front.len())).unwrap_or_default(),
            back.get(..bytes.saturating_sub(front.len()))
                .unwrap_or_default(),
        );
        out.extend_from_slice(front);
        out.extend_from_slice(back);
        self.inbound.drain(..bytes);
        let more = !self.inbound.is_empty();
        if !more && self.inbound.capacity() > INBOUND_KEPT_MAX {
            self.inbound = VecDeque::new();
        }
        match self.state {
            StreamState::Ended(reason) if !more => StreamRead {
                more,
                end: Some(reason),
            },
            _ => StreamRead { more, end: None },
        }
    }

    /// Throws away what waits for the application; says how many bytes that was.
    pub fn discard(&mut self) -> usize {
        std::mem::take(&mut self.inbound).len()
    }

    /// The application's socket took `bytes` of the bytes given out. Ask
    /// [`Stream::sendmes_due`] and [`Stream::message_due`] next.
    pub fn written(&mut self, bytes: usize, now: Instant) {
        self.flow.taken(bytes, now);
    }

    /// Stream-level SENDMEs to send now; the answer counts them as sent. None once it has ended.
    #[must_use]
    pub fn sendmes_due(&mut self) -> usize {
        match self.state {
            StreamState::Ended(_) => 0,
            _ => self.flow.sendmes_due(),
        }
    }

    /// The XOFF or XON to send now; the answer counts it as sent. None once it has ended.
    #[must_use]
    pub fn message_due(&mut self) -> Option<FlowMessage> {
        match self.state {
            StreamState::Ended(_) => None,
            _ => self.flow.message_due(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::tests::epoch;

    const ID: StreamId = StreamId(7);

    #[test]
    fn bytes_come_out_in_order_and_then_the_end() {
        let mut stream = Stream::begin(ID);
        stream.handle_connected().unwrap();
        stream.handle_data(b"hello ", epoch()).unwrap();
        stream.handle_data(b"world", epoch()).unwrap();
        stream.handle_end(EndReason::DONE);
        stream.handle_end(EndReason::MISC);
        let mut out = Vec::new();
        assert_eq!(
            stream.take(&mut out, 8),
            StreamRead {
                more: true,
                end: None
            }
        );
        assert_eq!(
            stream.take(&mut out, 8),
            StreamRead {
                more: false,
                end: Some(EndReason::DONE)
            }
        );
        assert_eq!(out, b"hello world");
        assert_eq!((stream.room_cells(), stream.sendmes_due()), (0, 0));
    }

    #[test]
    fn take_across_the_seam_of_the_ring() {
        let mut stream = Stream::accept(ID);
        let (mut sent, mut out) = (Vec::new(), Vec::new());
        for n in 0..200usize {
            let data: Vec<u8> = (0..498).map(|k| (n * 31 + k) as u8).collect();
            stream.handle_data(&data, epoch()).unwrap();
            sent.extend_from_slice(&data);
            let before = out.len();
            stream.take(&mut out, 377 + n);
            stream.written(out.len() - before, epoch());
            let _ = stream.sendmes_due();
        }
        while stream.take(&mut out, 1000).more {}
        assert_eq!(out, sent);
    }

    #[test]
    fn a_client_takes_no_data_before_the_answer_and_an_exit_does() {
        assert_eq!(
            Stream::begin(ID).handle_data(b"x", epoch()),
            Err(StreamViolation::State)
        );
        assert_eq!(Stream::accept(ID).handle_data(b"x", epoch()), Ok(()));
        assert_eq!(
            Stream::accept(ID).handle_connected(),
            Err(StreamViolation::State)
        );
    }

    #[test]
    fn inbound_is_bounded_by_the_window() {
        let mut stream = Stream::accept(ID);
        for _ in 0..500 {
            stream.handle_data(&[0; 498], epoch()).unwrap();
        }
        let overrun = StreamViolation::Window(WindowViolation::StreamOverrun);
        assert_eq!(stream.handle_data(&[0; 498], epoch()), Err(overrun));
        assert_eq!(stream.inbound_bytes(), 500 * 498);
    }
}
