//! The command line of `tor`: what is to be done, which files are read, and options.

use crate::include::split;
use crate::{Entry, Place, Problem};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Task {
    /// Run.
    #[default]
    Run,
    /// Say whether the configuration is right.
    Verify,
    /// Print what `HashedControlPassword` takes for this password.
    HashPassword(String),
    /// Print the fingerprint of a relay, by which of its keys.
    ListFingerprint(Option<String>),
    /// Print the names of all options.
    ListOptions,
    /// Print the names of options that will go.
    ListDeprecated,
    /// Print which parts of `tor` are there.
    ListModules,
    /// Print what is set: `short` or `full`.
    DumpConfig(String),
    /// Make the keys of a relay.
    Keygen,
    /// Make the key of a family, of this name.
    KeygenFamily(String),
    /// Print the version.
    Version,
    /// Print how it is used.
    Help,
}

/// How much is said before the configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loudness {
    /// Notices.
    #[default]
    Notice,
    /// Warnings (`--hush`).
    Hush,
    /// Nothing (`--quiet`).
    Quiet,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// What is to be done.
    pub task: Task,
    /// The torrc; `-` is standard input; none where it usually is.
    pub torrc: Option<String>,
    /// The torrc whose values are defaults.
    pub defaults: Option<String>,
    /// Whether a torrc that is named may be missing.
    pub ignores_missing: bool,
    /// Whether one that is not named must be there.
    pub needs_torrc: bool,
    /// How much is said.
    pub loudness: Loudness,
    /// The options, in turn.
    pub options: Vec<Entry>,
    /// What is worth a warning.
    pub warnings: Vec<String>,
}

/// Arguments that take none.
const WITHOUT: [&str; 20] = [
    "--verify-config",
    "--list-torrc-options",
    "--list-deprecated-options",
    "--list-modules",
    "--keygen",
    "--version",
    "--help",
    "-h",
    "--quiet",
    "--hush",
    "--ignore-missing-torrc",
    "--allow-missing-torrc",
    "--newpass",
    "--no-passphrase",
    "--nt-service",
    "-nt-service",
    "--library-versions",
    "--key-expiration",
    "--dbg-dump-subsystem-list",
    "--options-done",
];

impl Arguments {
    /// Reads the arguments behind the name of the program.
    pub fn read(words: &[String]) -> Result<Self, Problem> {
        let mut read = Arguments::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--list-fingerprint" {
                let kind = words.next_if(|kind| !kind.starts_with('-') && is_key(kind));
                read.task = Task::ListFingerprint(kind.cloned());
            } else if word == "--dump-config" {
                let how = words.next_if(|how| !how.starts_with('-'));
                read.task = Task::DumpConfig(how.cloned().unwrap_or_default());
            } else if WITHOUT.contains(&word.as_str()) {
                read.switch(word)?;
            } else if is_with(word) {
                let Some(value) = words.next() else {
                    return Err(no_value(word));
                };
                read.named(word, value);
            } else {
                let name = word.strip_prefix("--").unwrap_or(word);
                let (change, name) = split(name);
                // What takes an option away needs no value.
                let value = match change {
                    crate::Change::Clear => Some(String::new()),
                    _ => words.next().cloned(),
                };
                let value = value.ok_or_else(|| no_value(word))?;
                read.options.push(Entry {
                    change,
                    name: name.to_owned(),
                    value: read_value(value)?,
                    place: Place::arguments(),
                });
            }
        }
        Ok(read)
    }

    fn switch(&mut self, word: &str) -> Result<(), Problem> {
        match word {
            "--verify-config" => self.task = Task::Verify,
            "--list-torrc-options" => self.task = Task::ListOptions,
            "--list-deprecated-options" => self.task = Task::ListDeprecated,
            "--list-modules" => self.task = Task::ListModules,
            "--keygen" => self.task = Task::Keygen,
            "--version" | "--library-versions" => self.task = Task::Version,
            "--help" | "-h" => self.task = Task::Help,
            "--quiet" => self.loudness = Loudness::Quiet,
            "--hush" => self.loudness = Loudness::Hush,
            "--ignore-missing-torrc" | "--allow-missing-torrc" => self.ignores_missing = true,
            "--no-passphrase" => {}
            _ => return Err(Problem::general(format!("{word} is not done here"))),
        }
        Ok(())
    }

    fn named(&mut self, word: &str, value: &str) {
        let slot = match word {
            "--hash-password" => {
                self.task = Task::HashPassword(value.to_owned());
                return;
            }
            "--keygen-family" => {
                self.task = Task::KeygenFamily(value.to_owned());
                return;
            }
            "--defaults-torrc" => &mut self.defaults,
            _ => &mut self.torrc,
        };
        if slot.replace(value.to_owned()).is_some() {
            let what = format!("Duplicate {word} options on command line.");
            self.warnings.push(what);
        }
    }
}

fn is_with(word: &str) -> bool {
    let names = [
        "-f",
        "--torrc-file",
        "--defaults-torrc",
        "--hash-password",
        "--keygen-family",
    ];
    names.contains(&word)
}

fn is_key(word: &str) -> bool {
    ["rsa", "ed25519"].contains(&word)
}

fn no_value(word: &str) -> Problem {
    let what = format!("Command-line option '{word}' with no value. Failing.");
    Problem::general(what)
}

/// A value of the command line, which may be quoted as one of a file.
fn read_value(value: String) -> Result<String, Problem> {
    match value.strip_prefix('"') {
        Some(quoted) => {
            crate::line::unquote(quoted).map_err(|error| Problem::at(&Place::arguments(), error))
        }
        None => Ok(value.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    fn read(line: &str) -> Result<Arguments, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::read(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn programs_start_tor_so() {
        let gosling = read(
            "--defaults-torrc d --torrc-file t DataDirectory D ControlPort auto \
             ControlPortWriteToFile F __OwningControllerProcess 12",
        )
        .unwrap();
        assert_eq!(gosling.defaults.as_deref(), Some("d"));
        assert_eq!(gosling.torrc.as_deref(), Some("t"));
        assert_eq!(gosling.options.len(), 4);
        assert_eq!(gosling.options[1].value, "auto");
        let bine = read("--CookieAuthentication 1 --SocksPort auto --hush").unwrap();
        assert_eq!(bine.options[0].name, "CookieAuthentication");
        assert_eq!(bine.loudness, Loudness::Hush);
        let chutney = "--quiet --ignore-missing-torrc --orport 1 --datadirectory D \
             --list-fingerprint";
        let chutney = read(chutney).unwrap();
        assert_eq!(chutney.task, Task::ListFingerprint(None));
        assert!(chutney.ignores_missing);
        let stem = read("-f - --quiet").unwrap();
        assert_eq!(stem.torrc.as_deref(), Some("-"));
        assert_eq!(read("--version").unwrap().task, Task::Version);
    }

    #[test]
    fn prefixes_and_what_lacks_a_value() {
        let all = read("/ControlPort --+Log x +SocksPort 1").unwrap().options;
        let changes: Vec<_> = all.iter().map(|entry| entry.change).collect();
        assert_eq!(changes, [Change::Clear, Change::Append, Change::Append]);
        assert_eq!(all[1].name, "Log");
        for line in ["SocksPort", "--SocksPort", "-f", "--hash-password"] {
            assert!(read(line).unwrap_err().contains("with no value"), "{line}");
        }
        assert_eq!(read("-f a -f b").unwrap().warnings.len(), 1);
        assert!(read("--nt-service").is_err());
    }
}
