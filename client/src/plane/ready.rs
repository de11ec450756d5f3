//! Who is to be woken: channels with output, streams with input or room.
//!
//! Each entry carries a flag of its own (`ready`), set here and cleared when the lists are taken,
//! so that nothing is listed twice and no set is searched for each cell.

use cepa_circuit::StreamKey;
use cepa_link::ChannelKey;

/// Who became ready since the lists were last taken, in that order.
#[derive(Debug, Default)]
pub(super) struct Ready {
    channels: Vec<ChannelKey>,
    streams: Vec<StreamKey>,
}

impl Ready {
    /// Lists a channel unless its flag says that it is.
    pub(super) fn channel(&mut self, key: ChannelKey, flag: &mut bool) {
        if !std::mem::replace(flag, true) {
            self.channels.push(key);
        }
    }

    /// Lists a stream unless its flag says that it is.
    pub(super) fn stream(&mut self, key: StreamKey, flag: &mut bool) {
        if !std::mem::replace(flag, true) {
            self.streams.push(key);
        }
    }

    /// Moves both lists to the ends of others.
    pub(super) fn take(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        channels.append(&mut self.channels);
        streams.append(&mut self.streams);
    }
}
