//! When a relay tells the authorities of itself (dir-spec 2.1; `tor`'s router.c).
//!
//! ```text
//! changed, or 18 h old, or missing in the consensus ─> new documents ─> upload to every authority
//!                                                        failed: again after 1, 2, 4, ... times
//! ```
//!
//! A bandwidth that doubled or halved is worth a new descriptor at most every 3 hours. In a testing
//! network everything goes faster.

use std::time::{Duration, Instant};

use cepa_wire::Now;

/// Age at which a descriptor is renewed (dir-spec 2.1).
const AGE_MAX: Duration = Duration::from_secs(18 * 60 * 60);
/// Time between two descriptors that differ by bandwidth only.
const BANDWIDTH_AGE_MIN: Duration = Duration::from_secs(3 * 60 * 60);
/// Age at which one that the consensus does not have is renewed.
const UNLISTED_AGE_MIN: Duration = Duration::from_secs(90 * 60);
/// First and last wait before an upload is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
const TESTING_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// An upload to one authority.
#[derive(Debug, Clone, Copy)]
struct Upload {
    /// When to (re)try; `None`: it is done, or under way.
    due: Option<Instant>,
    wait: Duration,
}

/// What a relay has published last, and to whom.
#[derive(Debug)]
pub(crate) struct Publisher {
    is_testing: bool,
    /// When, and with which bandwidth.
    last: Option<(Now, u32)>,
    is_changed: bool,
    is_unlisted: bool,
    uploads: Vec<Upload>,
}

impl Publisher {
    pub(crate) fn new(is_testing: bool, authorities: usize) -> Self {
        let upload = Upload {
            due: None,
            wait: Duration::ZERO,
        };
        Publisher {
            is_testing,
            last: None,
            is_changed: false,
            is_unlisted: false,
            uploads: vec![upload; authorities],
        }
    }

    /// Something that a descriptor says is not so any more.
    pub(crate) fn changed(&mut self) {
        self.is_changed = true;
    }

    /// Whether the newest consensus has the relay.
    pub(crate) fn listed(&mut self, is_listed: bool) {
        self.is_unlisted = !is_listed;
    }

    /// Whether new documents are due.
    pub(crate) fn is_due(&self, observed: u32, now: Now) -> bool {
        let Some((last, told)) = &self.last else {
            return true;
        };
        let age = now.mono.saturating_duration_since(last.mono);
        let (low, high) = (observed.min(*told), observed.max(*told));
        let is_other_bandwidth = high > 1024 && low < high / 2;
        self.is_changed
            || age >= AGE_MAX
            || (self.is_unlisted && age >= self.unlisted_age_min())
            || (is_other_bandwidth && age >= self.bandwidth_age_min())
    }

    fn unlisted_age_min(&self) -> Duration {
        if self.is_testing {
            Duration::from_secs(60)
        } else {
            UNLISTED_AGE_MIN
        }
    }

    fn bandwidth_age_min(&self) -> Duration {
        if self.is_testing {
            Duration::from_secs(60)
        } else {
            BANDWIDTH_AGE_MIN
        }
    }

    /// New documents were made.
    pub(crate) fn made(&mut self, observed: u32, now: Now) {
        self.last = Some((now, observed));
        self.is_changed = false;
        let wait = self.retry().0;
        self.uploads.fill(Upload {
            due: Some(now.mono),
            wait,
        });
    }

    fn retry(&self) -> (Duration, Duration) {
        if self.is_testing {
            TESTING_RETRY
        } else {
            RETRY
        }
    }

    /// The authorities to upload to now, which then are under way.
    pub(crate) fn take_due(&mut self, now: Now) -> Vec<usize> {
        let uploads = self.uploads.iter_mut().enumerate();
        let due = uploads.filter(|(_, upload)| upload.due.is_some_and(|due| due <= now.mono));
        due.map(|(authority, upload)| {
            upload.due = None;
            authority
        })
        .collect()
    }

    /// How an upload ended: an HTTP status, or 0 if there was none. A refusal is final.
    pub(crate) fn handle_upload(&mut self, authority: usize, status: u16, now: Now) {
        let last = self.retry().1;
        if matches!(status, 200 | 400) {
            return;
        }
        if let Some(upload) = self.uploads.get_mut(authority) {
            upload.due = Some(now.mono + upload.wait);
            upload.wait = (upload.wait * 2).min(last);
        }
    }

    /// When to look again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let uploads = self.uploads.iter().filter_map(|upload| upload.due).min();
        let age = if self.is_unlisted {
            self.unlisted_age_min()
        } else {
            AGE_MAX
        };
        let next = self.last.as_ref().map(|(last, _)| last.mono + age);
        uploads.into_iter().chain(next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Now {
        Now {
            mono: Instant::now(),
            wall: std::time::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_makes_a_descriptor_due() {
        let now = now();
        let hours = |n: u64| now + Duration::from_secs(n * 3600);
        let mut publisher = Publisher::new(false, 2);
        assert!(publisher.is_due(0, now));
        publisher.made(10_000, now);
        assert!(!publisher.is_due(10_000, hours(17)) && publisher.is_due(10_000, hours(18)));
        assert!(!publisher.is_due(30_000, hours(2)) && publisher.is_due(30_000, hours(3)));
        assert!(!publisher.is_due(6000, hours(4)) && publisher.is_due(4000, hours(4)));
        publisher.listed(false);
        assert!(!publisher.is_due(10_000, hours(1)) && publisher.is_due(10_000, hours(2)));
        publisher.listed(true);
        publisher.changed();
        assert!(publisher.is_due(10_000, now));
    }

    #[test]
    fn uploads_are_tried_again_until_somebody_answers() {
        let start = now();
        let mut publisher = Publisher::new(false, 3);
        publisher.made(0, start);
        assert_eq!(publisher.take_due(start), [0, 1, 2]);
        publisher.handle_upload(0, 200, start);
        publisher.handle_upload(1, 400, start);
        let mut now = start;
        for wait in [60, 120, 240, 480, 600, 600] {
            publisher.handle_upload(2, 0, now);
            assert!(
                publisher
                    .take_due(now + Duration::from_secs(wait - 1))
                    .is_empty()
            );
            now = now + Duration::from_secs(wait);
            assert_eq!(publisher.take_due(now), [2]);
        }
        publisher.handle_upload(9, 500, now);
    }
}
