//! How much a node carries, and with how many threads.

use toml::Spanned;

use super::NodeTable;
use crate::config::BANDWIDTH_DEFAULT;
use crate::config::source::Source;
use crate::error::Failure;

/// Threads that carry cells, at most.
const WORKERS_MAX: usize = 256;

/// Checks rates and threads.
pub(super) fn check(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    for (key, rate) in [
        ("bandwidth_rate", &table.bandwidth_rate),
        ("bandwidth_burst", &table.bandwidth_burst),
    ] {
        if let Some(rate) = rate {
            source.expect(rate, key, "75000 bytes a second or more", |rate| {
                *rate >= 75_000
            })?;
        }
    }
    if let (Some(rate), Some(burst)) = (&table.bandwidth_rate, &table.bandwidth_burst) {
        source.expect(
            burst,
            "bandwidth_burst",
            "bandwidth_rate or more",
            |burst| burst >= rate.get_ref(),
        )?;
    }
    if let Some(workers) = &table.workers {
        source.expect(workers, "workers", "1 to 256", |n| {
            (1..=WORKERS_MAX).contains(n)
        })?;
    }
    Ok(())
}

/// `bandwidth_rate` and `bandwidth_burst`, in bytes a second.
pub(super) fn bandwidth(table: &NodeTable) -> (u64, u64) {
    let or =
        |value: &Option<Spanned<u64>>, default| value.as_ref().map_or(default, |v| *v.get_ref());
    let rate = or(&table.bandwidth_rate, BANDWIDTH_DEFAULT);
    (
        rate,
        or(&table.bandwidth_burst, rate.max(BANDWIDTH_DEFAULT)),
    )
}

/// `workers`, or as many threads as there are cores.
pub(super) fn workers(table: &NodeTable) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    table
        .workers
        .as_ref()
        .map_or_else(cores, |workers| *workers.get_ref())
}
