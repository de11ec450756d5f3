//! How one stream is kept from running over: by windows, or by XON and XOFF (tor-spec 7.4;
//! proposal 324, 4.1).
//!
//! ```text
//! towards us:  queue > xoff ──XOFF──▶ stopped ──queue empty──▶ XON with the socket's rate
//!              the socket's rate has changed since we told it ──▶ XON
//! from us:     XOFF ──▶ nothing is sent ──XON──▶ sent, at most at its rate
//! ```
//!
//! What waits for our socket is bounded either way: by the stream's window, or by
//! [`QUEUE_MAX_CELLS`], which an honest peer cannot reach as it stops at XOFF. The rate that a peer
//! tells is kept by a bucket that the plane fills from its timer, never for a single cell.

use std::time::Instant;

use cepa_wire::relay::RELAY_DATA_MAX;

use crate::congestion::{Congestion, FlowParams};
use crate::rate::{Bucket, DrainRate};
use crate::window::{STREAM_WINDOW_START_CELLS, StreamWindow, WindowViolation};

/// Cells that may wait for a stream's socket in any case, which is 10 MB. A bound of ours, as `tor`
/// leaves this to its limit of memory: XOFF is sent at 500 cells, and then as many more may be
/// under way as the peer's congestion window holds.
pub const QUEUE_MAX_CELLS: u16 = 20_000;
/// Below so many cells a queue is a burst on its way through, not a slow socket (as in `tor`).
const BURST_CELLS: u64 = 32;

/// Which end of a stream this is: how much may wait before XOFF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamSide {
    /// The client's, or a service's: `cc_xoff_client`.
    Client,
    /// The exit's: `cc_xoff_exit`.
    Exit,
}

/// A message about a stream's flow that is to be sent to the peer, or came from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowMessage {
    /// Send no more on this stream.
    Xoff,
    /// Send again, or at another rate, in 1000 bytes a second; 0: as fast as you can.
    Xon(u32),
}

/// What keeps a stream from running over.
#[derive(Debug)]
pub(crate) enum StreamFlow {
    Window(StreamWindow),
    Xon(Box<XonFlow>),
}

/// XON and XOFF in both directions.
#[derive(Debug)]
pub(crate) struct XonFlow {
    params: FlowParams,
    xoff_bytes: u64,
    /// Bytes that wait for our socket, those that it was offered included.
    queued_bytes: u64,
    is_xoff_sent: bool,
    drain: DrainRate,
    due: Option<FlowMessage>,
    /// XOFF came, and no XON since.
    is_stopped: bool,
    /// What the last XON allows; `None` without a limit.
    bucket: Option<Bucket>,
}

impl XonFlow {
    pub(crate) fn new(congestion: &Congestion, side: StreamSide) -> Self {
        let params = congestion.params.flow;
        let xoff_cells = match side {
            StreamSide::Client => params.xoff_client_cells,
            StreamSide::Exit => params.xoff_exit_cells,
        };
        XonFlow {
            params,
            xoff_bytes: cells_to_bytes(xoff_cells.into()),
            queued_bytes: 0,
            is_xoff_sent: false,
            drain: DrainRate::default(),
            due: None,
            is_stopped: false,
            bucket: None,
        }
    }

    /// Cells that may be sent now, as far as the stream goes.
    fn room_cells(&self) -> usize {
        match &self.bucket {
            _ if self.is_stopped => 0,
            None => usize::MAX,
            Some(bucket) => bucket.bytes().div_ceil(RELAY_DATA_MAX),
        }
    }

    fn delivered(&mut self, bytes: usize, now: Instant) -> Result<(), WindowViolation> {
        self.queued_bytes += bytes as u64;
        if self.queued_bytes > cells_to_bytes(QUEUE_MAX_CELLS.into()) {
            return Err(WindowViolation::StreamOverrun);
        }
        if self.queued_bytes > self.xoff_bytes && !self.is_xoff_sent {
            self.is_xoff_sent = true;
            self.due = Some(FlowMessage::Xoff);
            self.drain.reset();
        }
        if !self.is_xoff_sent && self.queued_bytes > cells_to_bytes(BURST_CELLS) {
            self.drained(0, now);
        }
        Ok(())
    }

    fn taken(&mut self, bytes: usize, now: Instant) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes as u64);
        self.drained(bytes as u64, now);
    }

    /// The socket took so many bytes: measures its rate, and sees whether the peer must hear of it.
    fn drained(&mut self, bytes: u64, now: Instant) {
        let is_empty = self.queued_bytes == 0;
        self.drain.drained(bytes, is_empty, &self.params, now);
        let must_tell = if self.is_xoff_sent {
            is_empty
        } else {
            self.drain.has_changed(self.params.xon_change_pct)
        };
        if must_tell {
            self.is_xoff_sent = false;
            self.due = Some(FlowMessage::Xon(self.drain.tell()));
        }
        if is_empty {
            self.drain.emptied(&self.params);
        }
    }
}

impl StreamFlow {
    pub(crate) fn room_cells(&self) -> usize {
        match self {
            StreamFlow::Window(window) => window.room_cells(),
            StreamFlow::Xon(flow) => flow.room_cells(),
        }
    }

    /// DATA cells that the peer may have under way.
    pub(crate) fn deliverable_cells(&self) -> u16 {
        match self {
            StreamFlow::Window(window) => window.deliverable_cells(),
            StreamFlow::Xon(_) => QUEUE_MAX_CELLS,
        }
    }

    /// Stream-level SENDMEs, or XONs and XOFFs, that the peer may have under way.
    pub(crate) fn messages_pending(&self) -> u16 {
        match self {
            StreamFlow::Window(window) => window.sendmes_pending(),
            StreamFlow::Xon(_) => STREAM_WINDOW_START_CELLS,
        }
    }

    pub(crate) fn packaged(&mut self, bytes: usize) {
        match self {
            StreamFlow::Window(window) => window.packaged(),
            StreamFlow::Xon(flow) => {
                debug_assert!(flow.room_cells() > 0, "a DATA cell was sent without room");
                if let Some(bucket) = &mut flow.bucket {
                    bucket.take(bytes);
                }
            }
        }
    }

    pub(crate) fn delivered(&mut self, bytes: usize, now: Instant) -> Result<(), WindowViolation> {
        match self {
            StreamFlow::Window(window) => window.delivered(bytes),
            StreamFlow::Xon(flow) => flow.delivered(bytes, now),
        }
    }

    pub(crate) fn taken(&mut self, bytes: usize, now: Instant) {
        match self {
            StreamFlow::Window(window) => window.taken(bytes),
            StreamFlow::Xon(flow) => flow.taken(bytes, now),
        }
    }

    pub(crate) fn handle_sendme(&mut self) -> Result<(), WindowViolation> {
        match self {
            StreamFlow::Window(window) => window.handle_sendme(),
            StreamFlow::Xon(_) => Err(WindowViolation::StreamSendme),
        }
    }

    pub(crate) fn sendmes_due(&mut self) -> usize {
        match self {
            StreamFlow::Window(window) => window.sendmes_due(),
            StreamFlow::Xon(_) => 0,
        }
    }

    /// XOFF or XON came. `false`: none is expected here.
    pub(crate) fn handle_message(&mut self, message: FlowMessage, now: Instant) -> bool {
        let StreamFlow::Xon(flow) = self else {
            return false;
        };
        match message {
            FlowMessage::Xoff => !std::mem::replace(&mut flow.is_stopped, true),
            FlowMessage::Xon(kbps) => {
                flow.is_stopped = false;
                flow.bucket = Bucket::limit(flow.bucket.take(), kbps, now);
                true
            }
        }
    }

    pub(crate) fn message_due(&mut self) -> Option<FlowMessage> {
        match self {
            StreamFlow::Window(_) => None,
            StreamFlow::Xon(flow) => flow.due.take(),
        }
    }

    /// True if only the rate that the peer told keeps the stream from sending.
    pub(crate) fn is_paced(&self) -> bool {
        match self {
            StreamFlow::Window(_) => false,
            StreamFlow::Xon(flow) => {
                !flow.is_stopped && flow.bucket.as_ref().is_some_and(|b| b.bytes() == 0)
            }
        }
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        if let StreamFlow::Xon(flow) = self
            && let Some(bucket) = &mut flow.bucket
        {
            bucket.refill(now);
        }
    }
}

fn cells_to_bytes(cells: u64) -> u64 {
    cells * RELAY_DATA_MAX as u64
}

#[cfg(test)]
mod tests;
