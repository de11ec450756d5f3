//! What is uploaded to an authority, from the head of the request to the authority's loop.
//!
//! ```text
//! head ─▶ admitted? ─▶ body, within its bound and the budget ─▶ a place ─▶ read by a job ─▶ loop
//!                       (a vote: whose is it?)             (a share for each)
//! ```
//! Anybody may send, so the loop gets only what was read and verified, and never waits for it. A
//! vote is read to its certificate first: each authority has one on its way from its own address
//! and one from anywhere else, as it may have another address than it is known by.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cepa_authority::{RelayUpload, VoteDoor, VoteLook, read_signatures};
use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_limits::Memory;
use cepa_netdoc::detached::{DETACHED_BYTES_MAX, DetachedSignatures};
use cepa_netdoc::vote::{CLAIM_LEN_MAX, VOTE_BYTES_MAX, VoteText};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock;
use crate::http::{Admission, Budget, Look, Looked, Peer, Reply, Request, Sender};

/// Uploads that wait for a job or for the loop at most; of one address a fifth.
pub(crate) const UPLOADS_MAX: usize = 256;
/// Bytes of an upload to `/tor/`: twice a descriptor and its extra-info, of which `tor` takes
/// 20,000 and 50,000 (MAX_DESCRIPTOR_UPLOAD_SIZE, MAX_EXTRAINFO_UPLOAD_SIZE).
const RELAY_UPLOAD_LEN_MAX: usize = 2 * (20_000 + 50_000);
/// Bytes of descriptors and signatures on their way, of all senders.
const BODIES_LEN_MAX: usize = 32 << 20;
/// Bytes of votes on their way from elsewhere than their authors' addresses.
const FOREIGN_VOTES_LEN_MAX: usize = 2 * VOTE_BYTES_MAX;

type Refusal = cepa_authority::Reply;

/// What was read of an upload.
pub(crate) enum Read {
    /// A relay's.
    Descriptor(Result<RelayUpload, Refusal>),
    /// An authority's vote.
    Vote(Result<VoteText, Refusal>),
    /// Signatures of authorities.
    Signatures(Result<DetachedSignatures, Refusal>),
}

/// An upload that waits for its answer.
pub(crate) struct Upload {
    /// What it is.
    pub(crate) read: Read,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// Refused votes that are told of aloud within an hour.
const REFUSALS_TOLD_MAX: u32 = 32;
const REFUSALS_WINDOW: Duration = Duration::from_secs(60 * 60);

/// How many refusals were told of.
#[derive(Default)]
struct RefusalsTold {
    since: Option<Instant>,
    count: u32,
}

impl RefusalsTold {
    /// Whether one more is told of.
    fn next(&mut self, now: Instant) -> bool {
        if self
            .since
            .is_none_or(|since| since + REFUSALS_WINDOW <= now)
        {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= REFUSALS_TOLD_MAX
    }
}

/// The way of uploads to an authority's loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Uploads(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Upload>,
    /// Which votes may come; none before the loop has said so.
    door: RwLock<VoteDoor>,
    /// The authorities' identities and addresses.
    authorities: Vec<(RsaId, IpAddr)>,
    waiting: Budget,
    bodies: Budget,
    votes: Budget,
    foreign_votes: Budget,
    /// Whose votes are on their way, and whether from their authors' own addresses.
    coming: Arc<Mutex<BTreeSet<(RsaId, bool)>>>,
    descriptor_jobs: Arc<Semaphore>,
    vote_jobs: Arc<Semaphore>,
    refusals_told: Mutex<RefusalsTold>,
}

/// A vote on its way.
struct Coming {
    coming: Arc<Mutex<BTreeSet<(RsaId, bool)>>>,
    which: (RsaId, bool),
}

impl Drop for Coming {
    fn drop(&mut self) {
        lock(&self.coming).remove(&self.which);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    /// The way to a loop, which takes them from the queue.
    pub(crate) fn new(authorities: Vec<(RsaId, IpAddr)>) -> (Self, mpsc::Receiver<Upload>) {
        let (queue, uploads) = mpsc::channel(UPLOADS_MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            queue,
            door: RwLock::default(),
            waiting: Budget::new(UPLOADS_MAX),
            bodies: Budget::new(BODIES_LEN_MAX),
            votes: Budget::new(authorities.len().saturating_mul(VOTE_BYTES_MAX)),
            foreign_votes: Budget::new(FOREIGN_VOTES_LEN_MAX),
            authorities,
            coming: Arc::default(),
            descriptor_jobs: Arc::new(Semaphore::new((cores / 2).max(1))),
            vote_jobs: Arc::new(Semaphore::new(1)),
            refusals_told: Mutex::default(),
        };
        (Uploads(Arc::new(shared)), uploads)
    }

    /// Counts bodies that are being read in the process's memory from now on.
    pub(crate) fn count_in(&self, memory: &Arc<Memory>) {
        for budget in [&self.0.bodies, &self.0.votes, &self.0.foreign_votes] {
            budget.count_in(memory);
        }
    }

    /// From now on these votes may come.
    pub(crate) fn set_door(&self, door: VoteDoor) {
        *self.0.door.write().unwrap_or_else(PoisonError::into_inner) = door;
    }

    /// What may follow the head of an upload.
    pub(crate) fn admit(&self, request: &DirRequest, http: &Request) -> Result<Admission, Reply> {
        let sender = Sender::from(http.peer);
        match request {
            DirRequest::PostDescriptor => Ok(Admission {
                len_max: RELAY_UPLOAD_LEN_MAX,
                reservation: self.0.bodies.reserve(sender),
                look: None,
            }),
            DirRequest::PostSignatures => Ok(Admission {
                len_max: DETACHED_BYTES_MAX,
                reservation: self.0.bodies.reserve(sender),
                look: None,
            }),
            DirRequest::PostVote => self.admit_vote(http.peer),
            _ => Err(Reply::new(404)),
        }
    }

    fn admit_vote(&self, peer: Peer) -> Result<Admission, Reply> {
        let Peer::Address(addr) = peer else {
            let reason = "Votes come to the directory port";
            return Err(Reply::new(403).with_reason(reason));
        };
        let ip = addr.ip().to_canonical();
        let is_known = self.0.authorities.iter().any(|(_, known)| *known == ip);
        let budget = match is_known {
            true => &self.0.votes,
            false => &self.0.foreign_votes,
        };
        Ok(Admission {
            len_max: VOTE_BYTES_MAX,
            // Strangers get no further than the certificate of an authority.
            reservation: budget.reserve(Sender::Known(ip)),
            look: Some(self.look_at_vote(ip)),
        })
    }

    fn look_at_vote(&self, ip: IpAddr) -> Look {
        let shared = Arc::clone(&self.0);
        Box::new(move |head| {
            let door = shared.door.read().unwrap_or_else(PoisonError::into_inner);
            let author = match door.look(head, clock::now().wall) {
                VoteLook::More => return Looked::More,
                VoteLook::Refused(refusal) => {
                    let named = door.named(&String::from_utf8_lossy(head));
                    shared.tell_refusal(ip, named, &refusal.reason);
                    return Looked::Refused(answer(refusal));
                }
                VoteLook::Of(author) => author,
            };
            let which = (author, shared.authorities.contains(&(author, ip)));
            if !lock(&shared.coming).insert(which) {
                let reason = "A vote of this authority is on its way already";
                return Looked::Refused(Reply::new(503).with_reason(reason));
            }
            let coming = Arc::clone(&shared.coming);
            Looked::Good(Box::new(Coming { coming, which }))
        })
    }

    /// Reads an upload, and gives the answer of the loop to it.
    pub(crate) async fn take(&self, request: DirRequest, http: Request) -> Reply {
        let mut place = self.0.waiting.reserve(http.peer.into());
        // Votes are few, one an author.
        if request != DirRequest::PostVote && !place.grow(1) {
            return too_many();
        }
        let vote = (request == DirRequest::PostVote).then(|| http.body.clone());
        let Some(read) = self.read(request, http.body).await else {
            return Reply::new(503);
        };
        let (answer, answered) = oneshot::channel();
        if self.0.queue.try_send(Upload { read, answer }).is_err() {
            return too_many();
        }
        let reply = answered.await.unwrap_or_else(|_| Reply::new(503));
        if let (Some(vote), Peer::Address(addr)) = (vote, http.peer)
            && reply.status != 200
        {
            let reason = reply.reason.as_deref().unwrap_or_default();
            self.0
                .tell_refused_vote(addr.ip().to_canonical(), &vote, reason);
        }
        reply
    }

    /// A job beside the runtime's threads. `None` if it is stopped.
    async fn read(&self, request: DirRequest, body: Bytes) -> Option<Read> {
        let jobs = match request {
            DirRequest::PostDescriptor => &self.0.descriptor_jobs,
            _ => &self.0.vote_jobs,
        };
        let place = Arc::clone(jobs).acquire_owned().await.ok()?;
        let shared = Arc::clone(&self.0);
        let job = tokio::task::spawn_blocking(move || {
            let read = shared.read_now(&request, &body);
            drop((body, place));
            read
        });
        job.await.ok()
    }
}

impl Shared {
    fn tell_refused_vote(&self, ip: IpAddr, vote: &[u8], reason: &str) {
        let head = vote.get(..CLAIM_LEN_MAX).unwrap_or(vote);
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        let named = door.named(&String::from_utf8_lossy(head));
        drop(door);
        self.tell_refusal(ip, named, reason);
    }

    /// Tells of a vote that was refused: aloud, if it is in the name of an authority or comes from
    /// where one is. Anybody may send one, so that there are not many of these lines.
    fn tell_refusal(&self, ip: IpAddr, author: Option<RsaId>, reason: &str) {
        let is_known = author.is_some() || self.authorities.iter().any(|(_, known)| *known == ip);
        let author = author.map_or_else(|| "unknown".to_owned(), |author| author.to_string());
        let now = clock::now().mono;
        match is_known && lock(&self.refusals_told).next(now) {
            true => tracing::warn!(%author, address = %ip, reason, "a vote is refused"),
            false => tracing::debug!(%author, address = %ip, reason, "a vote is refused"),
        }
    }

    fn read_now(&self, request: &DirRequest, body: &[u8]) -> Read {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::refused("Not UTF-8"));
        match request {
            DirRequest::PostVote => {
                let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
                let door = door.clone();
                Read::Vote(text.and_then(|text| door.read(text, clock::now().wall)))
            }
            DirRequest::PostSignatures => Read::Signatures(text.and_then(read_signatures)),
            _ => Read::Descriptor(text.and_then(RelayUpload::read)),
        }
    }
}

fn too_many() -> Reply {
    Reply::new(503).with_reason("Too many uploads, try again later")
}

/// An answer of the authority as the server sends it.
pub(crate) fn answer(reply: Refusal) -> Reply {
    let mut answer = Reply::new(reply.status).with_reason(reply.reason);
    if reply.is_not_new {
        answer.headers.push("X-Descriptor-Not-New", "Yes");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: [u8; 4] = [127, 1, 0, 1];

    fn post(path: &str, peer: Peer) -> Request {
        Request {
            peer,
            ..Request::post(path, "x")
        }
    }

    fn at(ip: [u8; 4]) -> Peer {
        Peer::Address((ip, 9).into())
    }

    #[test]
    fn each_kind_has_its_bound() {
        let authorities = vec![(RsaId::from([1; 20]), AUTHORITY.into())];
        let (uploads, _queue) = Uploads::new(authorities);
        let admit = |request: DirRequest, peer| {
            let admitted = uploads.admit(&request, &post(&request.path(), peer));
            admitted
                .map(|one| one.len_max)
                .map_err(|reply| reply.status)
        };
        for peer in [at([127, 0, 0, 1]), at(AUTHORITY), Peer::Circuit] {
            assert_eq!(
                admit(DirRequest::PostDescriptor, peer),
                Ok(RELAY_UPLOAD_LEN_MAX)
            );
            assert_eq!(
                admit(DirRequest::PostSignatures, peer),
                Ok(DETACHED_BYTES_MAX)
            );
        }
        assert_eq!(
            admit(DirRequest::PostVote, at(AUTHORITY)),
            Ok(VOTE_BYTES_MAX)
        );
        assert_eq!(admit(DirRequest::PostVote, Peer::Circuit), Err(403));
        assert_eq!(admit(DirRequest::PostHsDescriptor, Peer::Circuit), Err(404));
    }

    #[test]
    fn strangers_do_not_fill_the_log() {
        let now = clock::now().mono;
        let mut told = RefusalsTold::default();
        let most = usize::try_from(REFUSALS_TOLD_MAX).unwrap();
        assert_eq!((0..1000).filter(|_| told.next(now)).count(), most);
        assert!(told.next(now + REFUSALS_WINDOW));
    }

    #[test]
    fn what_is_no_vote_is_refused_by_its_first_bytes() {
        let (uploads, _queue) = Uploads::new(Vec::new());
        let request = post("/tor/post/vote", at([127, 0, 0, 1]));
        let admission = uploads.admit(&DirRequest::PostVote, &request);
        let mut look = admission.ok().and_then(|one| one.look).unwrap();
        assert!(matches!(look(b"network-status"), Looked::More));
        assert!(matches!(look(b"garbage"), Looked::Refused(_)));
    }

    #[tokio::test]
    async fn no_sender_fills_the_queue() {
        let (uploads, mut queue) = Uploads::new(Vec::new());
        let take = |ip: [u8; 4]| {
            let uploads = uploads.clone();
            tokio::spawn(async move {
                let http = post("/tor/", at(ip));
                uploads.take(DirRequest::PostDescriptor, http).await.status
            })
        };
        let flood: Vec<_> = (0..UPLOADS_MAX).map(|_| take([127, 0, 0, 1])).collect();
        let honest = take([127, 0, 0, 2]);
        // The loop answers whatever comes.
        let answering = tokio::spawn(async move {
            while let Some(Upload { answer, .. }) = queue.recv().await {
                let _ = answer.send(Reply::new(200));
            }
        });
        assert_eq!(honest.await.unwrap(), 200);
        let mut statuses = Vec::new();
        for one in flood {
            statuses.push(one.await.unwrap());
        }
        let taken = statuses.iter().filter(|status| **status == 200).count();
        assert!((1..UPLOADS_MAX).contains(&taken), "{taken}");
        answering.abort();
    }
}
