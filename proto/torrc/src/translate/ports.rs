//! Lines of ports: where, and flags behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Work;
use crate::settings::{Severity, Value};
use crate::toml::Document;

/// A TCP place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    /// The address; its port is 0 where it is to be a free one.
    pub(super) addr: SocketAddr,
    /// Whether the port is any free one.
    pub(super) is_auto: bool,
    /// Whether the address was written.
    pub(super) has_address: bool,
}

/// Whether a line says that there is no port.
pub(super) fn is_none(text: &str) -> bool {
    text.split_whitespace().next() == Some("0")
}

/// `PORT`, `ADDRESS:PORT`, `auto` or `ADDRESS:auto`.
pub(super) fn socket(text: &str) -> Option<Socket> {
    let (address, port) = match text.rsplit_once(':') {
        Some((address, port)) => (Some(address), port),
        None => (None, text),
    };
    let is_auto = port.eq_ignore_ascii_case("auto");
    let port = match is_auto {
        true => 0,
        false => port.parse::<u16>().ok().filter(|port| *port != 0)?,
    };
    let ip = match address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(name) if name.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Some(address) => ip(address)?,
    };
    Some(Socket {
        addr: SocketAddr::new(ip, port),
        is_auto,
        has_address: address.is_some(),
    })
}

/// An address, in brackets or not.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4()),
    }
}

/// The path of a unix socket, quoted or not, and what stands behind it.
pub(super) fn unix(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("unix:")?;
    let (path, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
    };
    (!path.is_empty()).then_some((path, rest))
}

/// What a flag of a port is here.
enum Flag {
    /// It is written as it is.
    Kept,
    /// It says how unix sockets may be used.
    Mode,
    /// SOCKS replies tell why an onion service failed.
    ExtendedErrors,
    /// It changes nothing here.
    Dropped,
    /// It would keep out what is let in here.
    Refused,
    Unknown,
}

/// Flags that change nothing here: no addresses are kept for programs, and all families are let
/// through.
const DROPPED: [&str; 11] = [
    "cacheipv4dns",
    "cacheipv6dns",
    "cachedns",
    "useipv4cache",
    "useipv6cache",
    "usednscache",
    "preferipv6",
    "preferipv6automap",
    "prefersocksnoauth",
    "relaxdirmodecheck",
    "noextendederrors",
];

const REFUSED: [&str; 6] = [
    "noipv4traffic",
    "noipv6traffic",
    "onlyoniontraffic",
    "oniontrafficonly",
    "nooniontraffic",
    "nodnsrequest",
];

fn flag(text: &str) -> Flag {
    let word = text.to_ascii_lowercase();
    let plain = word.strip_prefix("no").unwrap_or(&word);
    let is_kept = plain.starts_with("isolate") || plain == "keepaliveisolatesocksauth";
    match word.as_str() {
        "groupwritable" | "worldwritable" => Flag::Mode,
        "extendederrors" => Flag::ExtendedErrors,
        one if REFUSED.contains(&one) => Flag::Refused,
        "ipv4traffic" | "ipv6traffic" | "dnsrequest" | "oniontraffic" => Flag::Dropped,
        one if one.starts_with("sessiongroup=") || is_kept => Flag::Kept,
        one if DROPPED.contains(&one) || DROPPED.contains(&plain) => Flag::Dropped,
        _ => Flag::Unknown,
    }
}

/// What is wrong with a word that names no port. It begins as `tor`'s, which programs know.
pub(super) fn invalid(line: &Value, word: &str) -> String {
    let name = line.option.name;
    format!("Invalid {name} configuration, {word:?} is no PORT, ADDRESS:PORT, auto or unix:PATH")
}

impl<'a> Work<'a> {
    /// Lines of ports under a key; whether any tells why onion services failed, if any is there.
    pub(super) fn listeners(
        &mut self,
        document: &mut Document,
        key: &str,
        lines: &[&'a Value],
        may_be_unix: bool,
    ) -> bool {
        let mut texts = Vec::new();
        let mut tells_errors = false;
        for line in lines.iter().filter(|line| !is_none(&line.text)) {
            if let Some(text) = self.listener(line, may_be_unix, &mut tells_errors) {
                texts.push((text, *line));
            }
        }
        document.list(key, &texts);
        tells_errors
    }

    fn listener(&mut self, line: &Value, may_be_unix: bool, errors: &mut bool) -> Option<String> {
        let group_writable = self.settings.is_on("UnixSocksGroupWritable");
        let (mut text, flags, is_unix) = match unix(&line.text) {
            Some((path, flags)) if may_be_unix && !path.contains(char::is_whitespace) => {
                let mode = if group_writable { " GroupWritable" } else { "" };
                (format!("unix:{}{mode}", self.path(path)), flags, true)
            }
            Some(_) => {
                self.refuse(
                    line,
                    "a unix socket, with a path of one word, is for SOCKS and HTTP",
                );
                return None;
            }
            None => {
                let (place, flags) = (line.text)
                    .split_once(char::is_whitespace)
                    .unwrap_or((&line.text, ""));
                let Some(place) = socket(place) else {
                    self.refuse(line, invalid(line, place));
                    return None;
                };
                let text = match place.is_auto {
                    true => place.addr.to_string().replace(":0", ":auto"),
                    false => place.addr.to_string(),
                };
                (text, flags, false)
            }
        };
        for word in flags.split_whitespace() {
            match flag(word) {
                Flag::Kept => text.extend([" ", word]),
                Flag::Mode if is_unix => text.extend([" ", canonical_mode(word)]),
                Flag::ExtendedErrors => *errors = true,
                Flag::Dropped => {}
                Flag::Refused => {
                    let what = format!("{word}: what is asked for is let through here");
                    self.refuse(line, what);
                }
                Flag::Mode | Flag::Unknown => {
                    let what = format!("{word}: no flag that is known, and passed over");
                    self.note(Severity::Warning, line, what);
                }
            }
        }
        Some(text)
    }
}

/// A flag of a socket's mode, as our own files have it.
pub(super) fn canonical_mode(word: &str) -> &'static str {
    match word.eq_ignore_ascii_case("worldwritable") {
        true => "WorldWritable",
        false => "GroupWritable",
    }
}
