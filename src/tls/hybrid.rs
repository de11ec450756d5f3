//! X25519MLKEM768, the key exchange of TLS 1.3 that a quantum computer does not undo later
//! (draft-ietf-tls-ecdhe-mlkem section 3): `tor` offers it first where it has OpenSSL 3.5.
//!
//! ```text
//! client's share   encapsulation key of ML-KEM-768, 1,184 bytes ‖ X25519, 32
//! server's share   ciphertext, 1,088 ‖ X25519, 32
//! secret           of ML-KEM, 32 ‖ of X25519, 32
//! ```
//!
//! A client's hello has the share of X25519 alone besides, so that a peer who knows only that needs
//! no round trip more.

use cepa_crypto::Rng;
use ml_kem::kem::{Decapsulate as _, Encapsulate as _, KeyExport as _};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

/// Bytes of a key that ML-KEM-768 encapsulates to.
const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of what it encapsulates.
const CIPHERTEXT_LEN: usize = 1088;

/// The group, as rustls takes it.
#[derive(Debug)]
pub(crate) struct X25519MlKem768;

impl X25519MlKem768 {
    fn secret(post_quantum: &[u8], classical: &SharedSecret) -> SharedSecret {
        let both = Zeroizing::new([post_quantum, classical.secret_bytes()].concat());
        SharedSecret::from(both.as_slice())
    }
}

impl SupportedKxGroup for X25519MlKem768 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = X25519.start()?;
        let mut seed = Zeroizing::new([0; 64]);
        random(&mut *seed)?;
        let post_quantum = DecapsulationKey::from_seed((*seed).into());
        let key = post_quantum.encapsulation_key().to_bytes();
        Ok(Box::new(Started {
            share: [key.as_slice(), classical.pub_key()].concat(),
            classical,
            post_quantum,
        }))
    }

    fn start_and_complete(&self, share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (key, public) = split(share, ENCAPSULATION_KEY_LEN)?;
        let key = key.try_into().map_err(|_| INVALID)?;
        let key = EncapsulationKey::new(&key).map_err(|_| INVALID)?;
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut *seed)?;
        let (ciphertext, secret) = key.encapsulate_with_rng(&mut Rng::from_seed(*seed));
        let secret = Zeroizing::new(<[u8; 32]>::from(secret));
        let classical = X25519.start_and_complete(public)?;
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext.as_slice(), &classical.pub_key].concat(),
            secret: Self::secret(&*secret, &classical.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// A client's key exchange, whose share was sent.
struct Started {
    share: Vec<u8>,
    classical: Box<dyn ActiveKeyExchange>,
    post_quantum: DecapsulationKey,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, public) = split(share, CIPHERTEXT_LEN)?;
        let secret = self.post_quantum.decapsulate_slice(ciphertext);
        let secret = Zeroizing::new(<[u8; 32]>::from(secret.map_err(|_| INVALID)?));
        let classical = self.classical.complete(public)?;
        Ok(X25519MlKem768::secret(&*secret, &classical))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.classical.group(), self.classical.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        self.classical.complete(share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

const INVALID: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// The share of ML-KEM, which has so many bytes, and that of X25519.
fn split(share: &[u8], len: usize) -> Result<(&[u8], &[u8]), Error> {
    share.split_at_checked(len).ok_or(INVALID)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let provider = rustls::crypto::ring::default_provider();
    Ok(provider.secure_random.fill(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_have_one_secret() {
        let client = X25519MlKem768.start().unwrap();
        assert_eq!(client.pub_key().len(), ENCAPSULATION_KEY_LEN + 32);
        let server = X25519MlKem768.start_and_complete(client.pub_key()).unwrap();
        assert_eq!(server.pub_key.len(), CIPHERTEXT_LEN + 32);
        let secret = client.complete(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
        assert_eq!(secret.secret_bytes().len(), 64);
    }

    /// The classical half alone, for a peer who has picked that.
    #[test]
    fn the_classical_half_stands_alone() {
        let client = X25519MlKem768.start().unwrap();
        let (group, share) = client.hybrid_component().unwrap();
        assert_eq!(group, NamedGroup::X25519);
        let server = X25519.start_and_complete(share).unwrap();
        let secret = client.complete_hybrid_component(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
    }

    /// Shares of every length, keys whose numbers are not below the modulus, points of small order.
    #[test]
    fn strange_shares_are_refused() {
        let share = X25519MlKem768.start().unwrap().pub_key().to_vec();
        for len in 0..share.len() {
            let cut = X25519MlKem768.start_and_complete(&share[..len]);
            assert!(cut.is_err(), "{len}");
        }
        let long = [share.as_slice(), &[0]].concat();
        assert!(X25519MlKem768.start_and_complete(&long).is_err());
        let beyond = [
            &[0xff; ENCAPSULATION_KEY_LEN],
            &share[ENCAPSULATION_KEY_LEN..],
        ]
        .concat();
        assert!(X25519MlKem768.start_and_complete(&beyond).is_err());
        let small = [&share[..ENCAPSULATION_KEY_LEN], &[0; 32]].concat();
        assert!(X25519MlKem768.start_and_complete(&small).is_err());
        let started = X25519MlKem768.start().unwrap();
        assert!(started.complete(&[0; CIPHERTEXT_LEN]).is_err());
    }
}
