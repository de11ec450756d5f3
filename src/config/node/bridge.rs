//! What makes a relay a bridge (`BridgeRelay` in tor(1)): how it is handed out, and which
//! transports are its doors.

use std::net::SocketAddr;
use std::path::PathBuf;

use cepa_pt::{Arguments, ServerTransport, Site, Speaker, TransportName, TransportPlugin};
use toml::Spanned;

use super::super::bridges::plugins;
use super::super::listener::Listener;
use super::{NodeTable, Source};
use crate::error::Failure;

/// How a bridge is handed out unless its operator says it (bridgedb-spec).
const DISTRIBUTION_DEFAULT: &str = "any";
/// The longest word for that.
const DISTRIBUTION_LEN_MAX: usize = 32;

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// How it wants to be handed out: a word such as `any`, `none`, `https` or `email`.
    pub distribution: String,
    /// The programs that speak its transports, and how each is to serve.
    pub programs: Vec<(TransportPlugin, Vec<ServerTransport>)>,
}

/// The Extended ORPort: where transports hand clients on, and say where these come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtOrConfig {
    /// Where; a port of 0 is any that is free.
    pub listen: Vec<SocketAddr>,
    /// The file of the cookie, if it is another than `tor`'s in the data folder.
    pub cookie_file: Option<PathBuf>,
    /// Whether its group may read it.
    pub is_group_readable: bool,
}

/// The Extended ORPort, if there is one.
pub(super) fn ext_or(source: &Source, table: &NodeTable) -> Result<Option<ExtOrConfig>, Failure> {
    let listen = Failure::all(table.ext_or_port.iter().map(|line| {
        let is_plain = !line.get_ref().trim().contains(char::is_whitespace);
        let place = Listener::parse(line.get_ref()).filter(|_| is_plain);
        let expected = "an address with a port from 1 to 65535 or auto";
        let addr = place.map(|place| place.addr);
        addr.ok_or_else(|| source.wrong(line, "ext_or_port", expected))
    }))?;
    let file = table.ext_or_port_cookie_file.as_ref();
    Ok((!listen.is_empty()).then(|| ExtOrConfig {
        listen,
        cookie_file: file.map(|file| source.resolve(file)),
        is_group_readable: table.ext_or_port_cookie_file_group_readable,
    }))
}

/// What the table says of it; none if it is no bridge.
pub(super) fn bridge(source: &Source, table: &NodeTable) -> Result<Option<BridgeConfig>, Failure> {
    let programs = programs(source, table)?;
    let is_bridge = table.bridge.as_ref().is_some_and(|is_on| *is_on.get_ref());
    if !is_bridge {
        return match table.server_transport_plugins.first() {
            Some(line) => {
                let expected = "none without bridge = true: transports are doors of bridges";
                Err(source.wrong(line, "server_transport_plugins", expected))
            }
            None => Ok(None),
        };
    }
    if let Some(port) = &table.dir_port {
        let expected = "none for a bridge, which such a port would give away";
        return Err(source.wrong(port, "dir_port", expected));
    }
    if let (Some(bridge), true) = (&table.bridge, table.authority.is_some()) {
        return Err(source.wrong(bridge, "bridge", "false for an authority"));
    }
    let distribution = match &table.bridge_distribution {
        Some(word) => {
            let is_word = |word: &String| {
                let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                (1..=DISTRIBUTION_LEN_MAX).contains(&word.len()) && word.bytes().all(is_part)
            };
            let expected = "one word, such as any, none, https, email or settings";
            source.expect(word, "bridge_distribution", expected, is_word)?;
            word.get_ref().to_ascii_lowercase()
        }
        None => DISTRIBUTION_DEFAULT.to_owned(),
    };
    Ok(Some(BridgeConfig {
        distribution,
        programs,
    }))
}

type Programs = Vec<(TransportPlugin, Vec<ServerTransport>)>;

fn programs(source: &Source, table: &NodeTable) -> Result<Programs, Failure> {
    let lines = &table.server_transport_plugins;
    let plugins = plugins(source, lines)?;
    if let Some((line, _)) = lines
        .iter()
        .zip(&plugins)
        .find(|(_, plugin)| matches!(plugin.speaker, Speaker::Proxy(..)))
    {
        let expected = "NAMES exec PATH [ARGUMENTS], or webtunnel own: a proxy serves no bridge";
        return Err(source.wrong(line, "server_transport_plugins", expected));
    }
    let mut listens = named(source, &table.server_transport_listen, LISTEN, |words| {
        let addr = match words {
            [addr] => addr.parse::<SocketAddr>().ok(),
            _ => None,
        };
        addr.filter(|addr| addr.port() != 0)
    })?;
    let mut options = named(source, &table.server_transport_options, OPTIONS, |words| {
        let mut arguments = Arguments::default();
        let taken = words.iter().all(|word| arguments.push_word(word).is_ok());
        (taken && !words.is_empty()).then_some(arguments)
    })?;
    let programs = plugins.into_iter().map(|plugin| {
        let names = plugin.names.iter();
        let transports = names.map(|name| ServerTransport {
            name: name.clone(),
            listen: take(&mut listens, name),
            options: take(&mut options, name).unwrap_or_default(),
        });
        let transports = transports.collect();
        (plugin, transports)
    });
    let programs: Programs = programs.collect();
    for (line, (plugin, served)) in lines.iter().zip(&programs) {
        let is_own = plugin.speaker == Speaker::Own;
        let is_served =
            |one: &ServerTransport| one.listen.is_some() && Site::of(&one.options).is_ok();
        if is_own && !served.iter().all(is_served) {
            let expected = "with it \"webtunnel ADDRESS:PORT\" in server_transport_listen, and \
                \"webtunnel url=https://HOST/SECRET\" in server_transport_options";
            return Err(source.wrong(line, "server_transport_plugins", expected));
        }
    }
    for (lines, key, is_left) in [
        (
            &table.server_transport_listen,
            LISTEN.0,
            !listens.is_empty(),
        ),
        (
            &table.server_transport_options,
            OPTIONS.0,
            !options.is_empty(),
        ),
    ] {
        if let Some(line) = lines.last().filter(|_| is_left) {
            let expected = "transports of server_transport_plugins, each once";
            return Err(source.wrong(line, key, expected));
        }
    }
    Ok(programs)
}

const LISTEN: (&str, &str) = ("server_transport_listen", "NAME ADDRESS:PORT");
const OPTIONS: (&str, &str) = ("server_transport_options", "NAME KEY=VALUE...");

/// Lines that begin with a transport's name.
fn named<T>(
    source: &Source,
    lines: &[Spanned<String>],
    (key, expected): (&str, &str),
    read: impl Fn(&[&str]) -> Option<T>,
) -> Result<Vec<(TransportName, T)>, Failure> {
    Failure::all(lines.iter().map(|line| {
        let words: Vec<&str> = line.get_ref().split_ascii_whitespace().collect();
        let found = words.split_first().and_then(|(name, rest)| {
            let name = name.parse::<TransportName>().ok()?;
            Some((name, read(rest)?))
        });
        found.ok_or_else(|| source.wrong(line, key, expected))
    }))
}

fn take<T>(from: &mut Vec<(TransportName, T)>, name: &TransportName) -> Option<T> {
    let at = from.iter().position(|(one, _)| one == name)?;
    Some(from.remove(at).1)
}
