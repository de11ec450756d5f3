//! The task of one open channel: cells from TLS into the plane, cells of the plane into TLS.
//!
//! ```text
//! socket --read 64 KiB--> TLS --cells in place--> plane (decrypt, look up, queue)
//! socket <--one write-- TLS <--whole records-- plane (circuits in EWMA order)
//! ```
//! Reading pauses while batches for other workers wait; writing pauses while the socket is full,
//! which leaves the cells in the bounded queues of their circuits. Each direction pauses while the
//! relay's bandwidth (`net::pace`) has no room for it.

use std::io;
use std::rc::Rc;

use cepa_link::ChannelKey;

use super::buffers;
use super::pace::Room;
use super::plane::Plane;
use super::tls_stream::{ReadStep, TlsStream};
use super::worker::Worker;

/// Encrypted bytes made ready for one socket write: enough to fill it, few enough that a cell
/// that comes later can still overtake.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves an open channel until either side ends it; returns why, for the log.
///
/// `pending` holds bytes that arrived behind the link handshake.
pub(crate) async fn serve<P: Plane>(
    worker: &Rc<Worker<P>>,
    mut tls: TlsStream,
    key: ChannelKey,
    pending: Vec<u8>,
) -> String {
    let waker = worker.register_channel(key);
    let mut io = ChannelIo { cells: pending };
    let mut held = 0;
    let mut room = worker.room();
    let why = loop {
        let step = io.step(worker, &mut tls, key, room);
        let holds = tls.buffer_bytes() + io.cells.capacity();
        worker.count_buffers(held, holds);
        held = holds;
        match step {
            Ok(Step::Again) => tokio::task::yield_now().await,
            Ok(Step::Wait { write }) => tokio::select! {
                ready = tls.ready(room.read.is_none(), write) => {
                    if let Err(e) = ready { break e.to_string() }
                }
                () = waker.notified() => {}
                () = paced(room) => {}
            },
            Err(why) => break why,
        }
        let (read_bytes, written_bytes) = tls.take_counts();
        worker.count(read_bytes, written_bytes);
        worker.handover_room().await;
        room = worker.room();
        if !worker.serves_channel(key) {
            break "closed by us".to_owned();
        }
    };
    // What the last cells were, a DESTROY perhaps, is worth one more write.
    let _ = tls.try_flush();
    worker.count_buffers(held, 0);
    worker.end_channel(key);
    worker.with(|plane, now| plane.channel_closed(key, now));
    why
}

/// Waits until the relay's bandwidth has room again, where it has none.
async fn paced(room: Room) {
    match room.wait() {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

enum Step {
    /// Bytes were moved; there may be more at once.
    Again,
    /// Nothing to do until the socket or the plane says so.
    Wait { write: bool },
}

struct ChannelIo {
    /// Plain bytes: between two steps, the part of a cell that has come.
    cells: Vec<u8>,
}

impl ChannelIo {
    fn step<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
        room: Room,
    ) -> Result<Step, String> {
        let mut read = false;
        if room.read.is_none() {
            buffers::fill(&mut self.cells);
            let step = self.read(worker, tls, key);
            buffers::settle(&mut self.cells);
            read = step?;
        }
        let blocked = match room.write {
            None => Self::flush(worker, tls, key).map_err(|e| e.to_string())?,
            Some(_) => false,
        };
        Ok(if read {
            Step::Again
        } else {
            Step::Wait { write: blocked }
        })
    }

    /// Reads once and hands over the whole cells; `true` if there may be more to read.
    fn read<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
    ) -> Result<bool, String> {
        let read = match tls.try_read(&mut self.cells) {
            Ok(ReadStep::Eof) => return Err("the peer closed the connection".to_owned()),
            Ok(step) => step == ReadStep::Read,
            Err(e) => return Err(e.to_string()),
        };
        if !self.cells.is_empty() {
            let used = worker
                .with(|plane, now| plane.handle_cells(key, &mut self.cells, now))
                .map_err(|close| close.to_string())?;
            self.cells.drain(..used);
        }
        Ok(read)
    }

    /// Moves output until the plane has none or the socket is full; `true` when it is full.
    fn flush<P: Plane>(
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
    ) -> io::Result<bool> {
        let mut taken = false;
        let mut out = buffers::take();
        let blocked = loop {
            match tls.try_flush() {
                Ok(true) => {}
                Ok(false) => break Ok(true),
                Err(error) => break Err(error),
            }
            let queued = Self::queue(worker, tls, key, &mut out);
            taken |= queued.as_ref().is_ok_and(|queued| *queued);
            if queued.is_err() || !tls.has_unsent() {
                break queued.map(|_| false);
            }
        };
        buffers::put(out);
        if taken {
            // Queues that fell below their mark let streams send again.
            worker.settle();
        }
        blocked
    }

    /// Encrypts output up to what makes one write; `true` if there was any.
    fn queue<P: Plane>(
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut taken = false;
        while tls.unsent_bytes() < WRITE_BYTES {
            out.clear();
            worker.take_output(key, out);
            if out.is_empty() {
                break;
            }
            taken = true;
            tls.queue(out)?;
        }
        Ok(taken)
    }
}
