//! The figures of a bench: medians over its runs, ratios between programs, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

/// What one run of one program gave. Units are in the names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) start_to_first_page_s: f64,
    pub(super) first_byte_ms: f64,
    pub(super) one_stream_mb_per_s: f64,
    pub(super) eight_streams_mb_per_s: f64,
    pub(super) cpu_ms_per_mb: f64,
    pub(super) resident_mb_per_relay: f64,
    pub(super) circuits_per_s: f64,
    pub(super) middle_cpu_ms_per_circuit: f64,
}

/// A figure's name in words, whether more of it is better, and where it stands.
type Row = (&'static str, bool, fn(&Figures) -> f64);

const ROWS: [Row; 8] = [
    ("start to first page, s", false, |f| f.start_to_first_page_s),
    ("first byte on a ready circuit, ms", false, |f| {
        f.first_byte_ms
    }),
    ("one stream, MB/s", true, |f| f.one_stream_mb_per_s),
    ("eight streams, MB/s", true, |f| f.eight_streams_mb_per_s),
    ("CPU of all nodes through three hops, ms/MB", false, |f| {
        f.cpu_ms_per_mb
    }),
    ("resident memory of a relay, MB", false, |f| {
        f.resident_mb_per_relay
    }),
    ("circuits built by one middle hop, 1/s", true, |f| {
        f.circuits_per_s
    }),
    ("CPU of that middle hop, ms/circuit", false, |f| {
        f.middle_cpu_ms_per_circuit
    }),
];

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, _, figure)) in ROWS.iter().enumerate() {
            let comma = if number == 0 { "" } else { "; " };
            write!(f, "{comma}{name}: {:.2}", figure(self))?;
        }
        Ok(())
    }
}

/// All runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// By program, in the order of the runs.
    pub(super) runs: BTreeMap<&'static str, Vec<Figures>>,
}

impl Report {
    /// The table: a line a figure, a column a program, and how many times better the first is.
    pub(super) fn table(&self, ours: &str, theirs: Option<&str>) -> String {
        let mut table = format!("{:<44}{ours:>10}", "median");
        if let Some(theirs) = theirs {
            let _ = write!(table, "{theirs:>10}   {ours} is better by");
        }
        for (name, more_is_better, figure) in ROWS {
            let Some(own) = self.median(ours, figure) else {
                continue;
            };
            let _ = write!(table, "\n{name:<44}{own:>10.2}");
            let Some(other) = theirs.and_then(|theirs| self.median(theirs, figure)) else {
                continue;
            };
            let ratio = if more_is_better {
                own / other
            } else {
                other / own
            };
            let _ = write!(table, "{other:>10.2}{ratio:>10.2} x");
        }
        table
    }

    /// The same as JSON: each run, medians, and the ratio ours / theirs of each median.
    pub(super) fn json(&self, ours: &str, theirs: Option<&str>) -> serde_json::Value {
        let medians: BTreeMap<_, _> = self
            .runs
            .keys()
            .map(|program| {
                let of_program: BTreeMap<_, _> = ROWS
                    .iter()
                    .map(|(name, _, figure)| (*name, self.median(program, *figure)))
                    .collect();
                (*program, of_program)
            })
            .collect();
        let ratios: BTreeMap<_, _> = ROWS
            .iter()
            .filter_map(|(name, _, figure)| {
                let other = self.median(theirs?, *figure)?;
                Some((*name, self.median(ours, *figure)? / other))
            })
            .collect();
        serde_json::json!({ "runs": self.runs, "medians": medians, "ratios": ratios })
    }

    fn median(&self, program: &str, figure: fn(&Figures) -> f64) -> Option<f64> {
        median(self.runs.get(program)?.iter().map(figure).collect())
    }
}

/// The middle one; of an even count, the lower of the two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(factor: f64) -> Figures {
        Figures {
            start_to_first_page_s: factor,
            first_byte_ms: factor,
            one_stream_mb_per_s: factor,
            eight_streams_mb_per_s: factor,
            cpu_ms_per_mb: factor,
            resident_mb_per_relay: factor,
            circuits_per_s: factor,
            middle_cpu_ms_per_circuit: factor,
        }
    }

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![2.0, 1.0]), Some(1.0));
        assert_eq!(median(vec![]), None);
        let mut report = Report::default();
        report
            .runs
            .insert("cepa", [1.0, 9.0, 2.0].map(figures).into());
        report
            .runs
            .insert("tor", [4.0, 4.0, 5.0].map(figures).into());
        let table = report.table("cepa", Some("tor"));
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[1].ends_with("2.00      4.00      2.00 x"), "{table}");
        assert!(lines[3].ends_with("2.00      4.00      0.50 x"), "{table}");
        let json = report.json("cepa", Some("tor"));
        assert_eq!(json["ratios"]["one stream, MB/s"], 0.5);
        assert_eq!(json["runs"]["tor"][2]["first_byte_ms"], 5.0);
        assert!(!report.table("cepa", None).contains(" x"));
    }
}
