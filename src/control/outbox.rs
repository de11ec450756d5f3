//! What waits to be sent to a controller: whole replies and whole events, in order.
//!
//! Events are bounded by [`EVENTS_BYTES_MAX`]; past it the controller is told no more of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that may wait before events are dropped.
pub(crate) const EVENTS_BYTES_MAX: usize = 1024 * 1024;

/// The queue of one controller.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: Notify,
    all_sent: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes that were pushed and are not written yet.
    unsent: usize,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reply.
    pub(crate) fn push_reply(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        state.unsent += bytes.len();
        state.waiting.push_back(bytes);
        drop(state);
        self.waker.notify_one();
    }

    /// Adds an event; false if the controller does not read and is to be told no more.
    pub(crate) fn push_event(&self, bytes: &[u8]) -> bool {
        let unsent = self.state().unsent;
        if unsent > 0 && unsent + bytes.len() > EVENTS_BYTES_MAX {
            return false;
        }
        self.push_reply(bytes.to_vec());
        true
    }

    /// Returns when there is a message to take.
    pub(crate) async fn ready(&self) {
        while self.state().waiting.is_empty() {
            self.waker.notified().await;
        }
    }

    /// The next message, if there is one; [`Outbox::sent`] is to be told when it is written.
    pub(crate) fn pop(&self) -> Option<Vec<u8>> {
        self.state().waiting.pop_front()
    }

    /// A message of that length was written.
    pub(crate) fn sent(&self, bytes: usize) {
        let mut state = self.state();
        state.unsent = state.unsent.saturating_sub(bytes);
        if state.unsent == 0 {
            self.all_sent.notify_waiters();
        }
    }

    /// Returns when all that was pushed is written.
    pub(crate) async fn flushed(&self) {
        loop {
            let all_sent = self.all_sent.notified();
            if self.state().unsent == 0 {
                return;
            }
            all_sent.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_and_replies_are_not_lost() {
        let outbox = Outbox::default();
        let event = vec![b'x'; EVENTS_BYTES_MAX / 4];
        for _ in 0..4 {
            assert!(outbox.push_event(&event));
        }
        assert!(!outbox.push_event(b"y"));
        outbox.push_reply(b"250 OK\r\n".to_vec());
        let taken: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
        assert_eq!(taken.len(), 5);
        assert_eq!(taken[4], b"250 OK\r\n");
        assert!(!outbox.push_event(&event), "what was taken is not yet sent");
        outbox.sent(taken.iter().map(Vec::len).sum());
        assert!(
            outbox.push_event(&vec![b'z'; 2 * EVENTS_BYTES_MAX]),
            "alone it may be long"
        );
    }
}
