//! The order-preserving encryption of time, which revision counters of descriptors are made with
//! (rend-spec-v3 appendix F.2, "encrypted time in period", as C tor has it).
//!
//! The counter of second `T` is the sum of the first `T` words of a key stream (AES-256-CTR, zero
//! IV), 16 bits each and little-endian, each plus one: it grows with time and does not show the
//! service's clock. C tor adds the one, and a zero byte after the prefix of the key's hash, where
//! the section has neither; as folders move between the programs, so do we.

use aes::Aes256;
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use zeroize::Zeroizing;

use crate::digest::Sha3Running;
use crate::ed25519::ExpandedKeypair;

/// Greatest second that is encrypted; later ones give the same counter (`OPE_INPUT_MAX`; about
/// 73 hours).
pub const SECONDS_MAX: u64 = 1 << 18;

const KEY_PREFIX: &[u8] = b"rev-counter-generation\0";
const WORD_LEN: usize = 2;

/// The counter of a second after the start of the shared-random run by which the descriptor is
/// placed: 1 for the first, never 0. Costs half a megabyte of key stream at most.
pub fn encrypt(key: &[u8; 32], seconds: u64) -> u64 {
    let mut cipher = Ctr128BE::<Aes256>::new(key.into(), &[0; 16].into());
    let mut stream = Zeroizing::new([0; 512 * WORD_LEN]);
    let mut words = usize::try_from(seconds.clamp(1, SECONDS_MAX)).expect("at most SECONDS_MAX");
    let mut counter = 0;
    while words > 0 {
        let take = words.min(stream.len() / WORD_LEN);
        stream.fill(0);
        cipher.apply_keystream(&mut *stream);
        let (chunk, _) = stream.as_chunks::<WORD_LEN>();
        counter += chunk
            .iter()
            .take(take)
            .map(|word| u64::from(u16::from_le_bytes(*word)) + 1)
            .sum::<u64>();
        words -= take;
    }
    counter
}

/// The key that revision counters of a blinded key's descriptors are encrypted with.
pub fn key(blinded: &ExpandedKeypair) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha3Running::new();
    hash.update(KEY_PREFIX);
    hash.update(&*blinded.to_bytes());
    Zeroizing::new(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    /// C tor's vectors, made with another implementation (`test_crypto_ope.c`).
    #[test]
    fn vectors() {
        let key = hex!("19e05891d55232c08c2cad91d612fdb9cbd6691949a0742434a76c80bc6992fe");
        for (seconds, counter) in [
            (121132, 3971694514),
            (82283, 2695743564),
            (72661, 2381548866),
            (123122, 4036781069),
            (12154, 402067100),
            (11391, 376696838),
            (30438, 1001394664),
            (7110, 234966492),
            (9612, 318326551),
            (57720, 1897369989),
        ] {
            assert_eq!(encrypt(&key, seconds), counter);
            assert_ne!(encrypt(&[7; 32], seconds), counter);
        }
    }

    #[test]
    fn it_grows_and_ends() {
        let key = [3; 32];
        let counters: Vec<u64> = (1..1500).map(|second| encrypt(&key, second)).collect();
        assert!(counters.is_sorted_by(|a, b| a < b) && counters[0] > 0);
        assert_eq!(encrypt(&key, 0), counters[0]);
        let last = encrypt(&key, SECONDS_MAX);
        assert!(last > encrypt(&key, SECONDS_MAX - 1));
        assert_eq!(encrypt(&key, u64::MAX), last);
    }
}
