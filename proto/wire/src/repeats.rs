//! A message that would repeat is counted, and said now and then with its count.
//!
//! What goes wrong at each connection or each try would else fill a log, and hide the rest of it.
//! One value a message, held by whoever says it; time is an argument.

use std::time::{Duration, Instant};

use crate::Now;

/// How long the same message is only counted after it was said. A bound of ours.
pub const SILENCE: Duration = Duration::from_secs(600);

/// Counts one message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repeats {
    said: Option<Instant>,
    unsaid: u64,
}

impl Repeats {
    /// It would be said now: `Some` if it is to be, with how often it was not since the last time.
    pub fn say(&mut self, now: Now) -> Option<u64> {
        let is_recent = |said: Instant| now.mono.saturating_duration_since(said) < SILENCE;
        if self.said.is_some_and(is_recent) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now.mono);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// What it told of is over: the next time it is said at once.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn said_once_in_a_while() {
        let now = Now {
            mono: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let mut repeats = Repeats::default();
        assert_eq!(repeats.say(now), Some(0));
        for _ in 0..1000 {
            assert_eq!(repeats.say(now + SILENCE / 2), None);
        }
        assert_eq!(repeats.say(now + SILENCE), Some(1000));
        assert_eq!(repeats.say(now + SILENCE), None);
        repeats.reset();
        assert_eq!(repeats.say(now + SILENCE), Some(0));
    }
}
