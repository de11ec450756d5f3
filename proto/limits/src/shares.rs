//! A bounded amount (bytes, jobs) that strangers share: who holds much gets no more while others
//! might want some.
//!
//! What a holder has must not be more than a part of what is then left: with [`FEW`], a quarter.
//! Alone he gets a fifth of all; the more there are, the less each can take, and something is
//! always left for the next one: `total / (4 + n)` each with `n` of them. Nobody is sent away for
//! another, and no list of addresses outlives what they hold.

use std::collections::BTreeMap;

/// The part of one holder among many: what is left is at least this many times what he has.
pub const FEW: usize = 4;
/// The part of a holder who stands for many: half of all, if there are no others.
pub const HALF: usize = 1;
/// The part of whom all of it is there for in the first place: all that is left.
pub const ALL: usize = 0;

/// An amount that holders of the kind `K` share.
#[derive(Debug)]
pub struct Shares<K> {
    left: usize,
    held: BTreeMap<K, usize>,
}

impl<K: Ord + Copy> Shares<K> {
    /// Shares of so much, of which nobody holds anything yet.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Shares {
            left: total,
            held: BTreeMap::new(),
        }
    }

    /// Takes so much for a holder, if `left_for_others` times what he then has is left ([`FEW`],
    /// [`HALF`], [`ALL`]); `false`: that would be too much for him, and nothing is taken.
    #[must_use]
    pub fn take(&mut self, who: K, amount: usize, left_for_others: usize) -> bool {
        let held = self.held.get(&who).copied().unwrap_or(0);
        let Some(left) = self.left.checked_sub(amount) else {
            return false;
        };
        if (held + amount).saturating_mul(left_for_others) > left {
            return false;
        }
        self.left = left;
        if amount > 0 {
            self.held.insert(who, held + amount);
        }
        true
    }

    /// Gives back so much of what a holder has.
    pub fn give_back(&mut self, who: K, amount: usize) {
        let Some(held) = self.held.get_mut(&who) else {
            return;
        };
        let amount = amount.min(*held);
        *held -= amount;
        if *held == 0 {
            self.held.remove(&who);
        }
        self.left += amount;
    }

    /// How much nobody holds.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gets_a_fifth_and_many_less_each() {
        let mut shares = Shares::new(1000);
        let greedy = |shares: &mut Shares<u32>, who| {
            let mut got = 0;
            while shares.take(who, 1, FEW) {
                got += 1;
            }
            got
        };
        assert_eq!(greedy(&mut shares, 0), 200);
        assert_eq!(greedy(&mut shares, 1), 160);
        // Honest ones come after a hundred who take all that they can.
        for who in 2..100 {
            greedy(&mut shares, who);
        }
        assert!(shares.left() >= FEW && shares.held.len() <= 100);
        for who in 0..100 {
            shares.give_back(who, usize::MAX);
        }
        assert_eq!((shares.left(), shares.held.len()), (1000, 0));
        shares.give_back(7, 5);
        assert_eq!(shares.left(), 1000);
    }

    #[test]
    fn an_amount_that_is_not_there_is_refused() {
        let mut shares = Shares::new(100);
        for amount in [21, 101, usize::MAX] {
            assert!(!shares.take(1, amount, FEW));
        }
        assert!(!shares.take(2, 51, HALF) && !shares.take(3, 101, ALL));
        assert!(shares.take(1, 20, FEW) && shares.take(2, 40, HALF) && shares.take(3, 40, ALL));
        assert_eq!(shares.left(), 0);
    }
}
