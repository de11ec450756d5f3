//! Hashed passwords, as `tor --hash-password` prints them (control-spec 5.1).
//!
//! `16:` and in hexadecimal 8 bytes of salt, a byte that says how much is hashed, and a SHA-1: the
//! iterated and salted S2K of RFC 2440 section 3.6.1.3. SHA-1 is the format's, not our choice.

use cepa_crypto::Rng;
use cepa_crypto::digest::{Sha1Running, ct_eq};
use cepa_crypto::encoding::{hex_array, hex_upper};
use zeroize::Zeroizing;

const PREFIX: &str = "16:";
const SALT_LEN: usize = 8;
const LEN: usize = SALT_LEN + 1 + 20;
/// What `tor` writes: 65536 bytes are hashed.
const COUNT_DEFAULT: u8 = 0x60;
/// Bias of the exponent in the count's byte.
const EXPONENT_BIAS: u8 = 6;

/// A text is not a hashed password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hashed password: it is 16: and 58 hexadecimal digits")]
pub struct BadHashedPassword;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPassword {
    salt: [u8; SALT_LEN],
    count: u8,
    hash: [u8; 20],
}

impl HashedPassword {
    /// Hashes a password with fresh salt.
    #[must_use]
    pub fn new(password: &[u8], rng: &mut Rng) -> HashedPassword {
        let salt = rng.array();
        HashedPassword {
            salt,
            count: COUNT_DEFAULT,
            hash: s2k(&salt, COUNT_DEFAULT, password),
        }
    }

    /// Reads what [`HashedPassword::encode`] and `tor --hash-password` write.
    pub fn parse(text: &str) -> Result<HashedPassword, BadHashedPassword> {
        let digits = text
            .trim_ascii()
            .strip_prefix(PREFIX)
            .ok_or(BadHashedPassword)?;
        let bytes: [u8; LEN] = hex_array(digits).ok_or(BadHashedPassword)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, count, hash @ ..] = bytes;
        Ok(HashedPassword {
            salt: [s0, s1, s2, s3, s4, s5, s6, s7],
            count,
            hash,
        })
    }

    /// The text of it.
    #[must_use]
    pub fn encode(&self) -> String {
        let bytes = [&self.salt[..], &[self.count], &self.hash].concat();
        format!("{PREFIX}{}", hex_upper(&bytes))
    }

    /// Whether this is the password, in a time that depends on its length alone.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        ct_eq(&s2k(&self.salt, self.count, password), &self.hash)
    }
}

impl std::fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashedPassword")
    }
}

/// Hashes salt and password, over and over, until that many bytes went in: at most 65 million.
fn s2k(salt: &[u8; SALT_LEN], count: u8, password: &[u8]) -> [u8; 20] {
    let mut left = (16 + usize::from(count & 15)) << ((count >> 4) + EXPONENT_BIAS);
    let mut round = Zeroizing::new(Vec::with_capacity(SALT_LEN + password.len()));
    round.extend_from_slice(salt);
    round.extend_from_slice(password);
    let mut hash = Sha1Running::new();
    while left > 0 {
        let piece = round.get(..left.min(round.len())).unwrap_or_default();
        hash.update(piece);
        left -= piece.len();
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    /// Of control-spec 5.1, and one that `tor` 0.4.9.11 printed.
    const VECTORS: [(&str, &[u8]); 2] = [
        (
            "16:660537E3E1CD49996044A3BF558097A981F539FEA2F9DA662B4626C1C2",
            b"foo",
        ),
        (
            "16:AE45E1B65CD56132603A97DBD183BB48C7DB6B6DD40117B74BACA7F6FB",
            b"bar",
        ),
    ];

    #[test]
    fn tors_hashes_are_read_and_matched() {
        for (text, password) in VECTORS {
            let hashed = HashedPassword::parse(text).unwrap();
            assert!(hashed.matches(password));
            assert!(!hashed.matches(b"baz"));
            assert!(!hashed.matches(b""));
            assert_eq!(hashed.encode(), text);
        }
        for bad in ["", "16:", "17:00", "16:zz", "6605"] {
            assert_eq!(HashedPassword::parse(bad), Err(BadHashedPassword));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_made_matches_and_is_read(password: Vec<u8>, seed: [u8; 32]) {
            let hashed = HashedPassword::new(&password, &mut Rng::from_seed(seed));
            prop_assert!(hashed.matches(&password));
            let read = HashedPassword::parse(&hashed.encode()).unwrap();
            prop_assert_eq!(&read, &hashed);
            let other = [password.as_slice(), b"x"].concat();
            prop_assert!(!read.matches(&other));
        }
    }
}
