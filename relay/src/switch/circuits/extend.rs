//! One hop more: EXTEND2, the channel for it, CREATE2, CREATED2, EXTENDED2 (tor-spec 5.1.2, 5.3).
//!
//! Refused, with the end of the circuit, are: a second hop or a second attempt, handshakes of the
//! past, no or zero identity, ourselves, the hop that the circuit comes from, no address that may
//! be connected to. An Ed25519 identity that the client left out is filled in from the consensus,
//! so that the channel found or opened is to the relay that the client has in mind.

use std::net::SocketAddr;

use cepa_circuit::CircuitKey;
use cepa_link::{ChannelKey, PeerIdentity};
use cepa_netdoc::policy::is_internal;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command as CellCommand};
use cepa_wire::create::{Create2, Created2, HandshakeType};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::extend::{Extend2, ExtendError, Extended2};
use cepa_wire::linkspec::LinkSpecifier;
use cepa_wire::relay::{RelayCommand, StreamId};
use smallvec::SmallVec;
use tracing::debug;

use super::Circuits;
use super::circuit::{Circuit, Hop, Next, Wanted};
use crate::switch::command::{Command, LinkTarget};
use crate::switch::config::SwitchConfig;
use crate::switch::handover::CircuitItem;
use crate::switch::place::{Side, WorkerId};
use crate::switch::shared::Shared;

/// Why an EXTEND2 is refused; the consequence is DESTROY with reason 1 (PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ExtendRefused {
    #[error("the circuit has a next hop, or is getting one")]
    Pending,
    #[error(transparent)]
    Malformed(#[from] ExtendError),
    #[error("handshake type {0}")]
    Handshake(HandshakeType),
    #[error("no RSA identity, or one of zeros")]
    NoIdentity,
    #[error("to ourselves")]
    Ourselves,
    #[error("back to the previous hop")]
    Previous,
    #[error("no address that may be connected to")]
    NoAddress,
    #[error("the onionskin is too long for a CREATE2 cell")]
    TooLong,
}

impl Circuits {
    pub(crate) fn handle_extend2(&mut self, key: CircuitKey, data: &[u8], shared: &mut Shared) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        match check_extend2(circuit, data, shared) {
            Ok((target, wanted)) => {
                circuit.next = Next::Wanted(wanted);
                let circuit = key;
                let needed = Command::NeedChannel { circuit, target };
                shared.commands.push_back(needed);
            }
            Err(refused) => {
                debug!(%refused, "EXTEND2 refused");
                self.destroy(key, DestroyReason::PROTOCOL, shared);
            }
        }
    }

    /// The answer to [`Command::NeedChannel`].
    pub(crate) fn handle_channel_found(
        &mut self,
        key: CircuitKey,
        found: Option<(WorkerId, ChannelKey)>,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let Next::Wanted(wanted) = std::mem::replace(&mut circuit.next, Next::None) else {
            debug_assert!(false, "a channel was found that nobody asked for");
            return self.destroy(key, DestroyReason::INTERNAL, shared);
        };
        let create = Box::new(wanted.create);
        let Some((worker, channel)) = found else {
            return self.destroy(key, DestroyReason::CONNECTFAILED, shared);
        };
        let named = shared.outbox.next_of(key);
        if worker != shared.outbox.own {
            circuit.next = Next::Creating(Hop {
                worker,
                channel,
                circ_id: CircId::NONE,
            });
            let item = CircuitItem::Open {
                circuit: named,
                channel,
                create,
            };
            return shared.outbox.push(worker, item);
        }
        let (channels, rng) = (&mut shared.channels, &mut shared.rng);
        match channels.send_create2(channel, named, &create, rng, now) {
            Some(circ_id) => {
                circuit.next = Next::Creating(Hop {
                    worker,
                    channel,
                    circ_id,
                });
            }
            None => self.destroy(key, DestroyReason::CONNECTFAILED, shared),
        }
    }

    /// CREATED2, or a reply to what we never send, on a channel of ours.
    pub(crate) fn handle_from_next(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(place) = shared.channels.circuit(channel, cell::circ_id(cell)) else {
            return;
        };
        match place.side {
            Side::Previous => self.destroy(place.circuit, DestroyReason::PROTOCOL, shared),
            Side::Next if place.worker == shared.outbox.own => {
                self.handle_created(place.circuit, cell, shared, now);
            }
            Side::Next => {
                let item = CircuitItem::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                shared.outbox.push(place.worker, item);
            }
        }
    }

    /// The next hop of a circuit of ours has answered CREATE2: the client gets EXTENDED2.
    pub(super) fn handle_created(
        &mut self,
        key: CircuitKey,
        cell: &CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let (Next::Creating(hop), CellCommand::CREATED2) = (&circuit.next, cell::command(cell))
        else {
            return self.destroy(key, DestroyReason::PROTOCOL, shared);
        };
        circuit.next = Next::Open(*hop);
        let mut body = Vec::with_capacity(cell::PAYLOAD_LEN);
        let written = Created2::read(cell::payload(cell))
            .ok()
            .and_then(|created| Extended2 { data: created.data }.write(&mut body).ok());
        if written.is_none() {
            return self.destroy(key, DestroyReason::PROTOCOL, shared);
        }
        let command = RelayCommand::EXTENDED2;
        self.send(key, command, StreamId::NONE, &body, shared, now);
    }
}

/// What an EXTEND2 of a circuit asks for: the channel, and what is to be sent there.
fn check_extend2(
    circuit: &Circuit,
    data: &[u8],
    shared: &Shared,
) -> Result<(LinkTarget, Box<Wanted>), ExtendRefused> {
    if !matches!(circuit.next, Next::None) {
        return Err(ExtendRefused::Pending);
    }
    let extend = Extend2::read(data)?;
    if matches!(
        extend.handshake_type,
        HandshakeType::TAP | HandshakeType::FAST
    ) {
        return Err(ExtendRefused::Handshake(extend.handshake_type));
    }
    let specifiers = &extend.link_specifiers;
    let rsa = specifiers.rsa_id().filter(|rsa| *rsa.as_bytes() != [0; 20]);
    let rsa = rsa.ok_or(ExtendRefused::NoIdentity)?;
    let ed = specifiers
        .ed25519_id()
        .filter(|ed| *ed.as_bytes() != [0; 32]);
    let ed = ed.or_else(|| shared.relays.ed(&rsa));
    let is = |peer: PeerIdentity| peer.rsa == rsa || Some(peer.ed) == ed;
    if is(PeerIdentity {
        rsa: shared.config.rsa,
        ed: shared.config.ed,
    }) {
        return Err(ExtendRefused::Ourselves);
    }
    let asker = circuit.previous.channel;
    if shared.channels.peer(asker).is_some_and(is) {
        return Err(ExtendRefused::Previous);
    }
    let addrs = allowed_addresses(&specifiers.0, &shared.config);
    if addrs.is_empty() {
        return Err(ExtendRefused::NoAddress);
    }
    let create = [0; cell::PAYLOAD_LEN];
    let mut wanted = Box::new(Wanted { rsa, create });
    Create2 {
        handshake_type: extend.handshake_type,
        data: extend.data,
    }
    .write(&mut wanted.create)
    .map_err(|_| ExtendRefused::TooLong)?;
    let target = LinkTarget {
        is_listed: shared.relays.lists(&rsa, ed, &addrs),
        asker,
        rsa,
        ed,
        addrs,
    };
    Ok((target, wanted))
}

/// The addresses that we may connect to, IPv4 before IPv6.
fn allowed_addresses(
    specifiers: &[LinkSpecifier],
    config: &SwitchConfig,
) -> SmallVec<[SocketAddr; 2]> {
    let addresses = specifiers.iter().filter_map(|specifier| match specifier {
        LinkSpecifier::Ipv4(address) => Some(SocketAddr::V4(*address)),
        LinkSpecifier::Ipv6(address) => Some(SocketAddr::V6(*address)),
        _ => None,
    });
    let is_allowed = |address: &SocketAddr| {
        let ip = address.ip();
        address.port() != 0
            && (address.is_ipv4() || config.extend_ipv6)
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && (config.extend_allow_private || !is_internal(ip))
    };
    let mut addrs: SmallVec<[SocketAddr; 2]> = addresses.filter(is_allowed).collect();
    // Stable: of each family the first, as with `tor`.
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.dedup_by_key(|addr| addr.is_ipv6());
    addrs
}
