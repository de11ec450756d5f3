//! The one generator: ChaCha20 under a seed that the shell takes from the operating system.
//!
//! Simulations and tests seed it with constants, so that one seed gives one trace. It is not
//! `Clone`: two copies would draw the same secrets; `fork` gives an independent child instead.
//! Implements the infallible traits of `rand_core` 0.10, by which the dalek crates draw keys.

use core::convert::Infallible;
use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng, TryCryptoRng, TryRng};

/// A seeded cryptographic generator (ChaCha20).
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// The generator of a 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Rng {
        Rng(ChaCha20Rng::from_seed(seed))
    }

    /// An independent child, seeded from this one.
    pub fn fork(&mut self) -> Rng {
        Rng::from_seed(self.array())
    }

    /// Fills a buffer with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A uniform 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // 2^64 mod n values are too many: drawing again for those keeps the rest uniform.
        let excess = (u64::MAX % n + 1) % n;
        loop {
            let x = self.u64();
            if x <= u64::MAX - excess {
                return x % n;
            }
        }
    }

    /// An array of random bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        // The crate has no zeroizing of its own; the black box keeps the overwriting alive.
        self.0 = ChaCha20Rng::from_seed([0; 32]);
        core::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for Rng {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_forks_differ() {
        let mut a = Rng::from_seed([7; 32]);
        let mut b = Rng::from_seed([7; 32]);
        assert_eq!(a.array::<40>(), b.array::<40>());
        let (mut c, mut d) = (a.fork(), a.fork());
        assert_ne!(c.array::<32>(), d.array::<32>());
        assert_eq!(
            b.fork().array::<32>(),
            Rng::from_seed([7; 32]).skip(40).fork().array()
        );
    }

    impl Rng {
        fn skip(mut self, bytes: usize) -> Rng {
            self.fill(&mut vec![0; bytes]);
            self
        }
    }

    #[test]
    fn chacha20_vector() {
        // RFC 8439 appendix A.1, test vector 1: the key stream of the zero key and nonce.
        let stream = Rng::from_seed([0; 32]).array::<16>();
        assert_eq!(
            stream,
            hex_literal::hex!("76b8e0ada0f13d90405d6ae55386bd28")
        );
    }

    #[test]
    fn below_is_in_range_and_reaches_all() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut seen = [0u32; 6];
        for _ in 0..6000 {
            seen[rng.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
        assert!(rng.below(u64::MAX) < u64::MAX);
        assert!(rng.below((1 << 63) + 1) <= 1 << 63);
    }
}
