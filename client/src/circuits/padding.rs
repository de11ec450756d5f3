//! Padding of channels (padding-spec 2), and what may be padded of circuits (padding-spec 3.3).
//!
//! A channel is padded from its first circuit on that is not for the directory alone. Whoever
//! wants less tells the relay to be silent, and pads alone and more seldom; or not at all. The
//! relay pads by the consensus unless it is told to stop.

use cepa_circuit::PaddingParams as CircuitPaddingParams;
use cepa_link::ChannelKey;
use cepa_link::channel::PaddingRange;
use cepa_netdoc::params::Params;
use cepa_wire::padding::PaddingNegotiate;

use crate::config::PaddingLevel;
use crate::context::Context;

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

    /// A circuit that is not for the directory begins on a channel.
    pub(super) fn pad(&self, channel: ChannelKey, ctx: &mut Context<'_>) {
        let range = match ctx.config.padding {
            PaddingLevel::Full => Some(self.full),
            PaddingLevel::Reduced => Some(self.reduced),
            PaddingLevel::Off => None,
        };
        ctx.plane.pad_channel(channel, range);
    }
}

/// A channel stands: its relay hears if it is not to pad.
pub(super) fn negotiate(channel: ChannelKey, ctx: &mut Context<'_>) {
    if ctx.config.padding != PaddingLevel::Full {
        let stop = PaddingNegotiate::Stop;
        ctx.plane.negotiate_padding(channel, stop);
    }
}

/// What a consensus and the operator allow of the machines that hide circuits.
pub(crate) fn of_circuits(params: &Params, wish: PaddingLevel) -> CircuitPaddingParams {
    let read = |name: &str, default, min, max| params.value(name, default, min, max);
    let consensus = CircuitPaddingParams::read(read);
    CircuitPaddingParams {
        is_disabled: consensus.is_disabled || wish == PaddingLevel::Off,
        is_reduced: consensus.is_reduced || wish == PaddingLevel::Reduced,
        ..consensus
    }
}
