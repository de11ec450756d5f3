//! The bytes that bodies and replies may have at a time, shared by all who send and ask.
//!
//! What is reserved is given back when the bytes themselves go ([`Reservation::owned`]), wherever
//! they are by then: a sender who has hung up leaves nothing behind that nobody counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cepa_limits::shares::{self, Shares};
use cepa_limits::{Memory, MemoryClass, MemoryShare};

use super::Sender;

/// A number of bytes, or of something else, for all senders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    total: usize,
    shares: Shares<Sender>,
    /// Where what is held is told.
    account: Option<MemoryShare>,
}

impl State {
    fn tell(&mut self) {
        if let Some(account) = &mut self.account {
            let held = self.total.saturating_sub(self.shares.left());
            account.tell(MemoryClass::Directory, held);
        }
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            total,
            shares: Shares::new(total),
            account: None,
        })))
    }

    /// Counts what is held, bytes, as the directory's part of the process's memory from now on.
    pub fn count_in(&self, memory: &Arc<Memory>) {
        let mut state = self.state();
        state.account = Some(MemoryShare::new(Arc::clone(memory)));
        state.tell();
    }

    /// A reservation for this sender that holds nothing yet.
    pub fn reserve(&self, sender: Sender) -> Reservation {
        Reservation {
            budget: self.clone(),
            sender,
            amount: 0,
        }
    }

    /// How many bytes nobody holds.
    pub fn left(&self) -> usize {
        self.state().shares.left()
    }

    fn give_back(&self, sender: Sender, amount: usize) {
        let mut state = self.state();
        state.shares.give_back(sender, amount);
        state.tell();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    sender: Sender,
    amount: usize,
}

impl Reservation {
    /// Makes it larger; `false`: it stays as it was, as there is no more for this sender.
    #[must_use]
    pub fn grow(&mut self, amount: usize) -> bool {
        let left_for_others = match self.sender {
            Sender::Host(_) => shares::FEW,
            Sender::Circuit | Sender::Neighbour => shares::HALF,
            Sender::Known(_) => shares::ALL,
        };
        let mut state = self.budget.state();
        let taken = state.shares.take(self.sender, amount, left_for_others);
        state.tell();
        self.amount += if taken { amount } else { 0 };
        taken
    }

    /// Gives back what is more than so much.
    pub fn shrink_to(&mut self, amount: usize) {
        let surplus = self.amount.saturating_sub(amount);
        self.budget.give_back(self.sender, surplus);
        self.amount -= surplus;
    }

    /// The bytes for which it was made: it lives as long as they, and so does `held`.
    pub fn owned<B, H>(self, bytes: B, held: H) -> Bytes
    where
        B: AsRef<[u8]> + Send + 'static,
        H: Send + 'static,
    {
        Bytes::from_owner(Counted {
            bytes,
            _reservation: self,
            _held: held,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.sender, self.amount);
    }
}

struct Counted<B, H> {
    bytes: B,
    _reservation: Reservation,
    _held: H,
}

impl<B: AsRef<[u8]>, H> AsRef<[u8]> for Counted<B, H> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use cepa_limits::Source;

    use super::*;

    #[test]
    fn bytes_are_counted_as_long_as_they_are_there() {
        let budget = Budget::new(1000);
        let host = Sender::Host(Source::of([127, 0, 0, 1].into()));
        let mut reservation = budget.reserve(host);
        assert!(reservation.grow(200) && !reservation.grow(1));
        reservation.shrink_to(150);
        let bytes = reservation.owned(vec![7; 150], ());
        // So little that every move is told.
        let memory = Memory::new(4096);
        budget.count_in(&memory);
        let other = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((budget.left(), other.len()), (850, 10));
        assert_eq!(memory.held_bytes(MemoryClass::Directory), 150);
        drop(other);
        assert_eq!(budget.left(), 1000);
        assert_eq!(memory.total_bytes(), 0);
    }
}
