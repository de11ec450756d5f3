//! The file of a relay or an authority, and its checks.
//!
//! One table for both: an authority's has `[authority]`, a relay's has not. Whoever starts the
//! wrong one is told so.

mod authority;
mod bare;
mod bridge;
mod directory;
mod dos;
mod exit;
mod identity;
mod keys;
mod limits;
mod practice;
mod testing;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::control::ControlTable;
use super::memory::max_memory;
use super::source::{LogTable, Source};
use super::{
    AuthorityConfig, ControlConfig, GeoIpFiles, MetricsPort, NetworkSource, RelayConfig, is_public,
};
use crate::dns::DnsOptions;
use crate::error::{Failure, fail};

pub use self::authority::{AuthorityTable, INTERVAL_SECS_MIN, is_param_name};
pub use self::bridge::{BridgeConfig, ExtOrConfig};
pub use self::directory::{DirectoryOptions, DirectoryTable};
pub use self::identity::is_nickname;
pub use self::keys::KeysTable;
pub(crate) use self::practice::Practice;

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
    /// Whether to listen over IPv6, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_ipv6: Option<bool>,
    /// A folder.
    pub data_dir: PathBuf,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<PathBuf>,
    /// The network itself, in place of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_network: Option<toml::Table>,
    /// Lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_policy: Vec<Spanned<String>>,
    /// `tor`'s ReducedExitPolicy behind those lines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced_exit_policy: bool,
    /// IPv6Exit: off, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_exit: Option<bool>,
    /// ExitPolicyRejectPrivate: on, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_policy_reject_private: Option<bool>,
    /// ExitPolicyRejectLocalInterfaces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exit_policy_reject_local_interfaces: bool,
    /// ReevaluateExitPolicy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reevaluate_exit_policy: bool,
    /// Addresses with ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<SocketAddr>,
    /// The file that names them, followed as it changes; /etc/resolv.conf without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<PathBuf>,
    /// Names of relays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family: Vec<Spanned<String>>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family_keys: Vec<PathBuf>,
    /// BridgeRelay: whether it is a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Spanned<bool>>,
    /// BridgeDistribution: how a bridge wants to be handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_distribution: Option<Spanned<String>>,
    /// Who speaks transports of a bridge: lines of ServerTransportPlugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_transport_plugins: Vec<Spanned<String>>,
    /// Where they listen: lines of ServerTransportListenAddr.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_transport_listen: Vec<Spanned<String>>,
    /// What they are told: lines of ServerTransportOptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_transport_options: Vec<Spanned<String>>,
    /// Where they may hand clients on: lines of ExtORPort.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_or_port: Vec<Spanned<String>>,
    /// The file of the cookie for that; `extended_orport_auth_cookie` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext_or_port_cookie_file: Option<PathBuf>,
    /// Whether its group may read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ext_or_port_cookie_file_group_readable: bool,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_rate: Option<Spanned<u64>>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_burst: Option<Spanned<u64>>,
    /// Bytes a second, of links alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_bandwidth_rate: Option<Spanned<u64>>,
    /// Bytes at once, of links alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_bandwidth_burst: Option<Spanned<u64>>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_advertised_bandwidth: Option<Spanned<u64>>,
    /// Bytes of an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounting_max: Option<Spanned<u64>>,
    /// When an interval begins: `day HH:MM`, `week 1..7 HH:MM` or `month 1..28 HH:MM`, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounting_start: Option<Spanned<String>>,
    /// Which bytes count: max, sum, in or out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounting_rule: Option<Spanned<String>>,
    /// What is refused to who asks for too much.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dos: BTreeMap<String, Spanned<toml::Value>>,
    /// PublishServerDescriptor: whether authorities are brought the descriptor. A bridge's are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_descriptor: Option<Spanned<bool>>,
    /// RefuseUnknownExits: as the network says without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse_unknown_exits: Option<bool>,
    /// MaxOnionQueueDelay, in milliseconds: as the network says without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_onion_queue_delay: Option<Spanned<u32>>,
    /// OutboundBindAddressExit: where streams leave from, an address of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound_bind_address_exit: Vec<IpAddr>,
    /// What is served of the directory, and to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryTable>,
    /// Name look-ups of an exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsTable>,
    /// How long keys last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysTable>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Spanned<usize>>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Spanned<u64>>,
    /// A test network.
    #[serde(default)]
    pub testing: bool,
    /// Countries of IPv4 addresses; Debian's file without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geoip: Option<PathBuf>,
    /// Countries of IPv6 addresses; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geoip6: Option<PathBuf>,
    /// The port at which metrics are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Spanned<SocketAddr>>,
    /// Who may read them: lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_policy: Vec<Spanned<String>>,
    /// In a test network: the one link protocol to speak instead of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_version: Option<Spanned<u16>>,
    /// In a test network: the subprotocols to promise instead of all that are spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Spanned<String>>,
    /// In a test network: how many seconds a day has for keys that are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_day_secs: Option<Spanned<u32>>,
    /// The log: how much of it, and where it goes.
    #[serde(default)]
    pub log: LogTable,
    /// The control port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlTable>,
    /// The table that only authorities have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityTable>,
}

/// The table `[dns]`: how names are looked up for streams that leave here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsTable {
    /// ServerDNSSearchDomains: whether the search domains of this machine count; no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub server_dns_search_domains: bool,
    /// ServerDNSRandomizeCase: whether letters of questions are now upper, now lower case; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_dns_randomize_case: Option<bool>,
    /// ServerDNSAllowBrokenConfig: whether a relay starts without any name server; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_dns_allow_broken_config: Option<bool>,
    /// ServerDNSAllowNonRFC953Hostnames: whether names may have any letters; no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub server_dns_allow_non_rfc953_hostnames: bool,
}

impl DnsTable {
    fn options(&self) -> DnsOptions {
        DnsOptions {
            searches: self.server_dns_search_domains,
            randomizes_case: self.server_dns_randomize_case.unwrap_or(true),
            needs_servers: self.server_dns_allow_broken_config == Some(false),
            takes_odd_names: self.server_dns_allow_non_rfc953_hostnames,
        }
    }
}

/// A file that was read, and not yet checked.
#[derive(Debug)]
pub struct NodeFile {
    source: Source,
    table: NodeTable,
    /// What could not be read.
    unread: Option<Failure>,
}

/// Reads the file.
pub fn load(path: &Path) -> Result<NodeFile, Failure> {
    read(Source::open(path)?)
}

/// Reads a configuration that is at hand.
pub fn read(source: Source) -> Result<NodeFile, Failure> {
    let (table, unread) = source.parse_rest()?;
    Ok(NodeFile {
        source,
        table,
        unread,
    })
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
        Failure::or_worse(self.unread, check_relay(&self.source, self.table))
    }

    /// As the configuration of an authority.
    pub fn into_authority(mut self) -> Result<AuthorityConfig, Failure> {
        let unread = self.unread.take();
        Failure::or_worse(unread, self.checked_authority())
    }

    fn checked_authority(mut self) -> Result<AuthorityConfig, Failure> {
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
        if let Some(max) = &self.table.accounting_max {
            let expected = "none for an authority, which may not sleep";
            return Err(self.source.wrong(max, "accounting_max", expected));
        }
        let relay = check_relay(&self.source, self.table)?;
        authority::check(&self.source, relay, table)
    }
}

/// Tells all that is wrong at once.
fn check(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    let address = table.address.as_ref().filter(|_| !table.testing);
    let address = address.map_or(Ok(()), |address| {
        let expected = "a public address (testing = true allows others)";
        source.expect(address, "address", expected, |ip| is_public(*ip))
    });
    Failure::none_of([
        identity::check(source, table).err(),
        exit::options(source, table).err(),
        limits::check(source, table).err(),
        check_ports(source, table).err(),
        address.err(),
        testing::key_day(source, table).err(),
        testing::link_versions(source, table).err(),
        testing::protocols(source, table).err(),
        limits::bandwidth(source, table).err(),
        limits::relay_bandwidth(source, table).err(),
        limits::accounting(source, table).err(),
        control(source, table, Path::new("")).err(),
        max_memory(source, table.max_memory.as_ref()).err(),
        dos::options(source, &table.dos).err(),
        bridge::bridge(source, table).err(),
        bridge::ext_or(source, table).err(),
        directory::options(source, table).err(),
        keys::times(source, table).err(),
        limits::choices(source, table).err(),
        NetworkSource::checked(
            source,
            table.network.as_deref(),
            table.inline_network.as_ref(),
        )
        .err(),
        MetricsPort::checked(source, table.metrics.as_ref(), &table.metrics_policy).err(),
    ])
}

fn check_relay(source: &Source, table: NodeTable) -> Result<RelayConfig, Failure> {
    check(source, &table)?;
    let inline = table.inline_network.as_ref();
    let network = NetworkSource::checked(source, table.network.as_deref(), inline)?;
    let exit = exit::options(source, &table)?;
    let address = table.address.as_ref().map(|address| *address.get_ref());
    let key_day = testing::key_day(source, &table)?;
    let link_versions = testing::link_versions(source, &table)?;
    let protocols = testing::protocols(source, &table)?;
    let bandwidth = limits::bandwidth(source, &table)?;
    let relay_bandwidth = limits::relay_bandwidth(source, &table)?;
    let accounting = limits::accounting(source, &table)?;
    let workers = limits::workers(&table);
    let max_memory = max_memory(source, table.max_memory.as_ref())?;
    let dos = dos::options(source, &table.dos)?;
    let bridge = bridge::bridge(source, &table)?;
    let ext_or = bridge::ext_or(source, &table)?;
    let directory = directory::options(source, &table)?;
    let key_times = keys::times(source, &table)?;
    let choices = limits::choices(source, &table)?;
    let data_dir = source.resolve(&table.data_dir);
    let control = control(source, &table, &data_dir)?;
    Ok(RelayConfig {
        nickname: table.nickname.into_inner(),
        contact: table.contact.map(Spanned::into_inner),
        address,
        ipv6_address: table.ipv6_address,
        or_port: table.or_port.into_inner(),
        dir_port: table.dir_port.map(Spanned::into_inner),
        listen: (table.listen.or(address)).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        listens_v6: table.listen_ipv6 != Some(false),
        data_dir,
        network,
        exit,
        reject_local_interfaces: table.exit_policy_reject_local_interfaces,
        family: table.family.into_iter().map(Spanned::into_inner).collect(),
        family_keys: resolved(source, &table.family_keys),
        bandwidth,
        relay_bandwidth,
        max_advertised_bandwidth: table.max_advertised_bandwidth.map(Spanned::into_inner),
        accounting,
        dos,
        workers,
        max_memory,
        bridge,
        ext_or,
        directory,
        key_times,
        is_master_offline: table.keys.is_some_and(|keys| keys.offline_master_key),
        choices,
        exit_from: table.outbound_bind_address_exit,
        dns: table.dns.unwrap_or_default().options(),
        geoip: GeoIpFiles {
            v4: table.geoip.map(|file| source.resolve(&file)),
            v6: table.geoip6.map(|file| source.resolve(&file)),
        },
        publishes_descriptor: table.publish_descriptor.is_none_or(Spanned::into_inner),
        testing: table.testing,
        metrics: MetricsPort::checked(source, table.metrics.as_ref(), &table.metrics_policy)?,
        key_day,
        link_versions,
        protocols,
        name_servers: table.name_servers,
        resolv_conf: table.resolv_conf.map(|path| source.resolve(&path)),
        control,
        log: table.log.checked(source),
        written: source.written(),
    })
}

fn resolved(source: &Source, paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| source.resolve(path)).collect()
}

fn control(
    source: &Source,
    table: &NodeTable,
    data_dir: &Path,
) -> Result<Option<ControlConfig>, Failure> {
    let control = table.control.clone();
    let control = control.map(|control| control.checked(source, data_dir));
    control.transpose()
}

fn check_ports(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    source.expect(&table.or_port, "or_port", "1 to 65535", |port| *port != 0)?;
    if let Some(port) = &table.dir_port {
        let expected = "1 to 65535, and another than or_port";
        source.expect(port, "dir_port", expected, |port| {
            *port != 0 && port != table.or_port.get_ref()
        })?;
    }
    Ok(())
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
        assert!(config.exit.rules.rules().is_empty() && config.workers > 0);
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
    fn all_that_is_wrong_is_told_at_once() {
        let text = RELAY
            .replace("relay1", "relay one")
            .replace("= 5000", "= 0")
            .replace("testing = true", "testing = false");
        let text = format!("{text}exit_policy = [\n\"accept *:80\",\n\"allow\"]\n");
        let error = file(&text).and_then(NodeFile::into_relay).unwrap_err();
        let mut lines: Vec<String> = error.each().map(ToString::to_string).collect();
        lines.sort();
        let places = ["line 1", "line 2", "line 3", "line 9"];
        assert_eq!(lines.len(), places.len(), "{lines:#?}");
        for (line, place) in lines.iter().zip(places) {
            assert!(line.contains(place), "{line}");
        }
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
