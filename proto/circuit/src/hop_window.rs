//! The window of one hop, whichever way its two ends have agreed on: fixed (tor-spec 7.3) or moved
//! by congestion control (proposal 324).
//!
//! Both ends of a circuit use it: the origin one for each hop, a relay one for each circuit.
//! Streams of a hop with congestion control have no windows: XON and XOFF stop them.

use std::time::Instant;

use crate::congestion::{Congestion, CongestionWindow, LocalQueue};
use crate::window::{CircuitWindow, SendmeTag, WindowViolation};

/// Both directions of one hop's window over all streams.
#[derive(Debug)]
pub enum HopWindow {
    /// 1000 cells, and 100 for each SENDME.
    Fixed(CircuitWindow),
    /// Moved by what SENDMEs tell.
    Congestion(Box<CongestionWindow>),
}

impl HopWindow {
    /// The window of a new hop, with the congestion control that its ends have agreed on, if any.
    #[must_use]
    pub fn new(congestion: Option<Congestion>) -> Self {
        match congestion {
            None => HopWindow::Fixed(CircuitWindow::new()),
            Some(congestion) => HopWindow::Congestion(Box::new(CongestionWindow::new(congestion))),
        }
    }

    /// The congestion control of this hop, if it has any.
    #[must_use]
    pub fn congestion(&self) -> Option<&CongestionWindow> {
        match self {
            HopWindow::Fixed(_) => None,
            HopWindow::Congestion(window) => Some(window),
        }
    }

    /// The congestion control that the two ends have agreed on, if any.
    #[must_use]
    pub fn agreed(&self) -> Option<&Congestion> {
        self.congestion().map(CongestionWindow::agreed)
    }

    /// DATA cells that may be sent now.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        match self {
            HopWindow::Fixed(window) => window.room_cells(),
            HopWindow::Congestion(window) => window.room_cells(),
        }
    }

    /// One DATA cell was sent; `tag` is the one that its encryption gave.
    pub fn packaged(&mut self, tag: &SendmeTag, now: Instant) {
        match self {
            HopWindow::Fixed(window) => window.packaged(tag),
            HopWindow::Congestion(window) => window.packaged(tag, now),
        }
    }

    /// A circuit-level SENDME came; `tag` is `None` in one of version 0. `queue` is that of the
    /// circuit on the channel which our cells leave by.
    pub fn handle_sendme(
        &mut self,
        tag: Option<&[u8]>,
        queue: LocalQueue,
        now: Instant,
    ) -> Result<(), WindowViolation> {
        match self {
            HopWindow::Fixed(window) => window.handle_sendme(tag),
            HopWindow::Congestion(window) => window.handle_sendme(tag, queue, now),
        }
    }

    /// One DATA cell arrived, on whatever stream. `true`: a SENDME with the tag of this very cell
    /// must be sent at once.
    #[must_use]
    pub fn delivered(&mut self) -> bool {
        match self {
            HopWindow::Fixed(window) => window.delivered(),
            HopWindow::Congestion(window) => window.delivered(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds() {
        let now = crate::congestion::tests::epoch();
        let congestion = Congestion {
            params: std::sync::Arc::default(),
            sendme_inc_cells: 31,
            path: crate::congestion::CongestionPath::Exit,
        };
        for (agreed, room, inc) in [(None, 1000, 100), (Some(congestion), 124, 31)] {
            let mut window = HopWindow::new(agreed.clone());
            assert_eq!(window.agreed(), agreed.as_ref());
            for _ in 0..inc {
                window.packaged(&[7; 20].into(), now);
            }
            assert_eq!(window.room_cells(), room - inc);
            assert_eq!((0..inc).filter(|_| window.delivered()).count(), 1);
            let queue = LocalQueue::default();
            assert_eq!(window.handle_sendme(Some(&[7; 20]), queue, now), Ok(()));
            let early = Err(WindowViolation::CircuitSendmeEarly);
            assert_eq!(window.handle_sendme(None, queue, now), early);
        }
    }
}
