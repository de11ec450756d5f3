//! The window of one hop, whichever way its two ends have agreed on: fixed (tor-spec 7.3) or moved
//! by congestion control (proposal 324).
//!
//! [`HopFlow`] is the agreement, [`HopWindow`] the state. Both ends of a circuit use it: the origin
//! one for each hop, a relay one for each circuit. Streams of a hop with congestion control have no
//! windows: XON and XOFF stop them.

use std::time::Instant;

use crate::congestion::{Congestion, CongestionWindow, LocalQueue};
use crate::window::{CircuitWindow, SendmeTag, WindowViolation};

/// How the two ends of a hop keep from sending too much.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HopFlow {
    /// Fixed windows, for the circuit and for each stream.
    #[default]
    Windows,
    /// Congestion control for the circuit, XON and XOFF for each stream.
    Congestion(Congestion),
}

impl HopFlow {
    /// The congestion control agreed on, if any.
    #[must_use]
    pub fn congestion(&self) -> Option<&Congestion> {
        match self {
            HopFlow::Windows => None,
            HopFlow::Congestion(congestion) => Some(congestion),
        }
    }
}

/// Both directions of one hop's window over all streams.
#[derive(Debug)]
pub enum HopWindow {
    /// 1000 cells, and 100 for each SENDME.
    Fixed(CircuitWindow),
    /// Moved by what SENDMEs tell.
    Congestion(Box<CongestionWindow>),
}

impl HopWindow {
    /// The window of a new hop.
    #[must_use]
    pub fn new(flow: &HopFlow) -> Self {
        match flow {
            HopFlow::Windows => HopWindow::Fixed(CircuitWindow::new()),
            HopFlow::Congestion(congestion) => {
                HopWindow::Congestion(Box::new(CongestionWindow::new(congestion)))
            }
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
        let flow = HopFlow::Congestion(Congestion {
            params: std::sync::Arc::default(),
            sendme_inc_cells: 31,
            path: crate::congestion::CongestionPath::Exit,
        });
        for (flow, room, inc) in [(HopFlow::Windows, 1000, 100), (flow, 124, 31)] {
            let mut window = HopWindow::new(&flow);
            assert_eq!(window.congestion().is_some(), flow.congestion().is_some());
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
