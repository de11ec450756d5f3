//! What a credential is good for: which commands, keys, options, signals, events and targets.
//!
//! A pure check before a command is obeyed. A list names words, in any case; a `*` at the end of
//! one stands for any rest. What authentication needs, and QUIT, is allowed by every profile.
//! Profiles of known programs come along ([`Profile::built_in`]).

mod built_in;
mod target;

use crate::command::{AddOnion, Command, CommandName};
use crate::refusal::Refusal;

pub use target::{BadTargetRule, TargetRule};

/// What of a kind is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allowed {
    /// Everything.
    #[default]
    All,
    /// These words; a `*` at the end of one stands for any rest.
    Only(Vec<String>),
}

impl Allowed {
    /// These words.
    pub fn only<'a>(words: impl IntoIterator<Item = &'a str>) -> Allowed {
        Allowed::Only(words.into_iter().map(str::to_owned).collect())
    }

    /// Whether this word is one of them.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Only(patterns) => patterns.iter().any(|pattern| matches(pattern, word)),
        }
    }
}

fn matches(pattern: &str, word: &str) -> bool {
    let (pattern, word) = (pattern.as_bytes(), word.as_bytes());
    match pattern.strip_suffix(b"*") {
        Some(start) => word
            .get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start)),
        None => word.eq_ignore_ascii_case(pattern),
    }
}

/// What a credential is good for; by default for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Its name, for the log.
    pub name: String,
    /// Commands, with their `+`.
    pub commands: Allowed,
    /// Keys of GETINFO.
    pub keys: Allowed,
    /// Options that GETCONF tells.
    pub options_told: Allowed,
    /// Options that SETCONF and RESETCONF set; +LOADCONF needs all of them.
    pub options_set: Allowed,
    /// Signals.
    pub signals: Allowed,
    /// Events.
    pub events: Allowed,
    /// Where an onion service may lead; `None` for anywhere.
    pub targets: Option<Vec<TargetRule>>,
    /// Whether an onion service may outlive its connection.
    pub may_not_detach: bool,
}

/// A command is against a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile:?} does not allow {what} {word}")]
pub struct Denied {
    /// The profile's name.
    pub profile: String,
    /// The kind of rule.
    pub what: &'static str,
    /// The word against it.
    pub word: String,
}

impl From<&Denied> for Refusal {
    fn from(_: &Denied) -> Refusal {
        Refusal::Profile
    }
}

impl Profile {
    /// Whether a command may be obeyed: all of it, or nothing.
    pub fn check(&self, command: &Command) -> Result<(), Denied> {
        let name = command.name();
        if matches!(
            name,
            CommandName::Authenticate
                | CommandName::AuthChallenge
                | CommandName::ProtocolInfo
                | CommandName::Quit
        ) {
            return Ok(());
        }
        self.require("command", &self.commands, name.name())?;
        match command {
            Command::GetInfo(keys) => {
                self.require_all("key", &self.keys, keys.iter().map(String::as_str))
            }
            Command::GetConf(keys) => {
                let keys = keys.iter().map(String::as_str);
                self.require_all("reading option", &self.options_told, keys)
            }
            Command::SetConf(settings) | Command::ResetConf(settings) => {
                let keys = settings.iter().map(|setting| setting.key.as_str());
                self.require_all("setting option", &self.options_set, keys)
            }
            Command::LoadConf(_) if self.options_set != Allowed::All => {
                Err(self.denied("setting", "all options"))
            }
            Command::SetEvents(events) => {
                let names = events.iter().map(|event| event.name());
                self.require_all("event", &self.events, names)
            }
            Command::Signal(signal) => {
                // The names of one signal are one right.
                let is_allowed = self.signals.has(signal.name());
                let canonical = signal.canonical().name();
                if is_allowed || self.signals.has(canonical) {
                    Ok(())
                } else {
                    Err(self.denied("signal", signal.name()))
                }
            }
            Command::AddOnion(onion) => self.check_onion(onion),
            _ => Ok(()),
        }
    }

    fn check_onion(&self, onion: &AddOnion) -> Result<(), Denied> {
        if onion.detach && self.may_not_detach {
            return Err(self.denied("flag", "Detach"));
        }
        let Some(rules) = &self.targets else {
            return Ok(());
        };
        for port in &onion.ports {
            if !rules.iter().any(|rule| rule.allows(&port.target)) {
                return Err(self.denied("onion service to", &port.to_string()));
            }
        }
        Ok(())
    }

    fn require(&self, what: &'static str, allowed: &Allowed, word: &str) -> Result<(), Denied> {
        if allowed.has(word) {
            Ok(())
        } else {
            Err(self.denied(what, word))
        }
    }

    fn require_all<'a>(
        &self,
        what: &'static str,
        allowed: &Allowed,
        mut words: impl Iterator<Item = &'a str>,
    ) -> Result<(), Denied> {
        words.try_for_each(|word| self.require(what, allowed, word))
    }

    fn denied(&self, what: &'static str, word: &str) -> Denied {
        let (profile, word) = (self.name.clone(), word.to_owned());
        Denied {
            profile,
            what,
            word,
        }
    }
}

#[cfg(test)]
mod tests;
