//! Who is at the ends of a link: our own certificates, and what a peer has proved (tor-spec 4.2).
//!
//! A relay has an RSA and an Ed25519 identity which vouch for each other. A [`LinkIdentity`] is
//! made for one TLS certificate, and lives as long as it: hours to days. The owner makes a fresh
//! pair well before [`LINK_CERT_DAYS`] are over.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use cepa_crypto::rsa::{self, RsaKeyError};
use cepa_crypto::{Ed25519Id, Rng, RsaId, ed25519, x509};
use cepa_wire::Now;
use cepa_wire::cert::{Cert, CertKeyType, CertType};
use cepa_wire::certs::CertsType;
use cepa_wire::cross_cert::CrossCert;

/// Days for which the certificates of a link are valid, from a day before they are made (for peers
/// whose clock is behind); `tor` renews its own sooner.
pub const LINK_CERT_DAYS: u32 = 5;
/// Most own addresses in NETINFO; `tor` has at most two.
pub const ADDRESSES_MAX: usize = 8;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The identity certificate lives longer than a link's, since it changes nothing.
const IDENTITY_CERT_DAYS: u32 = 365;
/// Days of the RSA identity's word for the Ed25519 one; `tor` gives it half a year.
const CROSS_CERT_DAYS: u32 = 180;

/// For how long the certificates of a link are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTimes {
    /// Of the TLS certificate, from its beginning to its end (`SSLKeyLifetime`); none: as `link`,
    /// from a day before it is made, for peers whose clock is behind.
    pub tls: Option<Duration>,
    /// Of the certificate that names it (`TestingLinkCertLifetime`).
    pub link: Duration,
    /// Of the key that authenticates whoever opens a link (`TestingAuthKeyLifetime`).
    pub auth: Duration,
}

impl Default for LinkTimes {
    fn default() -> Self {
        let usual = DAY * (LINK_CERT_DAYS - 1);
        LinkTimes {
            tls: None,
            link: usual,
            auth: usual,
        }
    }
}

impl LinkTimes {
    /// From when until when a TLS certificate is good that is made now.
    fn tls_validity(&self, now: Now) -> (SystemTime, SystemTime) {
        match self.tls {
            None => (now.wall - DAY, now.wall + self.link),
            Some(life) => {
                let start = now.wall - DAY.min(life / 4);
                (start, start + life)
            }
        }
    }
}

/// Bits of an RSA identity key; no other size is taken (tor-spec 4.2).
pub const RSA_ID_BITS: usize = 1024;

/// The RSA identity key has this many bits, not [`RSA_ID_BITS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the RSA identity key has {0} bits, not 1024")]
pub struct WrongRsaBits(pub usize);

/// The identities that a relay proved in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its Ed25519 identity. Relays without one are not spoken to: none is left.
    pub ed: Ed25519Id,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${} {}", self.rsa, self.ed)
    }
}

/// The keys behind a relay's links.
#[derive(Clone, Copy)]
pub struct LinkKeys<'a> {
    /// The RSA-1024 identity key.
    pub rsa: &'a rsa::Keypair,
    /// The Ed25519 identity (its key may be offline).
    pub ed: Ed25519Id,
    /// The medium-term signing key, in the form in which it is kept on disk.
    pub signing: &'a ed25519::ExpandedKeypair,
    /// The identity's certificate of the signing key (type 4), which names the identity.
    pub signing_cert: &'a [u8],
}

/// The TLS key and certificate of a relay, for the TLS library.
#[derive(Debug)]
pub struct TlsKeyAndCert {
    /// The RSA-2048 key.
    pub key: rsa::Keypair,
    /// Its certificate, DER.
    pub cert_der: Vec<u8>,
}

impl TlsKeyAndCert {
    /// Makes a fresh TLS key with a certificate by the RSA identity. Takes a good fraction of a
    /// second: finding primes.
    pub fn make(identity: &rsa::Keypair, now: Now, rng: &mut Rng) -> Result<Self, RsaKeyError> {
        Self::make_for(identity, LinkTimes::default(), now, rng)
    }

    /// The same with a certificate that is good for another time.
    pub fn make_for(
        identity: &rsa::Keypair,
        times: LinkTimes,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Self, RsaKeyError> {
        let key = rsa::Keypair::generate(x509::LINK_KEY_BITS, rng)?;
        let names = x509::Names::generate(rng);
        let validity = times.tls_validity(now);
        let cert_der = x509::link_cert(rng, identity, key.public(), &names, validity);
        Ok(TlsKeyAndCert { key, cert_der })
    }
}

/// All that a relay shows of itself on a link.
pub struct LinkIdentity {
    rsa: RsaId,
    rsa_sha256: [u8; 32],
    ed: Ed25519Id,
    rsa_cert: Vec<u8>,
    signing_cert: Vec<u8>,
    tls_cert: Vec<u8>,
    auth_cert: Vec<u8>,
    cross_cert: Vec<u8>,
    auth_key: ed25519::Keypair,
    tls_cert_sha256: [u8; 32],
    addresses: Vec<IpAddr>,
}

impl LinkIdentity {
    /// Makes the certificates around one TLS certificate. `addresses` are those of the relay's
    /// descriptor: a peer that does not find the address it connected to there opens more links.
    /// Those past [`ADDRESSES_MAX`] are left out.
    pub fn make(
        keys: LinkKeys<'_>,
        tls_cert_der: &[u8],
        addresses: &[IpAddr],
        now: Now,
        rng: &mut Rng,
    ) -> Result<Self, WrongRsaBits> {
        Self::make_for(
            keys,
            tls_cert_der,
            addresses,
            LinkTimes::default(),
            now,
            rng,
        )
    }

    /// The same with certificates that are good for another time.
    pub fn make_for(
        keys: LinkKeys<'_>,
        tls_cert_der: &[u8],
        addresses: &[IpAddr],
        times: LinkTimes,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Self, WrongRsaBits> {
        let wrong_bits = WrongRsaBits(keys.rsa.public().bits());
        if wrong_bits.0 != RSA_ID_BITS {
            return Err(wrong_bits);
        }
        let cross_expires = now.wall + DAY * CROSS_CERT_DAYS;
        let cross_cert = CrossCert::make(&keys.ed, cross_expires, keys.rsa);
        let auth_key = ed25519::Keypair::generate(rng);
        let tls_cert_sha256 = x509::sha256(tls_cert_der);
        let certify = |cert_type, life, key_type, key: &[u8; 32]| {
            Cert::make_expanded(
                cert_type,
                now.wall + life,
                key_type,
                key,
                keys.signing,
                false,
            )
        };
        let names = x509::Names::generate(rng);
        let validity = (now.wall - DAY, now.wall + DAY * IDENTITY_CERT_DAYS);
        Ok(LinkIdentity {
            rsa: keys.rsa.public().id(),
            rsa_sha256: keys.rsa.public().sha256(),
            ed: keys.ed,
            rsa_cert: x509::identity_cert(rng, keys.rsa, &names, validity),
            signing_cert: keys.signing_cert.to_vec(),
            tls_cert: certify(
                CertType::SIGNING_TLS,
                times.link,
                CertKeyType::X509_SHA256,
                &tls_cert_sha256,
            ),
            auth_cert: certify(
                CertType::SIGNING_LINK_AUTH,
                times.auth,
                CertKeyType::ED25519,
                auth_key.public().as_bytes(),
            ),
            cross_cert: cross_cert.map_err(|_| wrong_bits)?,
            auth_key,
            tls_cert_sha256,
            addresses: addresses.iter().take(ADDRESSES_MAX).copied().collect(),
        })
    }

    /// The RSA and the Ed25519 identity.
    #[must_use]
    pub fn id(&self) -> PeerIdentity {
        PeerIdentity {
            rsa: self.rsa,
            ed: self.ed,
        }
    }

    /// The relay's own addresses, as NETINFO lists them.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// SHA-256 of the RSA identity key, as AUTHENTICATE has it.
    pub(crate) fn rsa_sha256(&self) -> [u8; 32] {
        self.rsa_sha256
    }

    /// SHA-256 of the TLS certificate that this identity is made for.
    pub(crate) fn tls_cert_sha256(&self) -> [u8; 32] {
        self.tls_cert_sha256
    }

    /// The key of the type 6 certificate.
    pub(crate) fn auth_key(&self) -> &ed25519::Keypair {
        &self.auth_key
    }

    /// What the responder sends. Types 1 and 3 are left out: nobody reads them beside type 4.
    pub(crate) fn responder_certs(&self) -> [(CertsType, &[u8]); 4] {
        [
            (CertsType::RSA_ID, &self.rsa_cert),
            (CertsType::ED25519_ID_SIGNING, &self.signing_cert),
            (CertsType::ED25519_SIGNING_TLS, &self.tls_cert),
            (CertsType::RSA_ED25519_CROSS, &self.cross_cert),
        ]
    }

    /// What an authenticating initiator sends.
    pub(crate) fn initiator_certs(&self) -> [(CertsType, &[u8]); 4] {
        [
            (CertsType::RSA_ID, &self.rsa_cert),
            (CertsType::ED25519_ID_SIGNING, &self.signing_cert),
            (CertsType::ED25519_SIGNING_AUTH, &self.auth_cert),
            (CertsType::RSA_ED25519_CROSS, &self.cross_cert),
        ]
    }
}

impl fmt::Debug for LinkIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkIdentity")
            .field("id", &self.id())
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cepa_wire::cert::UnverifiedCert;

    use super::*;

    #[test]
    fn certificates_are_good_for_as_long_as_is_said() {
        let now = crate::fixture::now();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let usual = LinkTimes::default();
        assert_eq!(
            usual.tls_validity(now),
            (now.wall - DAY, now.wall + DAY * 4)
        );
        let times = LinkTimes {
            tls: Some(hours(40)),
            ..usual
        };
        let (start, end) = times.tls_validity(now);
        assert_eq!(end.duration_since(start).unwrap(), hours(40));
        assert_eq!(start, now.wall - hours(10));

        let mut rng = Rng::from_seed([1; 32]);
        let rsa = rsa::Keypair::generate(RSA_ID_BITS, &mut rng).unwrap();
        let signing = ed25519::Keypair::generate(&mut rng).expand();
        let keys = LinkKeys {
            rsa: &rsa,
            ed: Ed25519Id::from([1; 32]),
            signing: &signing,
            signing_cert: &[],
        };
        let times = LinkTimes {
            tls: None,
            link: hours(5),
            auth: hours(7),
        };
        let made = LinkIdentity::make_for(keys, &[], &[], times, now, &mut rng).unwrap();
        for (cert, life) in [(&made.tls_cert, hours(5)), (&made.auth_cert, hours(7))] {
            let check = |at| {
                let cert = UnverifiedCert::parse(cert).unwrap();
                cert.check(at, Some(signing.public().id())).is_ok()
            };
            assert!(check(now.wall + life - hours(1)));
            assert!(!check(now.wall + life + hours(2)));
        }
    }
}
