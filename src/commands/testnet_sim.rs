//! `cepa testnet sim`: networks that are only simulated, a run a seed, as many at once as there are
//! cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cepa_testnet::sim::guards::{self, Summary};
use cepa_testnet::sim::net::{authorities, network};
use cepa_testnet::sim::onions::{self, Report, Size};

use crate::args::{SimAuthoritiesArgs, SimGuardsArgs, SimNetworkArgs, SimOnionsArgs};
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

/// Authorities under crashes, cuts and lies: a line a seed, a table of all, and what must not be.
pub fn authorities(args: &SimAuthoritiesArgs) -> Result<(), Failure> {
    let size = authorities::Size {
        authorities: usize::from(args.authorities),
        relays: usize::from(args.relays),
        hours: u64::from(args.hours),
    };
    if args.trace.is_some() && args.seeds != 1 {
        let advice = "add --seeds 1";
        return fail("a trace is of one seed", "--trace", advice);
    }
    terminal::say(&format!(
        "{} authorities, {} relays, {} hours a seed",
        size.authorities, size.relays, size.hours
    ));
    terminal::say(
        "seed  liars  hours  required  consensuses  split  crashes  requests  seconds  trace",
    );
    let base = clock::now().mono;
    let run = |seed| {
        let from = clock::now().mono;
        let report = authorities::run_with(seed, size, base, None, args.trace.is_some());
        (report, clock::now().mono - from)
    };
    let reports = each_seed(args.seed, args.seeds, run, |seed, (report, took)| {
        say_authorities(seed, report, took.as_secs_f64());
    });
    if let (Some(file), Some((report, _))) = (&args.trace, reports.values().next()) {
        write(file, report.trace.as_deref().unwrap_or_default())?;
    }
    let all = || reports.values().map(|(report, _)| report);
    let of = |count: fn(&authorities::Report) -> usize| all().map(count).sum::<usize>();
    let (required, splits) = (of(|one| one.required), of(|one| one.splits));
    let failed: Vec<u64> = reports
        .iter()
        .filter(|(_, (report, _))| !report.violations.is_empty())
        .map(|(seed, _)| *seed)
        .collect();
    terminal::say(&format!(
        "{} hours, {} with a consensus; it was required in {required}; liars split {splits}; \
         {} of {} seeds contradict the model",
        size.hours * u64::from(args.seeds),
        of(|one| one.consensuses),
        failed.len(),
        args.seeds
    ));
    if let Some(file) = &args.json {
        let reports: BTreeMap<_, _> = reports.iter().map(|(seed, one)| (seed, &one.0)).collect();
        write(
            file,
            &serde_json::to_string_pretty(&reports).unwrap_or_default(),
        )?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => fail(
            format!("seeds that contradict the model: {failed:?}"),
            "simulation",
            "run one again by --seed N --seeds 1 --trace FILE",
        ),
    }
}

fn say_authorities(seed: u64, report: &authorities::Report, seconds: f64) {
    terminal::say(&format!(
        "{seed:>4}  {:>5}  {:>5}  {:>8}  {:>11}  {:>5}  {:>7}  {:>8}  {seconds:>7.1}  {}",
        report.liars.len(),
        report.hours,
        report.required,
        report.consensuses,
        report.splits,
        report.crashes,
        report.requests,
        report.hash.get(..16).unwrap_or_default()
    ));
    for what in report.violations.iter().take(FAILED_SHOWN_MAX) {
        terminal::say(&format!("      {what}"));
    }
}

/// A whole network: a table of what its users got.
pub fn network(args: &SimNetworkArgs) -> Result<(), Failure> {
    let seconds = args.hours * 3600.0;
    let Ok(time) = Duration::try_from_secs_f64(seconds) else {
        return fail("no length of time", "--hours", "give a number, such as 0.5");
    };
    let size = network::Size {
        authorities: usize::from(args.authorities),
        relays: usize::from(args.relays),
        exits: usize::from(args.exits),
        clients: usize::from(args.clients),
        onion_services: usize::from(args.onion_services),
        time,
        delay: args.delay,
        jitter: args.jitter,
        rate: args.rate,
        crash_one_in: args.crash_one_in,
        ..network::Size::default()
    };
    let from = clock::now().mono;
    let report = network::run(args.seed, size, from, args.trace.is_some());
    let took = (clock::now().mono - from).as_secs_f64();
    terminal::say(&report.to_string());
    terminal::say(&format!("{took:.1} s for {seconds:.0} simulated ones"));
    if let Some(file) = &args.trace {
        write(file, report.trace.as_deref().unwrap_or_default())?;
    }
    if let Some(file) = &args.json {
        write(
            file,
            &serde_json::to_string_pretty(&report).unwrap_or_default(),
        )?;
    }
    match report.violations.is_empty() {
        true => Ok(()),
        false => fail(
            report.violations.join("; "),
            "simulation",
            "look where it begins by --trace FILE",
        ),
    }
}

fn write(file: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text)
        .map_err(|error| Failure::new("the file cannot be written", file.display(), error))
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
