//! The file of a relay or an authority, and its checks.
//!
//! One table for both: an authority's has `[authority]`, a relay's has not. Whoever starts the
//! wrong one is told so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cepa_link::LINK_VERSIONS;
use cepa_netdoc::protover::Protocols;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::source::{LogTable, Source};
use super::{AuthorityConfig, BANDWIDTH_DEFAULT, RelayConfig, is_public};
use crate::error::{Failure, fail};

/// Seconds of a day, which each voting interval divides (dir-spec 1.4).
const DAY_SECS: u32 = 86_400;
/// The shortest voting interval that peers accept, in seconds.
pub const INTERVAL_SECS_MIN: u32 = 10;
/// The shortest delay of votes or signatures that peers accept, in seconds.
const DELAY_SECS_MIN: u32 = 2;
/// The longest default of a delay, in seconds (dir-spec 1.4).
const DELAY_SECS_DEFAULT: u32 = 300;
/// Threads that carry cells, at most.
const WORKERS_MAX: usize = 256;
/// Lines of an exit policy, at most.
const POLICY_LINES_MAX: usize = 500;
/// Members of a family, at most.
const FAMILY_MAX: usize = 1000;

/// The file's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTable {
    /// See `RelayConfig`, as for all that follow.
    pub nickname: Spanned<String>,
    /// One line of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Spanned<String>>,
    /// The address of the descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Spanned<IpAddr>>,
    /// An IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// 1 to 65535.
    pub or_port: Spanned<u16>,
    /// 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_port: Option<Spanned<u16>>,
    /// Where to listen instead of `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<IpAddr>,
    /// A folder.
    pub data_dir: PathBuf,
    /// A file.
    pub network: PathBuf,
    /// Lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_policy: Vec<Spanned<String>>,
    /// Addresses with ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<SocketAddr>,
    /// Names of relays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family: Vec<Spanned<String>>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family_keys: Vec<PathBuf>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_rate: Option<Spanned<u64>>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_burst: Option<Spanned<u64>>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Spanned<usize>>,
    /// A test network.
    #[serde(default)]
    pub testing: bool,
    /// Where to serve metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// In a test network: the one link protocol to speak instead of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_version: Option<Spanned<u16>>,
    /// In a test network: the subprotocols to promise instead of all that are spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Spanned<String>>,
    /// In a test network: how many seconds a day has for keys that are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_day_secs: Option<Spanned<u32>>,
    /// Where the log goes.
    #[serde(default)]
    pub log: LogTable,
    /// What only authorities have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityTable>,
}

/// The table `[authority]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorityTable {
    /// Seconds; an hour without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting_interval: Option<Spanned<u32>>,
    /// Seconds; a fifth of the interval without it, 300 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote_delay: Option<Spanned<u32>>,
    /// Seconds; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dist_delay: Option<Spanned<u32>>,
    /// Testing: relays that have published before the first vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_vote_after_relays: Option<Spanned<usize>>,
    /// Versions of `tor` to recommend, joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_versions: Option<Spanned<String>>,
    /// Consensus parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Spanned<i32>>,
}

/// A file that was read, and not yet checked.
#[derive(Debug)]
pub struct NodeFile {
    source: Source,
    table: NodeTable,
}

/// Reads the file.
pub fn load(path: &Path) -> Result<NodeFile, Failure> {
    read(Source::open(path)?)
}

fn read(source: Source) -> Result<NodeFile, Failure> {
    let table = source.parse()?;
    Ok(NodeFile { source, table })
}

impl NodeFile {
    /// As the configuration of a relay.
    pub fn into_relay(self) -> Result<RelayConfig, Failure> {
        if self.table.authority.is_some() {
            let path = self.source.resolve(Path::new(""));
            return fail(
                "this is the configuration of an authority",
                path.display(),
                "start it with `cepa authority`, or take [authority] out",
            );
        }
        check_relay(&self.source, self.table)
    }

    /// As the configuration of an authority.
    pub fn into_authority(mut self) -> Result<AuthorityConfig, Failure> {
        let Some(table) = self.table.authority.take() else {
            return Err(self
                .source
                .lacks("[authority]", "a table of that name; it may be empty"));
        };
        if self.table.dir_port.is_none() {
            return Err(self
                .source
                .lacks("dir_port", "a port: authorities vote over it"));
        }
        if self.table.address.is_none() {
            let expected = "the address that the network file has";
            return Err(self.source.lacks("address", expected));
        }
        let relay = check_relay(&self.source, self.table)?;
        check_authority(&self.source, relay, table)
    }
}

fn check_relay(source: &Source, table: NodeTable) -> Result<RelayConfig, Failure> {
    check_texts(source, &table)?;
    check_numbers(source, &table)?;
    if let Some(address) = table.address.as_ref().filter(|_| !table.testing) {
        let expected = "a public address (testing = true allows others)";
        source.expect(address, "address", expected, |ip| is_public(*ip))?;
    }
    let address = table.address.as_ref().map(|address| *address.get_ref());
    let key_day = key_day(source, &table)?;
    let link_versions = link_versions(source, &table)?;
    let protocols = protocols(source, &table)?;
    let rate = table
        .bandwidth_rate
        .map_or(BANDWIDTH_DEFAULT, Spanned::into_inner);
    let burst = table
        .bandwidth_burst
        .map_or(rate.max(BANDWIDTH_DEFAULT), Spanned::into_inner);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(RelayConfig {
        nickname: table.nickname.into_inner(),
        contact: table.contact.map(Spanned::into_inner),
        address,
        ipv6_address: table.ipv6_address,
        or_port: table.or_port.into_inner(),
        dir_port: table.dir_port.map(Spanned::into_inner),
        listen: (table.listen.or(address)).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        data_dir: source.resolve(&table.data_dir),
        network: source.resolve(&table.network),
        exit_policy: table
            .exit_policy
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        family: table.family.into_iter().map(Spanned::into_inner).collect(),
        family_keys: (table.family_keys.iter())
            .map(|path| source.resolve(path))
            .collect(),
        bandwidth_rate: rate,
        bandwidth_burst: burst,
        workers: table.workers.map_or(cores, Spanned::into_inner),
        testing: table.testing,
        metrics: table.metrics,
        key_day,
        link_versions,
        protocols,
        name_servers: table.name_servers,
        log: table.log.checked(source),
    })
}

fn key_day(source: &Source, table: &NodeTable) -> Result<Duration, Failure> {
    let Some(seconds) = &table.key_day_secs else {
        return Ok(cepa_relay::DAY);
    };
    let expected = "at least 1, and only where testing = true";
    source.expect(seconds, "key_day_secs", expected, |n| {
        table.testing && *n > 0
    })?;
    Ok(Duration::from_secs((*seconds.get_ref()).into()))
}

fn link_versions(source: &Source, table: &NodeTable) -> Result<&'static [u16], Failure> {
    let Some(version) = &table.link_version else {
        return Ok(&LINK_VERSIONS);
    };
    let is_it = |one: &[u16]| one == [*version.get_ref()];
    let found = LINK_VERSIONS.chunks(1).find(|one| is_it(one));
    let expected = "4 or 5, and only where testing = true";
    let found = found.filter(|_| table.testing);
    found.ok_or_else(|| source.wrong(version, "link_version", expected))
}

fn protocols(source: &Source, table: &NodeTable) -> Result<Protocols, Failure> {
    let all = Protocols::parse(cepa_relay::PROTOCOLS).unwrap_or_default();
    let Some(text) = &table.protocols else {
        return Ok(all);
    };
    let fewer = Protocols::parse(text.get_ref()).ok();
    let fewer = fewer.filter(|fewer| table.testing && all.contains_all(fewer));
    let expected = format!(
        "some of {}, and only where testing = true",
        cepa_relay::PROTOCOLS
    );
    fewer.ok_or_else(|| source.wrong(text, "protocols", &expected))
}

fn check_texts(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    source.expect(
        &table.nickname,
        "nickname",
        "1 to 19 letters and digits",
        |name| is_nickname(name),
    )?;
    if let Some(contact) = &table.contact {
        source.expect(contact, "contact", "one line of text", |text| is_line(text))?;
    }
    for line in &table.exit_policy {
        let expected = "accept or reject, then ADDRESS:PORT, such as accept *:80";
        source.expect(line, "exit_policy", expected, |line| is_policy_line(line))?;
    }
    for member in &table.family {
        let expected = "$ and 40 hexadecimal digits, or a nickname";
        source.expect(member, "family", expected, |name| is_family_member(name))?;
    }
    if let Some(line) = table.exit_policy.get(POLICY_LINES_MAX) {
        return Err(source.wrong(line, "exit_policy", "at most 500 lines"));
    }
    if let Some(member) = table.family.get(FAMILY_MAX) {
        return Err(source.wrong(member, "family", "at most 1000 relays"));
    }
    Ok(())
}

fn check_numbers(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    source.expect(&table.or_port, "or_port", "1 to 65535", |port| *port != 0)?;
    if let Some(port) = &table.dir_port {
        let expected = "1 to 65535, and another than or_port";
        source.expect(port, "dir_port", expected, |port| {
            *port != 0 && port != table.or_port.get_ref()
        })?;
    }
    for (key, rate) in [
        ("bandwidth_rate", &table.bandwidth_rate),
        ("bandwidth_burst", &table.bandwidth_burst),
    ] {
        if let Some(rate) = rate {
            source.expect(rate, key, "75000 bytes a second or more", |rate| {
                *rate >= 75_000
            })?;
        }
    }
    if let (Some(rate), Some(burst)) = (&table.bandwidth_rate, &table.bandwidth_burst) {
        source.expect(
            burst,
            "bandwidth_burst",
            "bandwidth_rate or more",
            |burst| burst >= rate.get_ref(),
        )?;
    }
    if let Some(workers) = &table.workers {
        source.expect(workers, "workers", "1 to 256", |n| {
            (1..=WORKERS_MAX).contains(n)
        })?;
    }
    Ok(())
}

fn check_authority(
    source: &Source,
    relay: RelayConfig,
    table: AuthorityTable,
) -> Result<AuthorityConfig, Failure> {
    let interval = table
        .voting_interval
        .as_ref()
        .map_or(3600, |interval| *interval.get_ref());
    let shortest = if relay.testing {
        INTERVAL_SECS_MIN
    } else {
        300
    };
    if let Some(value) = &table.voting_interval {
        let expected = format!("a divisor of a day (86400 seconds), {shortest} at least");
        source.expect(value, "voting_interval", &expected, |secs| {
            *secs >= shortest && DAY_SECS.is_multiple_of(*secs)
        })?;
    }
    let delay_default = DELAY_SECS_DEFAULT.min(interval / 5);
    let vote = table
        .vote_delay
        .as_ref()
        .map_or(delay_default, |delay| *delay.get_ref());
    let dist = table
        .dist_delay
        .as_ref()
        .map_or(delay_default, |delay| *delay.get_ref());
    for (key, delay) in [
        ("vote_delay", &table.vote_delay),
        ("dist_delay", &table.dist_delay),
    ] {
        if let Some(delay) = delay {
            let expected = "2 seconds or more, both delays together less than half the interval";
            source.expect(delay, key, expected, |secs| {
                *secs >= DELAY_SECS_MIN
                    && u64::from(vote) + u64::from(dist) < u64::from(interval) / 2
            })?;
        }
    }
    check_votes(source, &relay, &table)?;
    Ok(AuthorityConfig {
        relay,
        voting_interval_secs: interval,
        vote_delay_secs: vote,
        dist_delay_secs: dist,
        params: table
            .params
            .into_iter()
            .map(|(k, v)| (k, v.into_inner()))
            .collect(),
        first_vote_after_relays: table.first_vote_after_relays.map(Spanned::into_inner),
        recommended_versions: table.recommended_versions.map(Spanned::into_inner),
    })
}

/// What an authority is to put into its votes.
fn check_votes(
    source: &Source,
    relay: &RelayConfig,
    table: &AuthorityTable,
) -> Result<(), Failure> {
    if let Some(relays) = &table.first_vote_after_relays {
        let expected = "to stand in a test network only (testing = true)";
        source.expect(relays, "first_vote_after_relays", expected, |_| {
            relay.testing
        })?;
    }
    if let Some(versions) = &table.recommended_versions {
        let expected = "versions such as 0.4.9.11, joined by commas";
        source.expect(versions, "recommended_versions", expected, |text| {
            is_versions(text)
        })?;
    }
    for (name, value) in &table.params {
        let expected = "names of params without spaces or equals signs";
        source.expect(value, "params", expected, |_| is_param_name(name))?;
    }
    Ok(())
}

/// A list of versions as votes have it: no spaces, no empty one (dir-spec 3.4.1).
fn is_versions(text: &str) -> bool {
    text.split(',').all(|version| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        version.starts_with(|first: char| first.is_ascii_digit()) && version.bytes().all(is_word)
    })
}

/// 40 hexadecimal digits, `$` before them or not, or a nickname.
fn is_family_member(text: &str) -> bool {
    let digits = text.strip_prefix('$').unwrap_or(text);
    match digits.len() {
        40 => digits.parse::<cepa_crypto::RsaId>().is_ok(),
        _ => is_nickname(text),
    }
}

/// 1 to 19 letters and digits (dir-spec 2.1.1).
pub fn is_nickname(name: &str) -> bool {
    (1..=19).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_line(text: &str) -> bool {
    text.len() <= 1000 && !text.chars().any(char::is_control)
}

/// Whether a consensus parameter can have this name.
pub fn is_param_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_policy_line(line: &str) -> bool {
    let Some((verb, pattern)) = line.split_once(' ') else {
        return false;
    };
    matches!(verb, "accept" | "reject" | "accept6" | "reject6")
        && pattern.contains(':')
        && !pattern.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "nickname = \"relay1\"\naddress = \"127.4.0.1\"\nor_port = 5000\n\
        data_dir = \"d\"\nnetwork = \"network.toml\"\ntesting = true\n";

    fn file(text: &str) -> Result<NodeFile, Failure> {
        read(Source::from_text(Path::new("/etc/cepa/relay.toml"), text))
    }

    fn relay_error(text: &str) -> String {
        file(text)
            .and_then(NodeFile::into_relay)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn reads_a_relay() {
        let config = file(RELAY).unwrap().into_relay().unwrap();
        assert_eq!(config.or_listen(), "127.4.0.1:5000".parse().unwrap());
        assert_eq!(config.data_dir, Path::new("/etc/cepa/d"));
        assert!(config.exit_policy.is_empty() && config.workers > 0);
    }

    #[test]
    fn an_error_names_file_line_and_expectation() {
        let text = RELAY.replace("relay1", "relay one");
        let error = relay_error(&text);
        assert!(
            error.contains("relay.toml line 1") && error.contains("letters"),
            "{error}"
        );
        let error = relay_error(&RELAY.replace("5000", "70000"));
        assert!(error.contains("line 3"), "{error}");
        let error = relay_error(&format!("{RELAY}oops = 3\n"));
        assert!(
            error.contains("line 7") && error.contains("oops"),
            "{error}"
        );
        let error = relay_error(&RELAY.replace("testing = true", "testing = false"));
        assert!(
            error.contains("line 2") && error.contains("public"),
            "{error}"
        );
        let error = relay_error(&format!(
            "{RELAY}exit_policy = [\n\"accept *:80\",\n\"allow\"]\n"
        ));
        assert!(
            error.contains("line 9") && error.contains("exit_policy"),
            "{error}"
        );
    }

    #[test]
    fn an_address_may_be_left_to_the_authorities() {
        let text = RELAY.replace("address = \"127.4.0.1\"\n", "");
        let config = file(&text).unwrap().into_relay().unwrap();
        assert_eq!(config.address, None);
        assert_eq!(config.or_listen(), "0.0.0.0:5000".parse().unwrap());
        let text = format!("{text}dir_port = 5001\n[authority]\n");
        let error = file(&text).unwrap().into_authority().unwrap_err();
        assert!(error.to_string().contains("address is missing"), "{error}");
    }

    #[test]
    fn an_address_is_one_that_others_reach() {
        let is_taken = |address: &str| {
            let text = RELAY
                .replace("127.4.0.1", address)
                .replace("= true", "= false");
            file(&text).and_then(NodeFile::into_relay).is_ok()
        };
        assert!(is_taken("203.0.113.5") && is_taken("2001:db8::5"));
        let refused = [
            "10.0.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "fd00::1",
        ];
        assert!(!refused.into_iter().any(is_taken));
        let of_many = ["224.0.0.1", "255.255.255.255", "ff02::1"];
        assert!(!of_many.into_iter().any(is_taken));
    }

    #[test]
    fn an_authority_is_checked() {
        let authority = |tail: &str| {
            file(&format!("{RELAY}dir_port = 5001\n[authority]\n{tail}"))
                .and_then(NodeFile::into_authority)
        };
        let hourly = authority("").unwrap();
        assert_eq!(
            (hourly.voting_interval_secs, hourly.vote_delay_secs),
            (3600, 300)
        );
        let quick = authority("voting_interval = 20\nparams = { hsdir_interval = 8 }").unwrap();
        assert_eq!((quick.vote_delay_secs, quick.dist_delay_secs), (4, 4));
        assert_eq!(quick.params.get("hsdir_interval"), Some(&8));
        let error = authority("voting_interval = 7").unwrap_err().to_string();
        assert!(
            error.contains("line 9") && error.contains("divisor"),
            "{error}"
        );
        assert!(authority("voting_interval = 20\nvote_delay = 8").is_err());
        let error = file(&format!("{RELAY}[authority]\n"))
            .unwrap()
            .into_relay()
            .unwrap_err();
        assert!(error.to_string().contains("cepa authority"), "{error}");
    }

    #[test]
    fn what_is_written_is_read() {
        let table = file(RELAY).unwrap().table;
        let text = toml::to_string(&table).unwrap();
        assert_eq!(
            file(&text).unwrap().into_relay().unwrap().nickname,
            "relay1"
        );
    }
}
