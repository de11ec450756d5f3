//! A bridge: the transports that are its doors, and the lines by which it is handed out
//! (`bridgelines` and `hashed-fingerprint` in its data folder).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cepa_control::event::ClientsSeen;
use cepa_crypto::{Rng, RsaId, digest};
use cepa_pt::{
    Arguments, BridgeLine, End, Method, ServerEnvironment, ServerTransport, Speaker,
    TransportPlugin,
};
use cepa_relay::{BridgeClient, BridgeClientsSeen, Relay};
use tokio::sync::mpsc;

use super::{Event, Node};
use crate::config::RelayConfig;
use crate::control::Desk;
use crate::error::Failure;
use crate::keyfiles::write_atomic;
use crate::launched::Stage;
use crate::roles::workers::{Came, ExtOrPort};
use crate::transports::webtunnel::Door;
use crate::transports::{self, State, Transports, Wanted};

/// The file with the lines to hand out, as `tor` names it.
pub(crate) const LINES_FILE: &str = "bridgelines";
/// The file with the digest of the fingerprint, by which a bridge is looked up in statistics
/// without being given away.
const HASHED_FILE: &str = "hashed-fingerprint";

/// What a bridge has beside its relay.
pub(super) struct Bridge {
    folder: PathBuf,
    transports: Transports,
    /// The lines as they were written last.
    written: Option<String>,
}

/// The bridge of a configuration, and where its transports hand clients on.
pub(super) async fn open(
    config: &RelayConfig,
    folder: &Path,
    answers: &mpsc::UnboundedSender<Event>,
    rng: &mut Rng,
) -> Result<(Option<Bridge>, Option<ExtOrPort>), Failure> {
    let extended = ExtOrPort::open(config, folder, rng).await?;
    let bridge = Bridge::open(config, folder, answers, extended.as_ref())?;
    Ok((bridge, extended))
}

impl Bridge {
    /// The bridge of a configuration, whose transports are started; none if it is none.
    fn open(
        config: &RelayConfig,
        folder: &Path,
        answers: &mpsc::UnboundedSender<Event>,
        extended: Option<&ExtOrPort>,
    ) -> Result<Option<Self>, Failure> {
        let Some(bridge) = &config.bridge else {
            return Ok(None);
        };
        let state = transports::state_folder(folder);
        let state = state
            .map_err(|error| Failure::new("no folder for transports", folder.display(), error))?;
        let extended = extended.and_then(ExtOrPort::for_transports);
        let extended = extended.as_ref().map(|(addr, file)| (*addr, file.as_str()));
        let programs = bridge.programs.iter().map(|(plugin, served)| Wanted {
            plugin: plugin.clone(),
            end: End::Server,
            variables: ServerEnvironment {
                state: &state,
                transports: served,
                or_port: or_port(config),
                extended,
            }
            .variables(),
            own: own(plugin, served, or_port(config)),
        });
        let (mut transports, mut states) = Transports::new();
        transports.set(programs.collect());
        let answers = answers.clone();
        tokio::spawn(async move {
            while let Some(state) = states.recv().await {
                if answers.send(Event::Transports(state)).is_err() {
                    return;
                }
            }
        });
        Ok(Some(Bridge {
            folder: folder.to_owned(),
            transports,
            written: None,
        }))
    }

    /// Writes the files if they are not as they should be.
    /// How many lines there are, if they are other ones now.
    pub(super) fn write(&mut self, relay: &Relay, config: &RelayConfig) -> Option<usize> {
        let id = relay.keys().rsa_id();
        let lines = self.lines(relay, config);
        let text = text(&lines);
        if self.written.as_ref() == Some(&text) {
            return None;
        }
        let hashed = format!("{} {}\n", config.nickname, hashed(&id));
        let files = [(LINES_FILE, &text), (HASHED_FILE, &hashed)];
        let written = files.into_iter().try_for_each(|(name, text)| {
            write_atomic(&self.folder.join(name), text.as_bytes(), 0o600)
        });
        match written {
            Ok(()) => {
                let path = self.folder.join(LINES_FILE);
                tracing::info!("{} bridge lines are in {}", lines.len(), path.display());
                self.written = Some(text);
                Some(lines.len())
            }
            Err(error) => {
                tracing::error!("the lines of this bridge are not written: {error}");
                None
            }
        }
    }

    /// The lines by which this bridge is reached: of its own port, unless only this machine reaches
    /// that, and of each transport that serves.
    fn lines(&self, relay: &Relay, config: &RelayConfig) -> Vec<BridgeLine> {
        let told = relay.config();
        let fingerprint = Some(relay.keys().rsa_id());
        let own = SocketAddr::V4(told.or_address);
        if own.ip().is_unspecified() {
            return Vec::new();
        }
        let is_hidden = config.listen.is_loopback() && !own.ip().is_loopback();
        let plain = |addr| BridgeLine {
            addr,
            fingerprint,
            transport: None,
            arguments: Arguments::default(),
        };
        let v6 = told.or_address_v6.map(SocketAddr::V6);
        let ports = std::iter::once(own).chain(v6);
        let mut lines: Vec<BridgeLine> = ports.filter(|_| !is_hidden).map(plain).collect();
        for state in self.transports.states() {
            let state = state.borrow();
            let State::Serving(methods) = &*state else {
                continue;
            };
            for (name, method) in methods {
                let Method::Server(at, arguments) = method else {
                    continue;
                };
                let ip = match at.ip() {
                    ip if !ip.is_unspecified() => ip,
                    IpAddr::V6(_) => v6.map_or(own.ip(), |addr| addr.ip()),
                    IpAddr::V4(_) => own.ip(),
                };
                lines.push(BridgeLine {
                    transport: Some(name.clone()),
                    arguments: arguments.clone(),
                    ..plain(SocketAddr::new(ip, at.port()))
                });
            }
        }
        lines
    }

    /// Ends the transports.
    pub(super) async fn finish(&mut self) {
        self.transports.finish().await;
    }
}

impl Node {
    /// Writes the lines by which a bridge is handed out.
    pub(super) fn write_bridge(&mut self) {
        if let Some(bridge) = &mut self.bridge {
            let lines = tokio::task::block_in_place(|| bridge.write(&self.relay, &self.config));
            if let Some(lines) = lines {
                self.reporter.report(&Stage::BridgeLines(lines));
            }
        }
    }

    /// Ends the transports of a bridge.
    pub(super) async fn finish_bridge(&mut self) {
        if let Some(bridge) = &mut self.bridge {
            bridge.finish().await;
        }
    }
}

/// A client who has come to a bridge, with his country.
pub(super) fn client(
    desk: &mut Desk,
    config: &RelayConfig,
    (address, transport): Came,
) -> BridgeClient {
    BridgeClient {
        address,
        country: desk.countries(&config.geoip).country(address),
        transport,
    }
}

/// A bridge's clients as controllers are told of them.
pub(super) fn clients_seen(seen: &BridgeClientsSeen) -> ClientsSeen {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let countries = seen.countries.iter();
    let [v4, v6] = seen.versions.map(number);
    ClientsSeen {
        since: seen.since,
        countries: countries
            .map(|(country, count)| (country.to_string(), number(*count)))
            .collect(),
        ip_versions: [("v4".to_owned(), v4), ("v6".to_owned(), v6)].into(),
    }
}

/// How the transport that needs no program serves, if this line is about it.
fn own(plugin: &TransportPlugin, served: &[ServerTransport], or_port: SocketAddr) -> Option<Door> {
    let one = served.first().filter(|_| plugin.speaker == Speaker::Own)?;
    Door::new(one.listen?, &one.options, or_port)
}

/// From where clients of transports come, all of one address: they are no single stranger.
pub(super) fn transport_ends(config: &RelayConfig) -> Option<IpAddr> {
    let bridge = config.bridge.as_ref();
    let has_any = bridge.is_some_and(|bridge| !bridge.programs.is_empty());
    has_any.then_some(Ipv4Addr::LOCALHOST.into())
}

/// Where a transport of this machine reaches the relay.
fn or_port(config: &RelayConfig) -> SocketAddr {
    let listen = config.or_listen();
    match listen.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        false => listen,
    }
}

fn text(lines: &[BridgeLine]) -> String {
    let mut text = "# Each of these lines leads to this bridge: hand one to who needs it.\n\
        # This file is written anew whenever something of it changes.\n"
        .to_owned();
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Bridge {line}");
    }
    text
}

/// The digest of a fingerprint.
fn hashed(id: &RsaId) -> RsaId {
    RsaId::from(digest::sha1(id.as_bytes()))
}
