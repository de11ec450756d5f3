//! A client that nobody uses comes to rest (`DormantClientTimeout` in tor(1)).
//!
//! After a day without a request, an open stream or a hosted service it fetches no documents and
//! builds no circuits; what stands goes when its time comes. The next request wakes it: documents
//! are fetched if they are too old, and the request waits for as long as that takes.

use std::time::{Duration, Instant};

use cepa_wire::Now;

use super::Client;

/// How long nobody may use it (`DormantClientTimeout`).
pub(crate) const DORMANT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Since when nobody has used it.
#[derive(Debug)]
pub(crate) struct Rest {
    used_last: Instant,
    is_dormant: bool,
}

impl Rest {
    pub(crate) fn new(now: Now) -> Self {
        Rest {
            used_last: now.mono,
            is_dormant: false,
        }
    }

    /// As if it had not been used for so much longer.
    #[cfg(test)]
    pub(crate) fn skip(&mut self, time: Duration) {
        self.used_last -= time;
    }
}

impl Client {
    /// Whether it is at rest.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.rest.is_dormant
    }

    /// Somebody wants something.
    pub(super) fn wake(&mut self, now: Now) {
        self.rest.used_last = now.mono;
        if !std::mem::take(&mut self.rest.is_dormant) {
            return;
        }
        tracing::info!("awake again: somebody wants something");
        self.upkeep.launch_after = now.mono;
        self.run_download(now);
    }

    /// Comes to rest if the time has come; whoever is busy then is looked at a day later.
    pub(super) fn review_rest(&mut self, now: Now) {
        if self.rest.is_dormant || self.rest.used_last + DORMANT_AFTER > now.mono {
            return;
        }
        let is_busy = self.plane.has_streams()
            || !self.requests.by_id.is_empty()
            || !self.services.statuses().is_empty();
        if is_busy {
            self.rest.used_last = now.mono;
            return;
        }
        self.rest.is_dormant = true;
        tracing::info!("nobody has wanted anything for a day: dormant until somebody does");
    }

    /// When to look whether to come to rest.
    pub(super) fn rest_at(&self) -> Option<Instant> {
        (!self.rest.is_dormant).then(|| self.rest.used_last + DORMANT_AFTER)
    }

    /// Lets the download do what is due.
    pub(super) fn run_download(&mut self, now: Now) {
        let due = self.download.poll_timeout();
        if due.is_some_and(|at| at <= now.mono) && !self.rest.is_dormant {
            self.download.handle_timeout(now, &mut self.rng);
        }
    }
}
