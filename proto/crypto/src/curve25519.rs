//! Curve25519 keys of the ntor handshakes (tor-spec 5.1.4, RFC 7748).
//!
//! A secret key carries its public key, so that a relay that looks its onion keys up by public
//! key multiplies once a key and not once a handshake. Agreement refuses the all-zero result
//! that a point of small order gives.

use core::fmt;

use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::{Rng, encoding};

/// A Curve25519 public key: any 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A Curve25519 secret key, with its public key.
#[derive(Clone)]
pub struct SecretKey {
    secret: StaticSecret,
    public: PublicKey,
}

/// The result of an agreement, never all zero.
pub type SharedSecret = Zeroizing<[u8; 32]>;

impl PublicKey {
    /// The key of these 32 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::base64_unpadded(&self.0))
    }
}

impl SecretKey {
    /// A fresh key.
    pub fn generate(rng: &mut Rng) -> SecretKey {
        SecretKey::from_bytes(&Zeroizing::new(rng.array()))
    }

    /// The key of these 32 bytes (clamped when used, kept as they are).
    pub fn from_bytes(bytes: &[u8; 32]) -> SecretKey {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes());
        SecretKey { secret, public }
    }

    /// Its 32 secret bytes, to be stored.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// Its public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret shared with a public key; `None` when it is all zero, which only a public
    /// key of small order gives and the handshakes forbid (tor-spec 5.1.4).
    pub fn diffie_hellman(&self, theirs: &PublicKey) -> Option<SharedSecret> {
        let shared = self
            .secret
            .diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        shared
            .was_contributory()
            .then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {:?}", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn rfc7748_agreement() {
        // RFC 7748 section 6.1.
        let alice = SecretKey::from_bytes(&hex!(
            "77076d0a7318a57d3c16c17251b26645df4c2fbc8ae5a3ac1cc3ea1e2ec1d5f8"
        ));
        let bob = SecretKey::from_bytes(&hex!(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
        ));
        assert_eq!(alice.to_bytes()[..2], hex!("7707"));
        let shared = alice.diffie_hellman(bob.public()).unwrap();
        assert_eq!(*bob.diffie_hellman(alice.public()).unwrap(), *shared);
    }

    #[test]
    fn small_order_points_are_refused() {
        let key = SecretKey::generate(&mut Rng::from_seed([3; 32]));
        let mut one = [0; 32];
        one[0] = 1;
        assert!(key.diffie_hellman(&PublicKey::from([0; 32])).is_none());
        assert!(key.diffie_hellman(&PublicKey::from(one)).is_none());
        assert!(!format!("{key:?}").contains(&encoding::base64_unpadded(&*key.to_bytes())));
    }
}
