//! One hop more: EXTEND2, the channel for it, CREATE2, CREATED2, EXTENDED2 (tor-spec 5.1.2, 5.3).
//!
//! Refused, with the end of the circuit, are: a second hop or a second attempt, handshakes of the
//! past, no or zero identity, ourselves, the hop that the circuit comes from, no address that may
//! be connected to. An Ed25519 identity that the client left out is filled in from the consensus,
//! so that the channel found or opened is to the relay that the client has in mind.

use std::net::SocketAddr;

use cepa_circuit::CircuitKey;
use cepa_link::{ChannelKey, CircuitRef, PeerIdentity};
use cepa_netdoc::policy::is_internal;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command as CellCommand, Payload};
use cepa_wire::create::{Create2, Created2, HandshakeType};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::extend::{Extend2, ExtendError, Extended2};
use cepa_wire::linkspec::LinkSpecifier;
use cepa_wire::relay::{RelayCommand, StreamId};
use smallvec::SmallVec;
use tracing::debug;

use super::Switch;
use super::circuit::{Hop, Next, Place, Side, Wanted};
use super::command::{Command, Handover, LinkTarget, WorkerId};

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

impl Switch {
    pub(super) fn handle_extend2(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        match self.check_extend2(key, data) {
            Ok((target, wanted)) => {
                if let Some(circuit) = self.circuits.get_mut(key) {
                    circuit.next = Next::Wanted(wanted);
                    self.commands.push_back(Command::NeedChannel {
                        circuit: key,
                        target,
                    });
                }
            }
            Err(refused) => {
                debug!(%refused, "EXTEND2 refused");
                self.destroy(key, DestroyReason::PROTOCOL, now);
            }
        }
    }

    fn check_extend2(
        &self,
        key: CircuitKey,
        data: &[u8],
    ) -> Result<(LinkTarget, Box<Wanted>), ExtendRefused> {
        let circuit = self.circuits.get(key).ok_or(ExtendRefused::Pending)?;
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
        let ed = ed.or_else(|| self.relays.ed(&rsa));
        let is = |peer: &PeerIdentity| peer.rsa == rsa || Some(peer.ed) == ed;
        if is(&PeerIdentity {
            rsa: self.config.rsa,
            ed: self.config.ed,
        }) {
            return Err(ExtendRefused::Ourselves);
        }
        let previous = self.channels.get(circuit.previous.channel);
        let previous = previous.and_then(|link| link.channel.link().peer.as_ref());
        if previous.is_some_and(is) {
            return Err(ExtendRefused::Previous);
        }
        let addrs = self.allowed_addresses(&specifiers.0);
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
            is_listed: self.relays.lists(&rsa, ed, &addrs),
            asker: circuit.previous.channel,
            rsa,
            ed,
            addrs,
        };
        Ok((target, wanted))
    }

    /// The addresses that we may connect to, IPv4 before IPv6.
    fn allowed_addresses(&self, specifiers: &[LinkSpecifier]) -> SmallVec<[SocketAddr; 2]> {
        let addresses = specifiers.iter().filter_map(|specifier| match specifier {
            LinkSpecifier::Ipv4(address) => Some(SocketAddr::V4(*address)),
            LinkSpecifier::Ipv6(address) => Some(SocketAddr::V6(*address)),
            _ => None,
        });
        let is_allowed = |address: &SocketAddr| {
            let may_be_internal = self.config.extend_allow_private;
            let ip = address.ip();
            address.port() != 0
                && (address.is_ipv4() || self.config.extend_ipv6)
                && !ip.is_unspecified()
                && !ip.is_multicast()
                && (may_be_internal || !is_internal(ip))
        };
        let mut addrs: SmallVec<[SocketAddr; 2]> = addresses.filter(is_allowed).collect();
        // Stable: of each family the first, as with `tor`.
        addrs.sort_by_key(SocketAddr::is_ipv6);
        addrs.dedup_by_key(|addr| addr.is_ipv6());
        addrs
    }

    /// The answer to [`Command::NeedChannel`]: which worker has the channel, and its key there.
    pub fn handle_channel_found(
        &mut self,
        key: CircuitKey,
        found: Option<(WorkerId, ChannelKey)>,
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Next::Wanted(wanted) = std::mem::replace(&mut circuit.next, Next::None) else {
            debug_assert!(false, "a channel was found that nobody asked for");
            return self.destroy(key, DestroyReason::INTERNAL, now);
        };
        let create = Box::new(wanted.create);
        let Some((worker, channel)) = found else {
            return self.destroy(key, DestroyReason::CONNECTFAILED, now);
        };
        let named = Place {
            worker: self.worker,
            circuit: key,
            side: Side::Next,
        }
        .pack();
        if worker != self.worker {
            circuit.next = Next::Creating(Hop {
                worker,
                channel,
                circ_id: CircId::NONE,
            });
            return self.hand_over(
                worker,
                Handover::Open {
                    circuit: named,
                    channel,
                    create,
                },
            );
        }
        match self.send_create(named, channel, &create, now) {
            Some(circ_id) => {
                if let Some(circuit) = self.circuits.get_mut(key) {
                    circuit.next = Next::Creating(Hop {
                        worker,
                        channel,
                        circ_id,
                    });
                }
            }
            None => self.destroy(key, DestroyReason::CONNECTFAILED, now),
        }
    }

    /// Gives a circuit an id on a channel of ours and sends CREATE2 there.
    pub(super) fn send_create(
        &mut self,
        circuit: CircuitRef,
        channel: ChannelKey,
        create: &Payload,
        now: Now,
    ) -> Option<CircId> {
        let link = self.channels.link_mut(channel)?;
        let circ_id = link.channel.allocate(&mut self.rng, circuit).ok()?;
        link.idle_since = None;
        let mut cell = cell::new_cell(circ_id, CellCommand::CREATE2);
        *cell::payload_mut(&mut cell) = *create;
        if self.queue(channel, &cell, now) {
            return Some(circ_id);
        }
        self.forget(channel, circ_id);
        None
    }

    /// CREATED2, or a reply to what we never send, on a channel of ours.
    pub(super) fn handle_from_next(&mut self, channel: ChannelKey, cell: &CellBuf, now: Now) {
        let Some(link) = self.channels.get(channel) else {
            return;
        };
        let Some(circuit) = link.channel.circuit(cell::circ_id(cell)) else {
            return;
        };
        let place = Place::unpack(circuit);
        match place.side {
            Side::Previous => self.destroy(place.circuit, DestroyReason::PROTOCOL, now),
            Side::Next if place.worker == self.worker => {
                self.handle_created(place.circuit, cell, now);
            }
            Side::Next => {
                let item = Handover::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                self.hand_over(place.worker, item);
            }
        }
    }

    /// The next hop of a circuit of ours has answered CREATE2: the client gets EXTENDED2.
    pub(super) fn handle_created(&mut self, key: CircuitKey, cell: &CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let (Next::Creating(hop), CellCommand::CREATED2) = (&circuit.next, cell::command(cell))
        else {
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        };
        circuit.next = Next::Open(*hop);
        let mut body = Vec::with_capacity(cell::PAYLOAD_LEN);
        let written = Created2::read(cell::payload(cell))
            .ok()
            .and_then(|created| Extended2 { data: created.data }.write(&mut body).ok());
        if written.is_none() {
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        }
        self.send_message(key, RelayCommand::EXTENDED2, StreamId::NONE, &body, now);
    }
}
