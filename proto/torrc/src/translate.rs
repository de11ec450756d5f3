//! Settings of a torrc as a configuration of ours.
//!
//! What is meant becomes lines of TOML, which know their places; whoever reads them checks them as
//! any other, and names the place of what is wrong. What concerns the process alone is `Process`.

mod authority;
mod by_kind;
mod client;
mod control;
mod logs;
mod network;
mod node;
mod onion;
mod ports;
mod practice;
mod relay;
mod tuning;

use crate::include::Files;
use crate::names::named;
use crate::option::Fate;
use crate::settings::{Settings, Severity, Value};
use crate::toml::{Document, string};
use crate::{Problem, table, value};

/// What a process is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A client, which may host onion services.
    Client,
    /// A relay.
    Relay,
    /// A directory authority.
    Authority,
}

/// What is there besides a torrc.
pub struct World<'a> {
    /// The folder of the user.
    pub home: Option<String>,
    /// The file of the network where a torrc names no authorities.
    pub network: Option<String>,
    /// Whether a relay has a client in its process whatever the torrc says.
    pub has_client: bool,
    /// The files that a torrc names.
    pub files: &'a dyn FilesOf,
}

/// The same as `Files`, for whoever only asks.
pub trait FilesOf {
    /// The names in a folder; none if it cannot be read.
    fn names(&self, folder: &str) -> Vec<String>;
    /// The text of a file, or why there is none.
    fn read(&self, path: &str) -> Result<String, String>;
}

impl<F: Files> FilesOf for F {
    fn names(&self, folder: &str) -> Vec<String> {
        Files::names(self, folder)
    }

    fn read(&self, path: &str) -> Result<String, String> {
        Files::read(self, path)
    }
}

/// What concerns the process, and no role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// A file for its number.
    pub pid_file: Option<String>,
    /// Whether it goes to the background.
    pub is_daemon: bool,
    /// The process that it ends with.
    pub owner: Option<u32>,
    /// The user that it is to be of, and what to say if it is not.
    pub user: Option<(String, Problem)>,
    /// Whether SIGHUP reads the files again.
    pub rereads: bool,
    /// Whether debuggers may attach to it.
    pub is_debuggable: bool,
    /// Whether system calls that it does not make are refused.
    pub is_sandboxed: bool,
    /// Whether it starts no program.
    pub no_exec: bool,
    /// The descriptors that it needs.
    pub descriptors_min: u64,
    /// Whether signals are left to whoever started it.
    pub leaves_signals: bool,
    /// Whether there is a network to join.
    pub has_network: bool,
}

/// A torrc as a configuration of ours.
#[derive(Debug, Clone)]
pub struct Translated {
    /// Whose configuration it is.
    pub role: Role,
    /// The configuration.
    pub document: Document,
    /// That of the client in the process of a relay, where the torrc has ports for applications or
    /// onion services; it has no log, metrics and control port of its own.
    pub client: Option<Document>,
    /// What concerns the process.
    pub process: Process,
    /// What is worth a word.
    pub notes: Vec<(Severity, Problem)>,
}

/// What a translation has found until now.
struct Work<'a> {
    settings: &'a Settings,
    world: &'a World<'a>,
    notes: Vec<(Severity, Problem)>,
    wrong: Vec<Problem>,
    /// Whether there are a relay and a client.
    is_both: bool,
}

/// Translates, or tells all that is wrong.
pub fn translate(settings: &Settings, world: &World<'_>) -> Result<Translated, Vec<Problem>> {
    let role = role(settings);
    let [.., of_relays, of_authorities] = table::TABLES;
    let (notes, wrong) = settings.judged(|option| match role {
        Role::Client => of_relays.contains(option) || of_authorities.contains(option),
        Role::Relay => of_authorities.contains(option),
        Role::Authority => false,
    });
    let notes = notes.into_iter().map(|note| (Severity::Info, note));
    let mut work = Work {
        settings,
        world,
        notes: settings.notes.iter().cloned().chain(notes).collect(),
        wrong,
        is_both: role == Role::Relay && (world.has_client || node::has_client(settings)),
    };
    anonymity(&mut work);
    let mut process = work.process();
    let network = network::network(&mut work);
    process.has_network = !network.is_empty();
    let (mut document, mut client) = (Document::default(), None);
    match role {
        Role::Client => {
            let of_exits = ["OutboundBindAddressExit"];
            work.of_no_effect(&of_exits, Severity::Info, "of no effect for a client");
            work.client(&mut document, network);
        }
        Role::Relay | Role::Authority => {
            if work.is_both {
                work.client(client.insert(Document::default()), network.clone());
            }
            work.node(&mut document, network, role);
        }
    }
    // What a relay and a client have in common is judged by both.
    let (mut said, mut noted) = (Vec::new(), Vec::new());
    work.wrong.retain(|wrong| is_new(&mut said, wrong));
    work.notes.retain(|(_, note)| is_new(&mut noted, note));
    if !work.wrong.is_empty() {
        return Err(work.wrong);
    }
    Ok(Translated {
        role,
        document,
        client,
        process,
        notes: work.notes,
    })
}

/// Whether this was not said before; from now on it was.
fn is_new(said: &mut Vec<String>, problem: &Problem) -> bool {
    let text = problem.to_string();
    let is_new = !said.contains(&text);
    said.push(text);
    is_new
}

impl<'a> Work<'a> {
    fn process(&mut self) -> Process {
        let settings = self.settings;
        let owner = settings.one("__OwningControllerProcess");
        let owner = owner.and_then(|owner| match owner.text.trim().parse::<u32>() {
            Ok(0) => None,
            Ok(number) => Some(number),
            Err(_) => {
                self.refuse(owner, "it is not the number of a process");
                None
            }
        });
        let user = settings.one("User").map(|user| {
            let why = "the process cannot change its user; start it as that one";
            (user.text.clone(), user.wrong(why))
        });
        Process {
            pid_file: settings.one("PidFile").map(|file| self.path(&file.text)),
            is_daemon: settings.is_on("RunAsDaemon"),
            owner,
            user,
            rereads: settings.is_on("__ReloadTorrcOnSIGHUP"),
            is_debuggable: !settings.is_on("DisableDebuggerAttachment"),
            is_sandboxed: settings.is_on("Sandbox"),
            no_exec: no_exec(self),
            descriptors_min: descriptors_min(settings),
            leaves_signals: settings.is_on("__DisableSignalHandlers"),
            has_network: false,
        }
    }

    fn refuse(&mut self, value: &Value, why: impl std::fmt::Display) {
        self.wrong.push(value.wrong(why));
    }

    fn note(&mut self, severity: Severity, value: &Value, what: impl std::fmt::Display) {
        self.notes.push((severity, value.wrong(what)));
    }

    /// All lines of these options, in turn.
    fn lines(&self, names: &[&str]) -> Vec<&'a Value> {
        let settings = self.settings;
        let lines = names.iter().flat_map(|name| settings.lines(name));
        lines.collect()
    }

    /// A path, from the home folder where it says so.
    fn path(&self, text: &str) -> String {
        match (text.strip_prefix("~/"), &self.world.home) {
            (Some(rest), Some(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
            _ => text.to_owned(),
        }
    }

    /// The folder of everything; `below` is a folder in it, if not empty.
    fn data_dir(&self, document: &mut Document, below: &str) {
        let within = |folder: String| match below {
            "" => folder,
            below => format!("{}/{below}", folder.trim_end_matches('/')),
        };
        match self.settings.one("DataDirectory") {
            Some(folder) => {
                let path = within(self.path(&folder.text));
                document.text_key("data_dir", &path, folder);
            }
            None => {
                let path = within(self.path("~/.tor"));
                document.plain(format!("data_dir = {}", string(&path)));
            }
        }
    }

    /// Keys that are 0 or 1 in both, where they are written.
    fn switches(&self, document: &mut Document, keys: &[(&str, &str)]) {
        for (option, key) in keys {
            if let Some(value) = self.settings.one(option) {
                let is_on = value::bool(&value.text).unwrap_or_default();
                document.key(key, if is_on { "true" } else { "false" }, value);
            }
        }
    }

    /// Keys that are paths in both.
    fn paths(&self, document: &mut Document, keys: &[(&str, &str)]) {
        for (option, key) in keys {
            if let Some(value) = self.settings.one(option) {
                document.text_key(key, &self.path(&value.text), value);
            }
        }
    }

    /// Keys that are bytes in both; 0 is the default.
    fn sizes(&self, document: &mut Document, keys: &[(&str, &str)]) {
        for (option, key) in keys {
            if let Some(value) = self.settings.one(option)
                && let Some(bytes) = value::size(&value.text).filter(|bytes| *bytes > 0)
            {
                let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
                document.key(key, &bytes.min(most).to_string(), value);
            }
        }
    }

    /// The port of metrics, and who may read them.
    fn metrics(&mut self, document: &mut Document) {
        let lines = self.lines(&["MetricsPort", "__MetricsPort"]);
        let open = lines.into_iter().filter(|line| !ports::is_none(&line.text));
        let open: Vec<_> = open.collect();
        if let Some(second) = open.get(1) {
            self.refuse(second, "metrics have one port");
        }
        if let Some(line) = open.first() {
            let mut words = line.text.split_whitespace();
            let place = words.next().and_then(ports::socket);
            let place = place.filter(|place| !place.is_auto).map(|place| place.addr);
            match place.filter(|_| words.all(|word| word.eq_ignore_ascii_case("prometheus"))) {
                Some(addr) => document.text_key("metrics", &addr.to_string(), line),
                None => self.refuse(line, "it is a port or ADDRESS:PORT, and perhaps prometheus"),
            }
        }
        let policy = self.lines(&["MetricsPortPolicy"]);
        let policy: Vec<_> = (policy.iter())
            .flat_map(|line| value::words(&line.text).map(|rule| (rule.to_owned(), *line)))
            .collect();
        if open.is_empty() {
            if let Some((_, line)) = policy.first() {
                self.note(Severity::Info, line, "of no effect without MetricsPort");
            }
            return;
        }
        document.list("metrics_policy", &policy);
    }

    /// Says that options which this role has no use for are of no effect.
    fn of_no_effect(&mut self, names: &[&str], severity: Severity, why: &str) {
        for value in self.lines(names) {
            let is_meant = value.option.fate == Fate::Meant && !ports::is_none(&value.text);
            if is_meant {
                self.note(severity, value, why);
            }
        }
    }
}

/// Says, in `tor`'s words, that one of two options is nothing without the other.
fn anonymity(work: &mut Work<'_>) {
    let names = [
        "HiddenServiceNonAnonymousMode",
        "HiddenServiceSingleHopMode",
    ];
    let settings = work.settings;
    let [mode, hops] = names.map(|name| settings.one(name).filter(|_| settings.is_on(name)));
    let (one, lacking) = match (mode, hops) {
        (Some(mode), None) => (mode, names[1]),
        (None, Some(hops)) => (hops, names[0]),
        _ => return,
    };
    let name = one.option.name;
    work.wrong
        .retain(|wrong| wrong.option.as_deref() != Some(name));
    work.refuse(
        one,
        format!(
            "{name} does not provide any server anonymity. It must be used with {lacking} set to 1."
        ),
    );
}

/// Whether no program is to be started: that is said, or there is a sandbox; and no transport
/// is one.
fn no_exec(work: &mut Work<'_>) -> bool {
    let settings = work.settings;
    let plugins = work.lines(&["ClientTransportPlugin", "ServerTransportPlugin"]);
    let mut plugins = plugins.into_iter();
    let is_program = |line: &&Value| line.text.split_whitespace().nth(1) == Some("exec");
    match (plugins.find(is_program), settings.is_on("NoExec")) {
        (Some(line), true) => {
            work.refuse(line, "NoExec is set, and a transport is a program");
            true
        }
        (None, no_exec) => no_exec || settings.is_on("Sandbox"),
        (Some(_), false) => false,
    }
}

/// What the process is to be.
fn role(settings: &Settings) -> Role {
    let names = ["ORPort", "__ORPort"];
    let ports = names.iter().flat_map(|name| settings.lines(name));
    let has_port = ports.filter(|value| !ports::is_none(&value.text)).count() > 0;
    let is_authority =
        settings.is_on("AuthoritativeDirectory") && settings.is_on("V3AuthoritativeDirectory");
    match (has_port && !settings.is_on("ClientOnly"), is_authority) {
        (false, _) => Role::Client,
        (true, false) => Role::Relay,
        (true, true) => Role::Authority,
    }
}

/// `ConnLimit`.
fn descriptors_min(settings: &Settings) -> u64 {
    let value = settings.one("ConnLimit").map(|value| value.text.as_str());
    let default = named("ConnLimit").map_or("", |option| option.default);
    value.unwrap_or(default).trim().parse().unwrap_or_default()
}

/// Whether a switch stands at its default, or is not written.
fn is_default(settings: &Settings, name: &str) -> bool {
    let default = named(name).map_or("", |option| option.default);
    let value = settings.one(name);
    value.is_none_or(|value| value.text.trim().eq_ignore_ascii_case(default))
}

#[cfg(test)]
mod tests;
