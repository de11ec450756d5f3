//! Metrics in the text format of Prometheus, under the names of `tor`'s MetricsPort, which
//! dashboards of the field use.

use std::fmt::Write as _;

use super::OnionStatus;
use crate::keep::KeepStatus;

/// One value of a service under its name, kind and help.
type Metric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&OnionStatus) -> u64,
);

const METRICS: [Metric; 7] = [
    (
        "tor_hs_intro_num_total",
        "counter",
        "Introductions that came",
        |one| one.introductions,
    ),
    (
        "tor_hs_intro_established_count",
        "gauge",
        "Introduction points that stand",
        standing,
    ),
    (
        "tor_hs_rdv_num_total",
        "counter",
        "Visitors in all",
        |one| one.visitors_total,
    ),
    (
        "tor_hs_rdv_established_count",
        "gauge",
        "Visitors now",
        |one| one.visitors,
    ),
    (
        "tor_hs_rdv_error_count",
        "counter",
        "Visitors who were not met",
        |one| one.not_met,
    ),
    (
        "cepa_hs_published",
        "gauge",
        "Whether descriptors have stood",
        |one| u64::from(one.published),
    ),
    (
        "cepa_hs_hsdirs_holding_count",
        "gauge",
        "Directories that hold a descriptor",
        holding,
    ),
];

/// The metrics of onion services.
pub fn onions(onions: &[OnionStatus]) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in METRICS {
        head(&mut out, name, kind, help);
        for one in onions {
            let _ = writeln!(out, "{name}{{onion=\"{}\"}} {}", one.address, value(one));
        }
    }
    let name = "tor_hs_intro_rejected_intro_req_count";
    head(&mut out, name, "counter", "Introductions that were dropped");
    for one in onions {
        for (reason, count) in &one.dropped {
            let onion = &one.address;
            let _ = writeln!(
                out,
                "{name}{{onion=\"{onion}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
    out
}

/// The metrics of what is kept on the disk.
pub(crate) fn kept(out: &mut String, status: KeepStatus) {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let metrics = [
        (
            "cepa_kept_waiting",
            "gauge",
            "Rows and files that the disk has not taken",
            number(status.waiting),
        ),
        (
            "cepa_kept_waiting_vital",
            "gauge",
            "Keys, guards and votes among them",
            number(status.waiting_vital),
        ),
        (
            "cepa_kept_failures_total",
            "counter",
            "Attempts to keep something that failed",
            status.failures,
        ),
        (
            "cepa_kept_dropped_total",
            "counter",
            "Documents that were not kept for want of memory",
            status.dropped,
        ),
    ];
    for (name, kind, help, value) in metrics {
        head(out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn standing(one: &OnionStatus) -> u64 {
    let points = one.intro_points.iter();
    points.filter(|point| point.since_secs.is_some()).count() as u64
}

fn holding(one: &OnionStatus) -> u64 {
    let dirs = one.descriptors.iter().flat_map(|one| &one.hsdirs);
    dirs.filter(|dir| dir.revision.is_some()).count() as u64
}
