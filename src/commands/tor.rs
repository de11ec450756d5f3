//! `cepa tor`, and this program by the name `tor`: the arguments, files, words and exit codes of
//! `tor`, so that programs which start it start us.

mod start;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use cepa_control::auth::HashedPassword;
use cepa_torrc::arguments::{Arguments, Loudness, Task};
use cepa_torrc::dump::{self, Which};
use cepa_torrc::{Place, Problem, names};
use tracing::Level;

use crate::control::VERSION;
use crate::error::Failure;
use crate::torrc::{Configured, Read, Torrc};
use crate::{args, clock, folder, keyfiles, listen, logs, terminal};

/// Options that `tor` says will go.
const DEPRECATED: [&str; 5] = [
    "HTTPProxy",
    "HTTPProxyAuthenticator",
    "ReachableDirAddresses",
    "ClientPreferIPv6DirPort",
    "ClientAutoIPv6ORPort",
];
/// How long a signing key is good that `--keygen` makes.
const KEYGEN_DAYS: u16 = 30;

/// The name of the program and the words behind it, if they are for `tor`.
pub fn words(all: impl Iterator<Item = OsString>) -> Option<(String, Vec<String>)> {
    let mut all = all.map(|word| word.to_string_lossy().into_owned());
    let program = all.next()?;
    let mut words = all.collect::<Vec<_>>();
    let is_tor = Path::new(&program).file_name() == Some("tor".as_ref());
    if !is_tor {
        if words.first().map(String::as_str) != Some("tor") {
            return None;
        }
        words.remove(0);
    }
    Some((program, words))
}

/// Does what the words ask for.
pub fn run(program: &str, words: &[String]) -> ExitCode {
    let done = Arguments::read(words).map_err(|problem| Ended::config(vec![problem]));
    match done.and_then(|arguments| Run::new(program, words, arguments).task()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            ended.tell();
            ExitCode::FAILURE
        }
    }
}

/// Why it is over.
struct Ended {
    warnings: Vec<String>,
    error: Option<String>,
    is_silent: bool,
}

impl Ended {
    /// The configuration is wrong.
    fn config(wrong: Vec<Problem>) -> Self {
        let text = |problem: &Problem| match (&problem.place, &problem.option) {
            (None, None) => problem.to_string(),
            // As tor has it, where there is no line to name.
            (Some(place), None) if *place == Place::arguments() => {
                format!("Failed to parse/validate config: {}", problem.what)
            }
            _ => format!("Failed to parse/validate config: {problem}"),
        };
        Ended {
            warnings: wrong.iter().map(text).collect(),
            error: Some("Reading config failed--see warnings above.".to_owned()),
            is_silent: false,
        }
    }

    fn checked(wrong: &Failure) -> Self {
        let text = |one: &Failure| format!("Failed to parse/validate config: {one}");
        Ended {
            warnings: wrong.each().map(text).collect(),
            error: Some("Reading config failed--see warnings above.".to_owned()),
            is_silent: false,
        }
    }

    fn failed(wrong: &Failure) -> Self {
        // As with tor, where the ports belong to the configuration.
        if wrong.each().any(|one| one.what == listen::TAKEN) {
            let mut ended = Ended::checked(wrong);
            let last = "Failed to parse/validate config: Failed to bind one of the listener ports.";
            ended.warnings.push(last.to_owned());
            return ended;
        }
        Ended {
            warnings: wrong.each().map(ToString::to_string).collect(),
            error: Some("It cannot go on--see warnings above.".to_owned()),
            is_silent: false,
        }
    }

    fn tell(&self) {
        if self.is_silent {
            return;
        }
        for warning in &self.warnings {
            logs::say(Level::WARN, warning);
        }
        if let Some(error) = &self.error {
            logs::say(Level::ERROR, error);
        }
    }
}

/// A command line that is being done.
struct Run<'a> {
    program: &'a str,
    words: &'a [String],
    arguments: Arguments,
}

impl<'a> Run<'a> {
    fn new(program: &'a str, words: &'a [String], arguments: Arguments) -> Self {
        Run {
            program,
            words,
            arguments,
        }
    }

    fn task(&self) -> Result<(), Ended> {
        match &self.arguments.task {
            Task::Run => {
                self.greet();
                start::run(self, &self.read()?)
            }
            Task::Verify => {
                self.greet();
                let read = self.read()?;
                start::check_user(self, &read.1.translated.process)?;
                read.1
                    .configured()
                    .map_err(|wrong| self.ended(Ended::checked(&wrong)))?;
                if self.arguments.loudness == Loudness::Notice {
                    terminal::say("Configuration was valid");
                }
                Ok(())
            }
            Task::HashPassword(password) => hash(password).map_err(|wrong| Ended::failed(&wrong)),
            Task::ListFingerprint(kind) => self.fingerprint(kind.as_deref()),
            Task::ListOptions => {
                names::all()
                    .iter()
                    .for_each(|option| terminal::say(option.name));
                Ok(())
            }
            Task::ListDeprecated => {
                DEPRECATED.into_iter().for_each(terminal::say);
                Ok(())
            }
            Task::ListModules => {
                terminal::say("relay: yes\ndirauth: yes\ndircache: yes\npow: no");
                Ok(())
            }
            Task::DumpConfig(how) => self.dump(how),
            Task::Keygen => self.keygen(),
            Task::KeygenFamily(_) => {
                let what = "--keygen-family is not done here; tor --keygen-family makes the key";
                Err(Ended::config(vec![Problem::general(what)]))
            }
            Task::Version => {
                terminal::say(&format!("Tor version {VERSION}."));
                Ok(())
            }
            Task::Help => {
                terminal::say(
                    "cepa tor [-f TORRC] [--OPTION VALUE]...\n\ndocs/torrc.md says more.",
                );
                Ok(())
            }
        }
    }

    /// Whether lines of this level are for standard output before there is a log.
    fn says(&self, level: Level) -> bool {
        match self.arguments.loudness {
            Loudness::Notice => true,
            Loudness::Hush => level <= Level::WARN,
            Loudness::Quiet => false,
        }
    }

    fn say(&self, level: Level, what: &str) {
        if self.says(level) {
            logs::say(level, what);
        }
    }

    fn greet(&self) {
        self.say(Level::INFO, &format!("Tor {VERSION} running on Linux."));
        for warning in &self.arguments.warnings {
            self.say(Level::WARN, warning);
        }
    }

    /// An end that is told as loudly as was asked for.
    fn ended(&self, mut ended: Ended) -> Ended {
        ended.is_silent = !self.says(Level::ERROR);
        ended
    }

    /// Reads the files, and says what is worth a word.
    fn read(&self) -> Result<(Torrc, Read), Ended> {
        let torrc = Torrc::new(self.arguments.clone());
        let torrc = torrc.map_err(|problem| self.ended(Ended::config(vec![problem])))?;
        let read = torrc
            .read()
            .map_err(|wrong| self.ended(Ended::config(wrong)))?;
        let is_quiet = matches!(self.arguments.task, Task::DumpConfig(_));
        if !is_quiet {
            read.told
                .iter()
                .for_each(|told| self.say(Level::INFO, told));
            for (is_warning, note) in read.notes().filter(|(is_warning, _)| *is_warning) {
                let level = if is_warning {
                    Level::WARN
                } else {
                    Level::DEBUG
                };
                self.say(level, &note);
            }
        }
        Ok((torrc, read))
    }

    fn dump(&self, how: &str) -> Result<(), Ended> {
        let which = match how {
            "short" | "non-builtin" => Which::Short,
            "full" => Which::Full,
            _ => {
                terminal::say("No valid argument to --dump-config found!");
                terminal::say("Please select 'short' or 'full'.");
                return Err(Ended {
                    warnings: Vec::new(),
                    error: None,
                    is_silent: true,
                });
            }
        };
        terminal::write(&dump::dump(&self.read()?.1.settings, which));
        Ok(())
    }

    /// The relay that a torrc is.
    fn relay(&self) -> Result<(std::path::PathBuf, String), Ended> {
        let (_, read) = self.read()?;
        let configured = read
            .configured()
            .map_err(|wrong| self.ended(Ended::checked(&wrong)))?;
        match configured {
            Configured::Relay(config, _) => Ok((config.data_dir, config.nickname)),
            Configured::Authority(config) => Ok((config.relay.data_dir, config.relay.nickname)),
            Configured::Client(_) => Err(self.ended(Ended {
                warnings: Vec::new(),
                error: Some("Clients don't have long-term identity keys. Exiting.".to_owned()),
                is_silent: false,
            })),
        }
    }

    fn fingerprint(&self, kind: Option<&str>) -> Result<(), Ended> {
        let (data_dir, nickname) = self.relay()?;
        let identity = || {
            folder::make_private(&data_dir)?;
            folder::make_private(&data_dir.join("keys"))?;
            keyfiles::relay::load_or_make(&data_dir, &nickname, &mut clock::rng()?)
        };
        let identity = identity().map_err(|wrong| self.ended(Ended::failed(&wrong)))?;
        let text = match kind {
            Some("ed25519") => identity.ed25519.to_string(),
            _ => {
                let digits: Vec<char> = identity.rsa.to_string().chars().collect();
                let groups = digits.chunks(4).map(|four| four.iter().collect::<String>());
                groups.collect::<Vec<_>>().join(" ")
            }
        };
        terminal::say(&format!("{nickname} {text}"));
        Ok(())
    }

    fn keygen(&self) -> Result<(), Ended> {
        let (_, read) = self.read()?;
        let folder = read.settings.one("DataDirectory");
        let folder = folder.map_or("~/.tor", |folder| folder.text.as_str());
        let dir = Path::new(folder).join("keys");
        let renew = dir.join("ed25519_master_id_secret_key").exists();
        let made = super::relay_keygen::run(&args::RelayKeygenArgs {
            dir,
            days: KEYGEN_DAYS,
            renew,
        });
        made.map_err(|wrong| self.ended(Ended::failed(&wrong)))
    }
}

fn hash(password: &str) -> Result<(), Failure> {
    let hashed = HashedPassword::new(password.as_bytes(), &mut clock::rng()?);
    terminal::say(&hashed.encode());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(line: &str) -> Option<Vec<String>> {
        let all = line.split_whitespace().map(OsString::from);
        words(all).map(|(_, words)| words)
    }

    #[test]
    fn it_is_tor_by_name_or_by_word() {
        assert_eq!(words_of("/usr/bin/tor -f x").unwrap(), ["-f", "x"]);
        assert_eq!(words_of("cepa tor -f x").unwrap(), ["-f", "x"]);
        assert_eq!(words_of("tor").unwrap(), Vec::<String>::new());
        assert_eq!(words_of("cepa client tor"), None);
        assert_eq!(words_of("cepa"), None);
    }
}
