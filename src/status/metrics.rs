//! Metrics in the text format of Prometheus, under the names of `tor`'s MetricsPort, which
//! dashboards of the field use.

use std::fmt::Write as _;

use super::OnionStatus;

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
