//! The directory that a node serves: over its DirPort and over BEGIN_DIR streams alike.
//!
//! Documents are answered from the shared [`DirStore`]; uploads go to the authority's loop, which
//! answers each (dir-spec 4.1). A node that is no authority has nothing to be uploaded to: 404, by
//! the head alone. Descriptors of onion services are in a store of their own, for who comes over a
//! circuit.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use cepa_dir::request::{DIFF_HEADER, RequestError};
use cepa_dir::{Asker, DirDocument, DirRequest, DirStore};
use cepa_limits::{Memory, MemoryClass, MemoryShare};
use cepa_netdoc::consensus::Flavour;
use cepa_netdoc::hs_descriptor::HS_DESCRIPTOR_LEN_MAX;
use cepa_relay::{HS_DESCRIPTORS_LEN_MAX, HsDirCounts, HsDirStore, HsDuty, HsRefusal, HsUpload};
use cepa_wire::Now;

use super::fetch::kind_of;
use super::replies::{Replies, written};
use super::uploads::Uploads;
use crate::clock;
use crate::config::DirectoryOptions;
use crate::doors::Gate;
use crate::http::{Admission, Budget, Door, Filter, Handler, Limits, Peer, Reply, Request, Server};

/// The longest page of a DirPort, in bytes.
const FRONT_PAGE_LEN_MAX: u64 = 1 << 20;
/// Bytes of descriptors of onion services that are being sent at a time.
const ONION_BODIES_LEN_MAX: usize = 8 << 20;

/// The documents of a node, and the server that answers from them.
#[derive(Clone)]
pub(crate) struct Directory {
    store: Arc<RwLock<DirStore>>,
    is_closed: Arc<AtomicBool>,
    onions: Arc<Mutex<Onions>>,
    onion_bodies: Budget,
    replies: Replies,
    uploads: Option<Uploads>,
    port: Arc<RwLock<Port>>,
}

/// Who may come to the DirPort, and what it shows to who asks for nothing else.
#[derive(Default)]
struct Port {
    options: Option<DirectoryOptions>,
    page: Option<Bytes>,
}

/// Descriptors of onion services, and where their bytes are told.
#[derive(Default)]
struct Onions {
    store: HsDirStore,
    account: Option<MemoryShare>,
    /// Bytes that are held, if the operator says it.
    len_max: Option<usize>,
}

impl Onions {
    /// Of onion services it holds no more than a fifth of the process's memory (`tor`'s rule as
    /// well), as that is now.
    fn publish(&mut self, upload: Result<HsUpload, HsRefusal>, now: Now) -> cepa_dir::Reply {
        if let Some(account) = &self.account {
            let usual = (account.memory().max_bytes() / 5).min(HS_DESCRIPTORS_LEN_MAX);
            self.store.set_len_max(self.len_max.unwrap_or(usual));
        }
        let reply = self.store.reply_publish(upload, now);
        self.tell();
        reply
    }

    fn tell(&mut self) {
        if let Some(account) = &mut self.account {
            account.tell(MemoryClass::Descriptors, self.store.counts().bytes);
        }
    }
}

impl Directory {
    /// A directory without documents, which serves these addresses before all others.
    pub(crate) fn new(
        store: DirStore,
        uploads: Option<Uploads>,
        authorities: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Directory {
            store: Arc::new(RwLock::new(store)),
            is_closed: Arc::default(),
            onions: Arc::default(),
            onion_bodies: Budget::new(ONION_BODIES_LEN_MAX),
            replies: Replies::new(authorities),
            uploads,
            port: Arc::default(),
        }
    }

    /// Serves by these from now on; the page is read now.
    pub(crate) fn set_options(&self, options: &DirectoryOptions) {
        let page = options.front_page.as_deref().and_then(front_page);
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        store.set_diff_age_max(options.diff_age_max);
        drop(store);
        self.onions().len_max = options.hs_len_max;
        let mut port = self.port.write().unwrap_or_else(PoisonError::into_inner);
        *port = Port {
            options: Some(options.clone()),
            page,
        };
    }

    /// Says who may come to the DirPort.
    pub(crate) fn filter(&self) -> Filter {
        let port = Arc::clone(&self.port);
        Arc::new(move |ip| {
            let port = port.read().unwrap_or_else(PoisonError::into_inner);
            port.options
                .as_ref()
                .is_none_or(|options| options.allows(ip))
        })
    }

    /// The page of the DirPort, if this asks for it.
    fn page_for(&self, http: &Request) -> Option<Reply> {
        let is_asked = http.method == "GET" && http.path == "/";
        let is_port = matches!(http.peer, Peer::Address(_));
        let port = self.port.read().unwrap_or_else(PoisonError::into_inner);
        let page = port.page.clone().filter(|_| is_asked && is_port)?;
        let reply = Reply::new(200).with_header("Content-Type", "text/html");
        Some(reply.with_body(page))
    }

    /// Counts what it holds for others and what it reads and sends in the process's memory from now
    /// on.
    pub(crate) fn count_in(&self, memory: &Arc<Memory>) {
        self.onion_bodies.count_in(memory);
        self.replies.count_in(memory);
        if let Some(uploads) = &self.uploads {
            uploads.count_in(memory);
        }
        let mut onions = self.onions();
        onions.account = Some(MemoryShare::new(Arc::clone(memory)));
        onions.tell();
    }

    /// Answers nobody from now on, as this relay sleeps; or everybody again.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Ordering::Relaxed);
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

    /// The text of the document that a request of this path is answered, if it is there.
    pub(crate) fn text_of(&self, path: &str) -> Option<String> {
        let (request, _) = DirRequest::parse("GET", path, None).ok()?;
        let asker = Asker {
            accept_encoding: None,
            z: false,
            if_modified_since: None,
        };
        let found = {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            store.find(&request, asker, clock::now().wall)
        };
        let reply = found.render();
        let text = String::from_utf8(reply.body.to_vec()).ok()?;
        (reply.status == 200).then_some(text)
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
        onions.store.expire(clock::now());
        onions.store.set_duty(duty);
        onions.tell();
        tracing::debug!(counts = ?onions.store.counts(), "descriptors of onion services");
    }

    /// What is held of onion services.
    pub(crate) fn hs_counts(&self) -> HsDirCounts {
        self.onions().store.counts()
    }

    fn onions(&self) -> MutexGuard<'_, Onions> {
        self.onions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server over it; who asks needs a place at `gate`.
    pub(crate) fn server(&self, limits: Limits, gate: Gate) -> Server {
        let directory = self.clone();
        let handler: Handler = Arc::new(move |request| {
            let directory = directory.clone();
            Box::pin(async move { directory.answer(request).await })
        });
        let directory = self.clone();
        let door: Door = Arc::new(move |request| directory.admit(request));
        Server::new(handler, limits, gate).with_door(door)
    }

    /// What may follow the head of a request.
    fn admit(&self, http: &Request) -> Result<Admission, Reply> {
        let request = match DirRequest::parse(&http.method, &http.path, None) {
            Ok((request, _)) => request,
            Err(error) => return Err(refused(error)),
        };
        match request {
            DirRequest::PostHsDescriptor if http.peer != Peer::Circuit => {
                Err(written(HsDirStore::reply_not_anonymous()))
            }
            DirRequest::PostHsDescriptor => Ok(Admission {
                len_max: HS_DESCRIPTOR_LEN_MAX,
                reservation: self.onion_bodies.reserve(http.peer.into()),
                look: None,
            }),
            request if request.is_post() => match &self.uploads {
                Some(uploads) => uploads.admit(&request, http),
                None => Err(Reply::new(404)),
            },
            _ => Err(Reply::new(400).with_reason("A GET has no body")),
        }
    }

    async fn answer(&self, http: Request) -> Reply {
        if self.is_closed.load(Ordering::Relaxed) {
            return Reply::new(503);
        }
        if let Some(page) = self.page_for(&http) {
            return page;
        }
        let diff = http.headers.value(DIFF_HEADER);
        let (request, z) = match DirRequest::parse(&http.method, &http.path, diff) {
            Ok(read) => read,
            Err(error) => return refused(error),
        };
        if let DirRequest::HsDescriptor(_) | DirRequest::PostHsDescriptor = request {
            return self.answer_onion(&request, &http);
        }
        if request.is_post() {
            return match &self.uploads {
                Some(uploads) => uploads.take(request, http).await,
                None => Reply::new(404),
            };
        }
        let asker = Asker {
            accept_encoding: http.headers.value("Accept-Encoding"),
            z,
            if_modified_since: http
                .headers
                .value("If-Modified-Since")
                .and_then(|date| httpdate::parse_http_date(date).ok()),
        };
        let found = {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            store.find(&request, asker, clock::now().wall)
        };
        let reply = self.replies.make(found, http.peer).await;
        tracing::debug!(
            path = kind_of(&http.path),
            status = reply.status,
            encoding = reply.headers.value("Content-Encoding"),
            asked_for_a_diff = diff.is_some(),
            "a document is served"
        );
        reply
    }

    fn answer_onion(&self, request: &DirRequest, http: &Request) -> Reply {
        let now = clock::now();
        written(match request {
            _ if http.peer != Peer::Circuit => HsDirStore::reply_not_anonymous(),
            DirRequest::HsDescriptor(blinded) => self.onions().store.reply_fetch(blinded, now),
            _ => {
                let upload = HsUpload::parse(&http.body, now.wall);
                self.onions().publish(upload, now)
            }
        })
    }
}

/// The page in a file; what cannot be read is told, and no page.
fn front_page(path: &Path) -> Option<Bytes> {
    let read = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FRONT_PAGE_LEN_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            tracing::warn!(%error, "the page of the DirPort, {}, is not shown", path.display());
            None
        }
    }
}

fn refused(error: RequestError) -> Reply {
    Reply::new(match error {
        RequestError::NotFound => 404,
        RequestError::Malformed => 400,
        RequestError::Method => 405,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_dir_port_shows_a_page_and_has_a_policy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(dir.path().join("page.html"), "<p>This is a relay.").unwrap();
        let text = "nickname = \"relay1\"\nor_port = 5000\ndata_dir = \"d\"\n\
            network = \"network.toml\"\n[directory]\ndir_policy = [\"reject 192.0.2.0/24\"]\n\
            dir_port_front_page = \"page.html\"\n";
        std::fs::write(&path, text).unwrap();
        let config = crate::config::load_relay(&path).unwrap();
        let directory = Directory::new(DirStore::new(None), None, []);
        let port = Peer::Address(([127, 0, 0, 1], 9).into());
        let root = |peer| Request {
            peer,
            ..Request::get("/")
        };
        assert_eq!(directory.answer(root(port)).await.status, 404);
        assert!(directory.filter()([192, 0, 2, 1].into()));
        directory.set_options(&config.directory);
        let page = directory.answer(root(port)).await;
        assert_eq!(&page.body[..], b"<p>This is a relay.");
        assert_eq!(page.headers.value("Content-Type"), Some("text/html"));
        assert_eq!(directory.answer(root(Peer::Circuit)).await.status, 404);
        let filter = directory.filter();
        assert!(!filter([192, 0, 2, 1].into()) && filter([192, 0, 3, 1].into()));
    }

    #[tokio::test]
    async fn descriptors_of_onion_services_are_for_who_comes_over_a_circuit() {
        let directory = Directory::new(DirStore::new(None), None, []);
        let get = Request::get(&DirRequest::HsDescriptor([7; 32]).path());
        let post = Request::post("/tor/hs/3/publish", "no descriptor");
        for (request, status) in [(get, 404), (post, 400)] {
            let port = Peer::Address(([127, 0, 0, 1], 9).into());
            let neighbour = Peer::Neighbour([127, 0, 0, 1].into());
            for (peer, status) in [(port, 503), (neighbour, 503), (Peer::Circuit, status)] {
                let request = Request {
                    peer,
                    ..request.clone()
                };
                assert_eq!(directory.answer(request).await.status, status);
            }
        }
    }
}
