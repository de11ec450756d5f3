//! Who a peer is by its CERTS cell (tor-spec 4.2, with the checks that `tor` makes today).
//!
//! ```text
//! RSA identity (2, self-signed) ──cross-cert (7)──> Ed25519 identity ──(4)──> signing key
//!     signing key ──(5)──> TLS certificate of the responder, or ──(6)──> initiator's link key
//! ```
//!
//! A chain is wanted whole: a peer without an Ed25519 identity is refused, since none is left.
//! Types 1 and 3 are not read. Only the X.509 identity gets slack for clocks that differ.

use std::time::Duration;

use cepa_crypto::digest::ct_eq;
use cepa_crypto::{Ed25519Id, ed25519, rsa, x509};
use cepa_wire::Now;
use cepa_wire::cert::{Cert, CertError, CertKeyType, CertType, UnverifiedCert};
use cepa_wire::certs::{Certs, CertsError, CertsType};
use cepa_wire::cross_cert::{CrossCertError, UnverifiedCrossCert};

use crate::identity::{PeerIdentity, RSA_ID_BITS};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an RSA identity certificate is taken after its end.
const PAST_SLACK: Duration = DAY.saturating_mul(2);
/// How long before its beginning.
const FUTURE_SLACK: Duration = DAY.saturating_mul(30);

/// Why a CERTS cell does not prove an identity; the link is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerCertsError {
    /// The cell cannot be read, or has two certificates of a type.
    #[error(transparent)]
    Cell(#[from] CertsError),
    /// A certificate of this type is needed.
    #[error("CERTS: no certificate of type {0}")]
    Missing(CertsType),
    /// The RSA identity certificate cannot be read, or is not signed by its own key.
    #[error("CERTS: RSA identity: {0}")]
    RsaId(#[from] x509::CertError),
    /// The RSA identity key has not exactly 1024 bits.
    #[error("CERTS: RSA identity key of {0} bits")]
    RsaIdBits(usize),
    /// The RSA identity certificate is out of its time by more than the slack.
    #[error("CERTS: RSA identity certificate out of its time")]
    RsaIdValidity,
    /// An Ed25519 certificate is wrong.
    #[error("CERTS: type {0}: {1}")]
    Ed25519(CertsType, CertError),
    /// The key in a certificate is of another kind than its place asks for.
    #[error("CERTS: type {0} certifies a key of kind {1}")]
    KeyType(CertsType, CertKeyType),
    /// The type 5 certificate is of another TLS certificate than the connection's.
    #[error("CERTS: type 5 is not of the TLS certificate in use")]
    OtherTlsCert,
    /// The cross-certificate is wrong.
    #[error("CERTS: type 7: {0}")]
    CrossCert(#[from] CrossCertError),
    /// The cross-certificate is of another Ed25519 identity.
    #[error("CERTS: type 7 is of another Ed25519 identity")]
    OtherEd25519,
}

/// What a CERTS cell says when all of it was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCerts {
    /// Both identities of the peer.
    pub identity: PeerIdentity,
    /// SHA-256 of the RSA identity key, for AUTHENTICATE.
    pub rsa_sha256: [u8; 32],
    /// SHA-256 of the responder's TLS certificate, for AUTHENTICATE; zeros for an initiator.
    pub tls_cert_sha256: [u8; 32],
}

/// What an initiator's CERTS cell says; worth nothing until AUTHENTICATE proves the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthenticatingCerts {
    /// The peer that the initiator claims to be.
    pub peer: PeerCerts,
    /// The key that must sign AUTHENTICATE.
    pub auth_key: ed25519::PublicKey,
}

/// Checks the CERTS of a responder against the TLS certificate that it showed.
pub fn check_responder(
    body: &[u8],
    tls_cert_der: &[u8],
    now: Now,
) -> Result<PeerCerts, PeerCertsError> {
    let certs = Certs::read(body)?;
    let (mut peer, signing) = check_identity(&certs, now)?;
    let tls = check_ed25519(&certs, CertsType::ED25519_SIGNING_TLS, Some(signing), now)?;
    if tls.key_type != CertKeyType::X509_SHA256 {
        return Err(PeerCertsError::KeyType(
            CertsType::ED25519_SIGNING_TLS,
            tls.key_type,
        ));
    }
    peer.tls_cert_sha256 = x509::sha256(tls_cert_der);
    if !ct_eq(&tls.key, &peer.tls_cert_sha256) {
        return Err(PeerCertsError::OtherTlsCert);
    }
    Ok(peer)
}

/// Checks the CERTS of an initiator that wants to authenticate itself.
pub fn check_initiator(body: &[u8], now: Now) -> Result<AuthenticatingCerts, PeerCertsError> {
    let certs = Certs::read(body)?;
    let (peer, signing) = check_identity(&certs, now)?;
    let auth = check_ed25519(&certs, CertsType::ED25519_SIGNING_AUTH, Some(signing), now)?;
    if auth.key_type != CertKeyType::ED25519 {
        return Err(PeerCertsError::KeyType(
            CertsType::ED25519_SIGNING_AUTH,
            auth.key_type,
        ));
    }
    Ok(AuthenticatingCerts {
        peer,
        auth_key: ed25519::PublicKey::from(auth.key),
    })
}

/// Types 2, 4 and 7: both identities, and the signing key.
fn check_identity(certs: &Certs<'_>, now: Now) -> Result<(PeerCerts, Ed25519Id), PeerCertsError> {
    let rsa_key = check_rsa_id(find(certs, CertsType::RSA_ID)?, now)?;
    let cert = check_ed25519(certs, CertsType::ED25519_ID_SIGNING, None, now)?;
    if cert.key_type != CertKeyType::ED25519 {
        return Err(PeerCertsError::KeyType(
            CertsType::ED25519_ID_SIGNING,
            cert.key_type,
        ));
    }
    let no_id = CertError::NoSigningKey;
    let no_id = PeerCertsError::Ed25519(CertsType::ED25519_ID_SIGNING, no_id);
    let ed = cert.signing_key.ok_or(no_id)?;
    let cross = UnverifiedCrossCert::parse(find(certs, CertsType::RSA_ED25519_CROSS)?)?;
    if cross.check(now.wall, &rsa_key)?.ed25519 != ed {
        return Err(PeerCertsError::OtherEd25519);
    }
    let identity = PeerIdentity {
        rsa: rsa_key.id(),
        ed,
    };
    let rsa_sha256 = rsa_key.sha256();
    Ok((
        PeerCerts {
            identity,
            rsa_sha256,
            tls_cert_sha256: [0; 32],
        },
        cert.ed25519_key(),
    ))
}

fn check_rsa_id(cert_der: &[u8], now: Now) -> Result<rsa::PublicKey, PeerCertsError> {
    let key = x509::rsa_public_key(cert_der)?;
    if key.bits() != RSA_ID_BITS {
        return Err(PeerCertsError::RsaIdBits(key.bits()));
    }
    let (begins, ends) = x509::validity(cert_der)?;
    // The clock is shifted, not the dates: those are the peer's, and might overflow.
    if now.wall + FUTURE_SLACK < begins || now.wall - PAST_SLACK > ends {
        return Err(PeerCertsError::RsaIdValidity);
    }
    x509::verify_signed_by(cert_der, &key)?;
    Ok(key)
}

fn check_ed25519(
    certs: &Certs<'_>,
    kind: CertsType,
    signer: Option<Ed25519Id>,
    now: Now,
) -> Result<Cert, PeerCertsError> {
    // CERTS and Ed25519 certificates number their types alike (cert-spec A.1).
    UnverifiedCert::parse(find(certs, kind)?)
        .and_then(|cert| cert.expecting(CertType(kind.0)))
        .and_then(|cert| cert.check(now.wall, signer))
        .map_err(|error| PeerCertsError::Ed25519(kind, error))
}

fn find<'a>(certs: &Certs<'a>, kind: CertsType) -> Result<&'a [u8], PeerCertsError> {
    certs.find(kind).ok_or(PeerCertsError::Missing(kind))
}

#[cfg(test)]
mod tests;
