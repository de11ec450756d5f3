//! Hosted onion services in words and as metrics; both are made of their snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use cepa_client::onion::services::{HsDirStatus, IntroPointState, IntroPointStatus, ServiceStatus};
use serde::Serialize;

use super::metrics::head;

/// A hosted onion service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OnionStatus {
    /// Its address, `.onion` included.
    pub(crate) address: String,
    /// What a visit of our own came to; none was made without it.
    pub(crate) probe: Option<Probe>,
    /// How it stands.
    #[serde(flatten)]
    pub(crate) service: ServiceStatus,
}

/// A visit of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Probe {
    /// Whether a stream to the first port was opened.
    pub(crate) reached: bool,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: u64,
    /// Why it was not reached.
    pub(crate) error: Option<String>,
}

/// The services, a few lines each.
pub(crate) fn words(onions: &[OnionStatus], at: SystemTime) -> String {
    if onions.is_empty() {
        return "This process hosts no onion service.\n".to_owned();
    }
    let mut text = String::new();
    for onion in onions {
        let probe = match &onion.probe {
            None => String::new(),
            Some(probe) => match &probe.error {
                None => format!(", reached by a visit of our own in {} ms", probe.took_ms),
                Some(error) => format!(", NOT reached by a visit of our own: {error}"),
            },
        };
        let published = match onion.service.is_published {
            true => "published",
            false => "not published yet",
        };
        let _ = writeln!(text, "{}: {published}{probe}", onion.address);
        service(&mut text, &onion.service, at);
    }
    text
}

fn service(text: &mut String, status: &ServiceStatus, at: SystemTime) {
    for one in &status.descriptors {
        let revision = one
            .revision
            .map_or("none".to_owned(), |number| number.to_string());
        let holding = one.hsdirs.iter().filter(|dir| dir.revision.is_some());
        let next = one.next_upload.map_or(String::new(), |next| {
            let left = next.duration_since(at).unwrap_or_default();
            format!(", made anew in {} min", left.as_secs() / 60)
        });
        let (period, count, all) = (one.period, holding.count(), one.hsdirs.len());
        let _ = writeln!(
            text,
            "  descriptor of period {period}: revision {revision}, \
             at {count} of {all} directories{next}"
        );
        one.hsdirs.iter().for_each(|dir| hsdir(text, dir, at));
    }
    for point in &status.intro_points {
        intro_point(text, point, at);
    }
    let counts = &status.counts;
    let dropped: u64 = counts.intro_rejected_intro_req_count.values().sum();
    let _ = writeln!(
        text,
        "  introductions {} ({dropped} dropped), visitors now {} of {} in all, {} not met",
        counts.intro_num_total,
        counts.rdv_established_count,
        counts.rdv_num_total,
        counts.rdv_error_count
    );
}

fn hsdir(text: &mut String, dir: &HsDirStatus, at: SystemTime) {
    let _ = match (dir.revision, dir.since) {
        (Some(revision), Some(since)) => {
            let age = at.duration_since(since).unwrap_or_default().as_secs();
            writeln!(
                text,
                "    directory {}: revision {revision} since {age} s",
                dir.relay
            )
        }
        _ => writeln!(
            text,
            "    directory {}: nothing, {} uploads failed",
            dir.relay, dir.failures
        ),
    };
}

fn intro_point(text: &mut String, point: &IntroPointStatus, at: SystemTime) {
    let state = match point.state {
        IntroPointState::Opening => "opening",
        IntroPointState::Standing => "standing",
        IntroPointState::Retiring => "retiring",
    };
    let since = point.since.map_or(String::new(), |since| {
        let age = at.duration_since(since).unwrap_or_default();
        format!(" since {} s", age.as_secs())
    });
    let _ = writeln!(
        text,
        "  introduction point {}: {state}{since}, {} introductions",
        point.relay, point.introductions
    );
}

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
        |one| one.service.counts.intro_num_total,
    ),
    (
        "tor_hs_intro_established_count",
        "gauge",
        "Introduction points that stand",
        |one| one.service.counts.intro_established_count,
    ),
    (
        "tor_hs_rdv_num_total",
        "counter",
        "Visitors in all",
        |one| one.service.counts.rdv_num_total,
    ),
    (
        "tor_hs_rdv_established_count",
        "gauge",
        "Visitors now",
        |one| one.service.counts.rdv_established_count,
    ),
    (
        "tor_hs_rdv_error_count",
        "counter",
        "Visitors who were not met",
        |one| one.service.counts.rdv_error_count,
    ),
    (
        "cepa_hs_published",
        "gauge",
        "Whether descriptors have stood",
        |one| u64::from(one.service.is_published),
    ),
    (
        "cepa_hs_hsdirs_holding_count",
        "gauge",
        "Directories that hold a descriptor",
        holding,
    ),
];

/// The metrics of onion services.
pub(crate) fn metrics(onions: &[OnionStatus]) -> String {
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
        let mut dropped = BTreeMap::<&str, u64>::new();
        for (drop, count) in &one.service.counts.intro_rejected_intro_req_count {
            *dropped.entry(drop.reason()).or_default() += count;
        }
        for (reason, count) in dropped {
            let onion = &one.address;
            let _ = writeln!(
                out,
                "{name}{{onion=\"{onion}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
    out
}

fn holding(one: &OnionStatus) -> u64 {
    let dirs = one.service.descriptors.iter().flat_map(|one| &one.hsdirs);
    dirs.filter(|dir| dir.revision.is_some()).count() as u64
}
