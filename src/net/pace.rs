//! How fast a relay reads and writes: bounds on all traffic, and on that of its links alone.
//!
//! One value for all workers. Each direction has buckets of its own; without bounds a batch costs
//! two loads. Sockets of streams that leave and of the directory port are paced by
//! [`Paced`], which counts their bytes, too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cepa_relay::SharedBucket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::writer::Writer;
use crate::clock;
use crate::config::{Bandwidth, RelayConfig};
use crate::doors::Pass;

/// Bytes that all workers have moved.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Of TLS, from other relays and clients: for the bandwidth that a relay observes.
    pub(crate) read_bytes: AtomicU64,
    /// To them.
    pub(crate) written_bytes: AtomicU64,
    /// From other sockets: of streams that leave here, of the directory port, of our own requests.
    pub(crate) other_read_bytes: AtomicU64,
    /// To them.
    pub(crate) other_written_bytes: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The bounds of a relay.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Whether there is any bound: without one nobody looks at a clock.
    is_bound: AtomicBool,
    read: [SharedBucket; 2],
    write: [SharedBucket; 2],
}

/// How long to wait, for each direction; none: not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) read: Option<Duration>,
    pub(crate) write: Option<Duration>,
}

impl Room {
    /// When to look again.
    pub(crate) fn wait(self) -> Option<Duration> {
        self.read.into_iter().chain(self.write).min()
    }
}

impl Pace {
    /// No bounds.
    pub(crate) fn free() -> Self {
        let now = clock::now().mono;
        let buckets = || [(); 2].map(|()| SharedBucket::new(None, now));
        Pace {
            is_bound: AtomicBool::new(false),
            read: buckets(),
            write: buckets(),
        }
    }

    /// The bounds of a relay.
    pub(crate) fn of(config: &RelayConfig) -> Self {
        let pace = Pace::free();
        pace.set(config);
        pace
    }

    /// The bounds of another configuration from now on.
    pub(crate) fn set(&self, config: &RelayConfig) {
        self.bind(config.bandwidth, config.relay_bandwidth);
    }

    fn bind(&self, all: Option<Bandwidth>, links: Option<Bandwidth>) {
        let now = clock::now().mono;
        let of = |bound: Option<Bandwidth>| bound.map(|one| (one.rate, one.burst));
        for [of_all, of_links] in [&self.read, &self.write] {
            of_all.set(of(all), now);
            of_links.set(of(links), now);
        }
        let is_bound = all.is_some() || links.is_some();
        self.is_bound.store(is_bound, Ordering::Relaxed);
    }

    fn is_bound(&self) -> bool {
        self.is_bound.load(Ordering::Relaxed)
    }

    /// How long a link waits.
    pub(crate) fn room(&self) -> Room {
        if !self.is_bound() {
            return Room::default();
        }
        let now = clock::now().mono;
        let wait = |buckets: &[SharedBucket; 2]| buckets.iter().filter_map(|b| b.wait(now)).max();
        Room {
            read: wait(&self.read),
            write: wait(&self.write),
        }
    }

    /// A link has read and written so much.
    pub(crate) fn take(&self, read_bytes: usize, written_bytes: usize) {
        if !self.is_bound() {
            return;
        }
        self.read.iter().for_each(|bucket| bucket.take(read_bytes));
        self.write
            .iter()
            .for_each(|bucket| bucket.take(written_bytes));
    }
}

/// A socket that is no link's, or a half of it, under the bound on all traffic.
pub(crate) struct Paced<S> {
    half: S,
    pace: Arc<Pace>,
    traffic: Arc<Traffic>,
    /// The place of a stream, which is told that something moves.
    pass: Option<Arc<Pass>>,
    /// Set while it waits.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S: Writer> Writer for Paced<S> {
    fn abort(&self) {
        self.half.abort();
    }
}

impl<S> Paced<S> {
    pub(crate) fn new(half: S, pace: Arc<Pace>, traffic: Arc<Traffic>) -> Self {
        Paced {
            half,
            pace,
            traffic,
            pass: None,
            sleep: None,
        }
    }

    /// The same with a place, which is not taken away for being idle while bytes pass.
    pub(crate) fn at(self, pass: &Arc<Pass>) -> Self {
        let pass = Some(Arc::clone(pass));
        Paced { pass, ..self }
    }

    fn moved(&self, bytes: usize) {
        if let Some(pass) = self.pass.as_ref().filter(|_| bytes > 0) {
            pass.moved();
        }
    }

    /// Ready when `bucket` lets bytes pass.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        wait: impl Fn(&Pace, Instant) -> Option<Duration>,
    ) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            if !self.pace.is_bound() {
                return Poll::Ready(());
            }
            match wait(&self.pace, clock::now().mono) {
                Some(wait) => self.sleep = Some(Box::pin(tokio::time::sleep(wait))),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this
            .poll_room(cx, |pace, now| pace.read[0].wait(now))
            .is_pending()
        {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.half).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        this.pace.read[0].take(read);
        count(&this.traffic.other_read_bytes, read);
        this.moved(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this
            .poll_room(cx, |pace, now| pace.write[0].wait(now))
            .is_pending()
        {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.half).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            this.pace.write[0].take(written);
            count(&this.traffic.other_written_bytes, written);
            this.moved(written);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn bandwidth(rate: u64) -> Option<Bandwidth> {
        Some(Bandwidth { rate, burst: rate })
    }

    #[test]
    fn links_and_all_have_bounds_of_their_own() {
        let pace = Pace::free();
        pace.bind(bandwidth(1000), bandwidth(10));
        assert_eq!(pace.room(), Room::default());
        pace.take(10, 0);
        let room = pace.room();
        assert!(room.read.is_some() && room.write.is_none() && room.wait() == room.read);
        pace.bind(None, None);
        assert_eq!(pace.room(), Room::default());
        pace.take(0, usize::MAX);
        assert_eq!(pace.room().wait(), None);
    }

    #[tokio::test]
    async fn sockets_of_streams_are_paced_and_counted() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let pace = Arc::new(Pace::free());
        pace.bind(bandwidth(20_000), None);
        let traffic = Arc::<Traffic>::default();
        let mut far = Paced::new(far, Arc::clone(&pace), Arc::clone(&traffic));
        let mut near = near;
        near.write_all(&[7; 30_000]).await.unwrap();
        let started = clock::now().mono;
        let mut read = 0;
        let mut buffer = vec![0; 1000];
        while read < 30_000 {
            read += far.read(&mut buffer).await.unwrap();
        }
        let took = clock::now().mono.duration_since(started);
        assert!(took >= Duration::from_millis(440), "{took:?}");
        far.write_all(&[8; 500]).await.unwrap();
        assert_eq!(traffic.other_read_bytes.load(Ordering::Relaxed), 30_000);
        assert_eq!(traffic.other_written_bytes.load(Ordering::Relaxed), 500);
    }
}
