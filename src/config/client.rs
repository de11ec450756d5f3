//! The file of a client, and its checks. All its keys have defaults but `network`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cepa_client::address_map::{AddressMap, MAPPINGS_MAX, MappedBy};
use cepa_client::automap::AutomapRules;
use cepa_client::by_hand::Manners;
use cepa_client::virtual_nets::VirtualNets;
use cepa_client::{Overrides, PaddingLevel, Rules, VanguardMode};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::bridges::{bridges, plugins};
use super::control::ControlTable;
use super::memory::{machine_memory, max_memory};
use super::onion::OnionServiceTable;
use super::overrides::{
    CircuitsTable, DormancyTable, FetchesTable, GuardsTable, PathBiasTable, ReachTable, WishTables,
    is_silent,
};
use super::paths::{GeoIpFiles, PathsTable};
use super::source::{LogTable, Source};
use super::{Caution, ClientConfig, Listener, LogConfig, MetricsPort, NetworkSource, UnixListener};
use crate::config::written::Written;
use crate::error::{Failure, fail};
use crate::proxy::Proxy;

/// Where a client listens for SOCKS unless it is told otherwise.
pub const SOCKS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9050);

/// The bounds of MaxCircuitDirtiness, as `tor` has them, in seconds.
const DIRTINESS_SECS: [u32; 2] = [10, 30 * 24 * 60 * 60];

/// The file's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTable {
    /// Where to listen for SOCKS: an address with a port, or `unix:` and a path; flags behind it.
    /// Without it, at 127.0.0.1:9050, unless there are onion services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socks: Option<Vec<Spanned<String>>>,
    /// The ports for HTTP CONNECT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_connect: Vec<Spanned<String>>,
    /// The ports that answer DNS questions, over UDP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Spanned<String>>,
    /// The ports to which the firewall leads connections by REDIRECT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect: Vec<Spanned<String>>,
    /// The ports to which the firewall leads connections by TPROXY.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tproxy: Vec<Spanned<String>>,
    /// Whether onion names get addresses that stand for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automap: bool,
    /// Ends of the names that do; a lone point: all names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automap_suffixes: Option<Vec<String>>,
    /// The network of these addresses: `127.192.0.0/10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_ipv4: Option<Spanned<String>>,
    /// The same of IPv6: `[FE80::]/10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_ipv6: Option<Spanned<String>>,
    /// SocksPolicy: who may use the ports, as lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub socks_policy: Vec<Spanned<String>>,
    /// A folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<PathBuf>,
    /// The network itself, in place of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_network: Option<toml::Table>,
    /// Whether no two relays of one /16 share a path; off only for test networks in one subnet.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub distinct_subnets: bool,
    /// SafeSocks: whether who asks a SOCKS port for an address, not a name, is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safe_socks: bool,
    /// TestSocks: whether each request is told in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test_socks: bool,
    /// WarnPlaintextPorts: ports of which the log warns once.
    #[serde(default = "plaintext", skip_serializing_if = "is_plaintext")]
    pub warn_plaintext_ports: Vec<u16>,
    /// RejectPlaintextPorts: ports to which nobody is connected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reject_plaintext_ports: Vec<u16>,
    /// The log: how much of it, and where it goes.
    #[serde(default)]
    pub log: LogTable,
    /// The rules on paths.
    #[serde(default, skip_serializing_if = "PathsTable::is_empty")]
    pub paths: PathsTable,
    /// A folder of `*.auth_private` files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onion_auth_dir: Option<PathBuf>,
    /// How channels are padded: `full`, `reduced` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_padding: Option<Spanned<String>>,
    /// Vanguards of circuits for onion services: `full`, `lite` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vanguards: Option<Spanned<String>>,
    /// Whether circuits to onion services are padded: `full`, `reduced` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_padding: Option<Spanned<String>>,
    /// Whether SOCKS replies tell why an onion service failed.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub onion_errors: bool,
    /// The address that links to relays come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_bind_address: Option<IpAddr>,
    /// The proxy through which links to relays go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_proxy: Option<Spanned<String>>,
    /// Bridges: the only relays that are connected to, if there are any; lines of `tor`'s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<Spanned<String>>,
    /// Who speaks transports: lines of ClientTransportPlugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transport_plugins: Vec<Spanned<String>>,
    /// Bytes of memory that may be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Spanned<u64>>,
    /// ClientRejectInternalAddresses: on, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_reject_internal_addresses: Option<bool>,
    /// ClientDNSRejectInternalAddresses: on, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_dns_reject_internal_addresses: Option<bool>,
    /// MaxCircuitDirtiness, in seconds: 600 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_circuit_dirtiness: Option<u32>,
    /// The port at which metrics are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Spanned<SocketAddr>>,
    /// Who may read them: lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_policy: Vec<Spanned<String>>,
    /// Whether the network is left alone (`DisableNetwork`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_network: bool,
    /// Whether new streams wait for a controller (`__LeaveStreamsUnattached`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams_unattached: bool,
    /// Whether circuits are built ahead (`__DisablePredictedCircuits 0`).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub circuits_ahead: bool,
    /// Addresses that stand for others: each as `FROM TO`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map_address: Vec<Spanned<String>>,
    /// How many guards there are, and for how long.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub guards: GuardsTable,
    /// When a guard is said to fail circuits.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub path_bias: PathBiasTable,
    /// How long circuits and streams may take.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub circuits: CircuitsTable,
    /// What is fetched and published.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub fetches: FetchesTable,
    /// When the client comes to rest.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub dormancy: DormancyTable,
    /// Which addresses may be connected to.
    #[serde(default, skip_serializing_if = "is_silent")]
    pub reach: ReachTable,
    /// The control port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlTable>,
    /// The onion services that it hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onion_service: Vec<OnionServiceTable>,
}

impl ClientTable {
    /// A client of `network` with defaults for all else.
    pub fn new(network: PathBuf) -> Self {
        ClientTable {
            socks: None,
            http_connect: Vec::new(),
            dns: Vec::new(),
            redirect: Vec::new(),
            tproxy: Vec::new(),
            automap: false,
            automap_suffixes: None,
            virtual_ipv4: None,
            virtual_ipv6: None,
            socks_policy: Vec::new(),
            data_dir: None,
            network: Some(network),
            inline_network: None,
            distinct_subnets: true,
            safe_socks: false,
            test_socks: false,
            warn_plaintext_ports: plaintext(),
            reject_plaintext_ports: Vec::new(),
            log: LogTable::default(),
            paths: PathsTable::default(),
            onion_auth_dir: None,
            channel_padding: None,
            vanguards: None,
            circuit_padding: None,
            onion_errors: true,
            outbound_bind_address: None,
            outbound_proxy: None,
            bridges: Vec::new(),
            transport_plugins: Vec::new(),
            max_memory: None,
            client_reject_internal_addresses: None,
            client_dns_reject_internal_addresses: None,
            max_circuit_dirtiness: None,
            metrics: None,
            metrics_policy: Vec::new(),
            disable_network: false,
            streams_unattached: false,
            circuits_ahead: true,
            map_address: Vec::new(),
            guards: GuardsTable::default(),
            path_bias: PathBiasTable::default(),
            circuits: CircuitsTable::default(),
            fetches: FetchesTable::default(),
            dormancy: DormancyTable::default(),
            reach: ReachTable::default(),
            control: None,
            onion_service: Vec::new(),
        }
    }

    /// What applications are kept from.
    fn caution(&self, source: &Source) -> Result<Caution, Failure> {
        Ok(Caution {
            safe_socks: self.safe_socks,
            warned_ports: self.warn_plaintext_ports.clone(),
            rejected_ports: self.reject_plaintext_ports.clone(),
            test_socks: self.test_socks,
            policy: super::access::policy(source, &self.socks_policy)?,
        })
    }

    /// Which names get addresses, and of which networks.
    fn automap_rules(&self, source: &Source) -> Result<AutomapRules, Failure> {
        let networks = [self.virtual_ipv4.as_ref(), self.virtual_ipv6.as_ref()];
        super::access::automap(source, self.automap_suffixes.as_deref(), networks)
    }

    /// What is wanted otherwise than the network has it.
    fn overrides(&self, source: &Source) -> Result<Overrides, Failure> {
        let tables = WishTables {
            guards: &self.guards,
            path_bias: &self.path_bias,
            circuits: &self.circuits,
            fetches: &self.fetches,
            dormancy: &self.dormancy,
        };
        tables.checked(source)
    }
}

/// Reads the file.
pub fn load(path: &Path) -> Result<ClientConfig, Failure> {
    read(&Source::open(path)?)
}

/// Reads a configuration that is at hand.
pub fn read(source: &Source) -> Result<ClientConfig, Failure> {
    let (table, unread) = source.parse_rest()?;
    Failure::or_worse(unread, checked(source, table))
}

/// Tells all that is wrong at once.
fn check(source: &Source, table: &ClientTable) -> Result<(), Failure> {
    let services = table.onion_service.iter().cloned();
    let memory = table.max_memory.as_ref();
    let metrics = table.metrics.as_ref();
    let control = table.control.clone();
    let control = control.map(|control| control.checked(source, Path::new("")));
    Failure::none_of([
        both(source, table.socks.as_deref().unwrap_or_default(), "socks").err(),
        both(source, &table.http_connect, "http_connect").err(),
        addrs(source, &table.dns, "dns").err(),
        addrs(source, &table.redirect, "redirect").err(),
        addrs(source, &table.tproxy, "tproxy").err(),
        table.paths.clone().checked(source).err(),
        Failure::all(services.map(|service| service.checked(source))).err(),
        padding(source, table.channel_padding.as_ref(), "channel_padding").err(),
        vanguards(source, table.vanguards.as_ref()).err(),
        padding(source, table.circuit_padding.as_ref(), "circuit_padding").err(),
        proxy(source, table.outbound_proxy.as_ref()).err(),
        bridges(source, &table.bridges, &table.transport_plugins).err(),
        max_memory(source, memory).err(),
        control.and_then(Result::err),
        mappings(source, &table.map_address).err(),
        table.automap_rules(source).err(),
        super::access::policy(source, &table.socks_policy).err(),
        table.overrides(source).err(),
        table.reach.checked(source).err(),
        NetworkSource::checked(
            source,
            table.network.as_deref(),
            table.inline_network.as_ref(),
        )
        .err(),
        MetricsPort::checked(source, metrics, &table.metrics_policy).err(),
    ])
}

fn checked(source: &Source, table: ClientTable) -> Result<ClientConfig, Failure> {
    check(source, &table)?;
    let (overrides, automap) = (table.overrides(source)?, table.automap_rules(source)?);
    let caution = table.caution(source)?;
    let is_said = table.socks.is_some();
    let socks = table.socks.unwrap_or_default();
    let (socks, socks_unix) = both(source, &socks, "socks")?;
    let (http_connect, http_connect_unix) = both(source, &table.http_connect, "http_connect")?;
    let (mut rules, geoip) = table.paths.checked(source)?;
    rules.reach = table.reach.checked(source)?;
    let services = table.onion_service.into_iter();
    let services = services.map(|service| service.checked(source));
    let onion_services = services.collect::<Result<Vec<_>, Failure>>()?;
    let data_dir = match table.data_dir {
        Some(data_dir) => source.resolve(&data_dir),
        None => default_data_dir()?,
    };
    let inline = table.inline_network.as_ref();
    let network = NetworkSource::checked(source, table.network.as_deref(), inline)?;
    let control = table.control;
    let control = control.map(|control| control.checked(source, &data_dir));
    Ok(ClientConfig {
        socks: match is_said {
            // A file that only hosts opens no port.
            false if onion_services.is_empty() => vec![SOCKS_DEFAULT.into()],
            _ => socks,
        },
        http_connect,
        socks_unix,
        http_connect_unix,
        dns: addrs(source, &table.dns, "dns")?,
        redirect: addrs(source, &table.redirect, "redirect")?,
        tproxy: addrs(source, &table.tproxy, "tproxy")?,
        virtual_nets: automap.nets,
        automap: table.automap.then_some(automap),
        data_dir,
        network,
        rules,
        geoip,
        distinct_subnets: table.distinct_subnets,
        caution,
        onion_services,
        onion_auth_dir: table.onion_auth_dir.map(|dir| source.resolve(&dir)),
        padding: padding(source, table.channel_padding.as_ref(), "channel_padding")?,
        vanguards: vanguards(source, table.vanguards.as_ref())?,
        circuit_padding: padding(source, table.circuit_padding.as_ref(), "circuit_padding")?,
        onion_errors: table.onion_errors,
        outbound_bind_address: table.outbound_bind_address,
        outbound_proxy: proxy(source, table.outbound_proxy.as_ref())?,
        bridges: bridges(source, &table.bridges, &table.transport_plugins)?,
        transport_plugins: plugins(source, &table.transport_plugins)?,
        max_memory: max_memory(source, table.max_memory.as_ref())?,
        reject_internal: table.client_reject_internal_addresses,
        dns_reject_internal: table.client_dns_reject_internal_addresses,
        circuit_dirtiness_max: (table.max_circuit_dirtiness)
            .map(|secs| secs.clamp(DIRTINESS_SECS[0], DIRTINESS_SECS[1]))
            .map(|secs| Duration::from_secs(secs.into())),
        metrics: MetricsPort::checked(source, table.metrics.as_ref(), &table.metrics_policy)?,
        control: control.transpose()?,
        is_off: table.disable_network,
        manners: Manners {
            leaves_streams: table.streams_unattached,
            builds_nothing_ahead: !table.circuits_ahead,
        },
        overrides,
        mappings: mappings(source, &table.map_address)?,
        log: table.log.checked(source),
        written: source.written(),
    })
}

/// A client of `network` with defaults for all else.
pub fn defaults(network: PathBuf) -> Result<ClientConfig, Failure> {
    Ok(ClientConfig {
        socks: vec![SOCKS_DEFAULT.into()],
        http_connect: Vec::new(),
        socks_unix: Vec::new(),
        http_connect_unix: Vec::new(),
        dns: Vec::new(),
        redirect: Vec::new(),
        tproxy: Vec::new(),
        automap: None,
        virtual_nets: VirtualNets::default(),
        data_dir: default_data_dir()?,
        network: network.into(),
        rules: Rules::default(),
        geoip: GeoIpFiles::default(),
        distinct_subnets: true,
        caution: Caution {
            warned_ports: plaintext(),
            ..Caution::default()
        },
        onion_services: Vec::new(),
        onion_auth_dir: None,
        padding: PaddingLevel::Full,
        vanguards: None,
        circuit_padding: PaddingLevel::Full,
        onion_errors: true,
        outbound_bind_address: None,
        outbound_proxy: None,
        bridges: Vec::new(),
        transport_plugins: Vec::new(),
        max_memory: machine_memory(),
        reject_internal: None,
        dns_reject_internal: None,
        circuit_dirtiness_max: None,
        metrics: None,
        control: None,
        is_off: false,
        manners: Manners::default(),
        overrides: Overrides::default(),
        mappings: Vec::new(),
        log: LogConfig::default(),
        written: Written::default(),
    })
}

/// Addresses to listen on.
fn addrs(source: &Source, list: &[Spanned<String>], key: &str) -> Result<Vec<Listener>, Failure> {
    Failure::all(list.iter().map(|text| {
        let listener = Listener::parse(text.get_ref());
        listener.ok_or_else(|| source.wrong(text, key, Listener::EXPECTED))
    }))
}

/// Addresses and unix sockets to listen on.
fn both(
    source: &Source,
    list: &[Spanned<String>],
    key: &str,
) -> Result<(Vec<Listener>, Vec<UnixListener>), Failure> {
    let is_unix = |text: &Spanned<String>| UnixListener::is_meant(text.get_ref());
    let (unix, tcp): (Vec<_>, Vec<_>) = list.iter().cloned().partition(is_unix);
    let unix = Failure::all(unix.iter().map(|text| {
        let listener = UnixListener::parse(text.get_ref(), |path| source.resolve(path));
        listener.ok_or_else(|| source.wrong(text, key, UnixListener::EXPECTED))
    }));
    match (addrs(source, &tcp, key), unix) {
        (Ok(tcp), Ok(unix)) => Ok((tcp, unix)),
        (Err(a), Err(b)) => Err(a.with(b)),
        (Err(wrong), _) | (_, Err(wrong)) => Err(wrong),
    }
}

/// Addresses that stand for others.
fn mappings(source: &Source, list: &[Spanned<String>]) -> Result<Vec<(String, String)>, Failure> {
    if list.len() > MAPPINGS_MAX {
        let expected = format!("expected at most {MAPPINGS_MAX}");
        return fail("too many mappings", "map_address", expected);
    }
    Failure::all(list.iter().map(|text| {
        let mut words = text.get_ref().split_whitespace();
        let pair = words
            .next()
            .zip(words.next())
            .filter(|_| words.next().is_none());
        let pair = pair.filter(|(from, to)| {
            let mut map = AddressMap::default();
            map.set(from, to, MappedBy::Config).is_ok()
        });
        let pair = pair.map(|(from, to)| (from.to_owned(), to.to_owned()));
        pair.ok_or_else(|| source.wrong(text, "map_address", "two addresses, as FROM TO"))
    }))
}

fn padding(
    source: &Source,
    word: Option<&Spanned<String>>,
    key: &str,
) -> Result<PaddingLevel, Failure> {
    let padding: Option<_> = level(source, word, key, "full, reduced or off")?;
    Ok(padding.unwrap_or_default())
}

fn proxy(source: &Source, text: Option<&Spanned<String>>) -> Result<Option<Proxy>, Failure> {
    level(source, text, "outbound_proxy", Proxy::EXPECTED)
}

fn vanguards(
    source: &Source,
    word: Option<&Spanned<String>>,
) -> Result<Option<VanguardMode>, Failure> {
    level(source, word, "vanguards", "full, lite or off")
}

/// The level that a word stands for, if there is a word.
fn level<T: FromStr>(
    source: &Source,
    word: Option<&Spanned<String>>,
    key: &str,
    words: &str,
) -> Result<Option<T>, Failure> {
    let level = word.map(|word| {
        let level = word.get_ref().parse();
        level.map_err(|_| source.wrong(word, key, words))
    });
    level.transpose()
}

/// Ports whose protocols are seldom encrypted: telnet, POP 2 and 3, IMAP, as `tor` has them.
fn plaintext() -> Vec<u16> {
    vec![23, 109, 110, 143]
}

fn is_plaintext(ports: &Vec<u16>) -> bool {
    *ports == plaintext()
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// Where a client keeps its state: `$XDG_DATA_HOME/cepa`, or `~/.local/share/cepa`.
pub fn default_data_dir() -> Result<PathBuf, Failure> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Ok(data.join("cepa")),
        (None, Some(home)) => Ok(home.join(".local/share/cepa")),
        (None, None) => fail(
            "no folder for the client's state",
            "data_dir",
            "give --data-dir DIR",
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A client whose file says this besides what it has to.
    pub(in crate::config) fn read(more: &str) -> Result<ClientConfig, String> {
        let read = read_text(&format!("network = \"n\"\ndata_dir = \"d\"\n{more}"));
        read.map_err(|error| error.to_string())
    }

    fn read_text(text: &str) -> Result<ClientConfig, Failure> {
        super::read(&Source::from_text(Path::new("client.toml"), text))
    }

    #[test]
    fn reads_a_client() {
        let text = "network = \"n.toml\"\ndata_dir = \"d\"\nvanguards = \"full\"\n\
            [paths]\nexit = [\"exit1\"]\n";
        let config = read_text(text).unwrap();
        assert_eq!(config.socks, [SOCKS_DEFAULT.into()]);
        assert_eq!(config.rules.exit.0, ["exit1".parse().unwrap()]);
        assert_eq!(config.vanguards, Some(cepa_client::VanguardMode::Full));
    }

    #[test]
    fn reads_onion_services() {
        let text = "network = \"n.toml\"\ndata_dir = \"d\"\n[[onion_service]]\n\
            dir = \"hs\"\nports = [\"80=8080\", \"22=unix:s\"]\n\
            introductions = { rate = 5, burst = 9 }\n";
        let config = read_text(text).unwrap();
        assert_eq!(config.socks, []);
        let [service] = &config.onion_services[..] else {
            panic!("{config:?}");
        };
        assert_eq!(service.ports[0].to_string(), "80=127.0.0.1:8080");
        let wrong = |line: &str| {
            read_text(&format!("{text}{line}\n"))
                .unwrap_err()
                .to_string()
        };
        assert!(wrong("intro_points = 2").contains("line 7"));
        let error = read_text(&text.replace("80=8080", "80=nowhere")).unwrap_err();
        assert!(error.to_string().contains("line 5"), "{error}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "network = \"n\"\nsocks = [\n\"127.0.0.1\",\n\"unix:\"]\n\
            vanguards = \"all\"\n[paths]\nentry = [\"a b\"]\n\
            exit = [\"$0\"]\n[[onion_service]]\ndir = \"d\"\nports = [\"80=nowhere\"]\n\
            intro_points = 21\n";
        let error = read_text(text).unwrap_err();
        let mut lines: Vec<String> = error.each().map(ToString::to_string).collect();
        lines.sort();
        let places = [
            "line 11", "line 12", "line 3", "line 4", "line 5", "line 7", "line 8",
        ];
        assert_eq!(lines.len(), places.len(), "{lines:#?}");
        for (line, place) in lines.iter().zip(places) {
            assert!(line.contains(place), "{line}");
        }
    }

    #[test]
    fn ports_may_be_unix_sockets() {
        let text = "network = \"n\"\ndata_dir = \"d\"\n\
            socks = [\"unix:socks GroupWritable\", \"127.0.0.1:9\"]\n\
            http_connect = [\"unix:/run/http\"]\n";
        let config = read_text(text).unwrap();
        assert_eq!(config.socks.len(), 1);
        assert_eq!(config.socks_unix[0].mode, 0o660);
        assert_eq!(config.http_connect_unix[0].path, Path::new("/run/http"));
        let only = text.replace(", \"127.0.0.1:9\"", "");
        assert_eq!(read_text(&only).unwrap().socks, []);
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = read_text("network = \"n\"\nsocks = [\n\"127.0.0.1\"]\n").unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        for line in [
            "channel_padding = \"much\"",
            "circuit_padding = \"much\"",
            "vanguards = \"all\"",
        ] {
            let error = read_text(&format!("network = \"n\"\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
        let error = read_text("network = \"n\"\n[paths]\nentry = [\"a b\"]\n").unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        assert!(read_text("").unwrap_err().to_string().contains("network"));
    }
}
