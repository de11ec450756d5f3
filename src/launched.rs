//! How a node speaks with the launcher that started it, and when it is to stop.
//!
//! Under `--launched` a node writes its stages to standard output, a line each, as
//! `cepa-status: WORD [DETAIL]`, and stops when its standard input ends, so that a launcher killed
//! by -9 leaves no node behind. Without the flag the stages go to the log alone. A node always
//! stops on SIGTERM and SIGINT.

use std::fmt;
use std::io::Read as _;
use std::str::FromStr;

use tokio::sync::watch;

use crate::error::{Failure, fail};

/// What each status line starts with.
pub const STATUS_PREFIX: &str = "cepa-status: ";

/// A stage that a node has reached. It may be reported again when its numbers change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// All ports are open.
    Listening,
    /// An authority took this relay's descriptor.
    Published,
    /// An authority holds descriptors of so many relays.
    Descriptors(usize),
    /// A consensus that lists so many relays is held.
    Consensus(usize),
    /// The client got as far as this, in percent; 100: circuits can be built.
    Bootstrapped(u8),
    /// An onion service of this address can be visited.
    OnionUp(String),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening => f.write_str("listening"),
            Self::Published => f.write_str("published"),
            Self::Descriptors(relays) => write!(f, "descriptors {relays}"),
            Self::Consensus(relays) => write!(f, "consensus {relays}"),
            Self::Bootstrapped(percent) => write!(f, "bootstrapped {percent}"),
            Self::OnionUp(address) => write!(f, "onion {address}"),
        }
    }
}

/// A line that is no stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stage")]
pub struct UnknownStage;

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        let (word, detail) = text.split_once(' ').unwrap_or((text, ""));
        let count = || detail.parse::<usize>().map_err(|_| UnknownStage);
        match word {
            "listening" => Ok(Self::Listening),
            "published" => Ok(Self::Published),
            "descriptors" => Ok(Self::Descriptors(count()?)),
            "consensus" => Ok(Self::Consensus(count()?)),
            "bootstrapped" => Ok(Self::Bootstrapped(
                detail.parse().map_err(|_| UnknownStage)?,
            )),
            "onion" if !detail.is_empty() => Ok(Self::OnionUp(detail.to_owned())),
            _ => Err(UnknownStage),
        }
    }
}

/// Says which stages this node has reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    launched: bool,
}

impl Reporter {
    /// Reports to the log, and to the launcher if there is one; without one, standard output has
    /// the addresses of onion services, a line each.
    pub fn new(launched: bool) -> Self {
        Self { launched }
    }

    /// Says that a stage was reached.
    pub fn report(&self, stage: &Stage) {
        if let Some(sentence) = sentence(stage) {
            tracing::info!("{sentence}");
        }
        if self.launched {
            crate::terminal::say(&format!("{STATUS_PREFIX}{stage}"));
        } else if let Stage::OnionUp(address) = stage {
            crate::terminal::say(address);
        }
    }
}

/// A stage in the words of the log; a client's way there is logged in more detail elsewhere.
fn sentence(stage: &Stage) -> Option<String> {
    Some(match stage {
        Stage::Listening => "All ports are open".to_owned(),
        Stage::Published => "An authority took our descriptor".to_owned(),
        Stage::Descriptors(relays) => format!("Descriptors of {relays} relays are held"),
        Stage::Consensus(relays) => format!("A consensus of {relays} relays is held"),
        Stage::Bootstrapped(_) => return None,
        Stage::OnionUp(address) => format!("{address} can be visited"),
    })
}

/// Resolves when the process is to stop. Cheap to clone; each task waits on its own copy.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
}

impl Shutdown {
    /// Watches SIGTERM, SIGINT and, when launched, the end of standard input.
    ///
    /// Must be called within a runtime.
    pub fn watch(launched: bool) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return fail(
                "cannot watch signals",
                "process",
                "check the limits of this system",
            );
        };
        let (ask, asked) = watch::channel(false);
        let (ended, mut input) = tokio::sync::mpsc::channel::<()>(1);
        let unwatched = if launched {
            // A thread of its own: a blocked read cannot be cancelled, and holds up no exit here.
            std::thread::spawn(move || {
                let mut byte = [0];
                while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
                drop(ended);
            });
            None
        } else {
            Some(ended)
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => tracing::info!("Stopping: SIGTERM"),
                _ = int.recv() => tracing::info!("Stopping: SIGINT"),
                _ = input.recv() => tracing::info!("Stopping: the launcher has ended"),
            }
            let _ = ask.send(true);
            drop(unwatched);
        });
        Ok(Self { asked })
    }

    /// Returns when the process is to stop (at once, if that was asked before).
    pub async fn wait(&mut self) {
        // An error means that the asking side is gone, which is an end, too.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Whether the process is to stop.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_read_back() {
        for stage in [
            Stage::Listening,
            Stage::Published,
            Stage::Descriptors(11),
            Stage::Consensus(11),
            Stage::Bootstrapped(100),
            Stage::OnionUp("a.onion".to_owned()),
        ] {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert_eq!("bootstrapped 300".parse::<Stage>(), Err(UnknownStage));
        assert_eq!("".parse::<Stage>(), Err(UnknownStage));
        assert_eq!("onion".parse::<Stage>(), Err(UnknownStage));
    }
}
