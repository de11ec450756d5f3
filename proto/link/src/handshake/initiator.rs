//! The side that opened the connection (tor-spec 4; what Arti and `tor` demand of each other).
//!
//! ```text
//! ExpectVersions ─VERSIONS→ ExpectCerts ─CERTS→ ExpectAuthChallenge ─AUTH_CHALLENGE→
//!     (we send [CERTS AUTHENTICATE] NETINFO) ExpectNetinfo ─NETINFO→ open
//! ```
//!
//! Nothing about us is sent before the responder has proved to be whom we wanted.

use std::sync::Arc;

use cepa_wire::auth::{AUTH_ED25519, AuthChallenge};
use cepa_wire::cell::{CellRef, Command};

use super::authenticate;
use super::wire::certs_body;
use super::{Context, Expect, HandshakeError, Next, PeerExpectation, body_of};
use crate::identity::LinkIdentity;
use crate::peer_certs::{self, PeerCerts};

pub(super) struct ExpectVersions {
    pub(super) expect: PeerExpectation,
    pub(super) identity: Option<Arc<LinkIdentity>>,
}

impl ExpectVersions {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        cx.wire.read_versions(cell)?;
        let ExpectVersions { expect, identity } = self;
        Ok(Next::Expect(Expect::InitiatorCerts(ExpectCerts {
            expect,
            identity,
        })))
    }
}

pub(super) struct ExpectCerts {
    expect: PeerExpectation,
    identity: Option<Arc<LinkIdentity>>,
}

impl ExpectCerts {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        let tls_cert = cx.tls.peer_cert_der().ok_or(HandshakeError::TlsBinding)?;
        let peer = peer_certs::check_responder(certs_body(cell)?, tls_cert, cx.now)?;
        if !self.expect.is_met_by(&peer.identity) {
            return Err(HandshakeError::IdentityMismatch { got: peer.identity });
        }
        let expect = ExpectAuthChallenge {
            identity: self.identity,
            peer,
        };
        Ok(Next::Expect(Expect::InitiatorAuthChallenge(expect)))
    }
}

pub(super) struct ExpectAuthChallenge {
    identity: Option<Arc<LinkIdentity>>,
    peer: PeerCerts,
}

impl ExpectAuthChallenge {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        let body = body_of(cell, Command::AUTH_CHALLENGE, "AUTH_CHALLENGE")?;
        let challenge = AuthChallenge::read(body).map_err(HandshakeError::AuthChallenge)?;
        if let Some(identity) = &self.identity {
            // Without it the link would count as a client's for good, and carry no relay's traffic.
            if !challenge.methods.contains(&AUTH_ED25519) {
                return Err(HandshakeError::NoAuthMethod);
            }
            cx.wire.send_certs(&identity.initiator_certs());
            let logs = authenticate::Logs {
                initiator: cx.wire.sent_sha256(),
                responder: cx.wire.received_sha256(),
            };
            let body = authenticate::write(identity, &self.peer, logs, cx.tls, cx.rng)?;
            cx.wire.send_authenticate(&body);
        }
        cx.wire.send_netinfo(self.identity.as_deref(), cx.now);
        Ok(Next::Expect(Expect::InitiatorNetinfo(ExpectNetinfo {
            peer: self.peer,
        })))
    }
}

pub(super) struct ExpectNetinfo {
    peer: PeerCerts,
}

impl ExpectNetinfo {
    pub(super) fn handle(
        self,
        cell: CellRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Next, HandshakeError> {
        cx.wire
            .read_netinfo(cell, true, Some(self.peer.identity), cx.now)
    }
}
