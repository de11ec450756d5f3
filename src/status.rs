//! What a running node tells of itself: the socket `status.sock` in its data folder, and metrics.
//!
//! HTTP over a unix socket that only its user reaches. A [`Question`] is a path: its [`Subject`] is
//! answered in words, or as JSON with `?json`, both made of one snapshot of the core's;
//! `GET /metrics` has the text format of Prometheus, with the names that `tor`'s MetricsPort has.
//! The commands `cepa onion status` and others ask here, so what they say comes from the process
//! itself.

mod ask;
pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod health;
mod load;
pub mod metrics;
pub(crate) mod onion;
pub mod relay;
mod serve;
pub(crate) mod votes;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use cepa_crypto::RsaId;

pub use ask::ask;
pub use serve::{Query, Sockets};

/// What a process can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A client's circuits, streams and links.
    Circuits,
    /// A client's guards and vanguards.
    Guards,
    /// The onion services that it hosts.
    Onion,
    /// A relay, or the relay of an authority.
    Relay,
    /// An authority.
    Authority,
    /// What is well with an authority and its rounds, and what is not.
    Health,
    /// Why a relay has the flags that it has.
    Why,
    /// All of its numbers, for Prometheus.
    Metrics,
}

impl Subject {
    const ALL: [(&str, Self); 8] = [
        ("/circuits", Subject::Circuits),
        ("/guards", Subject::Guards),
        ("/onion", Subject::Onion),
        ("/relay", Subject::Relay),
        ("/authority", Subject::Authority),
        ("/health", Subject::Health),
        ("/why", Subject::Why),
        ("/metrics", Subject::Metrics),
    ];
}

/// What stands before a relay's fingerprint in a path.
const RELAY: &str = "relay=";

/// A question to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// What about.
    pub subject: Subject,
    /// Whether the answer is to be JSON.
    pub is_json: bool,
    /// Whether onion services are to be visited first.
    pub probes: bool,
    /// The relay that it is about, if it is about one.
    pub relay: Option<RsaId>,
}

impl Question {
    /// A question for words.
    #[must_use]
    pub fn about(subject: Subject) -> Self {
        Question {
            subject,
            is_json: false,
            probes: false,
            relay: None,
        }
    }

    /// Reads a path; `None` if nothing is called so.
    fn parse(path: &str) -> Option<Self> {
        let (name, words) = path.split_once('?').unwrap_or((path, ""));
        let mut subjects = Subject::ALL.iter();
        let (_, subject) = subjects.find(|(known, _)| *known == name)?;
        let mut question = Question::about(*subject);
        for word in words.split('&').filter(|word| !word.is_empty()) {
            match word {
                "json" => question.is_json = true,
                "probe" => question.probes = true,
                word => question.relay = Some(word.strip_prefix(RELAY)?.parse().ok()?),
            }
        }
        Some(question)
    }
}

impl fmt::Display for Question {
    /// The path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subjects = Subject::ALL.iter();
        let known = subjects.find(|(_, subject)| *subject == self.subject);
        f.write_str(known.map_or("/", |(name, _)| name))?;
        let json = self.is_json.then(|| "json".to_owned());
        let probe = self.probes.then(|| "probe".to_owned());
        let relay = self.relay.map(|relay| format!("{RELAY}{relay}"));
        let words: Vec<String> = [json, probe, relay].into_iter().flatten().collect();
        match words.is_empty() {
            true => Ok(()),
            false => write!(f, "?{}", words.join("&")),
        }
    }
}

/// The name of the socket in a data folder.
pub const SOCKET: &str = "status.sock";

/// Most bytes of the path by which a socket is bound or connected to (`sun_path`, without its 0).
const SOCKET_PATH_MAX: usize = 107;

/// A path to the socket in a data folder, and what keeps that path good. A folder whose own path is
/// too long for sockets is opened, and goes by its number.
fn socket_in(folder: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((path, None));
    }
    let open = File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string());
    Ok((path.join(SOCKET), Some(open)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_question_is_read_as_it_is_asked() {
        for (_, subject) in Subject::ALL {
            for (is_json, probes) in [(false, false), (true, false), (false, true), (true, true)] {
                for relay in [None, Some(RsaId::from([7; 20]))] {
                    let question = Question {
                        subject,
                        is_json,
                        probes,
                        relay,
                    };
                    assert_eq!(Question::parse(&question.to_string()), Some(question));
                }
            }
        }
        for wrong in [
            "/",
            "",
            "/circuit",
            "/circuits?xml",
            "/guards/",
            "/why?relay=7",
        ] {
            assert_eq!(Question::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_socket_may_be_deep_down() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        for folder in [dir.path(), &deep] {
            let (path, _open) = socket_in(folder).unwrap();
            let _listener = UnixListener::bind(path).unwrap();
            assert!(folder.join(SOCKET).exists());
            let (path, _open) = socket_in(folder).unwrap();
            UnixStream::connect(path).unwrap();
        }
    }
}
