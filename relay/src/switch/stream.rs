//! Streams as the shell sees them: room, bytes in, bytes out, ends (tor-spec 6.2, 6.3, 7.4).
//!
//! A stream is told by [`Switch::take_ready`] when there is room again, or input, or an end.

use std::net::{IpAddr, SocketAddr};

use cepa_circuit::{StreamKey, StreamRead};
use cepa_wire::Now;
use cepa_wire::end::{End, EndReason};
use cepa_wire::resolve::Answer;

use super::Switch;
use super::context::Context;
use super::streams::Streams;

impl Switch {
    /// Bytes that may be read from the socket and given to [`Switch::stream_send`] now. 0: wait
    /// until the stream is among those of [`Switch::take_ready`].
    #[must_use]
    pub fn stream_room(&self, key: StreamKey) -> usize {
        let (circuits, channels) = (&self.circuits, &self.shared.channels);
        self.streams.room(key, circuits, channels)
    }

    /// Packages bytes of the socket into DATA cells; at most [`Switch::stream_room`] of them.
    pub fn stream_send(&mut self, key: StreamKey, bytes: &[u8], now: Now) {
        self.with_streams(now, |streams, ctx| streams.send(key, bytes, ctx));
        self.limit_memory(now);
    }

    /// Moves up to `max` bytes that the client sent to the end of `out`. The end is told once all
    /// bytes were taken; with it the stream is forgotten.
    pub fn stream_take(&mut self, key: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead {
        self.streams.take(key, out, max, &mut self.circuits)
    }

    /// Why nothing more comes on a stream; `None` while more may.
    #[must_use]
    pub fn stream_end(&self, key: StreamKey) -> Option<EndReason> {
        self.streams.end(key)
    }

    /// The socket took `bytes` of what [`Switch::stream_take`] gave.
    pub fn stream_written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        self.with_streams(now, |streams, ctx| streams.written(key, bytes, ctx));
    }

    /// The socket ended or failed: the client gets END.
    pub fn stream_close(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.with_streams(now, |streams, ctx| streams.close(key, reason.into(), ctx));
    }

    /// The answer to [`super::Command::Connect`]: connected to this address, which the client may
    /// remember for `ttl_secs`.
    pub fn stream_connected(&mut self, key: StreamKey, addr: SocketAddr, ttl_secs: u32, now: Now) {
        let to = Some((addr, ttl_secs));
        self.with_streams(now, |streams, ctx| streams.connected(key, to, ctx));
    }

    /// The answer to [`super::Command::OpenDir`].
    pub fn stream_dir_connected(&mut self, key: StreamKey, now: Now) {
        self.with_streams(now, |streams, ctx| streams.connected(key, None, ctx));
    }

    /// The answer to [`super::Command::Connect`] if it failed.
    pub fn stream_failed(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.stream_close(key, reason, now);
    }

    /// The answer to [`super::Command::Connect`] if [`Switch::exit_check`] refuses all addresses
    /// that the name has; what it said of one of them is told.
    pub fn stream_refused(&mut self, key: StreamKey, end: End, now: Now) {
        self.with_streams(now, |streams, ctx| streams.close(key, end, ctx));
    }

    /// The answer to [`super::Command::Resolve`]; none at all is told as a failure.
    pub fn stream_resolved(&mut self, key: StreamKey, answers: Vec<Answer>, now: Now) {
        self.with_streams(now, |streams, ctx| streams.resolved(key, answers, ctx));
    }

    /// The other end of the link that a stream came over.
    #[must_use]
    pub fn neighbour(&self, key: StreamKey) -> Option<SocketAddr> {
        let circuit = self.circuits.get(self.streams.circuit(key)?)?;
        let link = self.link(circuit.previous.channel)?;
        Some(link.peer_addr)
    }

    /// Whether a stream may leave to an address, which a client may remember for `ttl_secs`.
    ///
    /// # Errors
    /// What the client is told: the exit policy refuses it, or it leads back into the network
    /// (for which `tor` says CONNECTREFUSED, so that no other exit is tried).
    pub fn exit_check(&self, address: IpAddr, port: u16, ttl_secs: u32) -> Result<(), End> {
        self.shared.exit_check(address, port, ttl_secs)
    }

    /// Whether an internal address is an answer to a look-up.
    #[must_use]
    pub fn resolves_internal(&self) -> bool {
        self.shared.config.exit_policy.resolves_internal()
    }

    /// Does something with the streams, and all that follows from it.
    pub(super) fn with_streams(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Streams, &mut Context<'_>),
    ) {
        let ctx = &mut Context::new(&mut self.circuits, &mut self.shared, now);
        work(&mut self.streams, ctx);
        self.settle(now);
    }
}
