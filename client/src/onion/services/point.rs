//! One introduction point: its keys, how long it serves, and what came over it (rend-spec-v3 3.1;
//! the lifetimes are those of `tor`).
//!
//! ```text
//! Waiting ─▶ Opening ─▶ Establishing ─▶ Standing
//!    ▲          └─────────────┴─── lost ────┤      Fresh ─▶ Aging ─▶ Retiring ─▶ (closed)
//!    └──────────────────────────────────────┘
//! ```
//!
//! The stage of its circuit and its age go their ways apart. Invariants: the keys of a point are
//! its own and stay as it is lost and established again; a [`Age::Retiring`] point is in no new
//! descriptor.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::ed25519::Keypair;
use cepa_crypto::{Rng, RsaId, curve25519};
use cepa_dir::Relay;
use cepa_netdoc::hs_descriptor::IntroPoint;
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::name;
use cepa_wire::Now;
use cepa_wire::linkspec::LinkSpecifiers;

use super::replays::Replays;
use crate::names::CircuitName;
use crate::status::{IntroPointState, IntroPointStatus};

/// The subprotocol version of HSIntro with the denial-of-service extension.
const HS_INTRO_DOS: u8 = 5;
/// A point takes at most so many introductions more than after which it is replaced: those that
/// come until the replacement stands.
const OVERTIME: usize = 16_384;

/// What becomes of a circuit to the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For the time of the next try.
    Waiting(Instant),
    /// For the circuit.
    Opening(CircuitName),
    /// For INTRO_ESTABLISHED, at most until that time.
    Establishing(CircuitName, Instant),
    /// For nothing.
    Standing(CircuitName),
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It counts.
    Fresh,
    /// It is to be replaced.
    Aging,
    /// It has been replaced, and is closed at that time.
    Retiring(Instant),
}

/// An introduction point.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) relay: RsaId,
    link_specifiers: LinkSpecifiers,
    onion_key: curve25519::PublicKey,
    takes_dos: bool,
    /// The key that names the circuit (`KS_hs_ipt_sid`).
    pub(super) auth: Keypair,
    /// The key that introductions are encrypted to (`KS_hss_ntor`).
    pub(super) enc: curve25519::SecretKey,
    pub(super) stage: Stage,
    pub(super) age: Age,
    /// Tries since it stood for a while.
    pub(super) tries: u32,
    /// When its circuit has stood last, or stands.
    pub(super) stood: Option<Instant>,
    since: Option<SystemTime>,
    pub(super) replaced_at: Instant,
    introductions: u64,
    introductions_max: u64,
    /// The encrypted sections of introductions that came, hashed.
    pub(super) replays: Replays<16>,
}

impl Point {
    /// A point at a relay, with new keys.
    pub(super) fn new(relay: &Relay, params: &Params, now: Now, rng: &mut Rng) -> Self {
        let mut drawn = |low: u64, high: u64| low + rng.below(high.saturating_sub(low) + 1);
        let param = |name: &str, default: i32| {
            u64::try_from(params.value(name, default, 0, i32::MAX)).unwrap_or_default()
        };
        let lifetime = drawn(
            param("hs_intro_min_lifetime", 18 * 60 * 60),
            param("hs_intro_max_lifetime", 24 * 60 * 60),
        );
        let introductions_max = drawn(
            param("hs_intro_min_introduce2", 16_384),
            param("hs_intro_max_introduce2", 32_768),
        );
        let v6 = relay.or_addr_v6.and_then(|addr| match addr {
            SocketAddr::V6(v6) => Some(v6),
            SocketAddr::V4(_) => None,
        });
        let replays_max = usize::try_from(introductions_max).unwrap_or(usize::MAX);
        Point {
            relay: relay.rsa_id,
            link_specifiers: LinkSpecifiers::new(
                Some(relay.or_addr),
                relay.rsa_id,
                relay.ed25519_id,
                v6,
            ),
            onion_key: relay.ntor_key,
            takes_dos: relay.protocols.supports(name::HS_INTRO, HS_INTRO_DOS),
            auth: Keypair::generate(rng),
            enc: curve25519::SecretKey::generate(rng),
            stage: Stage::Waiting(now.mono),
            age: Age::Fresh,
            tries: 0,
            stood: None,
            since: None,
            replaced_at: now.mono + Duration::from_secs(lifetime),
            introductions: 0,
            introductions_max,
            replays: Replays::new(replays_max.saturating_add(OVERTIME)),
        }
    }

    /// Its circuit, if there is one.
    pub(super) fn circuit(&self) -> Option<CircuitName> {
        match self.stage {
            Stage::Waiting(_) => None,
            Stage::Opening(circuit)
            | Stage::Establishing(circuit, _)
            | Stage::Standing(circuit) => Some(circuit),
        }
    }

    /// Whether its circuit stands.
    pub(super) fn stands(&self) -> bool {
        matches!(self.stage, Stage::Standing(_))
    }

    /// Whether descriptors may name it: it has stood, and is not replaced.
    pub(super) fn is_listed(&self) -> bool {
        self.since.is_some() && !matches!(self.age, Age::Retiring(_))
    }

    /// Whether it may be told how fast to hand introductions on.
    pub(super) fn takes_dos(&self) -> bool {
        self.takes_dos
    }

    /// The relay has said that it stands.
    pub(super) fn established(&mut self, circuit: CircuitName, now: Now) {
        self.stage = Stage::Standing(circuit);
        self.stood = Some(now.mono);
        self.since = Some(now.wall);
    }

    /// Counts an introduction; it ages when it has taken as many as it should.
    pub(super) fn introduced(&mut self) {
        self.introductions += 1;
        if self.introductions >= self.introductions_max && self.age == Age::Fresh {
            self.age = Age::Aging;
        }
    }

    /// As descriptors name it.
    pub(super) fn described(&self) -> IntroPoint {
        IntroPoint {
            link_specifiers: self.link_specifiers.clone(),
            onion_key: self.onion_key,
            auth_key: self.auth.public(),
            enc_key: *self.enc.public(),
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> IntroPointStatus {
        IntroPointStatus {
            relay: self.relay,
            state: match (self.age, self.stage) {
                (Age::Retiring(_), _) => IntroPointState::Retiring,
                (_, Stage::Standing(_)) => IntroPointState::Standing,
                _ => IntroPointState::Opening,
            },
            since: self.since.filter(|_| self.stands()),
            introductions: self.introductions,
        }
    }
}
