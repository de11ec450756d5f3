//! The task of one stream: an application's socket (or an in-memory pipe) and the plane.
//!
//! Bytes are read only while the plane has room for them (its windows and its circuit's queue),
//! and a stream-level SENDME follows only bytes that the socket took: a slow end stops the far
//! one, and nothing grows without bound in between (tor-spec section 7.4). Once a stream is over,
//! an application that does not read what is left for it is hung up on within seconds: no socket
//! outlives its stream for longer.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cepa_circuit::StreamKey;
use cepa_wire::end::EndReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use super::plane::Plane;
use super::worker::Worker;
use super::writer::Writer;
use crate::clock;

/// Bytes read from the application at once: what 32 DATA cells carry.
const READ_BYTES: usize = 32 * 498;

/// Bytes moved towards the application at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Bytes that a pipe holds, each way.
const PIPE_BYTES: usize = 64 * 1024;

/// How long an application may take nothing of what is left for it once its stream has ended (as
/// long as with `tor`), or its circuit is gone.
const STALL_MAX: Duration = Duration::from_secs(15);
const STALL_WITHOUT_CIRCUIT_MAX: Duration = Duration::from_secs(3);

/// How long it may take for all of that: a stream's window, at a thousand bytes a second.
const FLUSH_MAX: Duration = Duration::from_secs(600);
const FLUSH_WITHOUT_CIRCUIT_MAX: Duration = Duration::from_secs(30);

/// What applications come by.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The half that is read.
    type Read: AsyncRead + Unpin;
    /// The half that is written.
    type Write: Writer;
    /// Takes it apart.
    fn halves(self) -> (Self::Read, Self::Write);
}

impl Socket for TcpStream {
    type Read = tcp::OwnedReadHalf;
    type Write = tcp::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Socket for UnixStream {
    type Read = unix::OwnedReadHalf;
    type Write = unix::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

/// Serves a connected stream until both directions are done. `first` is written to the
/// application ahead of all that the stream brings (a SOCKS reply), `early` was read from it
/// before this task began.
pub(crate) async fn serve<P, R, W>(
    worker: &Rc<Worker<P>>,
    key: StreamKey,
    (mut reader, mut writer): (R, W),
    first: Vec<u8>,
    early: Vec<u8>,
) where
    P: Plane,
    R: AsyncRead + Unpin,
    W: Writer,
{
    let waker = worker.register_stream(key);
    let _closing = Closing { worker, key };
    let mut edge = Edge {
        unreported: first.len(),
        outgoing: first,
        written: 0,
        unsent: early,
        buffer: vec![0; READ_BYTES],
        last: None,
        ended: None,
        over_since: None,
        moved: clock::now().mono,
    };
    let in_time = loop {
        edge.pull(worker, key);
        let room = edge.push(worker, key).min(READ_BYTES);
        let pending = edge.written < edge.outgoing.len();
        if edge.ended.is_some() && !pending {
            break true;
        }
        let limit = edge.limit(worker.peek(|plane| plane.stream_end(key)));
        let (buffer, outgoing) = (&mut edge.buffer, &edge.outgoing);
        tokio::select! {
            read = reader.read(buffer.get_mut(..room).unwrap_or_default()),
                if edge.last.is_none() && room > 0 =>
            {
                edge.handle_read(worker, key, read);
            }
            wrote = writer.write(outgoing.get(edge.written..).unwrap_or_default()), if pending => {
                if !edge.handle_wrote(worker, key, wrote) {
                    break true;
                }
            }
            () = waker.notified() => {}
            () = until(limit) => break false,
        }
    };
    if in_time {
        let _ = writer.shutdown().await;
    } else {
        tracing::debug!("an application does not read: it is hung up on");
        writer.abort();
    }
}

/// Closes the stream when nobody serves it any more, be it that the task was given up.
struct Closing<'a, P: Plane> {
    worker: &'a Worker<P>,
    key: StreamKey,
}

impl<P: Plane> Drop for Closing<'_, P> {
    fn drop(&mut self) {
        let key = self.key;
        self.worker.unregister_stream(key);
        self.worker
            .with(|plane, now| plane.stream_close(key, EndReason::DONE, now));
    }
}

/// Serves a stream through an in-memory pipe, for what speaks HTTP over it; returns the other end.
pub(crate) fn pipe<P: Plane>(worker: &Rc<Worker<P>>, key: StreamKey) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let halves = tokio::io::split(ours);
        serve(&worker, key, halves, Vec::new(), Vec::new()).await;
    });
    theirs
}

async fn until(limit: Option<Instant>) {
    match limit {
        Some(limit) => tokio::time::sleep_until(limit.into()).await,
        None => std::future::pending().await,
    }
}

struct Edge {
    outgoing: Vec<u8>,
    written: usize,
    /// Bytes of `outgoing` that are ours (a SOCKS reply) and open no window.
    unreported: usize,
    /// Bytes of the application that found no room: while they were read, other streams of the
    /// circuit may have used up its window.
    unsent: Vec<u8>,
    buffer: Vec<u8>,
    /// The application sends no more, and why; told to the other end behind the last byte.
    last: Option<EndReason>,
    /// All that the stream brings was taken from it, and why there is no more.
    ended: Option<EndReason>,
    /// When it was seen first that nothing more comes for the application.
    over_since: Option<Instant>,
    /// When the application last took something.
    moved: Instant,
}

impl Edge {
    /// Until when the application is to have taken what is left for it, if its stream is over.
    fn limit(&mut self, end: Option<EndReason>) -> Option<Instant> {
        let end = self.ended.or(end)?;
        let since = *self.over_since.get_or_insert_with(|| clock::now().mono);
        let (stall, flush) = match end {
            EndReason::DESTROY => (STALL_WITHOUT_CIRCUIT_MAX, FLUSH_WITHOUT_CIRCUIT_MAX),
            _ => (STALL_MAX, FLUSH_MAX),
        };
        Some((self.moved.max(since) + stall).min(since + flush))
    }

    /// Takes bytes for the application from the plane, once the last ones are gone.
    fn pull<P: Plane>(&mut self, worker: &Worker<P>, key: StreamKey) {
        if self.written < self.outgoing.len() || self.ended.is_some() {
            return;
        }
        self.outgoing.clear();
        self.written = 0;
        let taken = worker.with(|plane, _| plane.stream_take(key, &mut self.outgoing, WRITE_BYTES));
        self.ended = taken.end;
    }

    /// Sends what found no room before, then the end if that is due; says how much may be read.
    fn push<P: Plane>(&mut self, worker: &Worker<P>, key: StreamKey) -> usize {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(worker, key, &unsent);
        }
        if !self.unsent.is_empty() {
            return 0;
        }
        match self.last {
            Some(reason) if self.ended.is_none() => {
                self.end(worker, key, reason);
                0
            }
            Some(_) => 0,
            None => worker.peek(|plane| plane.stream_room(key)),
        }
    }

    /// Sends as much as there is room for, and keeps the rest.
    fn send<P: Plane>(&mut self, worker: &Worker<P>, key: StreamKey, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let room = worker.peek(|plane| plane.stream_room(key)).min(rest.len());
            if room == 0 {
                break;
            }
            let (now_sent, later) = rest.split_at(room);
            worker.with(|plane, now| plane.stream_send(key, now_sent, now));
            rest = later;
        }
        self.unsent.extend_from_slice(rest);
    }

    fn handle_read<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        key: StreamKey,
        read: io::Result<usize>,
    ) {
        match read {
            Ok(bytes) if bytes > 0 => {
                let buffer = std::mem::take(&mut self.buffer);
                self.send(worker, key, buffer.get(..bytes).unwrap_or_default());
                self.buffer = buffer;
            }
            // The protocol has no half-open streams: END, then what is still on its way to the
            // application is written and the socket closed.
            Ok(_) => self.last = Some(EndReason::DONE),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                self.last = Some(EndReason::CONNRESET);
            }
            Err(_) => self.last = Some(EndReason::MISC),
        }
    }

    fn end<P: Plane>(&mut self, worker: &Worker<P>, key: StreamKey, reason: EndReason) {
        worker.with(|plane, now| {
            let left = plane.stream_take(key, &mut self.outgoing, usize::MAX);
            debug_assert!(!left.more, "all was asked for");
            plane.stream_close(key, reason, now);
        });
        self.ended = Some(EndReason::DONE);
    }

    fn handle_wrote<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        key: StreamKey,
        wrote: io::Result<usize>,
    ) -> bool {
        match wrote {
            Ok(bytes) if bytes > 0 => {
                self.moved = clock::now().mono;
                self.written += bytes;
                let ours = bytes.min(self.unreported);
                self.unreported -= ours;
                if bytes > ours {
                    worker.with(|plane, now| plane.stream_written(key, bytes - ours, now));
                }
                true
            }
            _ => {
                worker.with(|plane, now| plane.stream_close(key, EndReason::DONE, now));
                false
            }
        }
    }
}
