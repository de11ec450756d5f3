//! Path selection: which three relays a circuit goes through (path-spec 2.2).
//!
//! The exit is drawn first, by exit policy and bandwidth weight, then the first fitting guard is
//! taken in the order that the guards give, then the middle is drawn. No relay stands twice in a
//! path, no two of one family, no two in one /16 (IPv4) or /32 (IPv6); all are Running and Valid,
//! and Fast and Stable where the network has such. If a choice leads nowhere, the next is tried, so
//! that a path is found wherever there is one ([`PAIRS_MAX`] bounds the work).

pub mod onion;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use cepa_circuit::CongestionParams;
use cepa_circuit::handshake::{CongestionRequest, HopKey, HopSpec};
use cepa_crypto::layer::Cipher;
use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_dir::{NetworkView, Relay, Role};
use cepa_link::PeerExpectation;
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::name;
use cepa_netdoc::routerstatus::Flags;
use cepa_pt::BridgeLine;
use cepa_wire::linkspec::LinkSpecifiers;

use crate::select::rules::Permits;

/// Ports whose connections live long, and so want Stable relays (path-spec 2.2; `LongLivedPorts`).
pub const LONG_LIVED_PORTS: [u16; 12] = [
    21, 22, 706, 1863, 5050, 5190, 5222, 5223, 6523, 6667, 6697, 8300,
];
/// Pairs of exit and guard that are looked at for one path.
const PAIRS_MAX: usize = 1000;
/// The subprotocol version of Relay that promises ntor-v3 (tor-spec 9.1).
const RELAY_NTOR_V3: u8 = 4;
/// Those that promise CGO: to take a demand for it, and the cipher itself (tor-spec 9.1).
const RELAY_CGO: [u8; 2] = [5, 6];
/// The version of FlowCtrl that is congestion control (proposal 324, 2.2).
pub(crate) const FLOW_CTRL_CONGESTION: u8 = 2;

/// What the last hop must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitNeed {
    /// Connect to a port.
    Port {
        /// The port of the destination.
        port: u16,
        /// At an IPv6 address; else at an IPv4 address or a name.
        is_ipv6: bool,
    },
    /// Anything, such as to look names up.
    Any,
}

impl ExitNeed {
    /// Whether a relay's exit policy allows it.
    #[must_use]
    pub fn is_met_by(&self, relay: &Relay) -> bool {
        match *self {
            ExitNeed::Port {
                port,
                is_ipv6: true,
            } => relay.policy_v6().allows(port),
            ExitNeed::Port { port, .. } => relay.policy().allows(port),
            ExitNeed::Any => !relay.policy().is_reject_all(),
        }
    }

    /// Whether the path should be of Stable relays, where connections to these ports live long.
    #[must_use]
    pub fn wants_stable(&self, long_lived: &[u16]) -> bool {
        matches!(self, ExitNeed::Port { port, .. } if long_lived.contains(port))
    }
}

/// Why there is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No exit that may be used allows what is needed.
    #[error("no exit allows that")]
    NoExit,
    /// The relays at hand make no path.
    #[error("no three relays make a path")]
    NoPath,
}

/// A path: guard, middle, exit.
#[derive(Debug, Clone)]
pub struct Path {
    /// The relays, the guard first.
    pub hops: [Relay; 3],
}

/// Which relays may stand where in a path.
#[derive(Debug, Clone, Copy)]
pub struct PathRules<'a> {
    /// What the exit must do.
    pub need: ExitNeed,
    /// First hops, best first.
    pub entries: &'a [RsaId],
    /// The relays that these are, if bridges are in use: then they are looked for nowhere else.
    pub bridges: Option<&'a BTreeMap<RsaId, Relay>>,
    /// What the operator's rules allow.
    pub permits: &'a Permits,
    /// Exits that have failed at this.
    pub excluded_exits: &'a [RsaId],
    /// Whether no two relays may be of one /16 (IPv4) or /32 (IPv6): path-spec 2.2.
    pub distinct_subnets: bool,
    /// Ports whose streams live long ([`LONG_LIVED_PORTS`]).
    pub long_lived: &'a [u16],
}

impl PathRules<'_> {
    /// Whether two relays may stand in one path.
    pub(crate) fn may_share_path(&self, a: &Relay, b: &Relay) -> bool {
        let is_near = self.distinct_subnets && a.is_near(b);
        let is_family = a.is_family_of(b) || self.permits.are_family(&a.rsa_id, &b.rsa_id);
        a.rsa_id != b.rsa_id && !is_family && !is_near
    }
}

/// Which flags are asked for beside Running and Valid; asked for less where nothing is found.
#[derive(Debug, Clone, Copy)]
struct Quality(Flags);

impl Quality {
    fn steps(wants_stable: bool) -> impl Iterator<Item = Quality> {
        let first = wants_stable.then_some(Quality(Flags::FAST | Flags::STABLE));
        first
            .into_iter()
            .chain([Quality(Flags::FAST), Quality(Flags::NONE)])
    }

    fn is_met_by(self, relay: &Relay) -> bool {
        relay.flags.contains(Flags::RUNNING | Flags::VALID) && relay.flags.contains(self.0)
    }
}

/// Chooses a path of three hops: the exit first, then the guard, then the middle.
pub fn choose(view: &NetworkView, rules: &PathRules<'_>, rng: &mut Rng) -> Result<Path, PathError> {
    let mut error = PathError::NoExit;
    for quality in Quality::steps(rules.need.wants_stable(rules.long_lived)) {
        match choose_at(view, rules, quality, rng) {
            Ok(path) => return Ok(path),
            Err(PathError::NoPath) => error = PathError::NoPath,
            Err(PathError::NoExit) => {}
        }
    }
    Err(error)
}

/// Whether any exit, however slow, allows something.
#[must_use]
pub fn has_exit(view: &NetworkView, rules: &PathRules<'_>) -> bool {
    let quality = Quality(Flags::NONE);
    view.relays()
        .iter()
        .any(|relay| is_exit(relay, rules, quality))
}

fn is_exit(relay: &Relay, rules: &PathRules<'_>, quality: Quality) -> bool {
    quality.is_met_by(relay)
        && !relay.flags.contains(Flags::BAD_EXIT)
        && !relay.flags.contains(Flags::MIDDLE_ONLY)
        && rules.need.is_met_by(relay)
        && rules.permits.of(&relay.rsa_id).exit
        && !rules.excluded_exits.contains(&relay.rsa_id)
}

/// Whoever allows the port may be the exit, with the Exit flag or not, as in `tor`: the weights say
/// how often.
fn choose_at(
    view: &NetworkView,
    rules: &PathRules<'_>,
    quality: Quality,
    rng: &mut Rng,
) -> Result<Path, PathError> {
    let mut exits: Vec<(&Relay, u64)> = view
        .relays()
        .iter()
        .filter(|relay| is_exit(relay, rules, quality))
        .map(|relay| (relay, view.weight(relay, Role::Exit)))
        .collect();
    if exits.is_empty() {
        return Err(PathError::NoExit);
    }
    let entries = first_hops(view, rules.entries, rules.bridges, rules.permits);
    let mut pairs = 0;
    while let Some(exit) = draw(&mut exits, rng) {
        for &entry in entries
            .iter()
            .filter(|entry| rules.may_share_path(entry, exit))
        {
            if let Some(middle) = choose_middle(view, rules, quality, [entry, exit], rng) {
                let hops = [entry.clone(), middle.clone(), exit.clone()];
                return Ok(Path { hops });
            }
            pairs += 1;
            if pairs >= PAIRS_MAX {
                return Err(PathError::NoPath);
            }
        }
    }
    Err(PathError::NoPath)
}

/// Those that may be first hops now, best first. Guards that are bridges have been judged by the
/// rules as such; permits are about relays of the consensus.
fn first_hops<'v>(
    view: &'v NetworkView,
    entries: &[RsaId],
    bridges: Option<&'v BTreeMap<RsaId, Relay>>,
    permits: &Permits,
) -> Vec<&'v Relay> {
    let entries = entries.iter();
    match bridges {
        Some(bridges) => entries.filter_map(|id| bridges.get(id)).collect(),
        None => entries
            .filter_map(|id| view.relay(id))
            .filter(|relay| Quality(Flags::NONE).is_met_by(relay))
            .filter(|relay| permits.of(&relay.rsa_id).first)
            .collect(),
    }
}

fn choose_middle<'v>(
    view: &'v NetworkView,
    rules: &PathRules<'_>,
    quality: Quality,
    ends: [&Relay; 2],
    rng: &mut Rng,
) -> Option<&'v Relay> {
    view.choose(rng, Role::Middle, |relay| {
        quality.is_met_by(relay)
            && rules.permits.of(&relay.rsa_id).middle
            && ends.iter().all(|end| rules.may_share_path(end, relay))
    })
}

/// Takes one out by weight; by mere chance if none has any.
fn draw<'v>(left: &mut Vec<(&'v Relay, u64)>, rng: &mut Rng) -> Option<&'v Relay> {
    let total = left
        .iter()
        .fold(0_u64, |sum, (_, weight)| sum.saturating_add(*weight));
    let at = if total == 0 {
        usize::try_from(rng.below(left.len() as u64)).ok()?
    } else {
        let mut point = rng.below(total);
        left.iter().position(|(_, weight)| {
            let rest = point.checked_sub(*weight);
            point = rest.unwrap_or(point);
            rest.is_none()
        })?
    };
    (at < left.len()).then(|| left.swap_remove(at).0)
}

impl fmt::Display for Path {
    /// As `tor` writes paths (control-spec 2.4, LongName).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.hops.each_ref();
        let names = names.map(|hop| format!("${}~{}", hop.rsa_id, hop.nickname));
        f.write_str(&names.join(","))
    }
}

impl Path {
    /// Whether all of its relays are Stable.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        let mut hops = self.hops.iter();
        hops.all(|hop| hop.flags.contains(Flags::STABLE))
    }

    /// What to connect to, the first hop, and the hops behind it.
    #[must_use]
    pub fn specs(&self, params: &Params) -> (LinkTarget, HopSpec, Vec<HopSpec>) {
        let [entry, middle, exit] = &self.hops;
        let rest = vec![hop(middle, params), hop(exit, params)];
        (link_target(entry), hop(entry, params), rest)
    }
}

/// The relay to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The RSA identity that it must prove; of a nameless bridge, what stands for one.
    pub rsa: RsaId,
    /// The Ed25519 identity that it must prove, if it is known.
    pub ed: Option<Ed25519Id>,
    /// Where it listens; IPv4 before IPv6. Not empty.
    pub addrs: Vec<SocketAddr>,
    /// The lines of the bridge that it is, each with the address of that place; empty of a relay
    /// of the consensus.
    pub lines: Vec<Arc<BridgeLine>>,
    /// Whether it is a bridge of which no identity is known: whatever it proves is taken.
    pub is_nameless: bool,
}

impl LinkTarget {
    /// Who must answer there.
    #[must_use]
    pub fn expectation(&self) -> PeerExpectation {
        PeerExpectation {
            rsa: (!self.is_nameless).then_some(self.rsa),
            ed: self.ed,
        }
    }
}

/// Where a relay is and who it must be.
#[must_use]
pub fn link_target(relay: &Relay) -> LinkTarget {
    let mut addrs = vec![SocketAddr::V4(relay.or_addr)];
    addrs.extend(relay.or_addr_v6);
    LinkTarget {
        rsa: relay.rsa_id,
        ed: relay
            .ed25519_id
            .filter(|_| relay.protocols.supports(name::LINK_AUTH, 3)),
        addrs,
        lines: Vec::new(),
        is_nameless: false,
    }
}

/// A relay as a hop of a circuit in a network of these parameters: its Ed25519 identity is told
/// only where the network wants that (`ExtendByEd25519ID`), and it is asked for congestion control
/// and CGO if it knows them.
#[must_use]
pub fn hop(relay: &Relay, params: &Params) -> HopSpec {
    let with_ed = params.value("ExtendByEd25519ID", 0, 0, 1) == 1;
    HopSpec {
        congestion: congestion_of(relay, params),
        ..hop_spec(relay, with_ed)
    }
}

/// Where a relay is and which keys it must prove, with its Ed25519 identity or without; ntor-v3 is
/// spoken with all that know it.
#[must_use]
pub fn hop_spec(relay: &Relay, with_ed: bool) -> HopSpec {
    let knows_v3 = relay.protocols.supports(name::RELAY, RELAY_NTOR_V3);
    let key = match relay.ed25519_id.filter(|_| knows_v3) {
        Some(ed) => HopKey::NtorV3 {
            ed,
            onion_key: relay.ntor_key,
        },
        None => HopKey::Ntor {
            rsa: relay.rsa_id,
            onion_key: relay.ntor_key,
        },
    };
    let ed = relay.ed25519_id.filter(|_| with_ed);
    HopSpec {
        link_specifiers: LinkSpecifiers::new(Some(relay.or_addr), relay.rsa_id, ed, None),
        key,
        congestion: None,
    }
}

/// The parameters of congestion control in a consensus.
#[must_use]
pub fn congestion_params(params: &Params) -> CongestionParams {
    CongestionParams::read(|name, default, min, max| params.value(name, default, min, max))
}

/// The congestion control to ask a relay for: if the consensus wants it and the relay knows it
/// (proposal 324, 10.1). The cipher is CGO where the relay knows that too. Every hop is asked, as
/// by `tor` from 0.4.9.12 on: a layer without CGO can be changed unnoticed by who is before it
/// (TROVE-2026-033).
#[must_use]
fn congestion_of(relay: &Relay, params: &Params) -> Option<CongestionRequest> {
    let knows = |name, version| relay.protocols.supports(name, version);
    let knows_relay = |versions: &[u8]| versions.iter().all(|version| knows(name::RELAY, *version));
    let is_known = knows(name::FLOW_CTRL, FLOW_CTRL_CONGESTION) && knows_relay(&[RELAY_NTOR_V3]);
    let cipher = if knows_relay(&RELAY_CGO) {
        Cipher::Cgo
    } else {
        Cipher::Tor1
    };
    let params = is_known.then(|| congestion_params(params));
    let params = Arc::new(params.filter(|params| params.is_enabled)?);
    Some(CongestionRequest { params, cipher })
}

#[cfg(test)]
mod tests;
