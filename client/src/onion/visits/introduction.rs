//! The introductions of a visit: which point is asked, and how it goes (rend-spec-v3 3.2).
//!
//! ```text
//!              ┌────────────── refused, no circuit, no answer ───────────────┐
//!              ▼                                                             │
//! Choosing ──a point──▶ Opening ──Built──▶ Open ──INTRODUCE1──▶ Asked ──ACK──▶ Accepted ─▶ Done
//!   │   ▲  ▲                                                                 │    RENDEZVOUS2
//!   │   │  └─────────────────── the service did not come ────────────────────┘
//! no point is left
//!   ▼   │ a descriptor came, or none can
//! Fetching ◀─▶ Resting, up to [`RETURN_MAX`]
//! ```
//!
//! Invariants: at any time there is one introduction circuit or none; on a circuit one INTRODUCE1
//! is sent; a point is tried at most [`TRIES_PER_POINT_MAX`] times, all together [`TRIES_MAX`].
//! Points that failed lately rest; they are tried again only if there is no other and no directory
//! has a newer descriptor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::Rng;
use cepa_crypto::hs_ntor::ClientState;
use cepa_netdoc::hs_descriptor::{FlowControl, IntroPoint};
use cepa_netdoc::protover::name;
use cepa_wire::intro_plaintext::IntroPlaintext;
use cepa_wire::introduce::Introduce;

use super::cache::Opened;
use super::memory::Standing;
use super::outcome::VisitError;
use super::rendezvous::RendezvousPoint;
use super::shared::Shared;
use crate::names::CircuitName;
use crate::select::paths::FLOW_CTRL_CONGESTION;

/// How long a circuit to an introduction point may take.
pub(super) const OPEN_MAX: Duration = Duration::from_secs(8);
/// How long an introduction point may take to answer.
pub(super) const ACK_MAX: Duration = Duration::from_secs(6);
/// How long the service may take to come to the rendezvous.
pub(super) const COME_MAX: Duration = Duration::from_secs(12);
/// How long a visitor waits for it without a doubt that it is still behind that point: relays may
/// hold the circuit of a service that is gone, and say that they have passed the request on.
pub(super) const DOUBT_AFTER: Duration = Duration::from_millis(1500);
/// How long a service is looked for once all its points have failed.
pub(super) const RETURN_MAX: Duration = Duration::from_secs(8);
/// Directories that are then asked one right after the other.
pub(super) const LOOKS_AT_ONCE: u32 = 3;
/// How long it is waited for before each of the others.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a visit tries one point.
pub(super) const TRIES_PER_POINT_MAX: u32 = 2;
/// How often a visit tries any.
pub(super) const TRIES_MAX: u32 = 24;

/// An introduction point that was chosen.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) point: IntroPoint,
    pub(super) subcredential: [u8; 32],
    /// The congestion control to ask for: cells of a SENDME.
    pub(super) congestion: Option<u8>,
}

/// Our half of an introduction.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) state: ClientState,
    /// What was asked for.
    pub(super) congestion: Option<u8>,
}

impl Chosen {
    /// What is remembered of it is kept under this.
    pub(super) fn auth_key(&self) -> [u8; 32] {
        *self.point.auth_key.as_bytes()
    }
}

/// How the introduction stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// A point is to be chosen.
    Choosing,
    /// No path was found, or no point is left just now; another is chosen then.
    Resting { until: Instant },
    /// A descriptor is being fetched.
    Fetching,
    /// The circuit to a point is being built.
    Opening {
        circuit: CircuitName,
        chosen: Box<Chosen>,
        until: Instant,
    },
    /// The circuit stands and waits for the rendezvous point.
    Open {
        circuit: CircuitName,
        chosen: Box<Chosen>,
    },
    /// INTRODUCE1 was sent.
    Asked {
        circuit: CircuitName,
        auth_key: [u8; 32],
        handshake: Box<Asking>,
        until: Instant,
    },
    /// It was passed on to the service.
    Accepted {
        auth_key: [u8; 32],
        handshake: Box<Asking>,
        until: Instant,
        /// When the directories are asked whether the service is elsewhere by now.
        doubt_at: Instant,
    },
    /// The service came.
    Done,
}

impl Stage {
    /// The circuit, if there is one.
    pub(super) fn circuit(&self) -> Option<CircuitName> {
        match self {
            Stage::Opening { circuit, .. }
            | Stage::Open { circuit, .. }
            | Stage::Asked { circuit, .. } => Some(*circuit),
            _ => None,
        }
    }

    /// The point that the service is thought to be behind.
    pub(super) fn auth_key(&self) -> Option<[u8; 32]> {
        match self {
            Stage::Opening { chosen, .. } | Stage::Open { chosen, .. } => Some(chosen.auth_key()),
            Stage::Asked { auth_key, .. } | Stage::Accepted { auth_key, .. } => Some(*auth_key),
            _ => None,
        }
    }

    /// When something is due.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Stage::Resting { until }
            | Stage::Opening { until, .. }
            | Stage::Asked { until, .. } => Some(*until),
            Stage::Accepted {
                until, doubt_at, ..
            } => Some(*until.min(doubt_at)),
            _ => None,
        }
    }
}

/// What a visit does when no point is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It asks for a newer descriptor.
    Now,
    /// It waits until then.
    At(Instant),
    /// It has looked for long enough.
    No,
}

/// What was tried, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Tries {
    by_point: BTreeMap<[u8; 32], u32>,
    all: u32,
    /// Whether no directory has a newer descriptor: points that failed lately are tried.
    pub(super) is_last_resort: bool,
    /// How often a directory was asked because no point was left.
    looks: u32,
    /// Not before that time for the next.
    look_at: Option<Instant>,
    /// Until when that goes on.
    until: Option<Instant>,
    /// Whether a point passed our request on.
    pub(super) was_accepted: bool,
    /// Whether a point refused or could not be reached.
    pub(super) was_refused: bool,
    /// Whether a point did not answer.
    pub(super) was_late: bool,
}

impl Tries {
    /// Draws a point among those that were tried least, and counts the try. Those that the
    /// operator's rules exclude come last.
    pub(super) fn choose(
        &mut self,
        opened: &Opened,
        shared: &mut Shared,
        now: Instant,
    ) -> Option<Chosen> {
        if self.all >= TRIES_MAX {
            return None;
        }
        let rank = |point: &IntroPoint| {
            let auth_key = point.auth_key.as_bytes();
            let standing = shared.failures.standing(auth_key, now);
            let tries = self.by_point.get(auth_key).copied().unwrap_or(0);
            let is_allowed = match standing {
                Standing::Good => true,
                Standing::Rested => self.is_last_resort,
                Standing::Bad => false,
            };
            let is_allowed = is_allowed && tries < TRIES_PER_POINT_MAX && hop(point).is_some();
            let id = point.link_specifiers.rsa_id();
            let is_shunned = id.is_some_and(|id| shared.permits.shuns(&id));
            is_allowed.then_some((is_shunned, standing, tries))
        };
        let points = &opened.plaintext.intro_points;
        let best = points.iter().filter_map(rank).min()?;
        let fit: Vec<_> = points.iter().filter(|p| rank(p) == Some(best)).collect();
        let index = shared.rng.below(u64::try_from(fit.len()).unwrap_or(1));
        let point = *fit.get(usize::try_from(index).unwrap_or(0))?;
        *self.by_point.entry(*point.auth_key.as_bytes()).or_default() += 1;
        self.all += 1;
        Some(Chosen {
            point: point.clone(),
            subcredential: opened.subcredential,
            congestion: congestion(opened.plaintext.flow_control.as_ref(), shared),
        })
    }

    /// No point is left: what is to be done. A service that was killed may be on its way back, and
    /// is looked for in one directory after another, while its old points rest and are tried again.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        let until = *self.until.get_or_insert(now + RETURN_MAX);
        if now >= until {
            return Look::No;
        }
        if let Some(at) = self.look_at
            && now < at
        {
            return Look::At(at.min(until));
        }
        self.looks += 1;
        if self.looks >= LOOKS_AT_ONCE {
            self.is_last_resort = true;
            self.look_at = Some(now + LOOK_INTERVAL);
        }
        Look::Now
    }

    /// Why the visit fails if it does now; none if nothing was tried.
    pub(super) fn verdict(&self) -> Option<VisitError> {
        if self.was_accepted {
            Some(VisitError::RendezvousFailed)
        } else if self.was_refused {
            Some(VisitError::IntroductionFailed)
        } else {
            self.was_late.then_some(VisitError::IntroductionTimedOut)
        }
    }
}

/// How a circuit comes to an introduction point; none if the service did not say who it is.
pub(super) fn hop(point: &IntroPoint) -> Option<HopSpec> {
    let rsa = point.link_specifiers.rsa_id()?;
    Some(HopSpec {
        link_specifiers: point.link_specifiers.clone(),
        key: HopKey::Ntor {
            rsa,
            onion_key: point.onion_key,
        },
        congestion: None,
    })
}

/// The congestion control to ask a service for: if its descriptor offers it, and the consensus
/// agrees with what it offers (proposal 324, 9.1).
fn congestion(offer: Option<&FlowControl>, shared: &Shared) -> Option<u8> {
    let (offer, params) = (offer?, shared.congestion.as_ref()?);
    let is_known = offer
        .versions
        .supports(name::FLOW_CTRL, FLOW_CTRL_CONGESTION);
    let fits = is_known && params.is_enabled && params.accepts_sendme_inc(offer.sendme_inc);
    fits.then_some(offer.sendme_inc)
}

/// Makes the INTRODUCE1 message; none if the service's keys are bad or the rendezvous point's
/// description is too long.
pub(super) fn introduce1(
    chosen: &Chosen,
    rendezvous: &RendezvousPoint,
    rng: &mut Rng,
) -> Option<(Asking, Vec<u8>)> {
    let IntroPoint {
        auth_key, enc_key, ..
    } = &chosen.point;
    let (state, keys) = ClientState::begin(rng, enc_key, auth_key, &chosen.subcredential).ok()?;
    let plaintext = IntroPlaintext {
        cookie: rendezvous.cookie,
        cc_request: chosen.congestion.is_some(),
        pow: None,
        subprotocols: Vec::new(),
        onion_key: rendezvous.onion_key,
        link_specifiers: rendezvous.link_specifiers.clone(),
    };
    let body = Introduce::make(auth_key, state.public(), &keys, &plaintext).ok()?;
    let congestion = chosen.congestion;
    Some((Asking { state, congestion }, body))
}
