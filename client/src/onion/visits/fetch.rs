//! Fetching one service's descriptor from the directories that are responsible for it
//! (rend-spec-v3 2.2.6; which are, 2.2.3).
//!
//! ```text
//!           ┌───────────────── no, invalid, late: the next ─────────────────┐
//!           ▼                                                               │
//! begin ─▶ Opening ──Built──▶ Asked ──Reply──┬─ a descriptor ─▶ Arrived     │
//!           │                                └──────────────────────────────┤
//!           └──no path──▶ Pausing ──────────────────────────────────────────┘──none left─▶ Failed
//! ```
//!
//! Invariants: one directory at a time, in a drawn order, none that was asked lately; each is
//! asked at most once, only its circuit may be tried twice. At any time there is one circuit or
//! none. A descriptor counts only if its blinded key is the one that was asked for.

use std::time::{Duration, Instant};

use cepa_crypto::RsaId;
use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::onion::{OnionAddress, TimePeriod, subcredential};
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_dir::hsring::HsRing;
use cepa_netdoc::hs_descriptor::{HsDecryptError, HsDescriptor};
use cepa_wire::Now;

use super::cache::{Content, Opened};
use super::circuits::Role;
use super::memory::Asked;
use super::outcome::VisitError;
use super::shared::Shared;
use crate::names::CircuitName;
use crate::onion::action::{Ending, LastHop};

/// How long the circuit to a directory may take.
pub(super) const OPEN_MAX: Duration = Duration::from_secs(8);
/// How long a directory may take to answer.
pub(super) const REPLY_MAX: Duration = Duration::from_secs(6);
/// How long to wait after no path was found.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Shortest lifetime that is kept to.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// Longest lifetime that is believed (`tor`'s bound, 12 hours).
const LIFETIME_MAX: Duration = Duration::from_secs(12 * 3600);

/// How a fetch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Waits,
    /// The cache has what there is.
    Arrived,
    /// No directory had a descriptor that can be read.
    Failed(VisitError),
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Opening(CircuitName, RsaId),
    Asked(CircuitName, RsaId),
    Pausing,
}

/// The fetch of one descriptor.
#[derive(Debug)]
pub(super) struct Fetch {
    address: OnionAddress,
    period: TimePeriod,
    blinded: PublicKey,
    /// Directories to be tried, the next one last.
    left: Vec<RsaId>,
    /// Those to which no path was found, to be tried once more.
    again: Vec<RsaId>,
    is_first_round: bool,
    stage: Stage,
    until: Instant,
    error: VisitError,
}

impl Fetch {
    /// Begins with one of the responsible directories. None if all were asked lately.
    pub(super) fn begin(
        address: OnionAddress,
        ring: &HsRing,
        shared: &mut Shared,
        now: Now,
    ) -> Option<Fetch> {
        if shared.fetches_nothing {
            tracing::warn!("a descriptor of an onion service is wanted, and none are fetched");
            return None;
        }
        let period = ring.period();
        let blinded = address.blind(period);
        let mut hsdirs = ring.responsible(&blinded);
        hsdirs.retain(|id| shared.asked.allows(*blinded.as_bytes(), *id, now.mono));
        shared.shuffle(&mut hsdirs);
        // The first in this order is asked last.
        hsdirs.sort_by_key(|id| shared.permits.of(id).any);
        let mut fetch = Fetch {
            address,
            period,
            blinded,
            left: hsdirs,
            again: Vec::new(),
            is_first_round: true,
            stage: Stage::Pausing,
            until: now.mono,
            error: VisitError::NoPath,
        };
        fetch.next(shared, now);
        fetch.circuit().is_some().then_some(fetch)
    }

    /// The service.
    pub(super) fn address(&self) -> OnionAddress {
        self.address
    }

    /// When something is due.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Its circuit stands: asks.
    pub(super) fn built(&mut self, circuit: CircuitName, shared: &mut Shared, now: Now) {
        let Stage::Opening(opening, hsdir) = self.stage else {
            return;
        };
        if opening == circuit {
            let request = DirRequest::HsDescriptor(*self.blinded.as_bytes());
            shared.circuits.request(circuit, request);
            self.stage = Stage::Asked(circuit, hsdir);
            self.until = now.mono + REPLY_MAX;
        }
    }

    /// A directory answered.
    pub(super) fn handle_reply(
        &mut self,
        circuit: CircuitName,
        reply: &Reply,
        shared: &mut Shared,
        now: Now,
    ) -> Progress {
        let Stage::Asked(asked, hsdir) = self.stage else {
            return Progress::Waits;
        };
        if asked != circuit {
            return Progress::Waits;
        }
        shared.circuits.close(circuit);
        let read = match reply.status {
            200 => read((self.address, self.period), &reply.body, shared, now),
            // Below HTTP: as if it had not been reached.
            0 => Err(VisitError::NoPath),
            _ => Err(VisitError::DescriptorNotFound),
        };
        let memory = match read {
            Ok(()) | Err(VisitError::NoPath) => Asked::Answered,
            Err(_) => Asked::InVain,
        };
        self.note(hsdir, memory, shared, now);
        match read {
            Ok(()) => Progress::Arrived,
            Err(error) => {
                self.blame(error);
                self.next(shared, now)
            }
        }
    }

    /// Its circuit is gone.
    pub(super) fn ended(&mut self, ending: Ending, shared: &mut Shared, now: Now) -> Progress {
        let (Stage::Opening(_, hsdir) | Stage::Asked(_, hsdir)) = self.stage else {
            return Progress::Waits;
        };
        if ending == Ending::NoPath {
            if self.is_first_round {
                self.again.push(hsdir);
            }
            self.stage = Stage::Pausing;
            self.until = now.mono + PAUSE;
            return Progress::Waits;
        }
        self.note(hsdir, Asked::Answered, shared, now);
        self.next(shared, now)
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) -> Progress {
        if now.mono < self.until {
            return Progress::Waits;
        }
        if let Stage::Opening(circuit, hsdir) | Stage::Asked(circuit, hsdir) = self.stage {
            shared.circuits.close(circuit);
            self.note(hsdir, Asked::Answered, shared, now);
        }
        self.next(shared, now)
    }

    /// Nobody waits for it any more.
    pub(super) fn abort(self, shared: &mut Shared) {
        if let Some(circuit) = self.circuit() {
            shared.circuits.close(circuit);
        }
    }

    fn circuit(&self) -> Option<CircuitName> {
        match self.stage {
            Stage::Opening(circuit, _) | Stage::Asked(circuit, _) => Some(circuit),
            Stage::Pausing => None,
        }
    }

    /// The worst that was said counts: a bad descriptor before none.
    fn blame(&mut self, error: VisitError) {
        self.error = self.error.max(error);
    }

    fn note(&self, hsdir: RsaId, asked: Asked, shared: &mut Shared, now: Now) {
        let blinded = *self.blinded.as_bytes();
        shared.asked.note(blinded, hsdir, asked, now.mono);
    }

    fn next(&mut self, shared: &mut Shared, now: Now) -> Progress {
        if self.left.is_empty() {
            self.left = std::mem::take(&mut self.again);
            self.is_first_round = false;
        }
        let Some(hsdir) = self.left.pop() else {
            self.stage = Stage::Pausing;
            return Progress::Failed(self.error);
        };
        let role = Role::Fetch(*self.address.key().as_bytes());
        let circuit = shared.circuits.open(role, LastHop::Listed(hsdir));
        self.stage = Stage::Opening(circuit, hsdir);
        self.until = now.mono + OPEN_MAX;
        Progress::Waits
    }
}

/// Reads the descriptor of a service and a period into the cache.
pub(super) fn read(
    (address, period): (OnionAddress, TimePeriod),
    body: &[u8],
    shared: &mut Shared,
    now: Now,
) -> Result<(), VisitError> {
    const INVALID: VisitError = VisitError::DescriptorInvalid;
    let text = std::str::from_utf8(body).map_err(|_| INVALID)?;
    let outer = HsDescriptor::parse(text, now.wall).map_err(|_| INVALID)?;
    let blinded = address.blind(period);
    if outer.blinded_key != blinded {
        return Err(INVALID);
    }
    let identity = address.key();
    let key = shared.client_keys.get(&address);
    let content = match outer.decrypt(identity, period, key, now.wall) {
        Ok(plaintext) => Content::Open(std::sync::Arc::new(Opened {
            subcredential: subcredential(identity, &blinded),
            plaintext,
            address,
            text: text.into(),
        })),
        Err(HsDecryptError::ClientAuthNeeded) => Content::Locked(VisitError::ClientKeyMissing),
        Err(HsDecryptError::ClientAuthWrong) => Content::Locked(VisitError::ClientKeyWrong),
        Err(_) => return Err(INVALID),
    };
    let lifetime = Duration::from_secs(60 * u64::from(outer.lifetime_minutes));
    let lifetime = lifetime.clamp(LIFETIME_MIN, LIFETIME_MAX);
    let (blinded, revision) = (*blinded.as_bytes(), outer.revision);
    let cache = &mut shared.cache;
    cache.store(blinded, revision, lifetime, content, now.mono);
    Ok(())
}
