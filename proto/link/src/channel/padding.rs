//! Padding of an idle channel between a client and its guard (padding-spec 2).
//!
//! After a random idle time one PADDING cell is sent, and a new time drawn: the greater of two
//! uniform draws (section 2.3). A client may stop a relay's padding or make it rarer
//! (PADDING_NEGOTIATE, link protocol 5); it can never make it more frequent than the consensus has
//! it. A relay that asks a client is ignored, as `tor` does, although section 2.5 wants it cut off.

use std::time::{Duration, Instant};

use cepa_crypto::rng::Rng;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command};
use cepa_wire::padding::{PaddingError, PaddingNegotiate};

use super::Channel;

/// Link protocol from which on padding is negotiated (tor-spec 4.1).
const LINK_WITH_PADDING: u16 = 5;

/// Bounds of the idle time, in milliseconds. Default: `nf_ito_low` and `nf_ito_high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddingRange {
    /// The lower bound.
    pub low_ms: u16,
    /// The upper bound; both 0: no padding.
    pub high_ms: u16,
}

impl Default for PaddingRange {
    fn default() -> Self {
        PaddingRange {
            low_ms: 1500,
            high_ms: 9500,
        }
    }
}

impl PaddingRange {
    /// The range of a consensus; `value` looks a parameter up: its name, default and bounds.
    pub fn read(value: impl Fn(&str, i32, i32, i32) -> i32) -> Self {
        let default = PaddingRange::default();
        let ms = |name, default: u16| {
            u16::try_from(value(name, default.into(), 0, 60_000)).unwrap_or(default)
        };
        let low_ms = ms("nf_ito_low", default.low_ms);
        PaddingRange {
            low_ms,
            high_ms: ms("nf_ito_high", default.high_ms).max(low_ms),
        }
    }

    fn is_off(self) -> bool {
        self.low_ms == 0 && self.high_ms == 0
    }

    fn draw(self, rng: &mut Rng) -> Duration {
        let spread = u64::from(self.high_ms.saturating_sub(self.low_ms)).max(1);
        let extra = rng.below(spread).max(rng.below(spread));
        Duration::from_millis(u64::from(self.low_ms) + extra)
    }
}

/// Why a PADDING_NEGOTIATE cell is ignored; worth a line in the log, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaddingIgnored {
    /// The link protocol is below 5.
    #[error("PADDING_NEGOTIATE on link protocol {0}")]
    LinkVersion(u16),
    /// The peer is a relay; only clients may ask.
    #[error("PADDING_NEGOTIATE from a relay")]
    FromRelay,
    /// The cell cannot be read.
    #[error(transparent)]
    Cell(#[from] PaddingError),
}

/// What we send on this channel when it is idle; nothing at first.
#[derive(Debug, Default)]
pub(super) struct Padding {
    active: Option<(PaddingRange, Duration)>,
}

impl Channel {
    /// Starts padding of this channel, or stops it. Does nothing on link protocol 4.
    pub fn set_padding(&mut self, range: Option<PaddingRange>, rng: &mut Rng) {
        let range = range.filter(|range| !range.is_off() && self.link.version >= LINK_WITH_PADDING);
        self.padding.active = range.map(|range| (range, range.draw(rng)));
    }

    /// A PADDING_NEGOTIATE cell came. `consensus`: `nf_ito_low` and `nf_ito_high`.
    pub fn handle_padding_negotiate(
        &mut self,
        cell: &CellBuf,
        consensus: PaddingRange,
        rng: &mut Rng,
    ) -> Result<(), PaddingIgnored> {
        if self.link.version < LINK_WITH_PADDING {
            return Err(PaddingIgnored::LinkVersion(self.link.version));
        }
        if self.link.initiator || self.link.peer.is_some() {
            return Err(PaddingIgnored::FromRelay);
        }
        let range = match PaddingNegotiate::read(cell::payload(cell))? {
            PaddingNegotiate::Start { low_ms, high_ms } if !consensus.is_off() => {
                let low_ms = low_ms.max(consensus.low_ms);
                Some(PaddingRange {
                    low_ms,
                    high_ms: high_ms.max(consensus.high_ms).max(low_ms),
                })
            }
            PaddingNegotiate::Start { .. } | PaddingNegotiate::Stop => None,
        };
        self.set_padding(range, rng);
        Ok(())
    }

    /// When [`Channel::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.padding.active.map(|(_, after)| self.last_sent + after)
    }

    /// Queues a PADDING cell if the channel has been idle for its time.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut Rng) {
        let Some((range, after)) = self.padding.active else {
            return;
        };
        if now.mono < self.last_sent + after {
            return;
        }
        self.last_sent = now.mono;
        self.padding.active = Some((range, range.draw(rng)));
        if !self.has_output() {
            let padding = cell::new_cell(CircId::NONE, Command::PADDING);
            self.queue_control(&padding)
                .expect("an empty queue has room");
        }
    }
}
