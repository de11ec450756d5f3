//! What both sides of the handshake do to the wire: write cells, and keep the digests of all that
//! was sent and received, which AUTHENTICATE binds together (tor-spec 4.4).
//!
//! Every cell enters its digest with its header, VPADDING too; only a received AUTHENTICATE does
//! not, since it contains the digest.

use std::net::SocketAddr;

use cepa_crypto::digest::Sha256Running;
use cepa_wire::Now;
use cepa_wire::auth::AuthChallenge;
use cepa_wire::cell::{self, CellRef, CircId, CircIdLen, Command};
use cepa_wire::certs::{self, CertsType};
use cepa_wire::netinfo::Netinfo;
use cepa_wire::versions::{self, Versions};

use super::{Established, HandshakeError, Next, body_of, command_of};
use crate::identity::{LinkIdentity, PeerIdentity};

/// The wire of one handshake.
pub(super) struct Wire {
    peer_addr: SocketAddr,
    /// The link protocols that we offer.
    versions: &'static [u16],
    version: Option<u16>,
    output: Vec<u8>,
    sent: Sha256Running,
    received: Sha256Running,
    received_bytes: usize,
}

impl Wire {
    pub(super) fn new(peer_addr: SocketAddr, versions: &'static [u16]) -> Self {
        Wire {
            peer_addr,
            versions,
            version: None,
            output: Vec::new(),
            sent: Sha256Running::new(),
            received: Sha256Running::new(),
            received_bytes: 0,
        }
    }

    pub(super) fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    pub(super) fn version(&self) -> Option<u16> {
        self.version
    }

    pub(super) fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Circuit ids have two bytes until the peer's VERSIONS has come.
    pub(super) fn circ_id_len(&self) -> CircIdLen {
        if self.version.is_some() {
            CircIdLen::Four
        } else {
            CircIdLen::Two
        }
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub(super) fn record_received(&mut self, command: Command, cell: &[u8]) {
        self.received_bytes += cell.len();
        if command != Command::AUTHENTICATE {
            self.received.update(cell);
        }
    }

    /// The digest of all that was sent so far.
    pub(super) fn sent_sha256(&self) -> [u8; 32] {
        self.sent.clone().finish()
    }

    /// The digest of all that was received so far.
    pub(super) fn received_sha256(&self) -> [u8; 32] {
        self.received.clone().finish()
    }

    fn send_variable(&mut self, len: CircIdLen, command: Command, body: &[u8]) {
        let start = self.output.len();
        cell::write_variable(&mut self.output, len, command, body)
            .expect("certificates of ours are a few hundred bytes");
        self.sent
            .update(self.output.get(start..).unwrap_or_default());
    }

    pub(super) fn send_versions(&mut self) {
        let mut body = Vec::new();
        versions::write(self.versions, &mut body).expect("two versions fit");
        self.send_variable(CircIdLen::Two, Command::VERSIONS, &body);
    }

    /// Padding, which peers may send before VERSIONS already; we have no use for it.
    #[cfg(test)]
    pub(super) fn send_vpadding(&mut self) {
        self.send_variable(CircIdLen::Two, Command::VPADDING, &[0; 11]);
    }

    pub(super) fn send_certs(&mut self, certs: &[(CertsType, &[u8])]) {
        let mut body = Vec::new();
        certs::write(certs, &mut body).expect("certificates of ours are a few hundred bytes");
        self.send_variable(CircIdLen::Four, Command::CERTS, &body);
    }

    pub(super) fn send_auth_challenge(&mut self, challenge: &AuthChallenge) {
        let mut body = Vec::new();
        challenge.write(&mut body).expect("one method fits");
        self.send_variable(CircIdLen::Four, Command::AUTH_CHALLENGE, &body);
    }

    pub(super) fn send_authenticate(&mut self, body: &[u8]) {
        self.send_variable(CircIdLen::Four, Command::AUTHENTICATE, body);
    }

    /// A client (no identity) tells neither its time nor its addresses.
    pub(super) fn send_netinfo(&mut self, identity: Option<&LinkIdentity>, now: Now) {
        let netinfo = Netinfo {
            timestamp: identity.map_or(0, |_| wall_u32(now)),
            other_address: self.peer_addr.ip().to_canonical(),
            own_addresses: identity.map_or(Vec::new(), |identity| identity.addresses().to_vec()),
        };
        let mut cell = cell::new_cell(CircId::NONE, Command::NETINFO);
        netinfo
            .write(cell::payload_mut(&mut cell))
            .expect("LinkIdentity bounds its addresses");
        self.sent.update(&cell);
        self.output.extend_from_slice(&cell);
    }

    /// Takes the peer's VERSIONS; sets the link protocol.
    pub(super) fn read_versions(&mut self, cell: CellRef<'_>) -> Result<(), HandshakeError> {
        let body = match cell {
            CellRef::Variable(cell) if cell.command == Command::VERSIONS => cell.body,
            other => {
                let got = command_of(other);
                return Err(HandshakeError::Unexpected {
                    expected: "VERSIONS",
                    got,
                });
            }
        };
        let version = Versions::read(body)?.highest_common(self.versions);
        self.version = Some(version.ok_or(HandshakeError::NoCommonVersion)?);
        Ok(())
    }

    /// Takes the peer's NETINFO, which opens the link.
    pub(super) fn read_netinfo(
        &self,
        cell: CellRef<'_>,
        initiator: bool,
        peer: Option<PeerIdentity>,
        now: Now,
    ) -> Result<Next, HandshakeError> {
        let netinfo = match cell {
            CellRef::Fixed(cell) if cell::command(cell) == Command::NETINFO => {
                Netinfo::read(cell::payload(cell))?
            }
            other => {
                let got = command_of(other);
                return Err(HandshakeError::Unexpected {
                    expected: "NETINFO",
                    got,
                });
            }
        };
        let peer_ip = self.peer_addr.ip().to_canonical();
        let timestamp = Some(netinfo.timestamp).filter(|timestamp| *timestamp != 0);
        let canonical = peer.is_some() && netinfo.own_addresses.contains(&peer_ip);
        Ok(Next::Open(Box::new(Established {
            version: self.version.unwrap_or_default(),
            initiator,
            peer,
            peer_addr: self.peer_addr,
            my_addr_seen: netinfo.other_address,
            clock_skew_secs: timestamp.map(|theirs| i64::from(theirs) - i64::from(wall_u32(now))),
            canonical,
            peer_addrs: netinfo.own_addresses,
        })))
    }
}

/// The wall clock as NETINFO has it: 32 bits of seconds.
fn wall_u32(now: Now) -> u32 {
    u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX)
}

/// The body of a CERTS cell.
pub(super) fn certs_body(cell: CellRef<'_>) -> Result<&[u8], HandshakeError> {
    body_of(cell, Command::CERTS, "CERTS")
}
