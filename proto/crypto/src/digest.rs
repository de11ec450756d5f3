//! Digests of whole messages, running digests, and comparison in constant time.
//!
//! SHA-1 identifies RSA keys and authenticates tor1 cells (tor-spec 0.3), SHA-256 serves ntor,
//! certificates and documents, SHA3-256 the shared randomness (srv-spec) and consensus diffs.
//! Running digests take input in pieces; `Clone` lets one look at a value and go on.

use sha1::Digest as _;
use subtle::ConstantTimeEq;

/// SHA-1 of a message.
pub fn sha1(message: &[u8]) -> [u8; 20] {
    sha1::Sha1::digest(message).into()
}

/// SHA-256 of a message.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(message).into()
}

/// SHA3-256 of a message.
pub fn sha3_256(message: &[u8]) -> [u8; 32] {
    sha3::Sha3_256::digest(message).into()
}

/// HMAC-SHA256 of a message under a key of any length (RFC 2104).
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    use hmac::{KeyInit, Mac};
    let mut mac =
        hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The MAC of onion services (rend-spec-v3 0.3): SHA3-256 of the key's length in eight bytes, the
/// key and the message.
pub fn mac_sha3_256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let key_len = u64::try_from(key.len()).expect("a slice is shorter than 2^64");
    sha3::Sha3_256::new()
        .chain_update(key_len.to_be_bytes())
        .chain_update(key)
        .chain_update(message)
        .finalize()
        .into()
}

/// SHAKE-256 of the pieces of a message, as many bytes as `out` has: the KDF of onion services
/// (rend-spec-v3 0.3).
pub fn shake_256(pieces: &[&[u8]], out: &mut [u8]) {
    use shake::digest::{ExtendableOutput, Update, XofReader};
    let mut hash = shake::Shake256::default();
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.finalize_xof().read(out);
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// SHA-1 of a message that comes in pieces.
#[derive(Clone, Default)]
pub struct Sha1Running(sha1::Sha1);

impl Sha1Running {
    /// The digest of nothing yet.
    pub fn new() -> Sha1Running {
        Sha1Running::default()
    }

    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> [u8; 20] {
        self.0.finalize().into()
    }
}

/// SHA-256 of a message that comes in pieces (the logs of a link handshake).
#[derive(Clone, Default)]
pub struct Sha256Running(sha2::Sha256);

impl Sha256Running {
    /// The digest of nothing yet.
    pub fn new() -> Sha256Running {
        Sha256Running::default()
    }

    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// SHA3-256 of a message that comes in pieces.
#[derive(Clone, Default)]
pub struct Sha3Running(sha3::Sha3_256);

impl Sha3Running {
    /// The digest of nothing yet.
    pub fn new() -> Sha3Running {
        Sha3Running::default()
    }

    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn vectors_of_abc() {
        // FIPS 180-4 and 202 examples.
        assert_eq!(
            sha1(b"abc"),
            hex!("a9993e364706816aba3e25717850c26c9cd0d89d")
        );
        assert_eq!(
            sha256(b"abc"),
            hex!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
        assert_eq!(
            sha3_256(b"abc"),
            hex!("3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532")
        );
    }

    #[test]
    fn hmac_vectors() {
        // RFC 4231, test cases 2 and 6 (a key longer than a block).
        assert_eq!(
            hmac_sha256(b"Jefe", b"what do ya want for nothing?"),
            hex!("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
        assert_eq!(
            hmac_sha256(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            hex!("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
        );
    }

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let message: Vec<u8> = (0..300u16).map(|x| x as u8).collect();
        let (mut a, mut b, mut c) = Default::default();
        for piece in message.chunks(7) {
            Sha1Running::update(&mut a, piece);
            Sha256Running::update(&mut b, piece);
            Sha3Running::update(&mut c, piece);
        }
        assert_eq!(a.clone().finish(), sha1(&message));
        assert_eq!(b.finish(), sha256(&message));
        assert_eq!(c.finish(), sha3_256(&message));
        assert_eq!(a.finish(), sha1(&message));
    }

    #[test]
    fn constant_time_equality() {
        assert!(ct_eq(b"", b"") && ct_eq(b"ab", b"ab"));
        assert!(!ct_eq(b"ab", b"abc") && !ct_eq(b"ab", b"aa"));
    }
}
