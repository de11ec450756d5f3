//! How fast a peer must be at each stage of an exchange: its head, its body, our reply.
//!
//! ```text
//! Head ──> Body ──> Answering ──> Reply
//! ```
//! A [`Staged`] stream counts what passes; [`Stages::overdue`] returns once the stage has lasted
//! longer than its time limit and what its bytes have earned. Beside hyper's own limit on heads, as
//! hyper has none on what follows.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::Limits;
use crate::clock;

/// Where an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The head arrives.
    Head,
    /// The body arrives.
    Body,
    /// We think.
    Answering,
    /// The reply is taken.
    Reply,
}

/// The pace of one exchange.
#[derive(Debug)]
pub(super) struct Stages {
    limits: Limits,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// The stage, and since when.
    stage: Mutex<(Stage, Instant)>,
    changed: Notify,
}

impl Stages {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Stages {
            limits,
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            stage: Mutex::new((Stage::Head, clock::now().mono)),
            changed: Notify::new(),
        })
    }

    /// The next stage begins.
    pub(super) fn begin(&self, stage: Stage) {
        *self.stage() = (stage, clock::now().mono);
        self.changed.notify_one();
    }

    /// Returns when the peer is too slow, with the stage that it is in.
    pub(super) async fn overdue(&self) -> Stage {
        loop {
            let (stage, due) = self.due();
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    // More bytes may have earned more time.
                    if self.due() == (stage, due) {
                        return stage;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }

    fn due(&self) -> (Stage, Instant) {
        let (stage, since) = *self.stage();
        let earned = |bytes: &AtomicU64| {
            let rate = u64::from(self.limits.bytes_per_second_min.max(1));
            Duration::from_secs(bytes.load(Ordering::Relaxed) / rate)
        };
        let limit = match stage {
            Stage::Head => self.limits.head_timeout,
            Stage::Answering => self.limits.exchange_timeout,
            Stage::Body => self.limits.body_timeout + earned(&self.read_bytes),
            Stage::Reply => self.limits.body_timeout + earned(&self.written_bytes),
        };
        (stage, since + limit)
    }

    fn stage(&self) -> MutexGuard<'_, (Stage, Instant)> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose bytes are counted.
pub(super) struct Staged<S> {
    pub(super) stream: S,
    pub(super) stages: Arc<Stages>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Staged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let bytes = (buf.filled().len() - before) as u64;
        self.stages.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Staged<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        let counter = &self.stages.written_bytes;
        counter.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time() {
        let limits = Limits::default();
        let stages = Stages::new(limits);
        let limit = |stages: &Stages| stages.due().1 - stages.stage().1;
        assert_eq!(limit(&stages), limits.head_timeout);
        stages.begin(Stage::Body);
        assert_eq!(limit(&stages), limits.body_timeout);
        let minute = u64::from(limits.bytes_per_second_min) * 60;
        stages.read_bytes.fetch_add(minute, Ordering::Relaxed);
        assert_eq!(
            limit(&stages),
            limits.body_timeout + Duration::from_secs(60)
        );
        stages.begin(Stage::Answering);
        assert_eq!(limit(&stages), limits.exchange_timeout);
        stages.begin(Stage::Reply);
        assert_eq!(limit(&stages), limits.body_timeout);
        stages.written_bytes.fetch_add(minute, Ordering::Relaxed);
        assert_eq!(
            limit(&stages),
            limits.body_timeout + Duration::from_secs(60)
        );
    }
}
