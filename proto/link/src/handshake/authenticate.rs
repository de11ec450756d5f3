//! AUTHENTICATE, type 3: a relay that opens a link proves its identity (tor-spec 4.4.2).
//!
//! Both sides compute the same [`Binding`] of this very TLS connection; the initiator signs it with
//! the key of its type 6 certificate. The exporter's context is CID, the hash of the RSA identity,
//! as `tor` has it; the specification's text names the Ed25519 identity there.

use cepa_crypto::Rng;
use cepa_wire::auth::{Authenticate, Binding, EXPORTER_LABEL};

use crate::handshake::{HandshakeError, TlsBinding};
use crate::identity::LinkIdentity;
use crate::peer_certs::{AuthenticatingCerts, PeerCerts};

/// SHA-256 of what each side has sent, up to the cells that tor-spec 4.4 names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logs {
    /// CLOG: the initiator's VERSIONS and CERTS.
    pub(crate) initiator: [u8; 32],
    /// SLOG: the responder's VERSIONS, CERTS and AUTH_CHALLENGE.
    pub(crate) responder: [u8; 32],
}

/// The body of the AUTHENTICATE cell by which `own` proves itself to `peer`.
pub(crate) fn write(
    own: &LinkIdentity,
    peer: &PeerCerts,
    logs: Logs,
    tls: &dyn TlsBinding,
    rng: &mut Rng,
) -> Result<Vec<u8>, HandshakeError> {
    let binding = Binding {
        initiator_rsa_sha256: own.rsa_sha256(),
        responder_rsa_sha256: peer.rsa_sha256,
        initiator_ed25519: own.id().ed,
        responder_ed25519: peer.identity.ed,
        responder_log: logs.responder,
        initiator_log: logs.initiator,
        tls_cert_sha256: peer.tls_cert_sha256,
        tls_secrets: tls_secrets(tls, &own.rsa_sha256())?,
    };
    let signed = binding.signed_part(&rng.array());
    let signature = own.auth_key().sign(&signed);
    let mut body = Vec::new();
    Authenticate {
        signed: &signed,
        signature,
    }
    .write(&mut body)
    .expect("its length is fixed");
    Ok(body)
}

/// Checks the AUTHENTICATE cell of the initiator whose CERTS were `peer`.
pub(crate) fn check(
    body: &[u8],
    own: &LinkIdentity,
    peer: &AuthenticatingCerts,
    logs: Logs,
    tls: &dyn TlsBinding,
) -> Result<(), HandshakeError> {
    let authenticate = Authenticate::read(body)?;
    let binding = Binding {
        initiator_rsa_sha256: peer.peer.rsa_sha256,
        responder_rsa_sha256: own.rsa_sha256(),
        initiator_ed25519: peer.peer.identity.ed,
        responder_ed25519: own.id().ed,
        responder_log: logs.responder,
        initiator_log: logs.initiator,
        tls_cert_sha256: own.tls_cert_sha256(),
        tls_secrets: tls_secrets(tls, &peer.peer.rsa_sha256)?,
    };
    if !authenticate.is_bound_to(&binding) {
        return Err(HandshakeError::AuthenticateBinding);
    }
    let verified = peer
        .auth_key
        .verify(authenticate.signed, &authenticate.signature);
    verified.map_err(|_| HandshakeError::AuthenticateSignature)
}

fn tls_secrets(tls: &dyn TlsBinding, context: &[u8]) -> Result<[u8; 32], HandshakeError> {
    let mut out = [0; 32];
    if tls.export(EXPORTER_LABEL, context, &mut out) {
        Ok(out)
    } else {
        Err(HandshakeError::TlsBinding)
    }
}
