//! The hot path: cells of channels and bytes of streams, as the shell's driver moves them
//! ([`crate::plane`]).

use std::sync::Arc;

use cepa_circuit::{StreamKey, StreamRead};
use cepa_limits::Memory;
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::Client;
use crate::plane::ChannelClose;

impl Client {
    /// From now on no more than this is to be held, over all that share it; of itself a client
    /// takes what `tor` takes where it does not know its machine.
    pub fn share_memory(&mut self, memory: Arc<Memory>) {
        self.shared.plane.share_memory(memory);
    }

    /// Takes the whole cells at the front of `buf`, decrypted in place; returns their bytes. An
    /// error: close the connection, and call [`Client::channel_closed`].
    pub fn handle_cells(
        &mut self,
        channel: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        self.circuits.build_times.heard(now);
        let handled = self.shared.plane.handle_cells(channel, buf, now);
        let read_bytes = *handled.as_ref().unwrap_or(&0);
        self.traffic.read_bytes += u64::try_from(read_bytes).unwrap_or(0);
        self.settle_events(now);
        handled
    }

    /// Appends up to one TLS record of cells.
    pub fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now) {
        let before = out.len();
        self.shared.plane.take_output(channel, out, now);
        let written_bytes = out.len().saturating_sub(before);
        self.traffic.written_bytes += u64::try_from(written_bytes).unwrap_or(0);
    }

    /// True if [`Client::take_output`] has cells to give.
    #[must_use]
    pub fn has_output(&self, channel: ChannelKey) -> bool {
        self.shared.plane.has_output(channel)
    }

    /// The connection under a channel is gone.
    pub fn channel_closed(&mut self, channel: ChannelKey, now: Now) {
        self.shared.plane.channel_closed(channel, now);
        self.settle(now);
    }

    /// Bytes that may be sent over a stream now.
    #[must_use]
    pub fn stream_room(&self, stream: StreamKey) -> usize {
        self.shared.plane.stream_room(stream)
    }

    /// Sends bytes of the application's.
    pub fn stream_send(&mut self, stream: StreamKey, bytes: &[u8], now: Now) {
        self.dormancy.used(now);
        self.shared.plane.stream_send(stream, bytes, now);
        self.settle_events(now);
    }

    /// Moves up to `max` bytes that came to the end of `out`.
    pub fn stream_take(&mut self, stream: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead {
        self.shared.plane.stream_take(stream, out, max)
    }

    /// Why nothing more comes on a stream; `None` while more may.
    #[must_use]
    pub fn stream_end(&self, stream: StreamKey) -> Option<EndReason> {
        self.shared.plane.stream_end(stream)
    }

    /// The application's socket took bytes.
    pub fn stream_written(&mut self, stream: StreamKey, bytes: usize, now: Now) {
        self.dormancy.used(now);
        self.shared.plane.stream_written(stream, bytes, now);
        self.settle_events(now);
    }

    /// Our side of a stream is over.
    pub fn stream_close(&mut self, stream: StreamKey, reason: EndReason, now: Now) {
        if self.dormancy.counts_idle_streams() {
            self.dormancy.used(now);
        }
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        // A visit without streams has a time of its own, though nothing else follows.
        if streams.close(stream, reason, onion, circuits, ctx) {
            self.deadline = self.next_deadline(now);
        }
        self.settle_events(now);
    }

    /// Appends the channels with output and the streams with bytes, an end or room.
    pub fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        self.shared.plane.take_ready(channels, streams);
    }
}
