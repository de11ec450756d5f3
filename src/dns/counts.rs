//! How many names were looked up for others, and what became of it: `tor`'s metrics of an exit.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;

/// The records that are asked for, as labels.
const RECORDS: [&str; 3] = ["A", "AAAA", "PTR"];

/// What becomes of a question, with `tor`'s labels (`relay_metrics.c`).
const REASONS: [&str; 8] = [
    "success",
    "format",
    "serverfailed",
    "notexist",
    "notimpl",
    "refused",
    "tor_timeout",
    "nodata",
];
/// What has no label of its own.
const UNKNOWN: &str = "unknown";

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A and AAAA of a name.
    Addresses,
    /// PTR of an address.
    Name,
}

/// Counters that only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    asked: [AtomicU64; RECORDS.len()],
    outcomes: [[AtomicU64; REASONS.len() + 1]; RECORDS.len()],
}

/// The questions that were asked for others, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DnsCounts {
    /// The number of questions by kind of record.
    pub asked: Vec<(&'static str, u64)>,
    /// The number of answers by kind of record and by what became of the question, success
    /// included, as with `tor`.
    pub outcomes: Vec<(&'static str, &'static str, u64)>,
}

impl Counters {
    /// A question is asked; what becomes of it is told by [`Counters::answered`].
    pub(super) fn ask(&self, asked: Asked) {
        for at in asked.records() {
            if let Some(count) = self.asked.get(*at) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn answered(&self, asked: Asked, error: Option<&NetError>) {
        let label = error.map_or("success", reason);
        let known = REASONS.iter().position(|reason| *reason == label);
        let reason = known.unwrap_or(REASONS.len());
        let rows = asked
            .records()
            .iter()
            .filter_map(|at| self.outcomes.get(*at));
        for count in rows.filter_map(|row| row.get(reason)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> DnsCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let asked = RECORDS.iter().zip(&self.asked);
        let outcomes = RECORDS
            .iter()
            .zip(&self.outcomes)
            .flat_map(|(record, row)| {
                let reasons = REASONS.iter().chain([&UNKNOWN]);
                reasons
                    .zip(row)
                    .map(|(reason, count)| (*record, *reason, load(count)))
            });
        DnsCounts {
            asked: asked
                .map(|(record, count)| (*record, load(count)))
                .collect(),
            outcomes: outcomes.collect(),
        }
    }
}

impl Asked {
    fn records(self) -> &'static [usize] {
        match self {
            Asked::Addresses => &[0, 1],
            Asked::Name => &[2],
        }
    }
}

fn reason(error: &NetError) -> &'static str {
    match error {
        _ if error.is_nx_domain() => "notexist",
        _ if error.is_no_records_found() => "nodata",
        NetError::Timeout => "tor_timeout",
        NetError::Dns(DnsError::ResponseCode(code)) => match *code {
            ResponseCode::FormErr => "format",
            ResponseCode::ServFail => "serverfailed",
            ResponseCode::NotImp => "notimpl",
            ResponseCode::Refused => "refused",
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    }
}
