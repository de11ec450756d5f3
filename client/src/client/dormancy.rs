//! A client that nobody uses comes to rest (`DormantClientTimeout` in tor(1)).
//!
//! After a day without a request, an open stream or a hosted service it fetches no documents and
//! builds no circuits; what stands goes when its time comes. The next request wakes it: documents
//! are fetched if they are too old, and the request waits for as long as that takes.

use std::time::{Duration, Instant};

use cepa_wire::Now;

/// How long nobody may use it (`DormantClientTimeout`).
pub(crate) const DORMANT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Since when nobody has used it.
#[derive(Debug)]
pub(crate) struct Dormancy {
    used_last: Instant,
    is_dormant: bool,
}

impl Dormancy {
    pub(crate) fn new(now: Now) -> Self {
        Dormancy {
            used_last: now.mono,
            is_dormant: false,
        }
    }

    /// As if it had not been used for so much longer.
    #[cfg(test)]
    pub(crate) fn skip(&mut self, time: Duration) {
        self.used_last -= time;
    }

    /// Whether it is at rest.
    pub(crate) fn is_dormant(&self) -> bool {
        self.is_dormant
    }

    /// Somebody wants something. True if it was at rest.
    pub(crate) fn wake(&mut self, now: Now) -> bool {
        self.used_last = now.mono;
        let was_dormant = std::mem::take(&mut self.is_dormant);
        if was_dormant {
            tracing::info!("awake again: somebody wants something");
        }
        was_dormant
    }

    /// Comes to rest at once, whoever is busy: somebody wants that (the signal DORMANT).
    pub(crate) fn rest(&mut self) {
        self.is_dormant = true;
        tracing::info!("dormant until somebody wants something");
    }

    /// Comes to rest if the time has come; whoever is busy then is looked at a day later.
    pub(crate) fn review(&mut self, is_busy: bool, now: Now) {
        if self.deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        if is_busy {
            self.used_last = now.mono;
            return;
        }
        self.is_dormant = true;
        tracing::info!("nobody has wanted anything for a day: dormant until somebody does");
    }

    /// When to look whether to come to rest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.is_dormant).then(|| self.used_last + DORMANT_AFTER)
    }
}
