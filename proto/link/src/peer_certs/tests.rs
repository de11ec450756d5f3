//! Each certificate that a CERTS cell needs: missing, out of its time, or of somebody else.

use std::time::SystemTime;

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_crypto::rsa::Keypair as RsaKeypair;
use cepa_wire::certs;
use cepa_wire::cross_cert::CrossCert;

use super::*;
use crate::fixture::{Relay, alice, bob, later, now, rng};

const HOUR: Duration = Duration::from_secs(3600);

/// The certificates of a CERTS cell, each open to be replaced.
#[derive(Clone)]
struct Cell(Vec<(CertsType, Vec<u8>)>);

impl Cell {
    fn of_responder() -> Cell {
        let certs = alice().identity.responder_certs();
        Cell(certs.map(|(kind, cert)| (kind, cert.to_vec())).to_vec())
    }

    fn of_initiator() -> Cell {
        let certs = alice().identity.initiator_certs();
        Cell(certs.map(|(kind, cert)| (kind, cert.to_vec())).to_vec())
    }

    fn without(mut self, kind: CertsType) -> Cell {
        self.0.retain(|cert| cert.0 != kind);
        self
    }

    fn with(self, kind: CertsType, cert: Vec<u8>) -> Cell {
        let mut cell = self.without(kind);
        cell.0.push((kind, cert));
        cell
    }

    fn body(&self) -> Vec<u8> {
        let certs = self
            .0
            .iter()
            .map(|(kind, cert)| (*kind, cert.as_slice()))
            .collect::<Vec<_>>();
        let mut body = Vec::new();
        certs::write(&certs, &mut body).unwrap();
        body
    }

    fn responder_at(&self, now: Now) -> Result<PeerCerts, PeerCertsError> {
        check_responder(&self.body(), &alice().tls_cert, now)
    }

    fn responder(&self) -> Result<PeerCerts, PeerCertsError> {
        self.responder_at(now())
    }

    fn initiator(&self) -> Result<AuthenticatingCerts, PeerCertsError> {
        check_initiator(&self.body(), now())
    }
}

fn signing_cert(id: &Keypair, key: &ExpandedKeypair, kind: CertKeyType, named: bool) -> Vec<u8> {
    let expires = now().wall + HOUR;
    Cert::make(
        CertType::ID_SIGNING,
        expires,
        kind,
        key.public().as_bytes(),
        id,
        named,
    )
}

fn tls_cert(by: &Relay, kind: CertKeyType, expires: SystemTime) -> Vec<u8> {
    let digest = x509::sha256(&alice().tls_cert);
    Cert::make_expanded(
        CertType::SIGNING_TLS,
        expires,
        kind,
        &digest,
        &by.signing,
        false,
    )
}

fn cross_cert(of: &Relay, by: &Relay, expires: SystemTime) -> Vec<u8> {
    CrossCert::make(&of.id.public().id(), expires, &by.rsa).unwrap()
}

fn rsa_cert(key: &RsaKeypair, validity: x509::Validity) -> Vec<u8> {
    let mut rng = rng(8);
    let names = x509::Names::generate(&mut rng);
    x509::identity_cert(&mut rng, key, &names, validity)
}

#[test]
fn a_whole_chain_names_both_identities() {
    let peer = Cell::of_responder().responder().unwrap();
    assert_eq!(peer.identity, alice().identity.id());
    assert_eq!(peer.rsa_sha256, alice().rsa.public().sha256());
    let initiator = Cell::of_initiator().initiator().unwrap();
    assert_eq!(initiator.peer.identity, alice().identity.id());
    assert_eq!(initiator.auth_key, alice().identity.auth_key().public());
}

#[test]
fn every_certificate_is_needed() {
    for kind in [2, 4, 5, 7].map(CertsType) {
        let result = Cell::of_responder().without(kind).responder();
        assert_eq!(result, Err(PeerCertsError::Missing(kind)));
    }
    for kind in [2, 4, 6, 7].map(CertsType) {
        let result = Cell::of_initiator().without(kind).initiator();
        assert_eq!(result, Err(PeerCertsError::Missing(kind)));
    }
}

#[test]
fn types_that_nobody_needs_are_not_read() {
    let junk = [1, 3, 8, 255].map(|kind| (CertsType(kind), b"junk".to_vec()));
    let mut cell = Cell::of_responder();
    cell.0.extend(junk.iter().chain(&junk[2..]).cloned());
    assert!(cell.responder().is_ok());
    cell.0.push((CertsType(1), vec![]));
    let duplicate = CertsError::Duplicate(CertsType(1));
    assert_eq!(cell.responder(), Err(PeerCertsError::Cell(duplicate)));
}

#[test]
fn the_rsa_identity_has_slack_for_clocks() {
    let days = |days: u32| DAY * days;
    let now = now().wall;
    for (validity, taken) in [
        ((now - days(9), now - days(1)), true),
        ((now - days(9), now - days(3)), false),
        ((now + days(20), now + days(90)), true),
        ((now + days(31), now + days(90)), false),
    ] {
        let cert = rsa_cert(&alice().rsa, validity);
        let result = Cell::of_responder()
            .with(CertsType::RSA_ID, cert)
            .responder();
        let expected = if taken {
            None
        } else {
            Some(PeerCertsError::RsaIdValidity)
        };
        assert_eq!(result.err(), expected, "{validity:?}");
    }
}

#[test]
fn the_rsa_identity_is_self_signed_and_of_1024_bits() {
    let validity = (now().wall - DAY, now().wall + DAY);
    let long = RsaKeypair::generate(1536, &mut rng(5)).unwrap();
    let cell = Cell::of_responder().with(CertsType::RSA_ID, rsa_cert(&long, validity));
    assert_eq!(cell.responder(), Err(PeerCertsError::RsaIdBits(1536)));

    let mut rng = rng(5);
    let names = x509::Names::generate(&mut rng);
    let foreign = x509::link_cert(&mut rng, &bob().rsa, alice().rsa.public(), &names, validity);
    let cell = Cell::of_responder().with(CertsType::RSA_ID, foreign);
    let wrong = PeerCertsError::RsaId(x509::CertError::WrongSignature);
    assert_eq!(cell.responder(), Err(wrong));
}

#[test]
fn ed25519_certificates_have_no_slack() {
    let kind = CertsType::ED25519_SIGNING_TLS;
    let cert = tls_cert(alice(), CertKeyType::X509_SHA256, now().wall + HOUR);
    let cell = Cell::of_responder().with(kind, cert);
    assert!(cell.responder().is_ok());
    let expired = PeerCertsError::Ed25519(kind, CertError::Expired);
    assert_eq!(cell.responder_at(later(3 * HOUR)), Err(expired));

    let kind = CertsType::ED25519_ID_SIGNING;
    let expired = PeerCertsError::Ed25519(kind, CertError::Expired);
    assert_eq!(
        Cell::of_responder().responder_at(later(DAY * 31)),
        Err(expired)
    );

    let cross = cross_cert(alice(), alice(), now().wall - 2 * HOUR);
    let cell = Cell::of_responder().with(CertsType::RSA_ED25519_CROSS, cross);
    assert_eq!(
        cell.responder(),
        Err(PeerCertsError::CrossCert(CrossCertError::Expired))
    );
}

#[test]
fn the_tls_certificate_is_the_connections() {
    let other = check_responder(&Cell::of_responder().body(), b"another", now());
    assert_eq!(other, Err(PeerCertsError::OtherTlsCert));
    let kind = CertsType::ED25519_SIGNING_TLS;
    let wrong_kind = tls_cert(alice(), CertKeyType::ED25519, now().wall + HOUR);
    let cell = Cell::of_responder().with(kind, wrong_kind);
    assert_eq!(
        cell.responder(),
        Err(PeerCertsError::KeyType(kind, CertKeyType::ED25519))
    );
    let by_bob = tls_cert(bob(), CertKeyType::X509_SHA256, now().wall + HOUR);
    let wrong = PeerCertsError::Ed25519(kind, CertError::Signature);
    assert_eq!(
        Cell::of_responder().with(kind, by_bob).responder(),
        Err(wrong)
    );
}

#[test]
fn the_signing_key_is_the_identitys() {
    let kind = CertsType::ED25519_ID_SIGNING;
    let (id, signing) = (&alice().id, &alice().signing);
    let unnamed = signing_cert(id, signing, CertKeyType::ED25519, false);
    let wrong = PeerCertsError::Ed25519(kind, CertError::NoSigningKey);
    assert_eq!(
        Cell::of_responder().with(kind, unnamed).responder(),
        Err(wrong)
    );

    let wrong_kind = signing_cert(id, signing, CertKeyType::X509_SHA256, true);
    let wrong = PeerCertsError::KeyType(kind, CertKeyType::X509_SHA256);
    assert_eq!(
        Cell::of_responder().with(kind, wrong_kind).responder(),
        Err(wrong)
    );

    // A chain of Bob's Ed25519 identity under Alice's RSA identity.
    let bobs = signing_cert(&bob().id, signing, CertKeyType::ED25519, true);
    let cell = Cell::of_responder().with(kind, bobs);
    assert_eq!(cell.responder(), Err(PeerCertsError::OtherEd25519));
    let cross = cross_cert(bob(), bob(), now().wall + HOUR);
    let cell = cell.with(CertsType::RSA_ED25519_CROSS, cross);
    assert_eq!(
        cell.responder(),
        Err(PeerCertsError::CrossCert(CrossCertError::Signature))
    );
}

#[test]
fn a_certificate_in_the_place_of_another() {
    let certs = alice().identity.initiator_certs();
    let auth = certs
        .iter()
        .find(|cert| cert.0 == CertsType::ED25519_SIGNING_AUTH)
        .unwrap()
        .1;
    let kind = CertsType::ED25519_SIGNING_TLS;
    let wrong = PeerCertsError::Ed25519(kind, CertError::Type(CertType::SIGNING_LINK_AUTH));
    assert_eq!(
        Cell::of_responder().with(kind, auth.to_vec()).responder(),
        Err(wrong)
    );
}
