//! Bridges: first hops that no consensus lists, of which the operator has lines (guard-spec 2.A;
//! `UseBridges` and `Bridge` in tor(1)).
//!
//! ```text
//! line ─▶ who it is: by the line, or by the first link ─▶ its descriptor ─▶ first hop of paths
//! ```
//!
//! Lines that name one bridge are ways to it, tried in their order. A line without a fingerprint
//! has a stand-in for an identity until a link has proven one. While bridges are in use, no
//! other relay is a first hop, nor connected to for anything else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, RsaId, digest};
use cepa_dir::Relay;
use cepa_link::PeerIdentity;
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::microdesc::{self, Microdesc};
use cepa_netdoc::routerstatus::Flags;
use cepa_pt::BridgeLine;

use super::guards::GuardCandidate;
use super::paths::LinkTarget;
use super::rules::{Rules, Subject};

/// Most bridges: those of a sample of guards.
pub(crate) const BRIDGES_MAX: usize = 200;
/// The consensus method by which a bridge's descriptor is cut to what paths need: families by list
/// and by key, with or without a TAP key.
const METHOD: u32 = microdesc::METHOD_TAP_OPTIONAL;

/// A bridge.
#[derive(Debug, Clone)]
struct Bridge {
    /// The ways to it; not empty.
    lines: Vec<Arc<BridgeLine>>,
    /// Whether its key is no identity, but a stand-in.
    is_nameless: bool,
    /// Its Ed25519 identity, once a link has proven it.
    ed: Option<Ed25519Id>,
}

/// The bridges of a client, by their RSA identities.
#[derive(Debug, Default)]
pub(crate) struct Bridges {
    by_id: BTreeMap<RsaId, Bridge>,
    /// As first hops: those whose descriptors are known. None: bridges are not in use.
    relays: Option<BTreeMap<RsaId, Relay>>,
}

/// Why a descriptor is not that of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BridgeDescriptorError {
    /// It is another relay's.
    #[error("it is the descriptor of another relay")]
    Other,
    /// Nothing that paths need can be read of it.
    #[error("its keys or protocols cannot be read")]
    Unreadable,
}

impl Bridges {
    /// Uses these bridges and no other first hops; with no lines, none. What is known of bridges
    /// that stay is kept.
    pub(crate) fn set(&mut self, lines: &[BridgeLine]) {
        let before = std::mem::take(self);
        for line in lines.iter().take(BRIDGES_MAX) {
            let stand_in = stand_in(line);
            let known = before.by_id.iter().find(|(id, bridge)| {
                let is_it = |one: &Arc<BridgeLine>| **one == *line;
                bridge.lines.iter().any(is_it) || line.fingerprint == Some(**id)
            });
            let id = known.map_or(line.fingerprint.unwrap_or(stand_in), |(id, _)| *id);
            let bridge = self.by_id.entry(id).or_insert_with(|| Bridge {
                lines: Vec::new(),
                is_nameless: id == stand_in,
                ed: known.and_then(|(_, bridge)| bridge.ed),
            });
            bridge.lines.push(Arc::new(line.clone()));
        }
        self.relays = (!lines.is_empty()).then(|| {
            let mut relays = before.relays.unwrap_or_default();
            relays.retain(|id, _| self.by_id.contains_key(id));
            relays
        });
    }

    /// Whether only bridges are first hops.
    pub(crate) fn is_in_use(&self) -> bool {
        self.relays.is_some()
    }

    /// The bridges whose descriptors are known; `None` if bridges are not in use.
    pub(crate) fn relays(&self) -> Option<&BTreeMap<RsaId, Relay>> {
        self.relays.as_ref()
    }

    /// Whether no path can begin, as no descriptor of a bridge is known.
    pub(crate) fn are_awaited(&self) -> bool {
        self.relays.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// The bridge of an identity, if its descriptor is known.
    pub(crate) fn relay(&self, id: &RsaId) -> Option<&Relay> {
        self.relays.as_ref()?.get(id)
    }

    /// The stand-ins of those whose identities are not known.
    pub(crate) fn nameless(&self) -> impl Iterator<Item = RsaId> {
        let nameless = self.by_id.iter().filter(|(_, one)| one.is_nameless);
        nameless.map(|(id, _)| *id)
    }

    /// Whether it is one of them, by identity or stand-in.
    pub(crate) fn contains(&self, id: &RsaId) -> bool {
        self.by_id.contains_key(id)
    }

    /// How a bridge is connected to.
    pub(crate) fn target(&self, id: &RsaId) -> Option<LinkTarget> {
        let bridge = self.by_id.get(id)?;
        Some(LinkTarget {
            rsa: *id,
            ed: bridge.ed,
            addrs: bridge.lines.iter().map(|line| line.addr).collect(),
            lines: bridge.lines.clone(),
            is_nameless: bridge.is_nameless,
        })
    }

    /// A link to a bridge has proven who it is. True if that was not known before.
    pub(crate) fn handle_identity(&mut self, id: &RsaId, peer: &PeerIdentity) -> bool {
        let Some(mut bridge) = self.by_id.remove(id) else {
            return false;
        };
        let is_news = bridge.is_nameless || bridge.ed.is_none();
        bridge.ed = Some(peer.ed);
        if std::mem::take(&mut bridge.is_nameless) {
            tracing::info!(bridge = %bridge.shown(), identity = %peer.rsa, "a bridge is known now");
        }
        match self.by_id.get_mut(&peer.rsa) {
            Some(known) => known.lines.append(&mut bridge.lines),
            None => {
                self.by_id.insert(peer.rsa, bridge);
            }
        }
        is_news
    }

    /// Takes the descriptor that a bridge has given. True if there was none of it.
    pub(crate) fn handle_descriptor(
        &mut self,
        id: &RsaId,
        descriptor: &ServerDescriptor,
    ) -> Result<bool, BridgeDescriptorError> {
        let bridge = self.by_id.get(id).ok_or(BridgeDescriptorError::Other)?;
        let is_of =
            descriptor.identity == *id && bridge.ed.is_none_or(|ed| ed == descriptor.ed25519);
        if !is_of {
            return Err(BridgeDescriptorError::Other);
        }
        let relay = bridge.relay(descriptor);
        let relay = relay.ok_or(BridgeDescriptorError::Unreadable)?;
        let relays = self.relays.as_mut().ok_or(BridgeDescriptorError::Other)?;
        Ok(relays.insert(*id, relay).is_none())
    }

    /// As guards: those whose identities are known.
    pub(crate) fn candidates(&self, rules: &Rules) -> Vec<GuardCandidate> {
        let named = self.by_id.iter().filter(|(_, bridge)| !bridge.is_nameless);
        named
            .map(|(id, bridge)| {
                let nickname = self.relay(id).map_or("", |relay| &relay.nickname);
                let is_excluded =
                    |line: &Arc<BridgeLine>| rules.excludes(&Subject::at(id, nickname, line.addr));
                GuardCandidate {
                    rsa: *id,
                    ed: bridge.ed,
                    nickname: nickname.to_owned(),
                    bridge: bridge.lines.first().map(|line| line.addr),
                    weight: 1,
                    allowed: !bridge.lines.iter().any(is_excluded)
                        && bridge
                            .lines
                            .iter()
                            .any(|line| rules.reach.allows(line.addr)),
                }
            })
            .collect()
    }

    /// A bridge as it stands in its line, for the log.
    pub(crate) fn shown(&self, id: &RsaId) -> String {
        self.by_id.get(id).map_or_else(String::new, Bridge::shown)
    }
}

impl Bridge {
    fn shown(&self) -> String {
        let shown = |line: &Arc<BridgeLine>| match &line.transport {
            Some(transport) => format!("{transport} {}", line.addr),
            None => line.addr.to_string(),
        };
        self.lines.first().map_or_else(String::new, shown)
    }

    /// The bridge as a first hop. Where it listens is what its lines say, not what it says itself:
    /// it may be behind an address that is not its own. A transport's address may be made up.
    fn relay(&self, descriptor: &ServerDescriptor) -> Option<Relay> {
        let microdesc = microdesc::from_descriptor(descriptor, METHOD)?;
        let microdesc = Microdesc::parse(&microdesc).ok()?;
        let plain = self.lines.iter().filter(|line| line.transport.is_none());
        let (mut or_addr, mut or_addr_v6) = (descriptor.or_address, descriptor.or_address_v6);
        for line in plain {
            match line.addr {
                SocketAddr::V4(addr) => or_addr = addr,
                SocketAddr::V6(addr) => or_addr_v6 = Some(addr),
            }
        }
        Some(Relay {
            nickname: descriptor.nickname.clone(),
            rsa_id: descriptor.identity,
            ed25519_id: Some(descriptor.ed25519),
            ntor_key: descriptor.ntor_onion_key,
            or_addr,
            or_addr_v6: or_addr_v6.map(SocketAddr::V6),
            flags: Flags::GUARD
                | Flags::FAST
                | Flags::STABLE
                | Flags::RUNNING
                | Flags::VALID
                | Flags::V2_DIR,
            bandwidth: 0,
            protocols: Arc::new(descriptor.protocols()?),
            microdesc: Arc::new(microdesc),
        })
    }
}

/// What stands for the identity of a bridge that its line does not tell: nobody's in fact.
fn stand_in(line: &BridgeLine) -> RsaId {
    RsaId::from(digest::sha1(format!("bridge {line}").as_bytes()))
}
