//! A relay, or the relay of an authority, in words and as metrics, both made of one snapshot. The
//! metrics have the names of `tor`'s where `tor` has them, and `cepa_` names for the rest.
//!
//! The snapshot is taken when somebody asks; nothing is counted for it by the cell.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use cepa_limits::{DoorCounts, DosCounts, DosRule, Memory};
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::timestamp;
use cepa_relay::{
    AccountingStatus, HsDirCounts, PointCell, RelayStatus, SwitchCounts, Wakefulness,
};
use cepa_wire::time::unix_seconds;
use serde::Serialize;

use super::load::load;
use super::metrics::{head, kept};
use crate::dns::DnsCounts;
use crate::keep::KeepStatus;

/// A relay, or the relay of an authority, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// How the control core stands.
    #[serde(flatten)]
    pub relay: RelayStatus,
    /// What the newest consensus says of it; nothing if that does not list it.
    pub flags: Option<Flags>,
    /// What its workers count together.
    pub counts: SwitchCounts,
    /// What it was asked to look up.
    pub dns: DnsCounts,
    /// What was refused by `tor`'s defences, at the doors and further in.
    pub dos: DosCounts,
    /// Whether they only count.
    pub is_dry_run: bool,
    /// What happened at the doors, by name.
    pub doors: Vec<(&'static str, DoorCounts)>,
    /// What it holds of onion services.
    pub hsdir: HsDirCounts,
    /// Bytes of all channels, ever.
    pub read_bytes: u64,
    /// The same.
    pub written_bytes: u64,
    /// How well its disk keeps what it is to keep.
    pub kept: KeepStatus,
    /// What the process holds.
    #[serde(skip)]
    pub memory: Arc<Memory>,
}

/// A relay in words, a line each.
pub(crate) fn words(status: &NodeStatus) -> String {
    let NodeStatus { relay, counts, .. } = status;
    let listed = match &status.flags {
        Some(flags) => format!("listed as {flags}"),
        None => "not listed".to_owned(),
    };
    let time = |at: Option<SystemTime>| at.map_or("none".to_owned(), timestamp::encode);
    let limits = &relay.limits;
    let mut text = format!(
        "{} ({}): {:?}, {listed}\n",
        relay.nickname, relay.rsa, relay.wakefulness
    );
    let _ = writeln!(
        text,
        "  {}, Ed25519 identity {}, up for {} s",
        relay.or_address, relay.ed, relay.uptime_secs
    );
    let _ = writeln!(
        text,
        "  descriptor of {}, consensus of {}, onion key of {} until {}, signing key until {}",
        time(relay.published),
        time(relay.consensus_valid_after),
        timestamp::encode(relay.onion_key_since),
        timestamp::encode(relay.onion_key_until),
        timestamp::encode(relay.signing_key_until),
    );
    let _ = match relay.is_exit {
        true => writeln!(text, "  exit policy: {}", relay.exit_policy.join(", ")),
        false => writeln!(text, "  no exit"),
    };
    let _ = writeln!(
        text,
        "  {} channels, {} circuits, {} streams, {} cells queued; {} bytes read, {} written",
        counts.channels,
        counts.circuits,
        counts.streams,
        counts.queued_cells,
        status.read_bytes,
        status.written_bytes
    );
    let _ = writeln!(
        text,
        "  promises {} bytes/s, has seen {}; holds {} of {} bytes",
        limits.bandwidth_rate,
        limits.bandwidth_observed,
        limits.memory_bytes,
        limits.memory_bytes_max
    );
    let kept = &status.kept;
    if kept.waiting > 0 {
        let _ = writeln!(
            text,
            "  NOT KEPT: the disk takes {} rows and files not, {} keys and votes among them",
            kept.waiting, kept.waiting_vital
        );
    }
    if let Some(used) = &relay.accounting {
        let _ = writeln!(
            text,
            "  carried {} and {} of {} bytes, next interval at {}",
            used.read_bytes,
            used.written_bytes,
            used.max_bytes,
            timestamp::encode(used.wakes)
        );
    }
    text
}

/// `tor`'s names of the messages of onion services.
const POINT_CELLS: [(PointCell, &str, &str); 4] = [
    (
        PointCell::EstablishIntro,
        "tor_relay_est_intro_total",
        "ESTABLISH_INTRO messages",
    ),
    (
        PointCell::EstablishRendezvous,
        "tor_relay_est_rend_total",
        "ESTABLISH_RENDEZVOUS messages",
    ),
    (
        PointCell::Introduce1,
        "tor_relay_intro1_total",
        "INTRODUCE1 messages",
    ),
    (
        PointCell::Rendezvous1,
        "tor_relay_rend1_total",
        "RENDEZVOUS1 messages",
    ),
];

/// The flags that `tor` tells of.
const FLAGS: [(&str, Flags); 9] = [
    ("Fast", Flags::FAST),
    ("Exit", Flags::EXIT),
    ("Authority", Flags::AUTHORITY),
    ("Stable", Flags::STABLE),
    ("HSDir", Flags::HS_DIR),
    ("Running", Flags::RUNNING),
    ("V2Dir", Flags::V2_DIR),
    ("Sybil", Flags::SYBIL),
    ("Guard", Flags::GUARD),
];

/// `tor`'s name, which alerts look for.
const EXPIRY: &str = "tor_relay_signing_cert_expiry_timestamp";

/// The metrics in the text format of Prometheus.
#[must_use]
pub fn metrics(status: &NodeStatus, now: SystemTime) -> String {
    let mut out = String::new();
    let NodeStatus {
        relay,
        counts,
        hsdir,
        ..
    } = status;
    let (nickname, fingerprint) = (&relay.nickname, relay.rsa);
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut write = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        put(&mut out, name, (kind, help), rows);
    };
    let until = unix_seconds(relay.signing_key_until);
    let (name, help) = (EXPIRY, "End of the signing key");
    write(name, "gauge", help, &[(String::new(), until)]);
    let about = format!("nickname=\"{nickname}\",fingerprint=\"{fingerprint}\"");
    write("cepa_relay_info", "gauge", "Which relay", &[(about, 1)]);
    let ours = number(counts.channels_initiated);
    let theirs = number(counts.channels).saturating_sub(ours);
    let of = |direction: &str| format!("type=\"OR\",direction=\"{direction}\",state=\"opened\"");
    let rows = [(of("initiated"), ours), (of("received"), theirs)];
    write("tor_relay_connections", "gauge", "Connections", &rows);
    let rows = [("state=\"opened\"".to_owned(), number(counts.circuits))];
    write("tor_relay_circuits_total", "gauge", "Circuits", &rows);
    let taken = counts.streams_taken;
    let rows = [
        ("type=\"BEGIN\"".to_owned(), taken.begin),
        ("type=\"BEGIN_DIR\"".to_owned(), taken.begin_dir),
        ("type=\"RESOLVE\"".to_owned(), taken.resolve),
    ];
    write("tor_relay_streams_total", "counter", "Streams taken", &rows);
    let rows = [
        ("direction=\"read\"".to_owned(), status.read_bytes),
        ("direction=\"written\"".to_owned(), status.written_bytes),
    ];
    write("tor_relay_traffic_bytes", "counter", "Bytes moved", &rows);
    for (name, help, rows) in dns_of(&status.dns) {
        write(name, "counter", help, &rows);
    }
    let has = |flag: Flags| u64::from(status.flags.is_some_and(|flags| flags.contains(flag)));
    let rows = FLAGS.map(|(name, flag)| (format!("type=\"{name}\""), has(flag)));
    write("tor_relay_flag", "gauge", "Flags in the consensus", &rows);
    for (cell, name, help) in POINT_CELLS {
        let actions = cell.actions().iter();
        let rows: Vec<_> = actions
            .map(|action| {
                let labels = format!("action=\"{}\"", action.label());
                (labels, counts.points.number(cell, *action))
            })
            .collect();
        write(name, "counter", help, &rows);
    }
    let more = load(counts, &status.memory).into_iter();
    for (name, kind, help, rows) in more.chain(strangers(status)) {
        write(name, kind, help, &rows);
    }
    for (name, kind, help, value) in ours_of(counts, hsdir) {
        write(name, kind, help, &[(String::new(), value)]);
    }
    if let Some(used) = &relay.accounting {
        accounting(&mut out, used, relay.wakefulness, now);
    }
    kept(&mut out, status.kept);
    out
}

/// A metric: its kind and what it means, then a row for each set of labels.
fn put(out: &mut String, name: &str, (kind, help): (&str, &str), rows: &[(String, u64)]) {
    head(out, name, kind, help);
    for (labels, value) in rows {
        let _ = match labels.is_empty() {
            true => writeln!(out, "{name} {value}"),
            false => writeln!(out, "{name}{{{labels}}} {value}"),
        };
    }
}

/// Nothing, where there is no bound.
fn accounting(
    out: &mut String,
    used: &AccountingStatus,
    wakefulness: Wakefulness,
    now: SystemTime,
) {
    let name = "cepa_relay_accounting_bytes";
    head(out, name, "counter", "Bytes of this interval");
    for (direction, bytes) in [("read", used.read_bytes), ("written", used.written_bytes)] {
        let _ = writeln!(out, "{name}{{direction=\"{direction}\"}} {bytes}");
    }
    let left = used.wakes.duration_since(now).unwrap_or_default();
    let hibernating = match wakefulness {
        Wakefulness::Awake => 0,
        Wakefulness::Soft => 1,
        Wakefulness::Hard => 2,
    };
    for (name, help, value) in [
        (
            "cepa_relay_accounting_max_bytes",
            "Bytes that an interval may have",
            used.max_bytes,
        ),
        (
            "cepa_relay_accounting_left_seconds",
            "Seconds until the next interval",
            left.as_secs(),
        ),
        (
            "cepa_relay_hibernating",
            "0: awake, 1: takes nothing new, 2: carries nothing",
            hibernating,
        ),
    ] {
        head(out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
}

/// A metric with labels: its name, its help, and each value under its labels.
type Labelled = (&'static str, &'static str, Vec<(String, u64)>);

/// What name servers were asked, and what became of it: a row for each kind of record.
fn dns_of(dns: &DnsCounts) -> [Labelled; 2] {
    let asked = dns.asked.iter();
    let asked = asked.map(|(record, count)| (format!("record=\"{record}\""), *count));
    let outcomes = dns.outcomes.iter().map(|(record, reason, count)| {
        let labels = format!("record=\"{record}\",reason=\"{reason}\"");
        (labels, *count)
    });
    let (asked_name, outcome_name) = (
        "tor_relay_exit_dns_query_total",
        "tor_relay_exit_dns_error_total",
    );
    [
        (asked_name, "Questions to name servers", asked.collect()),
        (outcome_name, "What became of them", outcomes.collect()),
    ]
}

/// A metric with its rows.
type Rows = (&'static str, &'static str, &'static str, Vec<(String, u64)>);

/// What is refused to strangers.
fn strangers(status: &NodeStatus) -> [Rows; 4] {
    let rules = DosRule::ALL.map(|rule| {
        let labels = format!("type=\"{}\"", rule.label());
        (labels, status.dos.number(rule))
    });
    let inside = status.doors.iter().map(|(door, counts)| {
        let inside = u64::try_from(counts.inside).unwrap_or(u64::MAX);
        (format!("door=\"{door}\""), inside)
    });
    let gauge = |name, help, rows| (name, "gauge", help, rows);
    let counter = |name, help, rows| (name, "counter", help, rows);
    [
        counter("tor_relay_dos_total", "Refused, by rule", rules.to_vec()),
        gauge(
            "cepa_relay_dos_dry_run",
            "Whether what would be refused is let through",
            vec![(String::new(), status.is_dry_run.into())],
        ),
        gauge("cepa_relay_door_inside", "Places taken", inside.collect()),
        counter(
            "cepa_relay_door_total",
            "What became of who came",
            status.doors.iter().flat_map(door_rows).collect(),
        ),
    ]
}

/// What became of those who came to a door.
fn door_rows((door, counts): &(&'static str, DoorCounts)) -> [(String, u64); 5] {
    let row = |action: &str, count| (format!("door=\"{door}\",action=\"{action}\""), count);
    [
        row("entered", counts.entered),
        row("evicted", counts.evicted),
        row("refused", counts.refused),
        row("timed_out", counts.timed_out),
        row("starved", counts.starved),
    ]
}

/// A metric without labels.
type Plain = (&'static str, &'static str, &'static str, u64);

/// What `tor` has no name for.
fn ours_of(counts: &SwitchCounts, hsdir: &HsDirCounts) -> [Plain; 13] {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let points = &counts.points;
    let gauge = |name, help, count| (name, "gauge", help, number(count));
    let counter = |name, help, count| (name, "counter", help, count);
    [
        gauge("cepa_relay_streams", "Streams now", counts.streams),
        gauge(
            "cepa_relay_queued_cells",
            "Cells that wait to be sent",
            counts.queued_cells,
        ),
        gauge(
            "cepa_relay_onionskins_waiting",
            "Onionskins that wait for an answer",
            counts.onionskins,
        ),
        gauge(
            "cepa_relay_intro_points",
            "Circuits that are introduction points",
            points.intros,
        ),
        gauge(
            "cepa_relay_rend_waiting",
            "Circuits whose client waits for a service",
            points.waiting,
        ),
        gauge(
            "cepa_relay_rend_joined",
            "Circuits joined, two for each rendezvous",
            points.joined,
        ),
        gauge(
            "cepa_hsdir_descriptors",
            "Descriptors of onion services",
            hsdir.descriptors,
        ),
        gauge("cepa_hsdir_bytes", "Their bytes", hsdir.bytes),
        counter(
            "cepa_hsdir_stored_total",
            "Uploads of descriptors taken",
            hsdir.stored,
        ),
        counter(
            "cepa_hsdir_refused_total",
            "Uploads of descriptors refused",
            hsdir.refused,
        ),
        counter(
            "cepa_hsdir_dropped_total",
            "Descriptors dropped for want of room",
            hsdir.dropped,
        ),
        counter(
            "cepa_hsdir_fetched_total",
            "Requests answered with a descriptor",
            hsdir.fetched,
        ),
        counter(
            "cepa_hsdir_missed_total",
            "Requests for what is not here",
            hsdir.missed,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_relay::LimitsStatus;

    fn status() -> NodeStatus {
        let epoch = SystemTime::UNIX_EPOCH;
        let relay = RelayStatus {
            nickname: "r".to_owned(),
            rsa: [0xFF; 20].into(),
            ed: [1; 32].into(),
            or_address: "192.0.2.1:9001".parse().unwrap(),
            or_address_v6: None,
            published: None,
            consensus_valid_after: Some(epoch),
            uptime_secs: 9,
            onion_key_since: epoch,
            onion_key_until: epoch,
            signing_key_until: epoch,
            is_exit: true,
            exit_policy: vec!["accept *:80".to_owned()],
            limits: LimitsStatus {
                bandwidth_rate: 1,
                bandwidth_burst: 2,
                bandwidth_observed: 3,
                memory_bytes: 4,
                memory_bytes_max: 5,
            },
            wakefulness: Wakefulness::Hard,
            accounting: Some(AccountingStatus {
                read_bytes: 5,
                written_bytes: 6,
                max_bytes: 7,
                wakes: epoch,
            }),
        };
        NodeStatus {
            relay,
            flags: Some(Flags::FAST),
            counts: SwitchCounts {
                channels: 3,
                channels_initiated: 1,
                ..SwitchCounts::default()
            },
            dos: DosCounts::default(),
            is_dry_run: false,
            doors: vec![("or_port", DoorCounts::default())],
            hsdir: HsDirCounts::default(),
            dns: DnsCounts {
                asked: vec![("A", 3)],
                outcomes: vec![("A", "tor_timeout", 2)],
            },
            read_bytes: 7,
            written_bytes: 8,
            kept: KeepStatus {
                waiting_vital: 3,
                ..KeepStatus::default()
            },
            memory: Memory::new(1 << 30),
        }
    }

    #[test]
    fn all_names_are_told() {
        let status = status();
        let text = metrics(&status, SystemTime::UNIX_EPOCH);
        for line in [
            "tor_relay_connections{type=\"OR\",direction=\"received\",state=\"opened\"} 2",
            "tor_relay_traffic_bytes{direction=\"read\"} 7",
            "tor_relay_flag{type=\"Fast\"} 1",
            "tor_relay_flag{type=\"Exit\"} 0",
            "tor_relay_est_rend_total{action=\"duplicate_cookie\"} 0",
            "tor_relay_rend1_total{action=\"unknown_cookie\"} 0",
            "tor_relay_dos_total{type=\"begindir_rate_rejected\"} 0",
            "cepa_relay_door_total{door=\"or_port\",action=\"evicted\"} 0",
            "cepa_hsdir_descriptors 0",
            "cepa_kept_waiting_vital 3",
            "tor_relay_load_oom_bytes_total{subsys=\"cell\"} 0",
            "cepa_memory_bytes{subsys=\"tls\"} 0",
            "cepa_memory_max_bytes 1073741824",
            "tor_relay_load_onionskins_total{type=\"ntor_v3\",action=\"dropped\"} 0",
            "cepa_relay_accounting_bytes{direction=\"written\"} 6",
            "cepa_relay_hibernating 2",
            "tor_relay_exit_dns_query_total{record=\"A\"} 3",
            "tor_relay_exit_dns_error_total{record=\"A\",reason=\"tor_timeout\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert_eq!(text.matches(&format!("# TYPE {name}")).count(), 1);
        }
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["rsa"], "F".repeat(40));
        assert_eq!(json["flags"], serde_json::json!(["Fast"]));
        assert_eq!(json["counts"]["channels"], 3);
        let words = words(&status);
        for word in ["r (FFFF", "listed as Fast", "accept *:80", "of 7 bytes"] {
            assert!(words.contains(word), "{word}\n{words}");
        }
    }
}
