//! Reads what visitors send through introduction points (rend-spec-v3 3.3, 3.3.2).
//!
//! ```text
//! INTRODUCE2 ─ rate ─ form ─ key ─ replay ─ MAC ─ plaintext ─ cookie ─ where to ─▶ Introduction
//!               └──────┴──────┴──────┴───────┴──────┴──────────┴─────────┴─▶ IntroDrop
//! ```
//!
//! Invariants: one message costs at most three key agreements, a MAC for each descriptor that it
//! may be bound to and one look at each bounded list, and their number a second is bounded. What is
//! not authenticated leaves nothing behind, so that a stranger cannot fill the replay caches.

use std::net::Ipv4Addr;

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::digest;
use cepa_crypto::hs_ntor::{self, HsKeys, SERVICE_LEN, ServiceIntro};
use cepa_limits::{Meter, Rate};
use cepa_wire::intro_plaintext::{COOKIE_LEN, IntroPlaintext};
use cepa_wire::introduce::Introduce;
use cepa_wire::linkspec::LinkSpecifiers;

use super::circuits::Context;
use super::point::Point;
use super::replays::Replays;
use crate::status::IntroDrop;

/// Introductions of a service that are looked at, a second on average.
const PER_SECOND_MAX: u32 = 250;
/// And at once.
const BURST_MAX: u32 = 500;
/// Rendezvous cookies that are remembered.
const COOKIES_MAX: usize = 32_768;

/// Whom to meet, and with what.
#[derive(Debug)]
pub(super) struct Introduction {
    /// By this the rendezvous point finds the visitor's circuit.
    pub(super) cookie: [u8; COOKIE_LEN],
    /// The rendezvous point.
    pub(super) rendezvous_point: HopSpec,
    /// Our half of the handshake.
    pub(super) handshake: [u8; SERVICE_LEN],
    /// The keys that we share with the visitor.
    pub(super) keys: HsKeys,
    /// The congestion control that the visitor wants: cells of a SENDME.
    pub(super) congestion: Option<u8>,
}

/// What a service remembers of introductions, whichever point they came over.
#[derive(Debug)]
pub(super) struct Introductions {
    rate: Option<Rate>,
    meter: Meter,
    cookies: Replays<COOKIE_LEN>,
    /// Whether rendezvous points may have private addresses (`TestingTorNetwork`).
    allows_private: bool,
    /// What descriptors offer: cells of a SENDME.
    congestion: Option<u8>,
}

impl Introductions {
    /// None yet.
    pub(super) fn new(allows_private: bool) -> Self {
        Introductions {
            rate: Rate::new(PER_SECOND_MAX, BURST_MAX),
            meter: Meter::default(),
            cookies: Replays::new(COOKIES_MAX),
            allows_private,
            congestion: None,
        }
    }

    /// Descriptors offer congestion control, or do not.
    pub(super) fn offer_congestion(&mut self, congestion: Option<u8>) {
        self.congestion = congestion;
    }

    /// Reads an INTRODUCE2 that came over a point's circuit. It may be bound to any of these
    /// descriptors, by their subcredentials.
    pub(super) fn read(
        &mut self,
        body: &[u8],
        point: &mut Point,
        subcredentials: &[[u8; 32]],
        ctx: &mut Context<'_>,
    ) -> Result<Introduction, IntroDrop> {
        let (meter, now) = (&mut self.meter, ctx.now.mono);
        let is_over = self.rate.is_some_and(|rate| !meter.take(rate, now));
        if is_over || point.replays.is_full() {
            return Err(IntroDrop::Rate);
        }
        let message = Introduce::read(body).map_err(|_| IntroDrop::Malformed)?;
        if message.auth_key != point.auth.public() {
            return Err(IntroDrop::AuthKey);
        }
        let hash = digest::sha3_256(message.encrypted);
        let seen = hash.first_chunk().copied().unwrap_or_default();
        if point.replays.contains(&seen) {
            return Err(IntroDrop::Replay);
        }
        let client_key = message.client_key().map_err(|_| IntroDrop::Malformed)?;
        let auth_key = point.auth.public();
        let intro = ServiceIntro::new(&point.enc, &client_key, &auth_key);
        let intro = intro.map_err(|_| IntroDrop::Mac)?;
        let mut bound = subcredentials.iter();
        let opened = bound.find_map(|one| message.open(&intro.keys(one)).ok());
        let plaintext = opened.ok_or(IntroDrop::Mac)?;
        point.replays.insert(seen);
        let plaintext = IntroPlaintext::read(&plaintext).map_err(|_| IntroDrop::Plaintext)?;
        if !self.cookies.insert(plaintext.cookie) {
            return Err(IntroDrop::CookieReplay);
        }
        self.check(&plaintext)?;
        // With such a key no handshake ends, whatever the relay does (TROVE-2026-030).
        if point.enc.diffie_hellman(&plaintext.onion_key).is_none() {
            return Err(IntroDrop::LinkSpecifiers);
        }
        let (handshake, keys) =
            hs_ntor::service_rendezvous(ctx.rng, &point.enc, &client_key, &auth_key)
                .map_err(|_| IntroDrop::Mac)?;
        Ok(Introduction {
            cookie: plaintext.cookie,
            congestion: self.congestion.filter(|_| plaintext.cc_request),
            rendezvous_point: rendezvous_point(plaintext)?,
            handshake,
            keys,
        })
    }

    /// Whether we can, and may, do what is asked.
    fn check(&self, plaintext: &IntroPlaintext) -> Result<(), IntroDrop> {
        if plaintext.cc_request && self.congestion.is_none() {
            return Err(IntroDrop::CongestionControl);
        }
        if plaintext.pow.is_some() {
            return Err(IntroDrop::ProofOfWork);
        }
        let specifiers = &plaintext.link_specifiers;
        let is_fit = specifiers.check_identities().is_ok()
            && identities_are_set(specifiers)
            && specifiers.ipv4().is_some_and(|address| {
                let is_allowed = self.allows_private || !is_private(*address.ip());
                address.port() != 0 && !address.ip().is_unspecified() && is_allowed
            });
        is_fit.then_some(()).ok_or(IntroDrop::LinkSpecifiers)
    }
}

/// Whether the RSA identity is there, and no identity is all zeros.
fn identities_are_set(specifiers: &LinkSpecifiers) -> bool {
    let rsa = specifiers.rsa_id();
    let ed = specifiers.ed25519_id();
    rsa.is_some_and(|id| id.as_bytes() != &[0; 20]) && ed.is_none_or(|id| id.as_bytes() != &[0; 32])
}

/// Addresses to which relays do not extend (`tor`: `ExtendAllowPrivateAddresses`).
fn is_private(ip: Ipv4Addr) -> bool {
    let shared = matches!(ip.octets(), [100, 64..=127, ..]);
    let none = matches!(ip.octets(), [0 | 240..=255, ..]);
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || shared || none
}

/// The rendezvous point as a hop. Its specifiers stay as they were told.
fn rendezvous_point(plaintext: IntroPlaintext) -> Result<HopSpec, IntroDrop> {
    let specifiers = plaintext.link_specifiers;
    let rsa = specifiers.rsa_id().ok_or(IntroDrop::LinkSpecifiers)?;
    Ok(HopSpec {
        link_specifiers: specifiers,
        key: HopKey::Ntor {
            rsa,
            onion_key: plaintext.onion_key,
        },
        congestion: None,
    })
}
