//! `cepa doctor`: looks at a configuration, its folder and its machine, and starts nothing.
//!
//! Each [`Finding`] says what was looked at, where, what was found (with its number), and what to
//! do if that is not right. Nothing is written, no key is made and no port is kept; the only bytes
//! that leave are a connection and a request to each authority, and a question to the name servers
//! of an exit.

mod files;
mod machine;
mod network;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::source::Source;
use crate::config::{self, AuthorityConfig, ClientConfig, NetworkSource, RelayConfig};
use crate::error::Failure;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What was looked at is as it should be.
    Ok,
    /// What was looked at works, and may not for long, or not for many.
    Warn,
    /// The node will not work so.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad the finding is.
    pub level: Level,
    /// What was looked at, such as `port`.
    pub subject: &'static str,
    /// Where: a file, an address, a setting of the machine.
    pub place: String,
    /// What was found there, with its number.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// What the file configures.
enum Role {
    Relay(Box<RelayConfig>),
    Authority(Box<AuthorityConfig>),
    Client(Box<ClientConfig>),
}

impl Role {
    /// Reads the file as what its keys show it to be.
    fn load(path: &Path) -> Result<Self, Failure> {
        let table: toml::Table = Source::open(path)?.parse()?;
        if table.contains_key("authority") {
            let config = config::load_authority(path)?;
            Ok(Role::Authority(Box::new(config)))
        } else if table.contains_key("or_port") || table.contains_key("nickname") {
            Ok(Role::Relay(Box::new(config::load_relay(path)?)))
        } else {
            Ok(Role::Client(Box::new(config::load_client(path)?)))
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Role::Relay(_) => "a relay",
            Role::Authority(_) => "a directory authority",
            Role::Client(_) => "a client",
        }
    }

    /// What a relay and an authority have in common.
    fn relay(&self) -> Option<&RelayConfig> {
        match self {
            Role::Relay(config) => Some(config),
            Role::Authority(config) => Some(&config.relay),
            Role::Client(_) => None,
        }
    }

    fn data_dir(&self) -> &Path {
        match self {
            Role::Client(config) => &config.data_dir,
            Role::Relay(config) => &config.data_dir,
            Role::Authority(config) => &config.relay.data_dir,
        }
    }

    fn network(&self) -> &NetworkSource {
        match self {
            Role::Client(config) => &config.network,
            Role::Relay(config) => &config.network,
            Role::Authority(config) => &config.relay.network,
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(
        &mut self,
        level: Level,
        subject: &'static str,
        place: impl ToString,
        found: impl ToString,
        remedy: impl ToString,
    ) {
        self.findings.push(Finding {
            level,
            subject,
            place: place.to_string(),
            found: found.to_string(),
            remedy: remedy.to_string(),
        });
    }

    fn ok(&mut self, subject: &'static str, place: impl ToString, found: impl ToString) {
        self.add(Level::Ok, subject, place, found, "");
    }

    /// What is bad if it fails, and `found` if it does not.
    fn judge<T>(
        &mut self,
        subject: &'static str,
        place: impl ToString,
        result: Result<T, Failure>,
        found: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(subject, place, found(&value));
                Some(value)
            }
            Err(failure) => {
                for one in failure.each() {
                    let (what, place) = (&one.what, &one.place);
                    self.add(Level::Bad, subject, place, what, &one.advice);
                }
                None
            }
        }
    }
}

/// Looks at all that the file at `path` needs. Must be called within a runtime.
pub async fn examine(path: &Path) -> Vec<Finding> {
    let mut report = Report::default();
    let read = Role::load(path);
    let shown = PathBuf::from(path);
    let named = |role: &Role| format!("configures {}", role.name());
    let Some(role) = report.judge("configuration", shown.display(), read, named) else {
        return report.findings;
    };
    files::look(&role, &mut report);
    machine::look(&role, &mut report);
    network::look(&role, &mut report).await;
    report.findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(findings: &[Finding], subject: &str) -> Vec<(Level, String)> {
        let of = findings.iter().filter(|one| one.subject == subject);
        of.map(|one| (one.level, one.found.clone())).collect()
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_all_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, "nickname = \"a\"\nor_port = 0\n").unwrap();
        let findings = examine(&path).await;
        let [one] = &findings[..] else {
            panic!("{findings:?}");
        };
        assert_eq!((one.level, one.subject), (Level::Bad, "configuration"));
    }

    #[tokio::test]
    async fn a_client_whose_port_is_taken_and_whose_network_is_not_there() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.toml");
        let text = format!(
            "network = \"network.toml\"\ndata_dir = \"data\"\nsocks = [\"{}\"]\n",
            holder.local_addr().unwrap()
        );
        std::fs::write(&path, text).unwrap();
        let findings = examine(&path).await;
        assert_eq!(found(&findings, "configuration")[0].0, Level::Ok);
        assert_eq!(found(&findings, "port")[0].0, Level::Bad, "{findings:?}");
        assert_eq!(found(&findings, "network")[0].0, Level::Bad);
        assert!(!dir.path().join("data").exists(), "nothing is made");
    }
}
