//! The file of a client, and its checks. All its keys have defaults but `network`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cepa_client::{PaddingLevel, Rules};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::memory::{machine_memory, max_memory};
use super::onion::OnionServiceTable;
use super::paths::{GeoIpFiles, PathsTable};
use super::source::{LogTable, Source};
use super::{ClientConfig, Listener, LogConfig, MetricsPort};
use crate::error::{Failure, fail};
use crate::reload::Written;

/// Where a client listens for SOCKS unless it is told otherwise.
pub const SOCKS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9050);

/// The file's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTable {
    /// Where to listen for SOCKS: an address with a port, and flags of isolation behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub socks: Vec<Spanned<String>>,
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
    /// A folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// A file.
    pub network: PathBuf,
    /// Whether no two relays of one /16 share a path; off only for test networks in one subnet.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub distinct_subnets: bool,
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
    /// Bytes of memory that may be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Spanned<u64>>,
    /// ClientRejectInternalAddresses: on, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_reject_internal_addresses: Option<bool>,
    /// ClientDNSRejectInternalAddresses: on, but in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_dns_reject_internal_addresses: Option<bool>,
    /// The port at which metrics are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Spanned<SocketAddr>>,
    /// Who may read them: lines of accept and reject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_policy: Vec<Spanned<String>>,
    /// The onion services that it hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onion_service: Vec<OnionServiceTable>,
}

impl ClientTable {
    /// A client of `network` with defaults for all else.
    pub fn new(network: PathBuf) -> Self {
        ClientTable {
            socks: Vec::new(),
            http_connect: Vec::new(),
            dns: Vec::new(),
            redirect: Vec::new(),
            tproxy: Vec::new(),
            automap: false,
            data_dir: None,
            network,
            distinct_subnets: true,
            log: LogTable::default(),
            paths: PathsTable::default(),
            onion_auth_dir: None,
            channel_padding: None,
            vanguards: None,
            circuit_padding: None,
            onion_errors: true,
            max_memory: None,
            client_reject_internal_addresses: None,
            client_dns_reject_internal_addresses: None,
            metrics: None,
            metrics_policy: Vec::new(),
            onion_service: Vec::new(),
        }
    }
}

/// Reads the file.
pub fn load(path: &Path) -> Result<ClientConfig, Failure> {
    read(&Source::open(path)?)
}

fn read(source: &Source) -> Result<ClientConfig, Failure> {
    let table: ClientTable = source.parse()?;
    let addrs = |list: &[Spanned<String>], key: &str| {
        let read = |text: &Spanned<String>| {
            let listener = Listener::parse(text.get_ref());
            listener.ok_or_else(|| source.wrong(text, key, Listener::EXPECTED))
        };
        list.iter().map(read).collect::<Result<Vec<_>, Failure>>()
    };
    let socks = addrs(&table.socks, "socks")?;
    let (rules, geoip) = table.paths.checked(source)?;
    let services = table.onion_service.into_iter();
    let services = services.map(|service| service.checked(source));
    let onion_services = services.collect::<Result<Vec<_>, Failure>>()?;
    let data_dir = match table.data_dir {
        Some(data_dir) => source.resolve(&data_dir),
        None => default_data_dir()?,
    };
    let padding = |key, word| -> Result<PaddingLevel, Failure> {
        let padding: Option<_> = level(source, word, key, "full, reduced or off")?;
        Ok(padding.unwrap_or_default())
    };
    Ok(ClientConfig {
        socks: match socks.is_empty() {
            // A file that only hosts opens no port.
            true if onion_services.is_empty() => vec![SOCKS_DEFAULT.into()],
            _ => socks,
        },
        http_connect: addrs(&table.http_connect, "http_connect")?,
        dns: addrs(&table.dns, "dns")?,
        redirect: addrs(&table.redirect, "redirect")?,
        tproxy: addrs(&table.tproxy, "tproxy")?,
        automap: table.automap,
        data_dir,
        network: source.resolve(&table.network),
        rules,
        geoip,
        distinct_subnets: table.distinct_subnets,
        onion_services,
        onion_auth_dir: table.onion_auth_dir.map(|dir| source.resolve(&dir)),
        padding: padding("channel_padding", table.channel_padding.as_ref())?,
        vanguards: level(
            source,
            table.vanguards.as_ref(),
            "vanguards",
            "full, lite or off",
        )?,
        circuit_padding: padding("circuit_padding", table.circuit_padding.as_ref())?,
        onion_errors: table.onion_errors,
        max_memory: max_memory(source, table.max_memory.as_ref())?,
        reject_internal: table.client_reject_internal_addresses,
        dns_reject_internal: table.client_dns_reject_internal_addresses,
        metrics: MetricsPort::checked(source, table.metrics.as_ref(), &table.metrics_policy)?,
        log: table.log.checked(source),
        written: source.written(),
    })
}

/// A client of `network` with defaults for all else.
pub fn defaults(network: PathBuf) -> Result<ClientConfig, Failure> {
    Ok(ClientConfig {
        socks: vec![SOCKS_DEFAULT.into()],
        http_connect: Vec::new(),
        dns: Vec::new(),
        redirect: Vec::new(),
        tproxy: Vec::new(),
        automap: false,
        data_dir: default_data_dir()?,
        network,
        rules: Rules::default(),
        geoip: GeoIpFiles::default(),
        distinct_subnets: true,
        onion_services: Vec::new(),
        onion_auth_dir: None,
        padding: PaddingLevel::Full,
        vanguards: None,
        circuit_padding: PaddingLevel::Full,
        onion_errors: true,
        max_memory: machine_memory(),
        reject_internal: None,
        dns_reject_internal: None,
        metrics: None,
        log: LogConfig::default(),
        written: Written::default(),
    })
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
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<ClientConfig, Failure> {
        read(&Source::from_text(Path::new("client.toml"), text))
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
