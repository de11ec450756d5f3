//! The directory that a node serves: over its DirPort and over BEGIN_DIR streams alike.
//!
//! Documents are answered from the shared [`DirStore`]; uploads go to the authority's loop, which
//! answers each (dir-spec 4.1). A node that is no authority has nothing to be uploaded to: 404.
//! Descriptors of onion services are in a store of their own, for who comes over a circuit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use cepa_dir::DirRequest;
use cepa_dir::request::{DIFF_HEADER, RequestError};
use cepa_netdoc::consensus::Flavour;
use cepa_netdoc::timestamp;
use cepa_relay::{Asker, DirDocument, DirStore, HsDirCounts, HsDirStore, HsDuty, HsUpload};
use tokio::sync::{mpsc, oneshot};

use super::fetch::kind_of;
use crate::clock;
use crate::http::{Handler, Limits, Peer, Reply, Request, Server};

/// An upload that waits for its answer.
pub(crate) struct Upload {
    /// Which kind.
    pub(crate) request: DirRequest,
    /// What was sent.
    pub(crate) body: Bytes,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// Uploads that wait at most; the next one is told to come back.
pub(crate) const UPLOADS_MAX: usize = 256;

/// The documents of a node, and the server that answers from them.
#[derive(Clone)]
pub(crate) struct Directory {
    store: Arc<RwLock<DirStore>>,
    onions: Arc<Mutex<HsDirStore>>,
    uploads: Option<mpsc::Sender<Upload>>,
}

impl Directory {
    /// A directory without documents.
    pub(crate) fn new(store: DirStore, uploads: Option<mpsc::Sender<Upload>>) -> Self {
        Directory {
            store: Arc::new(RwLock::new(store)),
            onions: Arc::default(),
            uploads,
        }
    }

    /// Answers for this document from now on.
    pub(crate) fn insert(&self, document: DirDocument) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        store.insert(document, clock::now().wall);
    }

    /// Answers no more for the descriptor of this SHA-1.
    pub(crate) fn withdraw(&self, digest: &[u8; 20]) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        store.withdraw(digest);
    }

    /// Whether it has a consensus of each flavour.
    pub(crate) fn has_both_flavours(&self) -> bool {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let has = |flavour| store.consensus(flavour).is_some();
        has(Flavour::Ns) && has(Flavour::Microdesc)
    }

    /// Holds descriptors of onion services by this from now on.
    pub(crate) fn set_hs_duty(&self, duty: HsDuty) {
        let mut onions = self.onions();
        onions.expire(clock::now());
        onions.set_duty(duty);
        tracing::debug!(counts = ?onions.counts(), "descriptors of onion services");
    }

    /// What is held of onion services.
    pub(crate) fn hs_counts(&self) -> HsDirCounts {
        self.onions().counts()
    }

    fn onions(&self) -> MutexGuard<'_, HsDirStore> {
        self.onions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server over it.
    pub(crate) fn server(&self, limits: Limits) -> Server {
        let directory = self.clone();
        let handler: Handler = Arc::new(move |request| {
            let directory = directory.clone();
            Box::pin(async move { directory.answer(request).await })
        });
        Server::new(handler, limits)
    }

    async fn answer(&self, http: Request) -> Reply {
        let diff = http.headers.value(DIFF_HEADER);
        let (request, z) = match DirRequest::parse(&http.method, &http.path, diff) {
            Ok(read) => read,
            Err(RequestError::NotFound) => return Reply::new(404),
            Err(RequestError::Malformed) => return Reply::new(400),
            Err(RequestError::Method) => return Reply::new(405),
        };
        if let DirRequest::HsDescriptor(_) | DirRequest::PostHsDescriptor = request {
            return self.answer_onion(&request, &http);
        }
        if request.is_post() {
            return self.take(request, http).await;
        }
        let asker = Asker {
            accept_encoding: http.headers.value("Accept-Encoding"),
            z,
            if_modified_since: http.headers.value("If-Modified-Since").and_then(http_date),
        };
        let reply = {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            store.reply(&request, asker, clock::now().wall)
        };
        let encoding = reply
            .headers
            .iter()
            .find(|(name, _)| *name == "Content-Encoding");
        tracing::debug!(
            path = kind_of(&http.path),
            status = reply.status,
            encoding = encoding.map(|(_, name)| tracing::field::debug(name)),
            asked_for_a_diff = diff.is_some(),
            "a document is served"
        );
        written(reply)
    }

    fn answer_onion(&self, request: &DirRequest, http: &Request) -> Reply {
        let now = clock::now();
        written(match request {
            _ if http.peer != Peer::Circuit => HsDirStore::reply_not_anonymous(),
            DirRequest::HsDescriptor(blinded) => self.onions().reply_fetch(blinded, now),
            _ => {
                let upload = HsUpload::parse(&http.body, now.wall);
                self.onions().reply_publish(upload, now)
            }
        })
    }

    async fn take(&self, request: DirRequest, http: Request) -> Reply {
        let Some(uploads) = &self.uploads else {
            return Reply::new(404);
        };
        let (answer, answered) = oneshot::channel();
        let upload = Upload {
            request,
            body: http.body,
            answer,
        };
        if uploads.try_send(upload).is_err() {
            return Reply::new(503).with_reason("Too many uploads, try again later");
        }
        answered.await.unwrap_or_else(|_| Reply::new(503))
    }
}

fn written(reply: cepa_relay::Reply) -> Reply {
    let mut answer = Reply::new(reply.status)
        .with_reason(reply.reason)
        .with_body(Bytes::from_owner(reply.body));
    for (name, value) in reply.headers {
        answer.headers.push(name, value);
    }
    answer
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7).
fn http_date(text: &str) -> Option<std::time::SystemTime> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_whitespace().skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS
        .find(month)
        .filter(|at| at % 3 == 0 && month.len() == 3)?
        / 3
        + 1;
    timestamp::parse(&format!("{year}-{month:02}-{day:0>2} {time}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[tokio::test]
    async fn descriptors_of_onion_services_are_for_who_comes_over_a_circuit() {
        let directory = Directory::new(DirStore::new(None), None);
        let get = Request::get(&DirRequest::HsDescriptor([7; 32]).path());
        let post = Request::post("/tor/hs/3/publish", "no descriptor");
        for (request, status) in [(get, 404), (post, 400)] {
            let port = Peer::Address(([127, 0, 0, 1], 9).into());
            for (peer, status) in [(port, 503), (Peer::Neighbour, 503), (Peer::Circuit, status)] {
                let request = Request {
                    peer,
                    ..request.clone()
                };
                assert_eq!(directory.answer(request).await.status, status);
            }
        }
    }

    #[test]
    fn dates_of_http_are_read() {
        let read = http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read, Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        assert_eq!(http_date("yesterday"), None);
        assert_eq!(http_date("Sun, 06 ovD 1994 08:49:37 GMT"), None);
    }
}
