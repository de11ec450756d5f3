//! How long the bytes of a stream have waited, in constant memory.
//!
//! When memory is short, what has waited longest goes first (`buf_oldest_chunk_timestamp` of `tor`,
//! which keeps a time for each chunk).

use std::time::Instant;

/// Since when the bytes of a stream have waited for its socket, the oldest of them.
///
/// Two marks stand for all bytes: when the older part came, and when the first of the rest did. So
/// the age is never less than that of the oldest byte, and it moves on as the socket takes bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    bytes: usize,
    older_bytes: usize,
    since: Option<Instant>,
    rest_since: Option<Instant>,
}

impl Held {
    /// So many bytes came.
    pub fn came(&mut self, bytes: usize, now: Instant) {
        if bytes == 0 {
            return;
        }
        if self.since.is_none() {
            self.since = Some(now);
            self.older_bytes = bytes;
        } else {
            self.rest_since.get_or_insert(now);
        }
        self.bytes += bytes;
    }

    /// The socket, or whoever it was, took so many.
    pub fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.older_bytes = self.older_bytes.saturating_sub(bytes);
        if self.older_bytes == 0 {
            self.since = self.rest_since.take().filter(|_| self.bytes > 0);
            self.older_bytes = self.bytes;
        }
    }

    /// How many bytes wait for the socket.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest of them came; `None` if nothing waits.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    proptest! {
        /// Against all bytes with their times: never younger than the oldest, and never older than
        /// what came before the older part was taken.
        #[test]
        fn the_age_of_a_stream(
            ops in prop::collection::vec((any::<bool>(), 1_usize..200), 0..100),
        ) {
            let start = now();
            let (mut held, mut model) = (Held::default(), VecDeque::new());
            let mut tick = 0;
            for (comes, bytes) in ops {
                tick += 1;
                let at = start + Duration::from_secs(tick);
                if comes {
                    held.came(bytes, at);
                    model.extend(std::iter::repeat_n(at, bytes));
                } else {
                    let bytes = bytes.min(model.len());
                    held.taken(bytes);
                    model.drain(..bytes);
                }
                prop_assert_eq!(held.since().is_some(), !model.is_empty());
                if let (Some(since), Some(oldest)) = (held.since(), model.front()) {
                    prop_assert!(since <= *oldest);
                }
            }
        }

        #[test]
        fn a_socket_that_takes_all_makes_young(
            counts in prop::collection::vec(1_usize..50, 1..30),
        ) {
            let start = now();
            let mut held = Held::default();
            let mut at = start;
            held.came(10, at);
            let mut waiting = 10;
            for bytes in counts {
                at += Duration::from_secs(1);
                held.came(bytes, at);
                held.taken(waiting);
                waiting = bytes;
                prop_assert_eq!(held.since(), Some(at));
            }
        }
    }
}
