//! The circuits and vanguards of a client in words, a line each, for its operator.

use std::fmt::Write as _;

use cepa_netdoc::timestamp;
use cepa_wire::Now;

use super::Client;
use crate::pool::{Entry, Purpose, Stage};
use crate::vanguards::VanguardMode;

impl Client {
    /// How long circuits may take, then each circuit: what for, how far, by which guard, to which
    /// exit, since when.
    #[must_use]
    pub fn circuits_told(&self, now: Now) -> String {
        let times = &self.build_times;
        let learnt = match times.is_learning() {
            true => format!("not learnt yet, from {} circuits", times.count()),
            false => format!("learnt from {} circuits", times.count()),
        };
        let (late, close) = (times.timeout(3).as_millis(), times.close(3).as_secs());
        let mut text =
            format!("a circuit is late after {late} ms, given up after {close} s ({learnt})\n");
        if self.is_dormant() {
            text.push_str("dormant: nobody has wanted anything for a day\n");
        }
        for (guard, counts) in self.path_bias.iter() {
            let _ = writeln!(
                text,
                "  guard {guard}: of {:.0} circuits {:.0} were built, of {:.0} used {:.0} answered",
                counts.attempts, counts.successes, counts.use_attempts, counts.use_successes
            );
        }
        for (_, entry) in self.pool.iter() {
            let status = entry.key().and_then(|key| self.plane.circuit_status(key));
            let streams = status.map_or(0, |status| status.stream_count);
            let age = now.mono.saturating_duration_since(entry.since).as_secs();
            let (kind, to) = match &entry.purpose {
                Purpose::Directory => ("directory", String::new()),
                Purpose::Onion(_) => ("onion services", String::new()),
                Purpose::General(exit) => ("exit", format!(" to {}", exit.rsa_id)),
            };
            let (stage, use_) = (stage_of(entry), use_of(entry));
            let _ = writeln!(
                text,
                "  {kind}: {stage}, {use_}; by {}{to}; {streams} streams; {age} s old",
                entry.first
            );
        }
        text
    }

    /// The vanguards, none before there is a consensus: which hop each is, until when, and whether
    /// it rests or only stands in.
    #[must_use]
    pub fn vanguards_told(&self, now: Now) -> String {
        let mode = match self.vanguards.mode() {
            VanguardMode::Off => return "no vanguards\n".to_owned(),
            VanguardMode::Lite => "lite",
            VanguardMode::Full => "full",
        };
        let mut text = format!("vanguards of circuits for onion services ({mode}):\n");
        for one in self.vanguards.statuses(now) {
            let relay = self.view().and_then(|view| view.relay(&one.id));
            let nickname = relay.map_or("not listed", |relay| &relay.nickname);
            let hop = if one.hop == 1 { "second" } else { "third" };
            let until = timestamp::encode(one.until);
            let minute = until.rsplit_once(':').map_or(&*until, |(minute, _)| minute);
            let _ = write!(text, "  {nickname} ({}): {hop} hop until {minute}", one.id);
            text.push_str(if one.is_spare { "; stands in" } else { "" });
            text.push_str(if one.is_resting {
                "; rests after it failed\n"
            } else {
                "\n"
            });
        }
        text
    }
}

fn stage_of(entry: &Entry) -> &'static str {
    match entry.stage {
        Stage::Channel(..) => "connecting",
        Stage::Building(_) => "being built",
        Stage::Waiting(_) => "waiting for a better guard",
        Stage::Built(_) => "ready",
    }
}

fn use_of(entry: &Entry) -> &'static str {
    match (entry.is_measured_only, entry.is_clean()) {
        (true, _) => "late",
        (_, true) => "clean",
        _ => "in use",
    }
}
