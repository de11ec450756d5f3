//! Rates of a stream's socket: the one that ours has, and the one that the peer's allows (proposal
//! 324, 4.1.2).
//!
//! Our socket's rate is measured over `cc_xon_rate` cells that all wait for it, averaged, and
//! doubled for each such amount that passes with nothing left waiting. After XOFF it is measured
//! from the first byte that the socket takes, as an application that was away for a while is not
//! slow. It is told in units of 1000 bytes a second, 0 for none known. The peer's is kept by a
//! bucket of one second's worth.

use std::time::Instant;

use cepa_wire::relay::RELAY_DATA_MAX;

use crate::congestion::{FlowParams, n_ewma};

/// Most that is told or kept to (as in `tor`).
const KBPS_MAX: u64 = i32::MAX as u64;
/// From this rate on, 2 GB/s, a bucket limits nothing.
const LIMIT_MAX_BYTES_PER_S: u64 = i32::MAX as u64;

/// The rate at which our socket takes bytes.
#[derive(Debug, Default)]
pub(crate) struct DrainRate {
    /// Since when bytes have waited.
    since: Option<Instant>,
    /// Taken since then.
    drained_bytes: u64,
    /// Taken since the last measure or doubling.
    passed_bytes: u64,
    /// 0 if unknown.
    kbps: u64,
    /// What the peer was told last; 0 if nothing.
    told_kbps: u64,
}

impl DrainRate {
    /// The measure is considered wrong: the queue has grown too long.
    pub(crate) fn reset(&mut self) {
        self.kbps = 0;
        self.since = None;
    }

    /// The socket took so many bytes, and more wait unless `is_empty`.
    pub(crate) fn drained(
        &mut self,
        bytes: u64,
        is_empty: bool,
        params: &FlowParams,
        now: Instant,
    ) {
        self.drained_bytes = self.drained_bytes.saturating_add(bytes);
        self.passed_bytes = self.passed_bytes.saturating_add(bytes);
        let Some(since) = self.since else {
            if !is_empty {
                self.since = Some(now);
                self.drained_bytes = 0;
            }
            return;
        };
        if self.drained_bytes <= measure_bytes(params) {
            return;
        }
        let usec = now.saturating_duration_since(since).as_micros();
        // Without time passing there is no rate to speak of.
        if let Ok(usec @ 1..) = u64::try_from(usec) {
            let kbps = self.drained_bytes.saturating_mul(1000) / usec;
            let kbps = kbps.clamp(1, KBPS_MAX);
            self.kbps = n_ewma(kbps, self.kbps, params.xon_ewma_count.into());
            self.passed_bytes = 0;
            self.since = None;
        }
    }

    /// Nothing waits any more.
    pub(crate) fn emptied(&mut self, params: &FlowParams) {
        self.since = None;
        if self.passed_bytes >= measure_bytes(params) && self.told_kbps > 0 {
            self.kbps = self.kbps.saturating_mul(2).min(KBPS_MAX);
            self.passed_bytes = 0;
        }
    }

    /// Whether the rate is another than was told, by so many percent.
    pub(crate) fn has_changed(&self, percent: u32) -> bool {
        let (told, percent) = (self.told_kbps, u64::from(percent));
        told > 0
            && (self.kbps > told * (100 + percent) / 100
                || self.kbps < told * (100 - percent.min(100)) / 100)
    }

    /// What to tell the peer now.
    pub(crate) fn tell(&mut self) -> u32 {
        self.told_kbps = self.kbps;
        u32::try_from(self.kbps).unwrap_or(u32::MAX)
    }
}

fn measure_bytes(params: &FlowParams) -> u64 {
    u64::from(params.xon_rate_cells) * RELAY_DATA_MAX as u64
}

/// What the peer's rate allows to send.
#[derive(Debug)]
pub(crate) struct Bucket {
    bytes_per_s: u64,
    /// Below zero by at most one cell.
    bytes: i64,
    /// When it was filled last, to the microsecond that a whole byte came.
    filled: Instant,
}

impl Bucket {
    /// The bucket for a rate just told, full at first; `None` for no limit.
    pub(crate) fn limit(old: Option<Bucket>, kbps: u32, now: Instant) -> Option<Bucket> {
        let bytes_per_s = u64::from(kbps) * 1000;
        if bytes_per_s == 0 || bytes_per_s > LIMIT_MAX_BYTES_PER_S {
            return None;
        }
        let most = i64::try_from(bytes_per_s).unwrap_or(i64::MAX);
        let Some(mut bucket) = old else {
            return Some(Bucket {
                bytes_per_s,
                bytes: most,
                filled: now,
            });
        };
        bucket.refill(now);
        bucket.bytes_per_s = bytes_per_s;
        bucket.bytes = bucket.bytes.min(most);
        Some(bucket)
    }

    /// Bytes that may be sent.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }

    /// Bytes were sent.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// Adds what has come since the last time, up to one second's worth.
    pub(crate) fn refill(&mut self, now: Instant) {
        let usec = now.saturating_duration_since(self.filled).as_micros();
        let usec = u64::try_from(usec).unwrap_or(u64::MAX);
        let come = usec.saturating_mul(self.bytes_per_s) / 1_000_000;
        if come == 0 {
            return;
        }
        self.filled = now;
        let most = i64::try_from(self.bytes_per_s).unwrap_or(i64::MAX);
        let come = i64::try_from(come).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(come).min(most);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::congestion::CongestionParams;
    use crate::congestion::tests::epoch;

    #[test]
    fn a_socket_is_measured_while_bytes_wait() {
        let params = CongestionParams::default().flow;
        let mut now = epoch();
        let mut rate = DrainRate::default();
        rate.drained(0, false, &params, now);
        // 100 000 bytes each 100 ms: 1 MB/s.
        for _ in 0..3 {
            now += Duration::from_millis(100);
            rate.drained(100_000, false, &params, now);
        }
        assert_eq!((rate.kbps, rate.tell()), (1000, 1000));
        assert!(!rate.has_changed(25));
        // Half the rate now: the average is (2 * 500 + 1000) / 3.
        rate.drained(0, false, &params, now);
        for _ in 0..3 {
            now += Duration::from_millis(200);
            rate.drained(100_000, false, &params, now);
        }
        assert_eq!(rate.kbps, 666);
        assert!(rate.has_changed(25) && !rate.has_changed(50));
        // Nothing waits for as much as a measure: doubled.
        rate.tell();
        rate.drained(300_000, true, &params, now);
        rate.emptied(&params);
        assert_eq!(rate.kbps, 1332);
        // A clock that stands measures nothing.
        rate.drained(0, false, &params, now);
        rate.drained(1 << 40, false, &params, now);
        assert_eq!(rate.kbps, 1332);
    }

    #[test]
    fn a_bucket_lets_its_rate_through() {
        let mut now = epoch();
        assert!(Bucket::limit(None, 0, now).is_none());
        assert!(Bucket::limit(None, u32::MAX, now).is_none());
        let mut bucket = Bucket::limit(None, 50, now).unwrap();
        let mut sent = 0;
        for _ in 0..1000 {
            now += Duration::from_millis(10);
            bucket.refill(now);
            while bucket.bytes() > 0 {
                bucket.take(498);
                sent += 498;
            }
        }
        // One second's worth at once, then ten seconds.
        assert!((549_000..=550_500).contains(&sent), "{sent}");
        now += Duration::from_secs(1 << 40);
        bucket.refill(now);
        assert_eq!(bucket.bytes(), 50_000);
        let slower = Bucket::limit(Some(bucket), 1, now).unwrap();
        assert_eq!(slower.bytes(), 1000);
    }
}
