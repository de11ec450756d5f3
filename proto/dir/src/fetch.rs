//! What to download next and what to believe of it: the directory side of clients and caches
//! (dir-spec 4 and 5).
//!
//! ```text
//! consensus of each flavour ─▶ certificates of its signers ─▶ accepted ─▶ microdescriptors
//!        ▲      (diff or whole)    (those that are missing)      │        descriptors, extra-infos
//!        └────────────── refused: wait, ask another ◀────────────┘ refreshed before it ends
//! ```
//! Invariants: a consensus is accepted only if it is newer than the one held, live, has the minimum
//! intervals, and more than half of the known authorities signed it; what is held stays in force
//! whatever comes. Documents are kept only if their digest was wanted. Every fetch that is asked
//! for ends in one [`DirectoryDownload::handle_reply`].

mod retry;
mod slot;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use cepa_crypto::{Rng, RsaId};
use cepa_netdoc::authcert::{AuthCert, split_certs};
use cepa_netdoc::consensus::{ConsensusText, Flavour, StatusError};
use cepa_netdoc::descriptor::{ServerDescriptor, split_descriptors};
use cepa_netdoc::diff::DiffError;
use cepa_netdoc::extrainfo::{ExtraInfo, split_extra_infos};
use cepa_netdoc::microdesc::{Microdesc, split_microdescs};
use cepa_wire::time::Now;

use crate::netview::NetworkView;
use crate::network::NetworkFile;
use crate::request::{CertQuery, DescQuery, DirRequest, IdPrefix};
use retry::Retry;
use slot::{Slot, When};
use wanted::Wanted;

/// Most digests of a request over an encrypted stream.
pub const STREAM_BATCH_MAX: usize = 500;
/// Most digests of a request to a DirPort, whose URL proxies may have to hold.
pub const DIR_PORT_BATCH_MAX: usize = 92;
/// Fetches of one kind of document that run at a time.
pub const IN_FLIGHT_MAX: usize = 3;
/// Certificates that are kept of one authority: those of its last signing keys.
pub const CERTS_PER_AUTHORITY_MAX: usize = 4;
/// Certificates that one reply may bring.
const REPLY_CERTS_MAX: usize = 256;
/// Certificates that are asked for at a time: what fits into the URL of a DirPort.
pub const CERTS_ASKED_MAX: usize = 96;
/// How often certificates are asked for that the consensus in force can do without: anybody may
/// have added a signature to it by a key that does not exist.
const SPARE_CERT_TRIES_MAX: u8 = 4;

/// The largest body, decompressed, that a reply may have.
pub fn reply_bytes_max(request: &DirRequest) -> usize {
    const ONE_MB: usize = 1 << 20;
    match request {
        DirRequest::Consensus { .. } | DirRequest::NextConsensus(_) => 32 * ONE_MB,
        DirRequest::Votes(..) => 64 * ONE_MB,
        DirRequest::Certificates(_) | DirRequest::Signatures => 2 * ONE_MB,
        DirRequest::HsDescriptor(_) => ONE_MB / 16,
        _ => 16 * ONE_MB,
    }
}

/// Names a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// Where to ask. The number is the place of an authority in [`NetworkFile::authorities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The DirPort of this authority.
    DirPort(usize),
    /// A directory over BEGIN_DIR, a guard for choice; while none is known, this authority.
    BeginDir {
        /// Whom to ask if there is nobody else.
        fallback: usize,
    },
}

/// What a role keeps up to date, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The flavours of consensus.
    pub flavours: Vec<Flavour>,
    /// The microdescriptors of the microdesc consensus.
    pub microdescs: bool,
    /// The server descriptors of the ns consensus.
    pub server_descs: bool,
    /// The extra-infos of those descriptors.
    pub extra_infos: bool,
    /// Whether it serves others, so that it asks authorities, and before clients ask it.
    pub is_cache: bool,
}

impl Interest {
    /// A client's: what paths are made of, over encrypted streams.
    pub fn client() -> Self {
        Self {
            flavours: vec![Flavour::Microdesc],
            microdescs: true,
            server_descs: false,
            extra_infos: false,
            is_cache: false,
        }
    }

    /// A relay's, which caches for others what authorities have.
    pub fn cache() -> Self {
        Self {
            flavours: vec![Flavour::Microdesc, Flavour::Ns],
            microdescs: true,
            server_descs: true,
            extra_infos: true,
            is_cache: true,
        }
    }
}

/// What a download wants done by its owner, and what it has brought.
#[derive(Debug)]
pub enum Command {
    /// Send this request and report how it ended.
    Fetch {
        /// Names it in the report.
        id: FetchId,
        /// The documents to ask for.
        request: DirRequest,
        /// Whom to ask.
        from: Origin,
    },
    /// A consensus is in force from now on: keep it, serve it.
    Consensus(ConsensusText),
    /// Certificates to keep.
    Certificates(Vec<AuthCert>),
    /// Microdescriptors to keep, each with its text.
    Microdescs(Vec<(Microdesc, String)>),
    /// Server descriptors to keep.
    ServerDescs(Vec<ServerDescriptor>),
    /// Extra-infos to keep.
    ExtraInfos(Vec<ExtraInfo>),
    /// A consensus was refused: for the log.
    Refused(Flavour, Refusal),
    /// The directory that answered this fetch had nothing, or little, of what was wanted: better
    /// ask another next time.
    Useless(FetchId),
}

/// Why a consensus was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The directory sent no consensus, but this status.
    #[error("no consensus was served (status {0})")]
    NotServed(u16),
    /// The form.
    #[error("malformed consensus: {0}")]
    Malformed(StatusError),
    /// A diff that does not apply.
    #[error("unusable consensus diff: {0}")]
    Diff(DiffError),
    /// The other flavour.
    #[error("consensus of another flavour")]
    Flavour,
    /// Intervals below the minimum.
    #[error("consensus with intervals below the minimum")]
    Intervals,
    /// The consensus ended so many minutes ago.
    #[error("consensus that ended {0} minutes ago by the clock of this machine")]
    Expired(u64),
    /// The consensus begins so many minutes in the future.
    #[error("consensus that begins in {0} minutes by the clock of this machine")]
    Future(u64),
    /// The one that is held is as new.
    #[error("consensus is not newer than ours")]
    NotNewer,
    /// Not more than half of the authorities signed.
    #[error("consensus is signed by {0} of {1} authorities only")]
    Signatures(usize, usize),
    /// It names signing keys of which no directory had the certificates.
    #[error("consensus is signed with keys that no directory knows")]
    Certificates,
}

/// How a fetch ended: the status and the decompressed body, or status 0 if nothing came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status; 0 for a failure below HTTP.
    pub status: u16,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

impl Reply {
    /// What to report if the connection or the stream failed.
    pub fn failed() -> Self {
        Self {
            status: 0,
            body: Vec::new(),
        }
    }

    fn text(&self) -> &str {
        let body = if self.status == 200 {
            self.body.as_slice()
        } else {
            &[]
        };
        std::str::from_utf8(body).unwrap_or_default()
    }
}

/// Keeps a role's directory documents up to date.
#[derive(Debug)]
pub struct DirectoryDownload {
    network: Arc<NetworkFile>,
    interest: Interest,
    slots: Vec<Slot>,
    certs: Vec<AuthCert>,
    /// Certificates that the consensuses in force can do without.
    spare_certs: BTreeSet<(RsaId, RsaId)>,
    spare_cert_tries: u8,
    certs_in_flight: Option<FetchId>,
    certs_retry: Retry,
    view: Option<NetworkView>,
    microdescs: Wanted<[u8; 32]>,
    known_descs: BTreeSet<[u8; 20]>,
    server_descs: Wanted<[u8; 20]>,
    extra_infos: Wanted<[u8; 20]>,
    /// The extra-infos that are wanted, and of which descriptors.
    extra_infos_of: BTreeMap<[u8; 20], [u8; 20]>,
    next_id: u64,
    commands: VecDeque<Command>,
}

impl DirectoryDownload {
    /// Starts with nothing held; see [`Self::restore_certificates`] for what was kept.
    pub fn new(network: Arc<NetworkFile>, interest: Interest, now: Now) -> Self {
        let is_testing = network.is_testing;
        let slot = |flavour: &Flavour| Slot::new(*flavour, interest.is_cache, is_testing, now);
        Self {
            slots: interest.flavours.iter().map(slot).collect(),
            certs: Vec::new(),
            spare_certs: BTreeSet::new(),
            spare_cert_tries: 0,
            certs_in_flight: None,
            certs_retry: Retry::new(is_testing, now),
            view: None,
            microdescs: Wanted::new(is_testing, now),
            known_descs: BTreeSet::new(),
            server_descs: Wanted::new(is_testing, now),
            extra_infos: Wanted::new(is_testing, now),
            extra_infos_of: BTreeMap::new(),
            next_id: 0,
            commands: VecDeque::new(),
            network,
            interest,
        }
    }

    /// Server descriptors are kept up to date from now on, too, by the consensus that lists them.
    pub fn want_server_descs(&mut self, now: Now) {
        self.interest.server_descs = true;
        if !self.interest.flavours.contains(&Flavour::Ns) {
            let (is_cache, is_testing) = (self.interest.is_cache, self.network.is_testing);
            self.interest.flavours.push(Flavour::Ns);
            let slot = Slot::new(Flavour::Ns, is_cache, is_testing, now);
            self.slots.push(slot);
        }
    }

    /// Takes certificates that were kept, before anything else.
    pub fn restore_certificates(&mut self, certs: impl IntoIterator<Item = AuthCert>, now: Now) {
        for cert in certs {
            self.add_certificate(cert, now);
        }
    }

    /// Takes a consensus that was kept, or one that this program computed itself. It is checked
    /// like any other.
    ///
    /// # Errors
    /// [`Refusal`]; one that waits for certificates is no error.
    pub fn offer_consensus(
        &mut self,
        text: ConsensusText,
        now: Now,
        rng: &mut Rng,
    ) -> Result<(), Refusal> {
        let is_testing = self.network.is_testing;
        let flavour = text.consensus().flavour;
        let at = self.slots.iter().position(|slot| slot.flavour == flavour);
        let at = at.ok_or(Refusal::Flavour)?;
        if let Some(slot) = self.slots.get(at) {
            slot.check(&text, now, is_testing)?;
        }
        self.judge(at, text, None, now, rng)
    }

    /// Takes microdescriptors that were kept; those that the consensus does not list are dropped.
    pub fn restore_microdescs(&mut self, found: impl IntoIterator<Item = Microdesc>) {
        for microdesc in found {
            self.microdescs.remove(&microdesc.digest);
            if let Some(view) = &mut self.view {
                view.add_microdescs([microdesc]);
            }
        }
    }

    /// Says which server descriptors are kept already, by SHA-1.
    pub fn restore_server_descs(&mut self, digests: impl IntoIterator<Item = [u8; 20]>) {
        for digest in digests {
            self.server_descs.remove(&digest);
            self.known_descs.insert(digest);
        }
    }

    /// Reports how a fetch ended. A fetch that is not known is ignored.
    pub fn handle_reply(&mut self, id: FetchId, reply: Reply, now: Now, rng: &mut Rng) {
        if let Some(at) = self
            .slots
            .iter()
            .position(|slot| slot.in_flight == Some(id))
        {
            self.consensus_reply(at, id, &reply, now, rng);
        } else if self.certs_in_flight == Some(id) {
            self.certs_in_flight = None;
            self.certificates_reply(id, &reply, now, rng);
        } else if let Some(asked) = self.microdescs.end(id) {
            let found = self.microdescs_reply(&asked, &reply, now, rng);
            self.note_found(id, found, asked.len());
        } else if let Some(asked) = self.server_descs.end(id) {
            let found = self.server_descs_reply(&asked, &reply, now, rng);
            self.note_found(id, found, asked.len());
        } else if let Some(asked) = self.extra_infos.end(id) {
            let found = self.extra_infos_reply(&asked, &reply, now, rng);
            self.note_found(id, found, asked.len());
        }
        self.handle_timeout(now, rng);
    }

    /// Starts what is due. To be called at [`Self::poll_timeout`] and after a start.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut Rng) {
        if self.network.authorities.is_empty() {
            return;
        }
        for at in 0..self.slots.len() {
            self.ask_consensus(at, now, rng);
        }
        self.ask_certificates(now, rng);
        let len_max = if self.interest.is_cache {
            DIR_PORT_BATCH_MAX
        } else {
            STREAM_BATCH_MAX
        };
        loop {
            let batch = self.microdescs.batch(now, len_max, IN_FLIGHT_MAX);
            if batch.is_empty() {
                break;
            }
            let id = self.fetch(DirRequest::Microdescs(batch.clone()), rng);
            self.microdescs.start(id, batch);
        }
        loop {
            let batch = self
                .server_descs
                .batch(now, DIR_PORT_BATCH_MAX, IN_FLIGHT_MAX);
            if batch.is_empty() {
                break;
            }
            let request = DirRequest::ServerDescs(DescQuery::Digests(batch.clone()));
            let id = self.fetch(request, rng);
            self.server_descs.start(id, batch);
        }
        loop {
            let batch = self
                .extra_infos
                .batch(now, DIR_PORT_BATCH_MAX, IN_FLIGHT_MAX);
            if batch.is_empty() {
                break;
            }
            let request = DirRequest::ExtraInfos(DescQuery::Digests(batch.clone()));
            let id = self.fetch(request, rng);
            self.extra_infos.start(id, batch);
        }
    }

    /// The next thing to do outside.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let certs = self.wants_certificates().then_some(self.certs_retry.next);
        let documents = [
            self.microdescs.timeout(IN_FLIGHT_MAX),
            self.server_descs.timeout(IN_FLIGHT_MAX),
            self.extra_infos.timeout(IN_FLIGHT_MAX),
        ];
        let slots = self.slots.iter().filter_map(Slot::timeout);
        slots
            .chain(certs)
            .chain(documents.into_iter().flatten())
            .min()
    }

    /// The network's authorities.
    pub fn network(&self) -> &Arc<NetworkFile> {
        &self.network
    }

    /// The relays for paths, once there is a microdesc consensus.
    pub fn view(&self) -> Option<&NetworkView> {
        self.view.as_ref()
    }

    /// The consensus in force; it may have ended since.
    pub fn consensus(&self, flavour: Flavour) -> Option<&ConsensusText> {
        let slot = self.slots.iter().find(|slot| slot.flavour == flavour);
        slot.and_then(|slot| slot.held.as_ref())
    }

    /// The certificates at hand.
    pub fn certificates(&self) -> &[AuthCert] {
        &self.certs
    }

    /// Whether a consensus waits for certificates of its signers.
    pub fn is_waiting_for_certificates(&self) -> bool {
        self.slots.iter().any(|slot| !slot.candidates.is_empty())
    }

    /// Whether every document that the consensuses list is at hand.
    pub fn is_complete(&self) -> bool {
        self.slots.iter().all(|slot| slot.held.is_some())
            && self.microdescs.is_empty()
            && self.server_descs.is_empty()
            && self.extra_infos.is_empty()
    }
}

mod replies;

#[cfg(test)]
pub(crate) mod tests;
