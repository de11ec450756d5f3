//! SETCONF, RESETCONF and +LOADCONF: another configuration, by the way of a reload (control-spec
//! 3.1, 3.2, 3.20).
//!
//! All of it takes effect, or nothing: what takes effect at a start only is refused.

use cepa_control::command::Setting;
use cepa_control::{Event, Refusal, Reply};
use cepa_torrc::settings::Empty;

use super::super::{FIXED, Runner};
use crate::config::{self, ClientConfig};
use crate::control::{Changed, ConfError};

impl Runner {
    pub(super) fn set_conf(
        &mut self,
        settings: &[Setting],
        empty: Empty,
    ) -> Result<Reply, Refusal> {
        let pairs = settings.iter();
        let pairs: Vec<_> = pairs
            .map(|one| (one.key.clone(), one.value.clone()))
            .collect();
        let changed = self
            .conf
            .changed(&pairs, empty, &self.written, &FIXED)
            .and_then(|changed| self.put(changed));
        changed.map_err(|error| match error {
            ConfError::Unknown(name) => Refusal::Option(name),
            ConfError::Value(why) => Refusal::OptionValue(why),
            ConfError::Fixed(option) => Refusal::Transition(fixed(option)),
        })?;
        Ok(Reply::ok())
    }

    pub(super) fn load_conf(&mut self, text: &str) -> Result<Reply, Refusal> {
        const WRONG: &str = "Failed to parse/validate config: ";
        if text.trim().is_empty() {
            let mistake = "Bad arguments to +LOADCONF: Empty body";
            return Err(Refusal::Syntax(mistake));
        }
        let changed = self
            .conf
            .loaded(text, &self.written, &FIXED)
            .and_then(|changed| self.put(changed));
        changed.map_err(|error| match error {
            ConfError::Unknown(why) => {
                Refusal::Unrecognized(format!("Invalid config file: {WRONG}{why}"))
            }
            ConfError::Value(why) => Refusal::OptionValue(format!("{WRONG}{why}")),
            ConfError::Fixed(option) => Refusal::Transition(format!("{WRONG}{}", fixed(option))),
        })?;
        Ok(Reply::ok())
    }

    /// Has another configuration take effect, and tells controllers what is new in it.
    fn put(&mut self, changed: Changed) -> Result<(), ConfError> {
        let is_new_log = self.written.table().get("log") != changed.table.get("log");
        let source = config::source::Source::changed(&self.written, &changed.table);
        let wrong = |failure: crate::error::Failure| ConfError::Value(failure.to_string());
        let read = config::client::read(&source).map_err(wrong)?;
        let log = match is_new_log {
            true => read.log.clone(),
            // It may have been given as an argument.
            false => self.desk.config.log.clone(),
        };
        let config = ClientConfig { log, ..read };
        self.apply(&config).map_err(wrong)?;
        let told = self.conf.take(changed.settings);
        if !told.is_empty() {
            self.desk.tell(&Event::ConfChanged(told));
        }
        Ok(())
    }
}

fn fixed(option: &str) -> String {
    format!("While Tor is running, changing {option} is not allowed")
}
