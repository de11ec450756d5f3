//! What a client is to do otherwise than the network has it: guards, times, fetches, rest, and
//! which addresses it may connect to.

use super::Work;
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};
use crate::value;

/// How a value of `tor`'s is written as ours.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// 0 or 1; nothing where it is auto.
    Switch,
    /// A number.
    Count,
    /// A number, where it is not negative.
    Limit,
    /// A number with a fraction, where it is not negative.
    Share,
    /// A time in seconds.
    Secs,
    /// Ports with commas between them.
    Ports,
}

/// An option, and which key it is.
type Key = (&'static str, &'static str, Form);

/// The tables, and which option is which of their keys.
const TABLES: [(&str, &[Key]); 5] = [
    (
        "[guards]",
        &[
            ("NumEntryGuards", "used", Form::Count),
            ("NumPrimaryGuards", "primary", Form::Count),
            ("NumDirectoryGuards", "directory", Form::Count),
            ("GuardLifetime", "lifetime", Form::Secs),
        ],
    ),
    (
        "[path_bias]",
        &[
            ("PathBiasCircThreshold", "circuits_min", Form::Limit),
            ("PathBiasNoticeRate", "notice", Form::Share),
            ("PathBiasWarnRate", "warn", Form::Share),
            ("PathBiasExtremeRate", "extreme", Form::Share),
            ("PathBiasDropGuards", "drop_guards", Form::Switch),
            ("PathBiasScaleThreshold", "scale_circuits", Form::Limit),
            ("PathBiasUseThreshold", "uses_min", Form::Limit),
            ("PathBiasNoticeUseRate", "notice_use", Form::Share),
            ("PathBiasExtremeUseRate", "extreme_use", Form::Share),
            ("PathBiasScaleUseThreshold", "scale_uses", Form::Limit),
        ],
    ),
    (
        "[circuits]",
        &[
            ("CircuitBuildTimeout", "build_timeout", Form::Secs),
            (
                "LearnCircuitBuildTimeout",
                "learn_build_timeout",
                Form::Switch,
            ),
            ("CircuitsAvailableTimeout", "available_timeout", Form::Secs),
            ("CircuitStreamTimeout", "stream_timeout", Form::Secs),
            ("SocksTimeout", "request_timeout", Form::Secs),
            ("MaxClientCircuitsPending", "pending_max", Form::Count),
            ("LongLivedPorts", "long_lived_ports", Form::Ports),
            ("PathsNeededToBuildCircuits", "paths_needed", Form::Share),
        ],
    ),
    (
        "[fetches]",
        &[
            ("FetchServerDescriptors", "network", Form::Switch),
            ("FetchHidServDescriptors", "onion_descriptors", Form::Switch),
            (
                "PublishHidServDescriptors",
                "publish_onion_descriptors",
                Form::Switch,
            ),
        ],
    ),
    (
        "[dormancy]",
        &[
            ("DormantTimeoutEnabled", "enabled", Form::Switch),
            ("DormantClientTimeout", "after", Form::Secs),
            (
                "DormantTimeoutDisabledByIdleStreams",
                "idle_streams",
                Form::Switch,
            ),
            ("DormantOnFirstStartup", "at_first_start", Form::Switch),
            (
                "DormantCanceledByStartup",
                "canceled_by_start",
                Form::Switch,
            ),
        ],
    ),
];

/// The shortest DormantClientTimeout, in seconds.
const DORMANT_SECS_MIN: u64 = 600;

/// All of these tables.
pub(super) fn overrides(work: &mut Work<'_>, document: &mut Document) {
    check(work);
    for (head, keys) in TABLES {
        let mut body = Document::default();
        for (option, key, form) in keys {
            let Some(value) = work.settings.one(option) else {
                continue;
            };
            match written(*form, &value.text) {
                Ok(Some(text)) => body.key(key, &text, value),
                Ok(None) => {}
                Err(expected) => work.refuse(value, expected),
            }
        }
        document.section(head, body);
    }
    let reach = reach(work);
    document.section("[reach]", reach);
}

/// What `tor` does not take.
fn check(work: &mut Work<'_>) {
    let settings = work.settings;
    let number = |name| {
        let value = settings.one(name)?;
        Some((value, value.text.trim().parse::<u32>().ok()?))
    };
    let primary = number("NumPrimaryGuards").map_or(0, |(_, number)| number);
    if let Some((value, used)) = number("NumEntryGuards")
        && primary > 0
        && used > primary
    {
        work.refuse(
            value,
            "NumEntryGuards must not be greater than NumPrimaryGuards.",
        );
    }
    if let Some((value, most)) = number("MaxClientCircuitsPending")
        && !(1..=1024).contains(&most)
    {
        let what =
            format!("MaxClientCircuitsPending must be between 1 and 1024, but was set to {most}");
        work.refuse(value, what);
    }
    if let Some(value) = settings.one("DormantClientTimeout")
        && value::seconds(&value.text).is_some_and(|secs| secs < DORMANT_SECS_MIN)
        && !settings.is_on("TestingTorNetwork")
    {
        let what = "DormantClientTimeout is too low. It must be at least 10 minutes.";
        work.refuse(value, what);
    }
    if let Some(value) = settings.one("PathBiasDropGuards")
        && value.text.trim().eq_ignore_ascii_case("auto")
    {
        work.note(Severity::Info, value, "the network says it");
    }
}

/// A value as ours; none if it leaves it to the network.
fn written(form: Form, text: &str) -> Result<Option<String>, &'static str> {
    let text = text.trim();
    Ok(match form {
        Form::Switch => value::bool(text).map(|is_on| is_on.to_string()),
        Form::Count => text.parse::<u32>().ok().map(|count| count.to_string()),
        Form::Limit => {
            let limit = text.parse::<i32>().ok().filter(|limit| *limit >= 0);
            limit.map(|limit| limit.to_string())
        }
        Form::Share => {
            let share = text.parse::<f64>().ok().filter(|share| *share >= 0.0);
            // TOML has no whole fractions without a point.
            share
                .filter(|share| share.is_finite())
                .map(|share| format!("{share:?}"))
        }
        Form::Secs => value::seconds(text).map(|secs| secs.to_string()),
        Form::Ports => {
            let ports = value::words(text).map(str::parse::<u16>);
            let ports = ports.collect::<Result<Vec<_>, _>>();
            Some(format!(
                "{:?}",
                ports.map_err(|_| "ports are numbers up to 65535")?
            ))
        }
    })
}

/// Which addresses may be connected to. As in `tor`, ReachableORAddresses come before
/// ReachableAddresses, and those before what FascistFirewall stands for; what names no action is
/// accepted, and what no line accepts is rejected.
fn reach(work: &mut Work<'_>) -> Document {
    let mut body = Document::default();
    let mut rules: Vec<(String, &Value)> = Vec::new();
    let lines = ["ReachableORAddresses", "ReachableAddresses"].map(|name| work.lines(&[name]));
    let lines = lines.into_iter().find(|lines| !lines.is_empty());
    for line in lines.into_iter().flatten() {
        let each = value::words(&line.text).map(|rule| (with_action(rule), line));
        rules.extend(each);
    }
    let firewall = work.settings.one("FascistFirewall");
    if let Some(line) = firewall.filter(|line| line.text.trim() == "1")
        && rules.is_empty()
    {
        let ports = work.settings.one("FirewallPorts");
        let words = ports.map(|ports| value::words(&ports.text).collect::<Vec<_>>());
        let words = words.filter(|words| !words.is_empty());
        let from = ports.unwrap_or(line);
        for port in words.unwrap_or(vec!["443"]) {
            rules.push((format!("accept *:{port}"), from));
        }
    } else if let Some(ports) = work.settings.one("FirewallPorts") {
        work.note(
            Severity::Info,
            ports,
            "of no effect without FascistFirewall",
        );
    }
    body.list("addresses", &rules);
    for value in work.lines(&["ReachableDirAddresses"]) {
        work.note(Severity::Info, value, "of no effect, as in tor");
    }
    if let Some(value) = work.settings.one("ClientPreferIPv6DirPort") {
        work.note(Severity::Info, value, "of no effect, as in tor");
    }
    let keys = [
        ("ClientUseIPv4", "ipv4"),
        ("ClientUseIPv6", "ipv6"),
        ("ClientPreferIPv6ORPort", "prefer_ipv6"),
    ];
    for (option, key) in keys {
        let value = work.settings.one(option);
        let is_on = value.and_then(|value| Some((value, value::bool(&value.text)?)));
        if let Some((value, is_on)) = is_on {
            body.key(key, if is_on { "true" } else { "false" }, value);
        } else if let Some(value) = value {
            work.note(Severity::Info, value, "IPv4 addresses are tried first");
        }
    }
    body
}

/// Who may use the ports of applications, and which names get addresses there.
pub(super) fn access(work: &mut Work<'_>, document: &mut Document) {
    let mut rules = Vec::new();
    for line in work.lines(&["SocksPolicy"]) {
        rules.extend(value::words(&line.text).map(|rule| (rule.to_owned(), line)));
    }
    document.list("socks_policy", &rules);
    if let Some(value) = work.settings.one("AutomapHostsSuffixes") {
        let words = value::words(&value.text).map(string);
        let words = words.collect::<Vec<_>>().join(", ");
        document.key("automap_suffixes", &format!("[{words}]"), value);
    }
    for (option, key) in [
        ("VirtualAddrNetworkIPv4", "virtual_ipv4"),
        ("VirtualAddrNetworkIPv6", "virtual_ipv6"),
    ] {
        if let Some(value) = work.settings.one(option) {
            document.text_key(key, value.text.trim(), value);
        }
    }
}

/// A rule with its action.
fn with_action(rule: &str) -> String {
    let first = rule.split_whitespace().next().unwrap_or_default();
    let has_action = ["accept", "reject", "accept6", "reject6"]
        .iter()
        .any(|action| action.eq_ignore_ascii_case(first));
    match has_action {
        true => rule.to_owned(),
        false => format!("accept {rule}"),
    }
}

/// Says to relays which settings of clients are of no effect.
pub(super) fn of_relay(work: &mut Work<'_>) {
    let overridden = TABLES.iter().flat_map(|(_, keys)| keys.iter());
    let overridden = overridden.map(|(option, ..)| *option);
    let others = [
        "HSLayer2Nodes",
        "HSLayer3Nodes",
        "NodeFamily",
        "ClientUseIPv6",
        "ClientPreferIPv6ORPort",
        "ClientPreferIPv6DirPort",
        "FirewallPorts",
        "SocksPolicy",
        "TestSocks",
        "AutomapHostsSuffixes",
        "VirtualAddrNetworkIPv4",
        "VirtualAddrNetworkIPv6",
        "TCPProxy",
    ];
    let idle: Vec<&str> = overridden.chain(others).collect();
    work.of_no_effect(&idle, Severity::Info, "of no effect for a relay");
}

/// Refuses to a relay what would keep it from others.
pub(super) fn check_reach(work: &mut Work<'_>) {
    let names = [
        "ReachableAddresses",
        "ReachableORAddresses",
        "ReachableDirAddresses",
    ];
    let lines = work.lines(&names).into_iter();
    let off = |name: &'static str, text: &str| {
        let value = work.settings.one(name);
        value.filter(|value| value.text.trim() == text)
    };
    let switches = [
        off("FascistFirewall", "1"),
        off("ClientUseIPv4", "0"),
        off("UseBridges", "1"),
    ];
    let all: Vec<_> = lines.chain(switches.into_iter().flatten()).collect();
    for value in all {
        let what = "servers must be able to connect to all the rest";
        work.refuse(value, what);
    }
}
