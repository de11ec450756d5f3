//! What a run of a network came to, as types and as a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::edges::App;
use super::{Machine, Network};

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// When each client was ready, in seconds.
    pub bootstrapped: Vec<f64>,
    /// Consensuses that authorities have made, both flavours of each.
    pub consensuses: u64,
    /// Services that could be found.
    pub published: u64,
    /// Circuits of clients that were seen to stand.
    pub circuits: u64,
    /// Crashes of relays.
    pub crashes: u64,
    /// By size and kind: what applications got.
    pub transfers: BTreeMap<String, Transfers>,
    /// Requests that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// By relay: bytes sent, and the weight in the consensus.
    pub load: Vec<Load>,
    /// Bytes on all links and of all requests.
    pub bytes: u64,
    /// Events.
    pub events: u64,
    /// The hash of the trace.
    pub hash: String,
    /// What must not be.
    pub violations: Vec<String>,
    /// The trace, if it was wanted.
    #[serde(skip)]
    pub trace: Option<String>,
}

/// What came of requests of one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Transfers {
    /// Seconds until the first byte, of each.
    pub first_byte: Vec<f64>,
    /// Bytes a second, of each.
    pub rate: Vec<f64>,
}

/// What a relay carried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// The relay's nickname.
    pub relay: String,
    /// Bytes that it sent.
    pub sent_bytes: u64,
    /// Its weight in the consensus, as a share of all.
    pub weight: f64,
}

impl Report {
    /// An application has got all.
    pub(super) fn done(&mut self, app: &App, first: f64, took: f64) {
        let kind = if app.is_onion { "onion" } else { "exit" };
        let name = format!("{kind} {:>8}", app.size);
        let of = self.transfers.entry(name).or_default();
        of.first_byte.push(first);
        of.rate.push(app.size as f64 / took.max(0.001));
    }

    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        let all = self.transfers.values();
        all.map(|one| one.first_byte.len()).sum()
    }
}

impl Network {
    pub(super) fn finish(mut self) -> Report {
        let weights = self.weights();
        let mut report = self.report;
        for machine in &self.machines {
            if let Some(weight) = weights.get(&machine.number) {
                report.load.push(Load {
                    relay: format!("machine{}", machine.number),
                    sent_bytes: machine.sent_bytes,
                    weight: *weight,
                });
            }
        }
        report.bytes = self.bytes_sent;
        (report.events, report.hash, report.trace) = self.trace.finish();
        report
    }

    /// The share of each relay in the last consensus that the first one has.
    fn weights(&mut self) -> BTreeMap<usize, f64> {
        let host = self.machines.first_mut().and_then(Machine::relay);
        let text = host.and_then(|host| {
            let text = host
                .store
                .consensus(cepa_netdoc::consensus::Flavour::Microdesc);
            text.cloned()
        });
        let Some(text) = text else {
            return BTreeMap::new();
        };
        let routers = text.consensus().routers.iter();
        let of = routers.filter_map(|router| {
            let number = self.by_rsa.get(&router.rsa_id)?;
            Some((*number, f64::from(router.bandwidth.as_ref()?.bandwidth)))
        });
        let of: BTreeMap<usize, f64> = of.collect();
        let all: f64 = of.values().sum();
        let share = |(number, weight): (usize, f64)| (number, weight / all.max(1.0));
        of.into_iter().map(share).collect()
    }
}

/// The value below which a share of all lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    let at = (last * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = &self.bootstrapped;
        let (median, last) = (quantile(ready, 0.5), quantile(ready, 1.0));
        writeln!(
            f,
            "clients ready      {} (s: median {median:.1}, last {last:.1})",
            ready.len()
        )?;
        writeln!(f, "consensuses        {}", self.consensuses)?;
        writeln!(f, "services found     {}", self.published)?;
        writeln!(f, "circuits           {}", self.circuits)?;
        writeln!(f, "crashes            {}", self.crashes)?;
        writeln!(
            f,
            "\nrequest              count  first byte, s (median, 90 %)  kB/s (median)"
        )?;
        for (name, of) in &self.transfers {
            writeln!(
                f,
                "{name:<18} {:>7} {:>15.2} {:>13.2} {:>14.0}",
                of.first_byte.len(),
                quantile(&of.first_byte, 0.5),
                quantile(&of.first_byte, 0.9),
                quantile(&of.rate, 0.5) / 1000.0
            )?;
        }
        for (why, count) in &self.failures {
            writeln!(f, "failed: {why} {count}")?;
        }
        let all: u64 = self.load.iter().map(|one| one.sent_bytes).sum();
        writeln!(f, "\nrelay          sent, MB   share  weight")?;
        for one in &self.load {
            writeln!(
                f,
                "{:<12} {:>10.2} {:>7.3} {:>7.3}",
                one.relay,
                one.sent_bytes as f64 / 1e6,
                one.sent_bytes as f64 / all.max(1) as f64,
                one.weight
            )?;
        }
        let bytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "\n{bytes:.1} MB, {} events, trace {}",
            self.events, self.hash
        )
    }
}
