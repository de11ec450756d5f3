//! What is counted in a year, and the table of many years.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::world::SIDES_PERCENT;
use super::{STEPS_PER_DAY, Year};

/// A guard carries a good part of the traffic if it has one of so many circuits.
const MAIN_SHARE: u64 = 20;

/// A guard that carried traffic, from when it was sampled until it left the sample.
#[derive(Debug, Clone, PartialEq)]
struct Stay {
    guard: u32,
    circuits: u64,
    first: u32,
    last: u32,
}

/// The figures of one client's year.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Stays that are over, and those that are not.
    over: Vec<Stay>,
    guards: BTreeMap<u32, Stay>,
    circuits: u64,
    failures: u64,
    offline: u64,
    seen: [u64; 2],
    illegal: u64,
    sample_max: usize,
}

impl Figures {
    /// A circuit was used.
    pub(super) fn note(&mut self, guard: u32, step: u32, sides: [bool; 2], legal: bool) {
        self.circuits += 1;
        let used = self.guards.entry(guard).or_insert(Stay {
            guard,
            circuits: 0,
            first: step,
            last: step,
        });
        used.circuits += 1;
        used.last = step;
        for (seen, side) in self.seen.iter_mut().zip(sides) {
            *seen += u64::from(side);
        }
        self.illegal += u64::from(!legal);
    }

    /// No circuit could be built.
    pub(super) fn note_failure(&mut self, is_offline: bool) {
        match is_offline {
            true => self.offline += 1,
            false => self.failures += 1,
        }
    }

    /// These are sampled, and no others.
    pub(super) fn note_sample(&mut self, sample: &[u32]) {
        self.sample_max = self.sample_max.max(sample.len());
        let over = &mut self.over;
        self.guards.retain(|number, stay| {
            let stays = sample.contains(number);
            if !stays {
                over.push(stay.clone());
            }
            stays
        });
    }

    fn stays(&self) -> impl Iterator<Item = &Stay> {
        self.over.iter().chain(self.guards.values())
    }

    /// Those that carried a good part of the circuits.
    fn main_stays(&self) -> impl Iterator<Item = &Stay> {
        self.stays()
            .filter(|stay| stay.circuits * MAIN_SHARE >= self.circuits)
    }

    /// Distinct guards that carried traffic.
    #[must_use]
    pub fn distinct(&self) -> usize {
        let guards: BTreeSet<u32> = self.stays().map(|stay| stay.guard).collect();
        guards.len()
    }

    /// Distinct guards that carried a twentieth of the circuits or more.
    #[must_use]
    pub fn main(&self) -> usize {
        let guards: BTreeSet<u32> = self.main_stays().map(|stay| stay.guard).collect();
        guards.len()
    }

    /// Days from the first circuit through a guard to the last one: the longest and the shortest of
    /// all guards that carried a twentieth of the circuits or more.
    #[must_use]
    pub fn stays_days(&self) -> (f64, f64) {
        let days = |stay: &Stay| f64::from(stay.last - stay.first) / f64::from(STEPS_PER_DAY);
        let (mut longest, mut shortest) = (0.0_f64, f64::INFINITY);
        for stay in self.main_stays().map(days) {
            longest = longest.max(stay);
            shortest = shortest.min(stay);
        }
        (longest, shortest)
    }

    /// Which share of the circuits went through the adversaries of 5 % and of 20 %.
    #[must_use]
    pub fn seen_share(&self) -> [f64; 2] {
        self.seen
            .map(|seen| seen as f64 / self.circuits.max(1) as f64)
    }

    /// Circuits through guards that were down or that the exit ruled out: 0, unless there is a bug.
    #[must_use]
    pub fn illegal(&self) -> u64 {
        self.illegal
    }

    /// Circuits that could not be built although the network was up, of how many.
    #[must_use]
    pub fn failures(&self) -> (u64, u64) {
        (self.failures, self.failures + self.circuits)
    }

    /// The largest sample.
    #[must_use]
    pub fn sample_max(&self) -> usize {
        self.sample_max
    }
}

/// Mean, least and most of a figure over many years.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    mean: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1);
        Spread {
            mean: values.clone().sum::<f64>() / count as f64,
            least: values.clone().fold(f64::INFINITY, f64::min),
            most: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.1} ({:.1} to {:.1})", self.mean, self.least, self.most);
        f.pad(&text)
    }
}

/// The table of many years.
#[derive(Debug, Clone)]
pub struct Summary {
    years: Vec<Year>,
}

impl Summary {
    /// The figures of these years, taken together.
    #[must_use]
    pub fn new(years: Vec<Year>) -> Self {
        Summary { years }
    }

    fn spread(&self, of: impl Fn(&Figures) -> f64) -> [Spread; 2] {
        let of = &of;
        [
            Spread::of(self.years.iter().map(|year| of(&year.cepa))),
            Spread::of(self.years.iter().map(|year| of(&year.model))),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.years.len();
        writeln!(
            f,
            "One client, {} days, {count} seeds: mean (least to most)",
            super::DAYS
        )?;
        let title = ["", "cepa", "naive model"];
        let mut row = |name: &str, cells: [String; 2]| {
            let [cepa, model] = cells;
            writeln!(f, "{name:<50} {cepa:<24} {model}")
        };
        let [empty, cepa, model] = title.map(str::to_owned);
        row(&empty, [cepa, model])?;
        let shown = |spread: [Spread; 2]| spread.map(|one| one.to_string());
        row(
            "guards that carried traffic",
            shown(self.spread(|one| one.distinct() as f64)),
        )?;
        row(
            "guards with a twentieth of the circuits",
            shown(self.spread(|one| one.main() as f64)),
        )?;
        row(
            "longest stay of these, days",
            shown(self.spread(|one| one.stays_days().0)),
        )?;
        row(
            "shortest stay of these, days",
            shown(self.spread(|one| one.stays_days().1)),
        )?;
        row(
            "largest sample",
            shown(self.spread(|one| one.sample_max() as f64)),
        )?;
        for (at, percent) in SIDES_PERCENT.into_iter().enumerate() {
            let share = |one: &Figures| one.seen_share().get(at).copied().unwrap_or(0.0) * 100.0;
            let name = format!("circuits seen by {percent} % of guard weight, %");
            row(&name, shown(self.spread(share)))?;
            let met = self.spread(|one| if share(one) > 0.0 { 100.0 } else { 0.0 });
            let name = format!("clients that met {percent} % of guard weight, %");
            row(&name, met.map(|one| format!("{:.0}", one.mean)))?;
        }
        let failed = |one: &Figures| {
            let (failures, of) = one.failures();
            failures as f64 * 100.0 / of.max(1) as f64
        };
        let failed = self.spread(failed);
        row(
            "circuits that failed with the network up, %",
            failed.map(|one| format!("{:.3}", one.mean)),
        )
    }
}
