//! Channel padding of the client (padding-spec 2).
//!
//! A channel is padded from its first circuit on that is not for the directory alone. Whoever
//! wants less tells the relay to be silent, and pads alone and more seldom; or not at all. The
//! relay pads by the consensus unless it is told to stop.

use cepa_link::ChannelKey;
use cepa_link::channel::PaddingRange;
use cepa_netdoc::params::Params;
use cepa_wire::padding::PaddingNegotiate;

use super::Client;
use crate::config::PaddingLevel;

/// How long channels may be idle, as the consensus has it (padding-spec 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaddingParams {
    full: PaddingRange,
    reduced: PaddingRange,
}

impl PaddingParams {
    /// What a consensus says.
    pub(crate) fn read(params: &Params) -> Self {
        let range = |low: (&str, i32), high: (&str, i32)| {
            let ms = |(name, default): (&str, i32)| {
                u16::try_from(params.value(name, default, 0, 60_000)).unwrap_or(u16::MAX)
            };
            let low_ms = ms(low);
            PaddingRange {
                low_ms,
                high_ms: ms(high).max(low_ms),
            }
        };
        PaddingParams {
            full: range(("nf_ito_low", 1500), ("nf_ito_high", 9500)),
            reduced: range(
                ("nf_ito_low_reduced", 9000),
                ("nf_ito_high_reduced", 14_000),
            ),
        }
    }
}

impl Client {
    /// A channel stands: its relay hears if it is not to pad.
    pub(super) fn negotiate_padding(&mut self, channel: ChannelKey) {
        if self.config.padding != PaddingLevel::Full {
            self.plane
                .negotiate_padding(channel, PaddingNegotiate::Stop);
        }
    }

    /// A circuit that is not for the directory begins on a channel.
    pub(super) fn pad_channel(&mut self, channel: ChannelKey) {
        let range = match self.config.padding {
            PaddingLevel::Full => Some(self.padding.full),
            PaddingLevel::Reduced => Some(self.padding.reduced),
            PaddingLevel::Off => None,
        };
        self.plane.pad_channel(channel, range);
    }
}
