//! The health of an authority in words and as metrics, made of its snapshot.

use std::fmt::Write as _;

use cepa_authority::status::{HealthStatus, PeerStatus, RoundOutcome};
use cepa_netdoc::timestamp;
use cepa_wire::time::unix_seconds;

use super::metrics::head;

/// What is wrong, then each authority, then the last round.
pub(crate) fn words(health: &HealthStatus) -> String {
    let mut text = match health.problems.as_slice() {
        [] => "all is well\n".to_owned(),
        problems => problems.iter().fold(String::new(), |text, problem| {
            text + "PROBLEM: " + problem + "\n"
        }),
    };
    for one in &health.authorities {
        text += &authority(one);
    }
    if let Some(last) = &health.last_round {
        let _ = writeln!(
            text,
            "  round of {}: {} votes, {} signatures, {} relays in some votes only",
            timestamp::encode(last.valid_after),
            last.voted.len(),
            last.signed.len(),
            last.relays_in_some_votes
        );
        for (flag, relays) in &last.flags_disputed {
            let _ = writeln!(text, "    votes disagree on {flag} of {relays} relays");
        }
    }
    let _ = writeln!(
        text,
        "  {} rounds since the start had no consensus",
        health.rounds_failed
    );
    for one in &health.equivocations {
        let [first, second] = &one.digests;
        let _ = writeln!(
            text,
            "  {} voted twice for {}: {first} and {second}",
            one.identity,
            timestamp::encode(one.valid_after)
        );
    }
    text
}

fn authority(one: &PeerStatus) -> String {
    let did = |done: Option<bool>, what: &str| match done {
        Some(true) => what.to_owned(),
        Some(false) => format!("NOT {what}"),
        None => format!("{what}: unknown"),
    };
    let clock = match (one.is_own, one.clock_ahead_seconds) {
        (true, _) => "this one".to_owned(),
        (false, Some(ahead)) => format!("clock {ahead:+} s"),
        (false, None) => "clock unknown".to_owned(),
    };
    let days = match one.certificate_days_left {
        Some(days) => format!("{days} days left of its certificate"),
        None => "no certificate".to_owned(),
    };
    format!(
        "  {} ({}): {}, {}, {clock}, {} late votes, {days}\n",
        one.nickname,
        one.identity,
        did(one.has_voted, "voted"),
        did(one.has_signed, "signed"),
        one.late_votes
    )
}

/// A metric: its name, kind and help, and its rows by labels.
type Metric = (&'static str, &'static str, &'static str, Vec<(String, i64)>);

/// The metrics of an authority, in the text format of Prometheus.
pub(crate) fn metrics(health: &HealthStatus) -> String {
    let mut out = String::new();
    let last = health
        .last_round
        .iter()
        .flat_map(|last| of_round(health, last));
    for (name, kind, help, rows) in of_authorities(health).into_iter().chain(last) {
        head(&mut out, name, kind, help);
        for (labels, value) in rows {
            let _ = match labels.is_empty() {
                true => writeln!(out, "{name} {value}"),
                false => writeln!(out, "{name}{{{labels}}} {value}"),
            };
        }
    }
    out
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn one(value: i64) -> Vec<(String, i64)> {
    vec![(String::new(), value)]
}

fn of_authorities(health: &HealthStatus) -> [Metric; 8] {
    let of_each = |value: fn(&PeerStatus) -> Option<i64>| -> Vec<(String, i64)> {
        let labels = |one: &PeerStatus| {
            format!(
                "authority=\"{}\",v3_ident=\"{}\"",
                one.nickname, one.identity
            )
        };
        let all = health.authorities.iter();
        all.filter_map(|one| Some((labels(one), value(one)?)))
            .collect()
    };
    [
        (
            "cepa_authority_problems",
            "gauge",
            "What is to be looked at",
            one(count(health.problems.len())),
        ),
        (
            "cepa_authority_voted",
            "gauge",
            "Whether it voted in the last round",
            of_each(|one| one.has_voted.map(i64::from)),
        ),
        (
            "cepa_authority_signed",
            "gauge",
            "Whether it had signed the last consensus when that was published",
            of_each(|one| one.has_signed.map(i64::from)),
        ),
        (
            "cepa_authority_clock_ahead_seconds",
            "gauge",
            "Seconds by which its clock is ahead of ours",
            of_each(|one| one.clock_ahead_seconds),
        ),
        (
            "cepa_authority_late_votes_total",
            "counter",
            "Votes that came too late",
            of_each(|one| Some(number(one.late_votes))),
        ),
        (
            "cepa_authority_certificate_days_left",
            "gauge",
            "Days until its certificate ends",
            of_each(|one| one.certificate_days_left),
        ),
        (
            "cepa_authority_rounds_failed_total",
            "counter",
            "Rounds without a consensus",
            one(number(health.rounds_failed)),
        ),
        (
            "cepa_authority_equivocations",
            "gauge",
            "Pairs of votes of one authority for one interval",
            one(count(health.equivocations.len())),
        ),
    ]
}

fn of_round(health: &HealthStatus, last: &RoundOutcome) -> [Metric; 4] {
    let absent = |one: &&PeerStatus| one.has_signed == Some(false);
    let flags = last.flags_disputed.iter();
    let flags = flags.map(|(flag, relays)| (format!("flag=\"{flag}\""), count(*relays)));
    [
        (
            "cepa_authority_valid_after",
            "gauge",
            "When the last consensus began",
            one(number(unix_seconds(last.valid_after))),
        ),
        (
            "cepa_authority_signatures_missing",
            "gauge",
            "Authorities that have not signed the last consensus",
            one(count(health.authorities.iter().filter(absent).count())),
        ),
        (
            "cepa_authority_relays_in_some_votes",
            "gauge",
            "Relays that not all votes list",
            one(count(last.relays_in_some_votes)),
        ),
        (
            "cepa_authority_flags_disputed",
            "gauge",
            "Relays on whose flag the votes disagree",
            flags.collect(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::RsaId;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_wrong_stands_first() {
        let id = RsaId::from([1; 20]);
        let peer = PeerStatus {
            nickname: "auth1".into(),
            identity: id,
            is_own: false,
            clock_ahead_seconds: Some(-7),
            late_votes: 2,
            has_voted: Some(true),
            has_signed: Some(false),
            certificate_days_left: Some(20),
        };
        let health = HealthStatus {
            problems: vec!["auth1 did not sign".into()],
            authorities: vec![peer],
            last_round: Some(RoundOutcome {
                valid_after: std::time::SystemTime::UNIX_EPOCH,
                voted: vec![id],
                signed: Vec::new(),
                flags_disputed: BTreeMap::from([("Guard".to_owned(), 3)]),
                relays_in_some_votes: 4,
            }),
            rounds_failed: 1,
            equivocations: Vec::new(),
        };
        let text = words(&health);
        assert!(text.starts_with("PROBLEM: auth1 did not sign\n"), "{text}");
        assert!(
            text.contains("NOT signed, clock -7 s, 2 late votes, 20 days"),
            "{text}"
        );
        assert!(text.contains("disagree on Guard of 3 relays"), "{text}");
        let metrics = metrics(&health);
        for line in [
            "cepa_authority_problems 1",
            "cepa_authority_signatures_missing 1",
            "cepa_authority_flags_disputed{flag=\"Guard\"} 3",
            "cepa_authority_relays_in_some_votes 4",
        ] {
            assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
        }
        assert!(metrics.contains("clock_ahead_seconds{authority=\"auth1\",v3_ident="));
    }
}
