//! What is wanted of a hosted service, and what is told of it (rend-spec-v3 1.2, 3.1.1.1; the
//! options `HiddenService*` of `tor`).
//!
//! Invariants: a [`ServiceConfig`] is what the operator wrote, and goes through
//! [`ServiceConfig::bounded`] before a machine sees it; a status is a copy, and names no client.

use cepa_crypto::curve25519;
use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_crypto::onion::OnionAddress;

use crate::names::ServiceId;

/// Introduction points of a service where nothing else is said, and fewest
/// (`HiddenServiceNumIntroductionPoints`).
pub const INTRO_POINTS_DEFAULT: usize = 3;
/// Most introduction points (rend-spec-v3 2.5.4).
pub const INTRO_POINTS_MAX: usize = 20;
/// Rendezvous circuits of a service at once, where nothing else is said.
pub const CIRCUITS_MAX_DEFAULT: usize = 1024;
/// Most clients that a service can tell apart, as with `tor`. With so many, not all of
/// [`INTRO_POINTS_MAX`] points fit into its descriptor.
pub const CLIENTS_MAX: usize = 330;
/// Most addresses that a service answers for: each is tried at an introduction that is not our own.
pub const MASTERS_MAX: usize = 32;
/// What fits into the middle layer of a descriptor, in bytes: the most of its padded lengths that
/// keep the whole under 50 000 (rend-spec-v3 2.5.1.1).
const MIDDLE_LEN_MAX: usize = 30_000;
/// What the middle layer has besides clients and points, in bytes.
const MIDDLE_HEAD_LEN: usize = 500;
/// A client in the middle layer, in bytes; they stand there in sixteens.
const CLIENT_LEN: usize = 70;
/// An introduction point in the middle layer, encrypted, in bytes.
const POINT_LEN: usize = 1060;

/// How fast an introduction point may hand introductions on (rend-spec-v3 3.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DosLimits {
    /// A second, on average; 0 for no limit.
    pub rate: u32,
    /// At once; at least `rate`.
    pub burst: u32,
}

/// A service to host.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Its identity, from which the address follows.
    pub identity: ExpandedKeypair,
    /// Its virtual ports.
    pub ports: Vec<u16>,
    /// The keys of the clients that may visit it; empty: all may.
    pub clients: Vec<curve25519::PublicKey>,
    /// Addresses in whose descriptors its introduction points stand, too (`MasterOnionAddress`): at
    /// most [`MASTERS_MAX`].
    pub masters: Vec<OnionAddress>,
    /// How many introduction points it wants: [`INTRO_POINTS_DEFAULT`] to [`INTRO_POINTS_MAX`].
    pub intro_points: usize,
    /// What its introduction points are asked to hold back.
    pub dos: Option<DosLimits>,
    /// Most streams of one rendezvous circuit at once (`HiddenServiceMaxStreams`).
    pub streams_max: Option<usize>,
    /// The most rendezvous circuits that the service may have at once.
    pub circuits_max: usize,
    /// Whether a circuit with more streams is closed, rather than the stream refused
    /// (`HiddenServiceMaxStreamsCloseCircuit`).
    pub closes_on_excess: bool,
    /// Whether a visitor who asks for ports that it does not have keeps his circuit, however often
    /// (`HiddenServiceAllowUnknownPorts`).
    pub allows_unknown_ports: bool,
}

impl ServiceConfig {
    /// A service with everything as usual.
    pub fn new(identity: ExpandedKeypair, ports: Vec<u16>) -> Self {
        ServiceConfig {
            identity,
            ports,
            clients: Vec::new(),
            masters: Vec::new(),
            intro_points: INTRO_POINTS_DEFAULT,
            dos: None,
            streams_max: None,
            circuits_max: CIRCUITS_MAX_DEFAULT,
            closes_on_excess: false,
            allows_unknown_ports: false,
        }
    }

    /// The configuration within the bounds of the specification, and of a descriptor: clients
    /// beyond [`CLIENTS_MAX`] are left out; more points are left out than clients.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.clients.truncate(CLIENTS_MAX);
        self.masters.truncate(MASTERS_MAX);
        let clients = self.clients.len().next_multiple_of(16).max(16);
        let left = MIDDLE_LEN_MAX - MIDDLE_HEAD_LEN - clients * CLIENT_LEN;
        let points_max = INTRO_POINTS_MAX.min(left / POINT_LEN);
        self.intro_points = self.intro_points.clamp(INTRO_POINTS_DEFAULT, points_max);
        self
    }
}

/// What happened to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceOutcome {
    /// Its descriptors stand at enough HSDirs for a visitor to find one. Told once.
    Published {
        /// The service that can be found.
        service: ServiceId,
    },
}
