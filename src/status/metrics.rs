//! Metrics in the text format of Prometheus, under the names of `tor`'s MetricsPort, which
//! dashboards of the field use.

use std::fmt::Write as _;

use crate::keep::KeepStatus;

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
