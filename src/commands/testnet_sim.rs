//! `cepa testnet sim`: networks that are only simulated, a run a seed, as many at once as there are
//! cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cepa_testnet::sim::guards::{self, Summary};
use cepa_testnet::sim::onions::{self, Report, Size};

use crate::args::{SimGuardsArgs, SimOnionsArgs};
use crate::error::{Failure, fail};
use crate::{clock, terminal};

/// Failed visits that are shown of a run, at most.
const FAILED_SHOWN_MAX: usize = 5;

/// Onion services over days: says how they were found, and fails if one was not.
pub fn onions(args: &SimOnionsArgs) -> Result<(), Failure> {
    let size = Size {
        relays: usize::from(args.relays),
        services: usize::from(args.services),
        days: u64::from(args.days),
        ..Size::default()
    };
    let base = clock::now().mono;
    terminal::say(&format!(
        "{} relays, {} services, {} days a seed",
        size.relays, size.services, size.days
    ));
    terminal::say(
        "seed  uploads (refused)  visits (failed)  look-ups (missed)  at 0, 1, 2, ... directories",
    );
    let run = |seed| onions::run(seed, size, base);
    let reports = each_seed(args.seed, args.seeds, run, say);
    let failed: usize = reports.values().map(|report| report.failed.len()).sum();
    let missed: u64 = reports.values().map(|report| report.missed).sum();
    match failed as u64 + missed {
        0 => Ok(()),
        _ => fail(
            format!("{failed} visits failed, {missed} look-ups missed"),
            "simulation",
            "run a seed again by --seed N --seeds 1",
        ),
    }
}

/// A year of guards a seed: a table of all.
pub fn guards(args: &SimGuardsArgs) -> Result<(), Failure> {
    let start = clock::now();
    let run = |seed| guards::year(seed, start);
    let ended = |seed, _: &_| {
        if terminal::is_watched() {
            terminal::complain(&format!("seed {seed} has ended"));
        }
    };
    let years = each_seed(args.seed, args.seeds, run, ended);
    let table = Summary::new(years.into_values().collect()).to_string();
    terminal::say(table.trim_end());
    Ok(())
}

fn say(seed: u64, report: &Report) {
    let most = report.held_by.keys().next_back().copied().unwrap_or(0);
    let held = (0..=most).map(|held| report.held_by.get(&held).copied().unwrap_or(0));
    let held: Vec<String> = held.map(|count| count.to_string()).collect();
    terminal::say(&format!(
        "{seed:>4}  {:>9} ({:>5})  {:>8} ({:>4})  {:>9} ({:>4})  {}",
        report.uploads,
        report.refused,
        report.visits,
        report.failed.len(),
        report.lookups,
        report.missed,
        held.join(" ")
    ));
    for error in report.failed.iter().take(FAILED_SHOWN_MAX) {
        terminal::say(&format!("      failed: {error}"));
    }
}

/// Runs seeds from `first` on, on every core, and says what came of each when it has ended.
fn each_seed<T: Send>(
    first: u64,
    seeds: u16,
    run: impl Fn(u64) -> T + Sync,
    ended: impl Fn(u64, &T) + Sync,
) -> BTreeMap<u64, T> {
    let (next, done) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()));
    let end = first.saturating_add(u64::from(seeds));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run(seed);
                    // A poisoned lock: another thread has panicked, and so does the scope.
                    if let Ok(mut done) = done.lock() {
                        ended(seed, &report);
                        done.insert(seed, report);
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_default()
}
