//! Making replies: how much work and memory strangers may ask of a directory at a time.
//!
//! What one asker alone gets (a batch of documents of his choice) is counted against a budget while
//! it is made and until he has it, and compressed quickly; what all get is made once. Both are
//! jobs beside the runtime's threads, few at a time, so that whoever asks for much waits for
//! others of his kind and nobody else does. Authorities are served before all.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use cepa_dir::Found;
use cepa_limits::Memory;
use tokio::sync::Semaphore;

use crate::http::{Budget, Peer, Reply, Sender};

/// Bytes of replies that are their asker's alone: of BEGIN_DIR half at most, of one address a
/// fifth; so long they can be of what a slow client takes minutes for.
const REPLIES_LEN_MAX: usize = 128 << 20;
/// Up to so many bytes are compressed at once, which takes less than passing them on.
const AT_ONCE_LEN_MAX: usize = 16 << 10;

/// What makes replies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replies {
    budget: Budget,
    /// For what is made once: a compression may take seconds, and batches do not wait for it.
    shared: Arc<Semaphore>,
    /// For batches.
    own: Arc<Semaphore>,
    authorities: Arc<[IpAddr]>,
}

impl Replies {
    /// With half of the cores for each kind of job, but one at least.
    pub(crate) fn new(authorities: impl IntoIterator<Item = IpAddr>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = || Arc::new(Semaphore::new((cores / 2).max(1)));
        Replies {
            budget: Budget::new(REPLIES_LEN_MAX),
            shared: jobs(),
            own: jobs(),
            authorities: authorities.into_iter().collect(),
        }
    }

    /// Counts replies that are being sent in the process's memory from now on.
    pub(crate) fn count_in(&self, memory: &Arc<Memory>) {
        self.budget.count_in(memory);
    }

    /// Whose share a peer's are.
    pub(crate) fn sender(&self, peer: Peer) -> Sender {
        match peer {
            Peer::Address(addr) if self.authorities.contains(&addr.ip().to_canonical()) => {
                Sender::Known(addr.ip().to_canonical())
            }
            other => other.into(),
        }
    }

    /// The reply to a peer.
    pub(crate) async fn make(&self, found: Found, peer: Peer) -> Reply {
        let own = found.own_bytes();
        let mut reservation = self.budget.reserve(self.sender(peer));
        if !reservation.grow(own) {
            let reason = "Too much is being asked for, try again later";
            return Reply::new(503).with_reason(reason);
        }
        let is_quick = found.is_made() || (1..=AT_ONCE_LEN_MAX).contains(&own);
        let reply = if is_quick {
            found.render()
        } else {
            let jobs = if own > 0 { &self.own } else { &self.shared };
            // They are never closed.
            let Ok(place) = Arc::clone(jobs).acquire_owned().await else {
                return Reply::new(503);
            };
            let job = tokio::task::spawn_blocking(move || {
                let reply = found.render();
                drop(place);
                reply
            });
            match job.await {
                Ok(reply) => reply,
                Err(_) => return Reply::new(503),
            }
        };
        if own == 0 {
            return written(reply);
        }
        reservation.shrink_to(reply.body.len());
        let counted = reservation.owned(Arc::clone(&reply.body), ());
        written(reply).with_body(counted)
    }
}

/// A reply as the server sends it.
pub(crate) fn written(reply: cepa_dir::Reply) -> Reply {
    let mut answer = Reply::new(reply.status)
        .with_reason(reply.reason)
        .with_body(Bytes::from_owner(reply.body));
    for (name, value) in reply.headers {
        answer.headers.push(name, value);
    }
    answer
}
