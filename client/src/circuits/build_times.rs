//! How long circuits take to be built, and from that when to give one up (path-spec 2.4).
//!
//! ```text
//! the last 1000 times of three hops ─bins of 10 ms─▶ Xm ─▶ alpha ─▶ quantiles: timeout, close
//! ```
//!
//! A circuit that is later than the timeout is used for nothing, but measured until the close
//! time, so that the tail of the distribution is known, too. Nothing is learnt while the network
//! is silent; when most of the last circuits were late, it has changed: learning begins anew.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_netdoc::params::Params;
use cepa_wire::Now;

use crate::overrides::CircuitOverrides;
use crate::status::{BuildTimesChange, BuildTimesStatus};

/// Times that are kept (path-spec 2.4.2).
const TIMES_MAX: usize = 1000;
/// Width of a bin of the histogram.
const BIN_MS: u32 = 10;
/// Longest time that is believed: a day.
const TIME_MS_MAX: u32 = 86_400_000;
/// Longest timeout, however often it is doubled.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Hops of the circuits that are measured.
pub(crate) const MEASURED_HOPS: usize = 3;
/// The first line of the text form.
const HEADER: &str = "build-times 1";

/// The parameters `cbt*` of the consensus (path-spec 2.4.6).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BuildTimeParams {
    is_disabled: bool,
    modes: usize,
    recent_count: usize,
    late_max: usize,
    circuits_min: usize,
    quantile: f64,
    close_quantile: f64,
    /// How often a circuit is built only to learn.
    pub(crate) test_every: Duration,
    timeout_min: Duration,
    timeout_first: Duration,
    /// How long an idle circuit is kept while times are learnt.
    pub(crate) learning_idle_max: Duration,
    /// Clean circuits that stand at a time while times are learnt.
    pub(crate) learning_open_max: usize,
}

impl BuildTimeParams {
    /// What a consensus says.
    pub(crate) fn read(params: &Params) -> Self {
        let value = |name, default, min, max| params.value(name, default, min, max).unsigned_abs();
        let count = |name, default, min, max| value(name, default, min, max) as usize;
        let secs = |name, default, min, max| {
            Duration::from_secs(u64::from(value(name, default, min, max)))
        };
        let timeout_min = value("cbtmintimeout", 10, 10, i32::MAX);
        let first_min = i32::try_from(timeout_min).unwrap_or(i32::MAX);
        let timeout_first = value("cbtinitialtimeout", 60_000, first_min, i32::MAX);
        let quantile = value("cbtquantile", 80, 10, 99);
        let quantile_min = i32::try_from(quantile).unwrap_or(99);
        BuildTimeParams {
            is_disabled: value("cbtdisabled", 0, 0, 1) == 1,
            modes: count("cbtnummodes", 10, 1, 20),
            recent_count: count("cbtrecentcount", 20, 3, 1000),
            late_max: count("cbtmaxtimeouts", 18, 3, 10_000),
            circuits_min: count("cbtmincircs", 100, 1, 10_000),
            quantile: f64::from(quantile) / 100.0,
            close_quantile: f64::from(value("cbtclosequantile", 99, quantile_min, 99)) / 100.0,
            test_every: secs("cbttestfreq", 10, 1, i32::MAX),
            timeout_min: Duration::from_millis(u64::from(timeout_min)),
            timeout_first: Duration::from_millis(u64::from(timeout_first)),
            learning_idle_max: secs("cbtlearntimeout", 180, 10, 60_000),
            learning_open_max: count("cbtmaxopencircs", 10, 0, 14),
        }
    }

    /// The same where an operator says otherwise. While times are learnt, a first one below the
    /// least that the network allows is that.
    pub(crate) fn overridden(mut self, overrides: &CircuitOverrides) -> Self {
        self.is_disabled |= overrides.learns_nothing;
        if let Some(first) = overrides.build {
            self.timeout_first = match self.is_disabled {
                true => first,
                false => first.max(self.timeout_min),
            };
        }
        self
    }
}

/// Why a kept text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the kept build times cannot be read")]
pub(crate) struct BuildTimesError(usize);

/// The times, and what follows from them.
#[derive(Debug)]
pub(crate) struct BuildTimes {
    params: BuildTimeParams,
    /// In milliseconds, the oldest first.
    times: VecDeque<u32>,
    /// Whether the last circuits that had a first hop were late.
    late: VecDeque<bool>,
    timeout: Duration,
    close: Duration,
    /// When something last came from the network.
    heard: Instant,
    /// Circuits were given up that began after that.
    is_silent: bool,
    unsaved: usize,
    change: Option<BuildTimesChange>,
}

impl BuildTimes {
    /// Nothing is known yet.
    pub(crate) fn new(now: Now) -> Self {
        let params = BuildTimeParams::read(&Params::new());
        BuildTimes {
            params,
            times: VecDeque::new(),
            late: VecDeque::new(),
            timeout: params.timeout_first,
            close: params.timeout_first,
            heard: now.mono,
            is_silent: false,
            unsaved: 0,
            change: None,
        }
    }

    /// Reads what [`BuildTimes::encode`] wrote. The order of the times is not kept: they are
    /// shuffled, so that all of them have the same chance to grow old.
    pub(crate) fn parse(text: &str, rng: &mut Rng, now: Now) -> Result<Self, BuildTimesError> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(BuildTimesError(1));
        }
        let mut times: Vec<u32> = Vec::new();
        for (at, line) in lines {
            let bad = BuildTimesError(at + 1);
            let (middle, count) = line.split_once(' ').ok_or(bad)?;
            let middle: u32 = middle.parse().map_err(|_| bad)?;
            let count: usize = count.parse().map_err(|_| bad)?;
            if middle > TIME_MS_MAX || count > TIMES_MAX - times.len() {
                return Err(bad);
            }
            times.extend(std::iter::repeat_n(middle, count));
        }
        crate::select::shuffle(&mut times, rng);
        let mut read = BuildTimes::new(now);
        read.times = times.into();
        read.estimate();
        Ok(read)
    }

    /// Takes others, by the parameters that there are.
    pub(crate) fn replace(&mut self, by: Self) {
        let params = self.params;
        *self = by;
        self.set_params(params);
    }

    /// The histogram as text: for each bin its middle in milliseconds, and how many times fell
    /// into it.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (bin, count) in self.bins() {
            let _ = writeln!(text, "{} {count}", middle_of(bin));
        }
        text
    }

    /// There is another consensus.
    pub(crate) fn set_params(&mut self, params: BuildTimeParams) {
        if params == self.params {
            return;
        }
        let had_first = self.params.timeout_first;
        self.params = params;
        if params.is_disabled {
            self.times.clear();
            self.unsaved = 1;
        }
        self.late.clear();
        if self.is_learning() && params.timeout_first != had_first {
            (self.timeout, self.close) = (params.timeout_first, params.timeout_first);
        }
        self.estimate();
    }

    pub(crate) fn params(&self) -> &BuildTimeParams {
        &self.params
    }

    /// How long a circuit of so many hops may take to be of use.
    pub(crate) fn timeout(&self, hops: usize) -> Duration {
        scaled(self.timeout, hops)
    }

    /// How long it may take at all.
    pub(crate) fn close(&self, hops: usize) -> Duration {
        scaled(self.close, hops)
    }

    /// How long a first hop may take at all, its channel included.
    pub(crate) fn first_hop(&self) -> Duration {
        self.close(1)
    }

    /// How they stand, for readers.
    pub(crate) fn status(&self) -> BuildTimesStatus {
        let late = self.late.iter().filter(|late| **late).count();
        let lowest_ms = self.lowest().unwrap_or(0.0);
        BuildTimesStatus {
            count: self.times.len(),
            is_learning: self.is_learning(),
            timeout: self.timeout,
            close: self.close,
            quantile: self.params.quantile,
            late: to_f64(late) / to_f64(self.late.len().max(1)),
            lowest_ms,
            alpha: self.alpha(lowest_ms).unwrap_or(0.0),
        }
    }

    /// Why they changed since last asked.
    pub(crate) fn take_change(&mut self) -> Option<BuildTimesChange> {
        self.change.take()
    }

    /// Whether nothing comes from the network.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// More times are needed for an estimate.
    pub(crate) fn is_learning(&self) -> bool {
        !self.params.is_disabled && self.times.len() < self.params.circuits_min.min(TIMES_MAX)
    }

    /// Something came from the network.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = now.mono;
        self.is_silent = false;
    }

    /// A circuit's third hop stands, `took` after its first was asked for.
    pub(crate) fn built(&mut self, took: Duration, was_late: bool) {
        if self.params.is_disabled || self.is_silent {
            return;
        }
        // Longer than it would have been let: the machine slept.
        if took > 2 * self.close + Duration::from_secs(1) {
            return;
        }
        let ms = u32::try_from(took.as_millis()).unwrap_or(TIME_MS_MAX);
        if self.times.len() >= TIMES_MAX {
            self.times.pop_front();
        }
        self.times.push_back(ms.min(TIME_MS_MAX));
        self.unsaved += 1;
        self.estimate();
        if !was_late {
            self.note_late(false);
        }
    }

    /// A circuit is later than the timeout. True if that makes the network a changed one.
    pub(crate) fn late(&mut self, had_first_hop: bool) -> bool {
        if self.params.is_disabled || !had_first_hop {
            return false;
        }
        self.note_late(true);
        let late = self.late.iter().filter(|late| **late).count();
        if late < self.params.late_max {
            return false;
        }
        self.late.clear();
        self.times.clear();
        self.unsaved += 1;
        self.change = Some(BuildTimesChange::Reset);
        let first = self.params.timeout_first;
        if self.timeout >= first {
            self.timeout = (2 * self.timeout).min(TIMEOUT_MAX.max(first));
            self.close = (2 * self.close).min(TIMEOUT_MAX.max(first));
        } else {
            (self.timeout, self.close) = (first, first);
        }
        true
    }

    /// Forgets all times (DROPTIMEOUTS).
    pub(crate) fn forget(&mut self) {
        self.late.clear();
        self.times.clear();
        self.unsaved += 1;
        self.change = Some(BuildTimesChange::Reset);
        (self.timeout, self.close) = (self.params.timeout_first, self.params.timeout_first);
    }

    /// A circuit that was begun at `began` is given up.
    pub(crate) fn given_up(&mut self, began: Instant) {
        self.is_silent |= self.heard < began;
    }

    /// Whether there is something to keep: the first estimate, then each twenty times.
    pub(crate) fn take_changed(&mut self) -> bool {
        let is_first = !self.is_learning() && self.times.len() == self.params.circuits_min;
        let due = self.unsaved >= 20 || (self.unsaved > 0 && (is_first || self.times.is_empty()));
        if due {
            self.unsaved = 0;
        }
        due
    }

    fn note_late(&mut self, is_late: bool) {
        self.late.push_back(is_late);
        while self.late.len() > self.params.recent_count {
            self.late.pop_front();
        }
    }

    /// The histogram: bins that are not empty, in their order.
    fn bins(&self) -> Vec<(u32, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for ms in &self.times {
            *counts.entry(ms / BIN_MS).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// The lowest value of the curve: the middles of the fullest bins, weighted.
    fn lowest(&self) -> Option<f64> {
        let mut bins = self.bins();
        // A stable sort: of bins as full, the earlier one comes first.
        bins.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        bins.truncate(self.params.modes);
        let count: usize = bins.iter().map(|(_, count)| count).sum();
        let weigh = |(bin, count): &(u32, usize)| f64::from(middle_of(*bin)) * to_f64(*count);
        let sum: f64 = bins.iter().map(weigh).sum();
        (count > 0).then(|| sum / to_f64(count))
    }

    /// The exponent of the curve, by maximum likelihood; `None` if all times are the lowest.
    fn alpha(&self, lowest: f64) -> Option<f64> {
        let count = to_f64(self.times.len());
        let logs = self.times.iter().map(|ms| f64::from(*ms).max(lowest).ln());
        let excess = logs.sum::<f64>() - count * lowest.ln();
        (excess > 1e-9).then(|| count / excess)
    }

    /// Computes the two times anew, if there are enough data.
    fn estimate(&mut self) {
        let BuildTimeParams {
            timeout_first,
            timeout_min,
            ..
        } = self.params;
        if self.params.is_disabled {
            (self.timeout, self.close) = (timeout_first, timeout_first);
            return;
        }
        if self.is_learning() {
            return;
        }
        let (Some(lowest), Some(longest)) = (self.lowest(), self.times.iter().max()) else {
            return;
        };
        let alpha = self.alpha(lowest);
        let quantile = |q: f64| match alpha {
            Some(alpha) => lowest / (1.0 - q).powf(1.0 / alpha),
            None => lowest,
        };
        let (quick, late) = (self.params.quantile, self.params.close_quantile);
        let longest = f64::from(*longest);
        let before = self.timeout;
        self.timeout = millis(quantile(quick).min(longest)).max(timeout_min);
        if self.timeout != before {
            self.change = Some(BuildTimesChange::Computed);
        }
        let close = millis(quantile(late).min(2.0 * longest));
        self.close = close.max(timeout_first).max(self.timeout);
    }
}

/// The middle of a bin, in milliseconds.
fn middle_of(bin: u32) -> u32 {
    bin.saturating_mul(BIN_MS).saturating_add(BIN_MS / 2)
}

/// A time for three hops, for another number: each hop costs a round trip to itself.
fn scaled(time: Duration, hops: usize) -> Duration {
    let actions = |hops: usize| u32::try_from(hops * (hops + 1) / 2).unwrap_or(u32::MAX);
    time.saturating_mul(actions(hops.clamp(1, 8))) / actions(MEASURED_HOPS)
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

fn millis(ms: f64) -> Duration {
    Duration::try_from_secs_f64((ms / 1000.0).max(0.0))
        .unwrap_or(TIMEOUT_MAX)
        .min(Duration::from_millis(u64::from(TIME_MS_MAX)))
}

#[cfg(test)]
mod tests;
