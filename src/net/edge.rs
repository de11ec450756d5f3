//! The task of one stream: an application's socket (or an in-memory pipe) and the plane.
//!
//! Bytes are read only while the plane has room for them (its windows and its circuit's queue),
//! and a stream-level SENDME follows only bytes that the socket took: a slow end stops the far
//! one, and nothing grows without bound in between (tor-spec section 7.4).

use std::io;
use std::rc::Rc;

use cepa_circuit::StreamKey;
use cepa_wire::end::EndReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::plane::Plane;
use super::worker::Worker;

/// Bytes read from the application at once: what 32 DATA cells carry.
const READ_BYTES: usize = 32 * 498;

/// Bytes moved towards the application at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Bytes that a pipe holds, each way.
const PIPE_BYTES: usize = 64 * 1024;

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
    W: AsyncWrite + Unpin,
{
    let bell = worker.register_stream(key);
    let mut edge = Edge {
        unreported: first.len(),
        outgoing: first,
        written: 0,
        unsent: early,
        buffer: vec![0; READ_BYTES],
        last: None,
        ended: false,
    };
    loop {
        edge.pull(worker, key);
        let room = edge.push(worker, key).min(READ_BYTES);
        let pending = edge.written < edge.outgoing.len();
        if edge.ended && !pending {
            break;
        }
        let (buffer, outgoing) = (&mut edge.buffer, &edge.outgoing);
        tokio::select! {
            read = reader.read(buffer.get_mut(..room).unwrap_or_default()),
                if edge.last.is_none() && room > 0 =>
            {
                edge.handle_read(worker, key, read);
            }
            wrote = writer.write(outgoing.get(edge.written..).unwrap_or_default()), if pending => {
                if !edge.handle_wrote(worker, key, wrote) {
                    break;
                }
            }
            () = bell.notified() => {}
        }
    }
    let _ = writer.shutdown().await;
    worker.unregister_stream(key);
    worker.with(|plane, now| plane.stream_close(key, EndReason::DONE, now));
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
    ended: bool,
}

impl Edge {
    /// Takes bytes for the application from the plane, once the last ones are gone.
    fn pull<P: Plane>(&mut self, worker: &Worker<P>, key: StreamKey) {
        if self.written < self.outgoing.len() || self.ended {
            return;
        }
        self.outgoing.clear();
        self.written = 0;
        let taken = worker.with(|plane, _| plane.stream_take(key, &mut self.outgoing, WRITE_BYTES));
        self.ended = taken.end.is_some();
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
            Some(reason) if !self.ended => {
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
        self.ended = true;
    }

    fn handle_wrote<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        key: StreamKey,
        wrote: io::Result<usize>,
    ) -> bool {
        match wrote {
            Ok(bytes) if bytes > 0 => {
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
