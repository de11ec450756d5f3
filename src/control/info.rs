//! GETINFO: what every role can be asked (control-spec 3.9), and the reply.
//!
//! [`KEYS`] and those of the role are both what is answered and what `info/names` lists.

use std::fmt::Write as _;

use cepa_client::GeoIp;
use cepa_control::command::Feature;
use cepa_control::{Refusal, Reply};
use cepa_netdoc::timestamp;
use rustix::process::{Resource, getrlimit};

use super::conf::{option_defaults, option_names};
use super::driven::{Driven, Key};
use super::network::{self, of_network};
use super::{Answers, ConnectionId, VERSION};
use crate::clock;

/// Who users are, by name and number.
const PASSWD: &str = "/etc/passwd";
/// What `GETINFO ip-to-country/` begins with.
const COUNTRY: &str = "ip-to-country/";
/// The key of links to relays, which each role of a process has of its own.
pub(crate) const LINKS: &str = "orconn-status";
/// What is answered where no file says which country an address is in.
const NO_COUNTRIES: &str = "GeoIP data not loaded";

/// What is behind the rules of an exit policy (tor(1), ExitPolicy).
const POLICY_DEFAULT: &str = "reject *:25,reject *:119,reject *:135-139,reject *:445,\
    reject *:563,reject *:1214,reject *:4661-4666,reject *:6346-6429,reject *:6699,\
    reject *:6881-6999,accept *:*";
/// The same of private addresses.
const PRIVATE_DEFAULT: &str = "reject 0.0.0.0/8:*,reject 169.254.0.0/16:*,reject 127.0.0.0/8:*,\
    reject 192.168.0.0/16:*,reject 10.0.0.0/8:*,reject 172.16.0.0/12:*,reject [::]/8:*,\
    reject [fc00::]/7:*,reject [fe80::]/10:*,reject [fec0::]/10:*,reject [ff00::]/8:*,\
    reject [::]/127:*";

/// What every role answers, beside what it knows of the network.
const KEYS: [Key; 27] = [
    ("version", "The current version."),
    ("info/names", "List of GETINFO options and documentation."),
    ("config/names", "List of configuration options and types."),
    (
        "config/defaults",
        "List of default values for configuration options.",
    ),
    (
        "config-can-saveconf",
        "Is it possible to save the configuration?",
    ),
    ("config-file", "Current location of the \"torrc\" file."),
    (
        "config-defaults-file",
        "Current location of the defaults file.",
    ),
    (
        "config-text",
        "Return the string that would be written by a saveconf command.",
    ),
    ("events/names", "Events that happen here."),
    ("features/names", "What arguments can USEFEATURE take?"),
    (
        "signal/names",
        "Signal names recognized by the SIGNAL command",
    ),
    (
        "net/listeners/control",
        "Where controllers are listened to.",
    ),
    ("process/pid", "Process id belonging to this process."),
    ("process/uid", "User id running this process."),
    ("process/user", "Username under which this process runs."),
    ("process/descriptor-limit", "File descriptor limit."),
    ("current-time/utc", "Current UTC time."),
    (
        "current-time/local",
        "Current time, which is UTC here, too.",
    ),
    ("uptime", "Uptime in seconds."),
    (
        "limits/max-mem-in-queues",
        "Actual limit on memory in queues",
    ),
    ("traffic/read", "Bytes read since the process was started."),
    (
        "traffic/written",
        "Bytes written since the process was started.",
    ),
    ("bw-event-cache", "Cached BW events for a short interval."),
    ("ip-to-country/*", "Perform a GEOIP lookup"),
    (
        "exit-policy/default",
        "The default value appended to the configured exit policy.",
    ),
    (
        "exit-policy/reject-private/default",
        "The default rules appended by ExitPolicyRejectPrivate.",
    ),
    (
        "status/version/current",
        "Status of the current version, by the consensus.",
    ),
];

/// The reply to GETINFO: all of the keys, or what is wrong with each that is. What another role of
/// the process has told of them stands, and links are those of both.
pub(super) fn reply<R: Driven + ?Sized>(
    role: &mut R,
    from: ConnectionId,
    keys: &[String],
    answers: &Answers,
) -> Reply {
    let mut refused = Vec::new();
    let mut reply = Reply::default();
    for key in keys {
        let value = match (answers.get(key), key.as_str()) {
            (Some(Ok(theirs)), LINKS) => {
                let lines = info(role, from, key);
                lines.map(|lines| format!("{lines}\n{theirs}").trim().to_owned())
            }
            (Some(answer), _) => answer.clone(),
            (None, _) => info(role, from, key),
        };
        match value {
            Ok(value) => reply = reply.value(key, value),
            Err(refusal) => refused.push(refusal),
        }
    }
    Reply::refusals(&refused).unwrap_or_else(|| reply.line(250, "OK"))
}

fn info<R: Driven + ?Sized>(
    role: &mut R,
    from: ConnectionId,
    key: &str,
) -> Result<String, Refusal> {
    let (conf, desk, process) = (role.conf(), role.desk(), role.process());
    Ok(match key {
        "version" => VERSION.to_owned(),
        "info/names" => names(role),
        "config/names" => option_names(),
        "config/defaults" => option_defaults(),
        "config-can-saveconf" => u8::from(conf.can_be_saved()).to_string(),
        "config-file" => conf.files(process.written)[0].clone(),
        "config-defaults-file" => conf.files(process.written)[1].clone(),
        "config-text" => conf.text(),
        "events/names" => {
            let more = role.more_events().iter();
            let others = more.filter(|event| !R::EVENTS.contains(event));
            words(R::EVENTS.iter().chain(others))
        }
        "features/names" => words(Feature::ALL.iter()),
        "signal/names" => words(R::SIGNALS.iter()),
        "net/listeners/control" => quoted(desk.listeners.iter().cloned()),
        "process/pid" => std::process::id().to_string(),
        "process/uid" => uid(),
        "process/user" => user(&uid()),
        "process/descriptor-limit" => {
            let limit = getrlimit(Resource::Nofile).current;
            limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
        }
        "current-time/utc" | "current-time/local" => timestamp::encode_joined(clock::now().wall),
        "uptime" => {
            let up = clock::now().mono.duration_since(desk.started);
            up.as_secs().to_string()
        }
        "limits/max-mem-in-queues" => process.max_memory.to_string(),
        "traffic/read" => process.moved.0.to_string(),
        "traffic/written" => process.moved.1.to_string(),
        "bw-event-cache" => desk.bandwidths(),
        "exit-policy/default" => POLICY_DEFAULT.to_owned(),
        "exit-policy/reject-private/default" => PRIVATE_DEFAULT.to_owned(),
        _ => match key.strip_prefix(COUNTRY) {
            Some(of) => country(role, of, key)?,
            None => return of_role(role, from, key),
        },
    })
}

/// What the role knows, and what every role knows of the network.
fn of_role<R: Driven + ?Sized>(
    role: &mut R,
    from: ConnectionId,
    key: &str,
) -> Result<String, Refusal> {
    match network::microdesc_key(key) {
        Some(asked) => {
            let digests = role.with_view(|view| asked.digests(view));
            let digests = digests.ok_or_else(|| Refusal::Key(key.to_owned()))?;
            Ok(role.microdescs(&digests))
        }
        None => match role.with_view(|view| of_network(view, key)) {
            Some(told) => told,
            None => role.info(from, key),
        },
    }
}

fn names<R: Driven + ?Sized>(role: &R) -> String {
    let all = KEYS.iter().chain(network::KEYS).chain(R::KEYS);
    let mut names: Vec<_> = all.chain(role.more_keys()).collect();
    names.sort_by_key(|(name, _)| *name);
    names.dedup_by_key(|(name, _)| *name);
    let line = |(name, text): &&Key| format!("{name} -- {text}");
    names.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Words with spaces between them.
pub(crate) fn words<T: ToString>(words: impl Iterator<Item = T>) -> String {
    words
        .map(|word| word.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Places as `net/listeners/*` tells them.
pub(crate) fn quoted(places: impl Iterator<Item = String>) -> String {
    words(places.map(|place| format!("\"{place}\"")))
}

fn uid() -> String {
    rustix::process::getuid().as_raw().to_string()
}

/// The name of a user; nothing for one who has none.
fn user(uid: &str) -> String {
    let text = std::fs::read_to_string(PASSWD).unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_default()
}

/// The country of an address, in small letters; or whether any is known.
fn country<R: Driven + ?Sized>(role: &mut R, of: &str, key: &str) -> Result<String, Refusal> {
    let files = role.geoip_files();
    let geoip = role.desk_mut().countries(&files);
    let is_there = |is_there: bool| Ok(u8::from(is_there).to_string());
    match of {
        "ipv4-available" => return is_there(geoip.has_v4()),
        "ipv6-available" => return is_there(geoip.has_v6()),
        _ => {}
    }
    let not_loaded = || Refusal::Unable(NO_COUNTRIES.to_owned());
    let addr: std::net::IpAddr = of.parse().map_err(|_| Refusal::Key(key.to_owned()))?;
    let is_loaded = |geoip: &GeoIp| match addr.is_ipv4() {
        true => geoip.has_v4(),
        false => geoip.has_v6(),
    };
    if !is_loaded(&geoip) {
        return Err(not_loaded());
    }
    let mut told = String::new();
    let _ = write!(told, "{}", geoip.country(addr));
    Ok(told.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_has_a_name() {
        assert_eq!(user("0"), "root");
        assert_eq!(user("4294967294"), "");
    }
}
