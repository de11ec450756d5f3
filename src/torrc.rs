//! A torrc of this machine: its files, where it usually is, and the configuration that it is here.
//!
//! `cepa_torrc` reads and translates it; what comes of it is checked as any configuration of ours
//! is, and names places in the torrc.

pub(crate) mod ours;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cepa_torrc::arguments::Arguments;
use cepa_torrc::include::{self, Files, Kind};
use cepa_torrc::settings::Severity;
use cepa_torrc::toml::Document;
use cepa_torrc::translate::{Role, Translated, World, translate};
use cepa_torrc::{Entry, FILE_LEN_MAX, Problem, Settings};

use crate::config::source::Source;
use crate::config::{self, AuthorityConfig, ClientConfig, NetworkSource, RelayConfig};
use crate::error::Failure;
use crate::network::Network;

/// Where a torrc is that nobody names.
const TORRC: &str = "/etc/tor/torrc";
/// The same in the user's folder.
const TORRC_OF_USER: &str = ".torrc";
/// Where the defaults are that nobody names.
const DEFAULTS: &str = "/etc/tor/torrc-defaults";
/// The network of this machine.
const NETWORK: &str = "/etc/cepa/network.toml";
/// Names another one.
const NETWORK_VARIABLE: &str = "CEPA_NETWORK";

/// The files of this machine.
pub(crate) struct Disk;

impl Files for Disk {
    fn kind(&self, path: &str) -> Option<Kind> {
        let meta = std::fs::metadata(path).ok()?;
        Some(match meta.is_dir() {
            true => Kind::Folder,
            false => Kind::File,
        })
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        read_text(file)
    }
}

/// A text of bounded length, whatever its encoding.
fn read_text(from: impl std::io::Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(FILE_LEN_MAX).unwrap_or(u64::MAX);
    let read = from.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    match bytes.len() > FILE_LEN_MAX {
        true => Err(format!("it is longer than {FILE_LEN_MAX} bytes")),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// What a command line stands for: its files as they are each time, standard input as it was.
#[derive(Debug, Clone)]
pub(crate) struct Torrc {
    arguments: Arguments,
    /// Standard input, where that is the torrc.
    pub(crate) input: Option<Arc<str>>,
}

/// A torrc that was read.
pub(crate) struct Read {
    pub(crate) settings: Settings,
    pub(crate) translated: Translated,
    /// What was read, in words.
    pub(crate) told: Vec<String>,
    /// The file's name, for messages.
    name: String,
}

/// A configuration of a role.
pub(crate) enum Configured {
    Client(Box<ClientConfig>),
    /// With a client in its process, or without.
    Relay(Box<RelayConfig>, Option<Box<ClientConfig>>),
    Authority(Box<AuthorityConfig>),
}

impl Torrc {
    /// Reads standard input, if that is the torrc.
    pub(crate) fn new(arguments: Arguments) -> Result<Self, Problem> {
        let is_input = arguments.torrc.as_deref() == Some("-");
        let input = is_input.then(|| read_text(std::io::stdin().lock()));
        let wrong = |error| Problem::general(format!("Unable to read standard input: {error}"));
        let input = input.transpose().map_err(wrong)?;
        Ok(Torrc {
            arguments,
            input: input.map(Arc::from),
        })
    }

    /// Reads its files, as they are now.
    pub(crate) fn read(&self) -> Result<Read, Vec<Problem>> {
        let mut told = Vec::new();
        let one = |problem: Problem| vec![problem];
        let (defaults, _) = self.layer(Which::Defaults, &mut told).map_err(one)?;
        let (torrc, name) = self.layer(Which::Torrc, &mut told).map_err(one)?;
        let settings = self.settings(defaults, torrc)?;
        let translated = translated(&settings, false)?;
        Ok(Read {
            settings,
            translated,
            told,
            name,
        })
    }

    fn settings(&self, defaults: Vec<Entry>, torrc: Vec<Entry>) -> Result<Settings, Vec<Problem>> {
        Settings::read(&[defaults, torrc, self.arguments.options.clone()])
    }

    /// What would be set if this text were the torrc.
    pub(crate) fn with_text(&self, text: &str) -> Result<Settings, Vec<Problem>> {
        let one = |problem: Problem| vec![problem];
        let (defaults, _) = self.layer(Which::Defaults, &mut Vec::new()).map_err(one)?;
        let torrc = include::read("controller", text, &Disk).map_err(one)?;
        self.settings(defaults, torrc)
    }

    /// The torrc, if it is a file, whether that is there or not.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let named = self.arguments.torrc.clone();
        let path = match &self.input {
            Some(_) => None,
            None => named.or_else(|| usual(Which::Torrc)),
        };
        path.map(absolute)
    }

    /// The file of defaults.
    pub(crate) fn defaults_file(&self) -> PathBuf {
        let named = self.arguments.defaults.clone();
        absolute(named.unwrap_or_else(|| DEFAULTS.to_owned()))
    }

    /// Whether the torrc includes other files.
    pub(crate) fn has_includes(&self) -> bool {
        let read = self.layer(Which::Torrc, &mut Vec::new());
        let (entries, name) = read.unwrap_or_default();
        entries.iter().any(|entry| *entry.place.file != *name)
    }

    fn layer(&self, which: Which, told: &mut Vec<String>) -> Result<(Vec<Entry>, String), Problem> {
        let named = match which {
            Which::Defaults => self.arguments.defaults.clone(),
            Which::Torrc => self.arguments.torrc.clone(),
        };
        if let (Which::Torrc, Some(text)) = (which, &self.input) {
            let entries = include::read("standard input", text, &Disk)?;
            return Ok((entries, "standard input".to_owned()));
        }
        let is_named = named.is_some();
        let path = named.or_else(|| usual(which));
        let Some(path) = path else {
            return Ok((Vec::new(), "torrc".to_owned()));
        };
        let full = std::path::absolute(&path).unwrap_or(PathBuf::from(&path));
        let full = full.display();
        // What is no file, such as /dev/null/x, is not there.
        if Disk.kind(&path).is_none() {
            let must_be = is_named && !self.arguments.ignores_missing;
            if must_be && matches!(which, Which::Torrc) {
                let what = format!("Unable to open configuration file \"{full}\".");
                return Err(Problem::general(what));
            }
            let what = "not present, using reasonable defaults.";
            told.push(format!("Configuration file \"{full}\" {what}"));
            return Ok((Vec::new(), path));
        }
        let text = Files::read(&Disk, &path).map_err(|error| {
            Problem::general(format!(
                "Unable to open configuration file \"{full}\": {error}"
            ))
        })?;
        told.push(format!("Read configuration file \"{full}\"."));
        Ok((include::read(&path, &text, &Disk)?, path))
    }
}

fn absolute(path: String) -> PathBuf {
    std::path::absolute(&path).unwrap_or(PathBuf::from(path))
}

/// Settings as a configuration of ours, on this machine; `has_client` is whether a relay has a
/// client in its process whatever they say.
pub(crate) fn translated(
    settings: &Settings,
    has_client: bool,
) -> Result<Translated, Vec<Problem>> {
    let file = std::env::var(NETWORK_VARIABLE).ok();
    let file = file.filter(|file| !file.is_empty());
    let is_there = Path::new(NETWORK).exists().then(|| NETWORK.to_owned());
    let world = World {
        home: std::env::var("HOME").ok(),
        network: file.or(is_there),
        has_client,
        files: &Disk,
    };
    translate(settings, &world)
}

/// What is set by as many lines of a text as can be read.
pub(crate) fn settings_of(text: &str) -> Settings {
    let entries = include::read("configuration", text, &Disk).unwrap_or_default();
    let is_right = |entry: &Entry| Settings::read(&[vec![entry.clone()]]).is_ok();
    let right = entries.into_iter().filter(is_right).collect();
    Settings::read(&[right]).unwrap_or_default()
}

/// A file of a command line.
#[derive(Clone, Copy)]
enum Which {
    Defaults,
    Torrc,
}

/// Where a file is that nobody names, if it is there.
fn usual(which: Which) -> Option<String> {
    let home = std::env::var("HOME").ok();
    let of_user = home.map(|home| format!("{home}/{TORRC_OF_USER}"));
    let mut places = match which {
        Which::Defaults => vec![DEFAULTS.to_owned()],
        Which::Torrc => std::iter::once(TORRC.to_owned()).chain(of_user).collect(),
    }
    .into_iter();
    places.find(|place| Path::new(place).is_file())
}

impl Read {
    /// The configuration, checked.
    pub(crate) fn configured(&self) -> Result<Configured, Failure> {
        let mut document = self.translated.document.clone();
        if !self.translated.process.has_network {
            // Whether there is one is found out by whoever joins it.
            document = document.with_first(&format!("network = \"{NETWORK}\""));
        }
        let source = Source::from_torrc(Path::new(&self.name), &document);
        let configured = match self.translated.role {
            Role::Client => Configured::Client(Box::new(config::client::read(&source)?)),
            Role::Relay => {
                let relay = config::node::read(source)?.into_relay()?;
                let client = self.translated.client.as_ref();
                let client = client.map(|client| self.client_of(client, &relay));
                Configured::Relay(Box::new(relay), client.transpose()?)
            }
            Role::Authority => {
                let node = config::node::read(source)?;
                Configured::Authority(Box::new(node.into_authority()?))
            }
        };
        let network = match &configured {
            Configured::Client(config) => &config.network,
            Configured::Relay(config, _) => &config.network,
            Configured::Authority(config) => &config.relay.network,
        };
        if matches!(network, NetworkSource::Inline(_)) {
            Network::of(network)?;
        }
        Ok(configured)
    }

    /// The client in the process of a relay, with the control port and the log that are of both.
    fn client_of(
        &self,
        document: &Document,
        relay: &RelayConfig,
    ) -> Result<Box<ClientConfig>, Failure> {
        let mut document = document.clone();
        if !self.translated.process.has_network {
            document = document.with_first(&format!("network = \"{NETWORK}\""));
        }
        let source = Source::from_torrc(Path::new(&self.name), &document);
        Ok(Box::new(ClientConfig {
            control: relay.control.clone(),
            log: relay.log.clone(),
            ..config::client::read(&source)?
        }))
    }

    /// What is worth a word: of each, whether it is a warning.
    pub(crate) fn notes(&self) -> impl Iterator<Item = (bool, String)> {
        let notes = self.translated.notes.iter();
        notes.map(|(severity, problem)| (*severity == Severity::Warning, problem.to_string()))
    }
}
