//! The task of one open channel: cells from TLS into the plane, cells of the plane into TLS.
//!
//! ```text
//! socket --read 64 KiB--> TLS --cells in place--> plane (decrypt, look up, queue)
//! socket <--one write-- TLS <--whole records-- plane (circuits in EWMA order)
//! ```
//! Reading pauses while batches for other workers wait; writing pauses while the socket is full,
//! which leaves the cells in the bounded queues of their circuits.

use std::io;
use std::rc::Rc;

use cepa_link::ChannelKey;

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
    let bell = worker.register_channel(key);
    let mut io = ChannelIo {
        cells: pending,
        out: Vec::with_capacity(16 * 1024),
    };
    let why = loop {
        match io.step(worker, &mut tls, key) {
            Ok(Step::Again) => tokio::task::yield_now().await,
            Ok(Step::Wait { write }) => tokio::select! {
                ready = tls.ready(write) => if let Err(e) = ready { break e.to_string() },
                () = bell.notified() => {}
            },
            Err(why) => break why,
        }
        let (read_bytes, written_bytes) = tls.take_counts();
        worker.count(read_bytes, written_bytes);
        worker.handover_room().await;
        worker.bandwidth_room().await;
        if !worker.serves_channel(key) {
            break "closed by us".to_owned();
        }
    };
    // What the last cells were, a DESTROY perhaps, is worth one more write.
    let _ = tls.try_flush();
    worker.end_channel(key);
    worker.with(|plane, now| plane.channel_closed(key, now));
    why
}

enum Step {
    /// Bytes were moved; there may be more at once.
    Again,
    /// Nothing to do until the socket or the plane says so.
    Wait { write: bool },
}

struct ChannelIo {
    cells: Vec<u8>,
    out: Vec<u8>,
}

impl ChannelIo {
    fn step<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
    ) -> Result<Step, String> {
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
        let blocked = self.flush(worker, tls, key).map_err(|e| e.to_string())?;
        Ok(if read {
            Step::Again
        } else {
            Step::Wait { write: blocked }
        })
    }

    /// Moves output until the plane has none or the socket is full; `true` when it is full.
    fn flush<P: Plane>(
        &mut self,
        worker: &Worker<P>,
        tls: &mut TlsStream,
        key: ChannelKey,
    ) -> io::Result<bool> {
        let mut taken = false;
        let blocked = loop {
            if !tls.try_flush()? {
                break true;
            }
            while tls.unsent_bytes() < WRITE_BYTES {
                self.out.clear();
                worker.take_output(key, &mut self.out);
                if self.out.is_empty() {
                    break;
                }
                taken = true;
                tls.queue(&self.out)?;
            }
            if !tls.has_unsent() {
                break false;
            }
        };
        if taken {
            // Queues that fell below their mark let streams send again.
            worker.settle();
        }
        Ok(blocked)
    }
}
