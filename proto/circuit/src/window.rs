//! Windows: how many DATA cells may be under way (tor-spec 7.3, 7.4; proposal 289).
//!
//! One [`CircuitWindow`] for each hop (origin) or circuit (relay) counts cells of all streams, 1000
//! at the start and 100 for each SENDME. Each 100th DATA cell sent leaves its tag, which the SENDME
//! for it must carry: a peer that acknowledges what it has not read is caught. One
//! [`StreamWindow`] for each stream counts 500 and 50, and its SENDMEs wait until the application
//! has taken the bytes, so that back-pressure reaches the far end. Callers ask for room, report
//! what was packaged and delivered, and send the SENDMEs they are told to: the shape that
//! congestion control (proposal 324) needs as well.

use std::collections::VecDeque;

/// What a SENDME of version 1 repeats to acknowledge a cell; 20 bytes with tor1 (tor-spec 7.3).
pub use cepa_crypto::layer::Tag as SendmeTag;

/// DATA cells that a circuit may have under way at its start (tor-spec 7.3).
pub const CIRCUIT_WINDOW_START_CELLS: u16 = 1000;
/// DATA cells that one circuit-level SENDME acknowledges (tor-spec 7.3).
pub const CIRCUIT_WINDOW_INCREMENT_CELLS: u16 = 100;
/// DATA cells that a stream may have under way at its start (tor-spec 7.4).
pub const STREAM_WINDOW_START_CELLS: u16 = 500;
/// DATA cells that one stream-level SENDME acknowledges (tor-spec 7.4).
pub const STREAM_WINDOW_INCREMENT_CELLS: u16 = 50;

/// What a peer did against the windows; the consequence is DESTROY with reason 1 (PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowViolation {
    /// A circuit-level SENDME before 100 more DATA cells were sent.
    #[error("a circuit SENDME came before it was due")]
    CircuitSendmeEarly,
    /// A circuit-level SENDME with another tag than that of the cell it acknowledges.
    #[error("a circuit SENDME has the wrong tag")]
    CircuitSendmeTag,
    /// A stream-level SENDME that would take the window beyond its start.
    #[error("a stream SENDME came before it was due")]
    StreamSendmeEarly,
    /// A stream-level SENDME where XON and XOFF stop streams.
    #[error("a stream SENDME on a circuit with congestion control")]
    StreamSendme,
    /// More on one stream than its window allows, or than an honest peer sends past XOFF.
    #[error("more DATA cells than the stream allows")]
    StreamOverrun,
}

/// Both directions of one hop's window over all streams.
#[derive(Debug)]
pub struct CircuitWindow {
    package_cells: u16,
    deliver_cells: u16,
    /// Tags of each 100th cell sent and not yet acknowledged, oldest first; at most ten.
    expected: VecDeque<SendmeTag>,
}

impl Default for CircuitWindow {
    fn default() -> Self {
        CircuitWindow::new()
    }
}

impl CircuitWindow {
    /// The window of a new circuit.
    #[must_use]
    pub fn new() -> Self {
        CircuitWindow {
            package_cells: CIRCUIT_WINDOW_START_CELLS,
            deliver_cells: CIRCUIT_WINDOW_START_CELLS,
            expected: VecDeque::new(),
        }
    }

    /// DATA cells that may be sent now.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        usize::from(self.package_cells)
    }

    /// One DATA cell was sent; `tag` is the one that its encryption gave.
    pub fn packaged(&mut self, tag: &SendmeTag) {
        debug_assert!(self.package_cells > 0, "a DATA cell was sent without room");
        self.package_cells = self.package_cells.saturating_sub(1);
        if self
            .package_cells
            .is_multiple_of(CIRCUIT_WINDOW_INCREMENT_CELLS)
        {
            self.expected.push_back(*tag);
        }
    }

    /// A circuit-level SENDME came; `tag` is `None` in one of version 0, which peers still accept
    /// (consensus parameter `sendme_accept_min_version`, 0 unless voted otherwise).
    pub fn handle_sendme(&mut self, tag: Option<&[u8]>) -> Result<(), WindowViolation> {
        let expected = self
            .expected
            .pop_front()
            .ok_or(WindowViolation::CircuitSendmeEarly)?;
        if tag.is_some_and(|tag| !expected.matches(tag)) {
            return Err(WindowViolation::CircuitSendmeTag);
        }
        self.package_cells += CIRCUIT_WINDOW_INCREMENT_CELLS;
        Ok(())
    }

    /// One DATA cell arrived, on whatever stream, even one that is not known. `true`: a SENDME
    /// with the tag of this very cell must be sent at once.
    #[must_use]
    pub fn delivered(&mut self) -> bool {
        self.deliver_cells -= 1;
        let due = self.deliver_cells == CIRCUIT_WINDOW_START_CELLS - CIRCUIT_WINDOW_INCREMENT_CELLS;
        if due {
            self.deliver_cells = CIRCUIT_WINDOW_START_CELLS;
        }
        due
    }
}

/// Both directions of one stream's window.
#[derive(Debug)]
pub struct StreamWindow {
    package_cells: u16,
    deliver_cells: u16,
    /// Bytes that have arrived since the start.
    arrived_bytes: u64,
    /// Bytes that the application has taken since the start.
    taken_bytes: u64,
    /// `arrived_bytes` after each 50th cell not yet acknowledged, oldest first; at most ten.
    marks: VecDeque<u64>,
}

impl Default for StreamWindow {
    fn default() -> Self {
        StreamWindow::new()
    }
}

impl StreamWindow {
    /// The window of a new stream.
    #[must_use]
    pub fn new() -> Self {
        StreamWindow {
            package_cells: STREAM_WINDOW_START_CELLS,
            deliver_cells: STREAM_WINDOW_START_CELLS,
            arrived_bytes: 0,
            taken_bytes: 0,
            marks: VecDeque::new(),
        }
    }

    /// DATA cells that may be sent now.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        usize::from(self.package_cells)
    }

    /// DATA cells that the peer may still send before we acknowledge any.
    #[must_use]
    pub fn deliverable_cells(&self) -> u16 {
        self.deliver_cells
    }

    /// Stream-level SENDMEs that the peer may still send for what we sent.
    #[must_use]
    pub fn sendmes_pending(&self) -> u16 {
        (STREAM_WINDOW_START_CELLS - self.package_cells) / STREAM_WINDOW_INCREMENT_CELLS
    }

    /// One DATA cell was sent.
    pub fn packaged(&mut self) {
        debug_assert!(self.package_cells > 0, "a DATA cell was sent without room");
        self.package_cells = self.package_cells.saturating_sub(1);
    }

    /// A stream-level SENDME came.
    pub fn handle_sendme(&mut self) -> Result<(), WindowViolation> {
        if self.sendmes_pending() == 0 {
            return Err(WindowViolation::StreamSendmeEarly);
        }
        self.package_cells += STREAM_WINDOW_INCREMENT_CELLS;
        Ok(())
    }

    /// One DATA cell with `bytes` bytes arrived. Ask [`StreamWindow::sendmes_due`] next.
    pub fn delivered(&mut self, bytes: usize) -> Result<(), WindowViolation> {
        self.deliver_cells = self
            .deliver_cells
            .checked_sub(1)
            .ok_or(WindowViolation::StreamOverrun)?;
        self.arrived_bytes += bytes as u64;
        if self
            .deliver_cells
            .is_multiple_of(STREAM_WINDOW_INCREMENT_CELLS)
        {
            self.marks.push_back(self.arrived_bytes);
        }
        Ok(())
    }

    /// The application has taken `bytes` more bytes. Ask [`StreamWindow::sendmes_due`] next.
    pub fn taken(&mut self, bytes: usize) {
        self.taken_bytes += bytes as u64;
        debug_assert!(
            self.taken_bytes <= self.arrived_bytes,
            "taken before it arrived"
        );
    }

    /// Stream-level SENDMEs to send now; the answer counts them as sent.
    #[must_use]
    pub fn sendmes_due(&mut self) -> usize {
        let due = self
            .marks
            .iter()
            .take_while(|mark| **mark <= self.taken_bytes)
            .count();
        self.marks.drain(..due);
        for _ in 0..due {
            self.deliver_cells += STREAM_WINDOW_INCREMENT_CELLS;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn tag(n: u16) -> SendmeTag {
        let [a, b] = n.to_be_bytes();
        let mut tag = [0u8; 20];
        (tag[0], tag[1]) = (a, b);
        tag.into()
    }

    fn sent(cells: u16) -> CircuitWindow {
        let mut window = CircuitWindow::new();
        for n in 1..=cells {
            window.packaged(&tag(n));
        }
        window
    }

    #[test]
    fn a_circuit_stops_at_1000_and_goes_on_by_100() {
        let mut window = sent(1000);
        assert_eq!(window.room_cells(), 0);
        for n in [100, 200, 300] {
            window.handle_sendme(Some(tag(n).as_bytes())).unwrap();
        }
        assert_eq!(window.room_cells(), 300);
    }

    #[test]
    fn circuit_sendme_faults() {
        assert_eq!(
            sent(99).handle_sendme(None),
            Err(WindowViolation::CircuitSendmeEarly)
        );
        assert_eq!(
            sent(99).handle_sendme(Some(&[])),
            Err(WindowViolation::CircuitSendmeEarly)
        );
        assert_eq!(
            sent(200).handle_sendme(Some(tag(200).as_bytes())),
            Err(WindowViolation::CircuitSendmeTag)
        );
        assert_eq!(
            sent(100).handle_sendme(Some(&[0; 16])),
            Err(WindowViolation::CircuitSendmeTag)
        );
        assert_eq!(sent(100).handle_sendme(None), Ok(()));
    }

    #[test]
    fn each_100th_cell_that_arrives_is_acknowledged() {
        let mut window = CircuitWindow::new();
        let due: Vec<u32> = (1..=1000).filter(|_| window.delivered()).collect();
        assert_eq!(due, (1..=10).map(|n| n * 100).collect::<Vec<u32>>());
    }

    #[test]
    fn a_stream_acknowledges_only_what_was_taken() {
        let mut window = StreamWindow::new();
        for _ in 0..500 {
            window.delivered(10).unwrap();
        }
        assert_eq!(window.sendmes_due(), 0);
        assert_eq!(window.delivered(10), Err(WindowViolation::StreamOverrun));
        window.taken(499);
        assert_eq!(window.sendmes_due(), 0);
        window.taken(501);
        assert_eq!(window.sendmes_due(), 2);
        assert_eq!(window.deliverable_cells(), 100);
        window.taken(4000);
        assert_eq!(window.sendmes_due(), 8);
    }

    #[test]
    fn empty_cells_are_acknowledged_at_once() {
        let mut window = StreamWindow::new();
        for n in 1..=5000 {
            window.delivered(0).unwrap();
            assert_eq!(window.sendmes_due(), usize::from(n % 50 == 0));
        }
    }

    #[test]
    fn a_stream_stops_at_500() {
        let mut window = StreamWindow::new();
        assert_eq!(
            window.handle_sendme(),
            Err(WindowViolation::StreamSendmeEarly)
        );
        for _ in 0..500 {
            window.packaged();
        }
        assert_eq!((window.room_cells(), window.sendmes_pending()), (0, 10));
        for _ in 0..10 {
            window.handle_sendme().unwrap();
        }
        assert_eq!(
            window.handle_sendme(),
            Err(WindowViolation::StreamSendmeEarly)
        );
    }

    proptest! {
        #[test]
        fn two_windows_never_disagree(steps in proptest::collection::vec(any::<bool>(), 0..4000)) {
            let (mut ours, mut theirs) = (CircuitWindow::new(), CircuitWindow::new());
            let mut acks = VecDeque::new();
            let mut n = 0u16;
            for send in steps {
                if send && ours.room_cells() > 0 {
                    n += 1;
                    ours.packaged(&tag(n));
                    if theirs.delivered() {
                        acks.push_back(tag(n));
                    }
                } else if let Some(ack) = acks.pop_front() {
                    prop_assert_eq!(ours.handle_sendme(Some(ack.as_bytes())), Ok(()));
                }
            }
        }
    }
}
