//! The lines of a vote that say what its author's decisions on flags rest upon: `stats` and
//! `flag-thresholds` (dir-spec 3.4.1). Nobody computes with them; the numbers' forms are `tor`'s.

use std::fmt;

/// The `stats` line of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Weighted fractional uptime, 0 to 1.
    pub wfu: f64,
    /// Seconds that the relay has been known for, weighted.
    pub time_known_seconds: u64,
    /// Mean time between failures, in seconds.
    pub mtbf_seconds: f64,
}

/// What a relay needs for a flag, from the distribution over all relays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlagThresholds {
    /// Uptime for Stable.
    pub stable_uptime_seconds: u64,
    /// Mean time between failures for Stable.
    pub stable_mtbf_seconds: u64,
    /// Bandwidth for Fast.
    pub fast_speed_bytes: u64,
    /// Weighted fractional uptime for Guard, 0 to 1.
    pub guard_wfu: f64,
    /// Time known for Guard.
    pub guard_time_known_seconds: u64,
    /// Bandwidth for Guard when exits count.
    pub guard_bandwidth_with_exits_bytes: u64,
    /// Bandwidth for Guard when they do not.
    pub guard_bandwidth_without_exits_bytes: u64,
    /// Whether enough is known of mean times between failures.
    pub enough_mtbf: bool,
    /// Whether advertised bandwidths are ignored since enough relays are measured.
    pub ignoring_advertised: bool,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wfu,
            time_known_seconds,
            mtbf_seconds,
        } = self;
        write!(
            f,
            "wfu={wfu:.6} tk={time_known_seconds} mtbf={mtbf_seconds:.0}"
        )
    }
}

impl fmt::Display for FlagThresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stable-uptime={} ", self.stable_uptime_seconds)?;
        write!(f, "stable-mtbf={} ", self.stable_mtbf_seconds)?;
        write!(f, "fast-speed={} ", self.fast_speed_bytes)?;
        write!(f, "guard-wfu={:.3}% ", self.guard_wfu * 100.0)?;
        write!(f, "guard-tk={} ", self.guard_time_known_seconds)?;
        write!(
            f,
            "guard-bw-inc-exits={} ",
            self.guard_bandwidth_with_exits_bytes
        )?;
        write!(
            f,
            "guard-bw-exc-exits={} ",
            self.guard_bandwidth_without_exits_bytes
        )?;
        write!(f, "enough-mtbf={} ", u8::from(self.enough_mtbf))?;
        write!(
            f,
            "ignoring-advertised-bws={}",
            u8::from(self.ignoring_advertised)
        )
    }
}
