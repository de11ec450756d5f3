//! What the I/O tasks ask of a data plane: the relay's `Switch` and the client's circuits.
//!
//! A plane never waits and never does I/O. Cells are handled in place in the buffer that a TLS
//! read filled; output is pulled when the socket has room, so that a slow socket leaves cells in
//! the bounded queues of their circuits, where fairness is decided.

use std::convert::Infallible;
use std::fmt::Display;
use std::time::Instant;

use cepa_circuit::{StreamKey, StreamRead};
use cepa_client::Client;
use cepa_link::ChannelKey;
use cepa_relay::{Handover, Switch, SwitchCommand, WorkerId};
use cepa_wire::Now;
use cepa_wire::end::EndReason;

/// A data plane owned by one worker.
pub(crate) trait Plane: 'static {
    /// What the plane asks its surroundings to do.
    type Command: 'static;
    /// Why a channel is closed.
    type Close: Display;
    /// A batch for another worker.
    type Handover: Send + 'static;

    fn handle_cells(
        &mut self,
        channel: ChannelKey,
        cells: &mut [u8],
        now: Now,
    ) -> Result<usize, Self::Close>;
    fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now);
    fn channel_closed(&mut self, channel: ChannelKey, now: Now);
    fn stream_room(&self, stream: StreamKey) -> usize;
    fn stream_send(&mut self, stream: StreamKey, bytes: &[u8], now: Now);
    fn stream_take(&mut self, stream: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead;
    fn stream_written(&mut self, stream: StreamKey, bytes: usize, now: Now);
    fn stream_close(&mut self, stream: StreamKey, reason: EndReason, now: Now);
    /// Why nothing more comes on a stream; `None` while more may.
    fn stream_end(&self, stream: StreamKey) -> Option<EndReason>;
    fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>);
    fn poll_command(&mut self) -> Option<Self::Command>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Now);
    /// The batches for other workers since last asked, each with the worker's number.
    fn take_handovers(&mut self, out: &mut Vec<(usize, Self::Handover)>);
    fn handle_handover(&mut self, handover: Self::Handover, now: Now);
}

/// The methods that a plane has under the same names of its own.
macro_rules! own_methods {
    ($plane:ty) => {
        fn handle_cells(
            &mut self,
            channel: ChannelKey,
            cells: &mut [u8],
            now: Now,
        ) -> Result<usize, Self::Close> {
            <$plane>::handle_cells(self, channel, cells, now)
        }
        fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now) {
            <$plane>::take_output(self, channel, out, now);
        }
        fn channel_closed(&mut self, channel: ChannelKey, now: Now) {
            <$plane>::channel_closed(self, channel, now);
        }
        fn stream_room(&self, stream: StreamKey) -> usize {
            <$plane>::stream_room(self, stream)
        }
        fn stream_send(&mut self, stream: StreamKey, bytes: &[u8], now: Now) {
            <$plane>::stream_send(self, stream, bytes, now);
        }
        fn stream_take(&mut self, stream: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead {
            <$plane>::stream_take(self, stream, out, max)
        }
        fn stream_written(&mut self, stream: StreamKey, bytes: usize, now: Now) {
            <$plane>::stream_written(self, stream, bytes, now);
        }
        fn stream_close(&mut self, stream: StreamKey, reason: EndReason, now: Now) {
            <$plane>::stream_close(self, stream, reason, now);
        }
        fn stream_end(&self, stream: StreamKey) -> Option<EndReason> {
            <$plane>::stream_end(self, stream)
        }
        fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
            <$plane>::take_ready(self, channels, streams);
        }
        fn poll_command(&mut self) -> Option<Self::Command> {
            <$plane>::poll_command(self)
        }
        fn poll_timeout(&self) -> Option<Instant> {
            <$plane>::poll_timeout(self)
        }
        fn handle_timeout(&mut self, now: Now) {
            <$plane>::handle_timeout(self, now);
        }
    };
}

impl Plane for Switch {
    type Command = SwitchCommand;
    type Close = cepa_relay::ChannelClose;
    type Handover = Vec<Handover>;

    own_methods!(Switch);

    fn take_handovers(&mut self, out: &mut Vec<(usize, Vec<Handover>)>) {
        for (number, worker) in (0_u8..).map(WorkerId).take(self.workers()).enumerate() {
            let batch = self.take_handover(worker);
            if !batch.is_empty() {
                out.push((number, batch));
            }
        }
    }
    fn handle_handover(&mut self, batch: Vec<Handover>, now: Now) {
        Switch::handle_handover(self, batch, now);
    }
}

impl Plane for Client {
    type Command = cepa_client::Command;
    type Close = cepa_client::plane::ChannelClose;
    /// A client has one worker.
    type Handover = Infallible;

    own_methods!(Client);

    fn take_handovers(&mut self, _out: &mut Vec<(usize, Infallible)>) {}
    fn handle_handover(&mut self, handover: Infallible, _now: Now) {
        match handover {}
    }
}
