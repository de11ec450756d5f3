//! The side that was connected to, always a relay (tor-spec 4).
//!
//! ```text
//! ExpectVersions ─VERSIONS→ (we send VERSIONS CERTS AUTH_CHALLENGE NETINFO) ExpectCertsOrNetinfo
//!     ─NETINFO→ open, the peer is a client
//!     ─CERTS→ ExpectAuthenticate ─AUTHENTICATE→ ExpectNetinfo ─NETINFO→ open, the peer is a relay
//! ```

use std::sync::Arc;

use cepa_wire::auth::{AUTH_ED25519, AuthChallenge};
use cepa_wire::cell::{CellRef, Command};

use super::authenticate;
use super::wire::certs_body;
use super::{Context, Expect, HandshakeError, Next, body_of, command_of};
use crate::identity::{LinkIdentity, PeerIdentity};
use crate::peer_certs::{self, AuthenticatingCerts};

pub(super) struct ExpectVersions {
    pub(super) identity: Arc<LinkIdentity>,
}

impl ExpectVersions {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        cx.wire.read_versions(cell)?;
        cx.wire.send_versions();
        cx.wire.send_certs(&self.identity.responder_certs());
        let challenge = AuthChallenge {
            challenge: cx.rng.array(),
            methods: vec![AUTH_ED25519],
        };
        cx.wire.send_auth_challenge(&challenge);
        let responder_log = cx.wire.sent_sha256();
        cx.wire.send_netinfo(Some(&self.identity), cx.now);
        let expect = ExpectCertsOrNetinfo {
            identity: self.identity,
            responder_log,
        };
        Ok(Next::Expect(Expect::ResponderCertsOrNetinfo(expect)))
    }
}

pub(super) struct ExpectCertsOrNetinfo {
    identity: Arc<LinkIdentity>,
    responder_log: [u8; 32],
}

impl ExpectCertsOrNetinfo {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        match command_of(cell) {
            Command::NETINFO => cx.wire.read_netinfo(cell, false, None, cx.now),
            Command::CERTS => {
                let certs = peer_certs::check_initiator(certs_body(cell)?, cx.now)?;
                let ExpectCertsOrNetinfo {
                    identity,
                    responder_log,
                } = self;
                let expect = ExpectAuthenticate {
                    identity,
                    responder_log,
                    certs,
                };
                Ok(Next::Expect(Expect::ResponderAuthenticate(expect)))
            }
            got => Err(HandshakeError::Unexpected {
                expected: "CERTS or NETINFO",
                got,
            }),
        }
    }
}

pub(super) struct ExpectAuthenticate {
    identity: Arc<LinkIdentity>,
    responder_log: [u8; 32],
    certs: AuthenticatingCerts,
}

impl ExpectAuthenticate {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        let body = body_of(cell, Command::AUTHENTICATE, "AUTHENTICATE")?;
        let logs = authenticate::Logs {
            initiator: cx.wire.received_sha256(),
            responder: self.responder_log,
        };
        authenticate::check(body, &self.identity, &self.certs, logs, cx.tls)?;
        let peer = self.certs.peer.identity;
        Ok(Next::Expect(Expect::ResponderNetinfo(ExpectNetinfo {
            peer,
        })))
    }
}

pub(super) struct ExpectNetinfo {
    peer: PeerIdentity,
}

impl ExpectNetinfo {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        cx.wire.read_netinfo(cell, false, Some(self.peer), cx.now)
    }
}
