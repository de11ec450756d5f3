//! How a node speaks with the launcher that started it, and when it is to stop.
//!
//! Under `--launched` a node writes its stages to standard output, a line each, as
//! `cepa-status: WORD [DETAIL]`, and stops when its standard input ends, so that a launcher killed
//! by -9 leaves no node behind. Without the flag the stages go to the log alone. A node always
//! stops on SIGTERM and SIGINT.

use std::fmt;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
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
    /// A bridge has so many lines to hand out.
    BridgeLines(usize),
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
            Self::BridgeLines(lines) => write!(f, "bridge-lines {lines}"),
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
            "bridge-lines" => Ok(Self::BridgeLines(count()?)),
            "bootstrapped" => Ok(Self::Bootstrapped(
                detail.parse().map_err(|_| UnknownStage)?,
            )),
            "onion" if !detail.is_empty() => Ok(Self::OnionUp(detail.to_owned())),
            _ => Err(UnknownStage),
        }
    }
}

/// How a process was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Launch {
    /// By a launcher of ours, which reads stages from standard output.
    pub launched: bool,
    /// As `tor`: standard output is for lines of the log.
    pub as_tor: bool,
    /// By a process with which it ends (`__OwningControllerProcess`).
    pub owner: Option<u32>,
    /// Signals are left as they are (`__DisableSignalHandlers`).
    pub leaves_signals: bool,
}

impl Launch {
    /// By a launcher of ours, or not.
    pub fn by(launched: bool) -> Self {
        Launch {
            launched,
            ..Self::default()
        }
    }
}

/// Says which stages this node has reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    launch: Launch,
    /// Whether another role of the process says how far it is.
    is_second: bool,
    /// Whether programs that wait for it were told that a relay is ready.
    is_told: Arc<AtomicBool>,
}

impl Reporter {
    /// Reports to the log, and to the launcher if there is one; without one, standard output has
    /// the addresses of onion services, a line each.
    pub fn new(launch: Launch) -> Self {
        Self {
            launch,
            is_second: false,
            is_told: Arc::default(),
        }
    }

    /// The same for a role beside the one by which programs see how far the process is: it only
    /// logs.
    #[must_use]
    pub fn second(&self) -> Self {
        Self {
            is_second: true,
            ..self.clone()
        }
    }

    /// Whether the process stands in `tor`'s place.
    pub fn is_as_tor(&self) -> bool {
        self.launch.as_tor
    }

    /// Says that a stage was reached.
    pub fn report(&self, stage: &Stage) {
        if let Some(sentence) = sentence(stage) {
            tracing::info!("{sentence}");
        }
        if self.is_second {
            return;
        }
        if *stage == Stage::Listening && !self.launch.launched {
            crate::service::ready();
        }
        if self.launch.as_tor {
            // A relay of tor's is a client, too, and says so when it can be used.
            self.report_as_tor(stage);
        } else if self.launch.launched {
            crate::terminal::say(&format!("{STATUS_PREFIX}{stage}"));
        } else if let Stage::OnionUp(address) = stage {
            crate::terminal::say(address);
        }
    }

    /// The lines of `tor`'s that programs wait for, where ours are others.
    fn report_as_tor(&self, stage: &Stage) {
        match stage {
            // Whoever waits for this connects to the ports at once.
            Stage::Listening => tracing::info!("Bootstrapped 0% (starting): Starting"),
            // A relay of tor's is a client, too, and says once that it can be used.
            Stage::Consensus(1..) if !self.is_told.swap(true, Ordering::Relaxed) => {
                tracing::info!("Bootstrapped 100% (done): Done");
            }
            Stage::OnionUp(_) => {
                tracing::info!("Uploading hidden service descriptor: finished with status 200");
            }
            _ => {}
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
        Stage::Bootstrapped(_) | Stage::BridgeLines(_) => return None,
        Stage::OnionUp(address) => format!("{address} can be visited"),
    })
}

/// Resolves when a signal comes; never, if it is not watched.
async fn came(signal: Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Resolves when the process is to stop. Cheap to clone; each task waits on its own copy.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
}

impl Shutdown {
    /// Watches SIGTERM, SIGINT, the end of its owner and, when launched, that of standard input.
    ///
    /// Must be called within a runtime.
    pub fn watch(launch: Launch) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let watched = |kind| match launch.leaves_signals {
            true => Ok(None),
            false => signal(kind).map(Some),
        };
        let (Ok(term), Ok(int)) = (
            watched(SignalKind::terminate()),
            watched(SignalKind::interrupt()),
        ) else {
            return fail(
                "cannot watch signals",
                "process",
                "check the limits of this system",
            );
        };
        let (ask, asked) = watch::channel(false);
        let (ended, mut input) = tokio::sync::mpsc::channel::<()>(1);
        let owner = launch.owner.map(owner).transpose()?;
        let unwatched = if launch.launched {
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
                () = came(term) => tracing::info!("Stopping: SIGTERM"),
                () = came(int) => tracing::info!("Stopping: SIGINT"),
                _ = input.recv() => tracing::info!("Stopping: the launcher has ended"),
                () = gone(owner) => tracing::info!("Stopping: the owning process has ended"),
            }
            if !launch.launched {
                crate::service::stopping();
            }
            let _ = ask.send(true);
            drop(unwatched);
        });
        Ok(Self { asked })
    }

    /// The same, which whoever has the sender may ask for, too. Must be called within a runtime.
    pub fn with_asker(mut self) -> (watch::Sender<bool>, Self) {
        let (ask, asked) = watch::channel(false);
        let own = ask.clone();
        tokio::spawn(async move {
            self.wait().await;
            let _ = own.send(true);
        });
        (ask, Self { asked })
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

/// A process, to see its end; none if it is gone.
fn owner(number: u32) -> Result<Option<AsyncFd<OwnedFd>>, Failure> {
    let wrong = |error: std::io::Error| {
        let place = format!("process {number}");
        Failure::new("cannot watch the owning process", place, error)
    };
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let opened = match pid {
        Some(pid) => pidfd_open(pid, PidfdFlags::NONBLOCK),
        None => return Ok(None),
    };
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that may change: an owned one does not"
    )]
    match opened {
        Ok(fd) => Ok(Some(AsyncFd::new(fd).map_err(wrong)?)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(wrong(error.into())),
    }
}

/// Returns when the owner is gone; never, if there is none.
async fn gone(owner: Option<Option<AsyncFd<OwnedFd>>>) {
    match owner {
        None => std::future::pending().await,
        Some(None) => {}
        // It becomes readable by the end of the process.
        Some(Some(owner)) => drop(owner.readable().await),
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
            Stage::BridgeLines(2),
        ] {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert_eq!("bootstrapped 300".parse::<Stage>(), Err(UnknownStage));
        assert_eq!("".parse::<Stage>(), Err(UnknownStage));
        assert_eq!("onion".parse::<Stage>(), Err(UnknownStage));
    }
}
