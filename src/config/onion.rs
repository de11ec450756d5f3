//! Onion services of a client's file: the tables `[[onion_service]]`, and `PORT=TARGET`.
//!
//! A virtual port leads to a TCP address or a unix socket: `80=127.0.0.1:8080`, `80=8080` (that
//! port of loopback), `80` (loopback's port 80), `22=unix:/run/sshd.sock`, `80=[::1]:8080`; or to a
//! host by its name, which is looked up at each connection: `80=localhost:8080`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use cepa_crypto::onion::OnionAddress;
use cepa_wire::host;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;
use crate::keyfiles;

/// Introduction points unless the file says otherwise, and the range (rend-spec-v3 2.5.2).
pub const INTRO_POINTS_DEFAULT: u8 = 3;
const INTRO_POINTS_MAX: u8 = 20;
/// Ports of one service.
const PORTS_MAX: usize = 1024;

/// An onion service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnionServiceConfig {
    /// Its folder: `hostname`, keys, `authorized_clients/`.
    pub dir: PathBuf,
    /// Where its virtual ports lead.
    pub ports: Vec<PortTarget>,
    /// Introduction points, 3 to 20.
    pub intro_points: u8,
    /// Streams of one visitor at once (`HiddenServiceMaxStreams`); no limit without.
    pub streams_max: Option<u32>,
    /// Introductions that an introduction point lets through: a second, and at once.
    pub introductions: Option<IntroductionLimit>,
    /// Whether a visitor with more streams loses his circuit
    /// (`HiddenServiceMaxStreamsCloseCircuit`).
    pub closes_on_excess: bool,
    /// Whether who asks for other ports keeps it (`HiddenServiceAllowUnknownPorts`).
    pub allows_unknown_ports: bool,
    /// Whether its folder may be read by its group (`HiddenServiceDirGroupReadable`).
    pub is_group_readable: bool,
    /// Whether its programs are told which circuit a connection is of, by a header of the PROXY
    /// protocol (`HiddenServiceExportCircuitID haproxy`).
    pub tells_circuits: bool,
    /// The addresses that it answers for beside its own, from `ob_config` in its folder
    /// (`HiddenServiceOnionBalanceInstance`).
    pub masters: Vec<OnionAddress>,
}

impl OnionServiceConfig {
    /// A service with defaults for all but the folder and its ports.
    pub fn new(dir: PathBuf, ports: Vec<PortTarget>) -> Self {
        OnionServiceConfig {
            dir,
            ports,
            intro_points: INTRO_POINTS_DEFAULT,
            streams_max: None,
            introductions: None,
            closes_on_excess: false,
            allows_unknown_ports: false,
            is_group_readable: false,
            tells_circuits: false,
            masters: Vec::new(),
        }
    }
}

/// What introduction points are asked to hold back (the DoS extension, rend-spec-v3 3.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntroductionLimit {
    /// Introductions a second, in the long run.
    pub rate: u32,
    /// Introductions at once; at least `rate`.
    pub burst: u32,
}

/// A virtual port and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTarget {
    /// The port that visitors name.
    pub port: u16,
    /// The program that answers at the port.
    pub target: Target,
}

/// The address or socket at which a service's program listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a TCP port of a host that is looked up each time.
    Host(String, u16),
    /// On a unix socket.
    Unix(PathBuf),
}

/// `PORT=TARGET` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected PORT, PORT=PORT, PORT=HOST:PORT or PORT=unix:PATH")]
pub struct WrongPort;

impl FromStr for PortTarget {
    type Err = WrongPort;

    fn from_str(text: &str) -> Result<Self, WrongPort> {
        let number = |text: &str| {
            let port = text.parse::<u16>().ok();
            port.filter(|port| *port != 0).ok_or(WrongPort)
        };
        let loopback = |port| Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (port, target) = match text.split_once('=') {
            None => (text, None),
            Some((port, target)) => (port, Some(target)),
        };
        let port = number(port)?;
        let target = match target {
            None => loopback(port),
            Some(target) => match (target.strip_prefix("unix:"), target.parse::<SocketAddr>()) {
                (Some(path), _) if !path.is_empty() => Target::Unix(path.into()),
                (None, Ok(addr)) if addr.port() != 0 => Target::Tcp(addr),
                (None, Err(_)) => match target.rsplit_once(':') {
                    None => loopback(number(target)?),
                    Some((host, port)) if is_host(host) => Target::Host(host.into(), number(port)?),
                    Some(_) => return Err(WrongPort),
                },
                _ => return Err(WrongPort),
            },
        };
        Ok(PortTarget { port, target })
    }
}

/// Whether this names a host: no address, which would have been read as one, nor a part of one.
fn is_host(text: &str) -> bool {
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    has_letter && !text.contains(':') && host::is_name(text)
}

impl fmt::Display for PortTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tcp(addr) => write!(f, "{}={addr}", self.port),
            Target::Host(host, port) => write!(f, "{}={host}:{port}", self.port),
            Target::Unix(path) => write!(f, "{}=unix:{}", self.port, path.display()),
        }
    }
}

/// The table `[[onion_service]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnionServiceTable {
    /// A folder.
    pub dir: PathBuf,
    /// `PORT=TARGET`, one at least.
    pub ports: Vec<Spanned<String>>,
    /// The number of introduction points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intro_points: Option<Spanned<u8>>,
    /// Streams of one visitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u32>,
    /// What introduction points hold back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introductions: Option<Spanned<IntroductionLimit>>,
    /// Whether a visitor with more streams loses his circuit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams_max_close_circuit: bool,
    /// Whether a visitor may ask for other ports as often as he likes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unknown_ports: bool,
    /// Whether the group may read the folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dir_group_readable: bool,
    /// How programs are told circuits: `haproxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_circuit_id: Option<Spanned<String>>,
    /// Whether it answers for the addresses of `ob_config`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onionbalance_instance: bool,
}

impl OnionServiceTable {
    /// A service with defaults for all but the folder and its ports.
    pub fn new(dir: PathBuf, ports: Vec<Spanned<String>>) -> Self {
        OnionServiceTable {
            dir,
            ports,
            intro_points: None,
            streams_max: None,
            introductions: None,
            streams_max_close_circuit: false,
            allow_unknown_ports: false,
            dir_group_readable: false,
            export_circuit_id: None,
            onionbalance_instance: false,
        }
    }

    /// The checked service.
    pub fn checked(self, source: &Source) -> Result<OnionServiceConfig, Failure> {
        let ports = self.ports.iter().map(|text| {
            let parsed = text.get_ref().parse::<PortTarget>();
            parsed.map_err(|error| {
                let expected = error.to_string();
                let expected = expected.strip_prefix("expected ").unwrap_or(&expected);
                source.wrong(text, "ports", expected)
            })
        });
        let ports = Failure::all(ports);
        let points = self.intro_points.as_ref().map(|points| {
            source.expect(points, "intro_points", "a number from 3 to 20", |points| {
                (INTRO_POINTS_DEFAULT..=INTRO_POINTS_MAX).contains(points)
            })
        });
        let limit = self.introductions.as_ref().map(|limit| {
            let expected = "a rate of at least 1, and a burst that is no less";
            source.expect(limit, "introductions", expected, |limit| {
                limit.rate > 0 && limit.burst >= limit.rate && i32::try_from(limit.burst).is_ok()
            })
        });
        let export = self.export_circuit_id.as_ref().map(|word| {
            source.expect(word, "export_circuit_id", "haproxy", |word| {
                word == "haproxy"
            })
        });
        Failure::none_of([
            export.and_then(Result::err),
            ports.as_ref().err().cloned(),
            points.and_then(Result::err),
            limit.and_then(Result::err),
        ])?;
        let mut ports = ports?;
        for port in &mut ports {
            if let Target::Unix(path) = &mut port.target {
                *path = source.resolve(path);
            }
        }
        if ports.is_empty() {
            return Err(source.lacks("ports of an onion service", "\"80=127.0.0.1:8080\""));
        }
        if let Some(more) = self.ports.get(PORTS_MAX) {
            return Err(source.wrong(more, "ports", &format!("at most {PORTS_MAX} of a service")));
        }
        let points = self.intro_points.map(Spanned::into_inner);
        let dir = source.resolve(&self.dir);
        let masters = match self.onionbalance_instance {
            true => keyfiles::onion::masters(&dir)?,
            false => Vec::new(),
        };
        Ok(OnionServiceConfig {
            dir,
            ports,
            intro_points: points.unwrap_or(INTRO_POINTS_DEFAULT),
            streams_max: self.streams_max,
            introductions: self.introductions.map(Spanned::into_inner),
            closes_on_excess: self.streams_max_close_circuit,
            allows_unknown_ports: self.allow_unknown_ports,
            is_group_readable: self.dir_group_readable,
            tells_circuits: self.export_circuit_id.is_some(),
            masters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let shown = |text: &str| text.parse::<PortTarget>().map(|port| port.to_string());
        for (text, is) in [
            ("80", "80=127.0.0.1:80"),
            ("80=8080", "80=127.0.0.1:8080"),
            ("80=10.1.2.3:8080", "80=10.1.2.3:8080"),
            ("80=[::1]:8080", "80=[::1]:8080"),
            ("80=localhost:8080", "80=localhost:8080"),
            ("80=web-1.example.net:80", "80=web-1.example.net:80"),
            ("22=unix:/run/ssh.sock", "22=unix:/run/ssh.sock"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(is));
        }
        for text in [
            "",
            "0",
            "80=",
            "80=0",
            "80=1.2.3.4",
            "80=a:0",
            "80=a:b",
            "80=:1",
            "80=a b:1",
            "80=1.2.3:1",
            "80=::1:80",
            "80=unix:",
            "70000",
        ] {
            assert_eq!(shown(text), Err(WrongPort), "{text}");
        }
    }
}
