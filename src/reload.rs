//! What signals ask of a node that runs, as with `tor`: SIGHUP to read its configuration again,
//! SIGUSR1 to write its state to the log, SIGUSR2 to turn debug on and off.
//!
//! Which keys take effect at once is decided by the role; a file that is wrong by then is named in
//! the log, and all stays as it was. A log is opened anew by SIGHUP whatever the file says.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Failure, fail};
use crate::service::Watchdog;
use crate::{logs, service};

/// Reads a configuration again from where it came.
pub type Reread<T> = Box<dyn Fn() -> Result<T, Failure> + Send>;

/// What a signal asks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Read the configuration again: SIGHUP.
    Reload,
    /// Write the state to the log: SIGUSR1.
    Status,
}

/// The number of SIGXFSZ, for which tokio has no name.
const SIGXFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

/// Signals that wait; more of them at once ask for the same.
const ASKED_MAX: usize = 4;

/// What the process is asked by signals, in turn.
#[derive(Debug)]
pub struct Signals {
    asked: mpsc::Receiver<Asked>,
    /// Whether whoever asked last is reading the configuration.
    is_reloading: bool,
    /// Who is told that the loop which asks here has not stopped.
    watchdog: Watchdog,
}

impl Signals {
    /// None: whoever started the process has them (`__DisableSignalHandlers`).
    pub fn unwatched() -> Self {
        let (_, asked) = mpsc::channel(ASKED_MAX);
        Self {
            asked,
            is_reloading: false,
            watchdog: Watchdog::new(),
        }
    }

    /// Watches the signals from now on; none of them ends the process any more. Must be called
    /// within a runtime.
    pub fn watch() -> Result<Self, Failure> {
        let watched = |kind, name: &str| match signal(kind) {
            Ok(signals) => Ok(signals),
            Err(error) => fail("cannot watch this signal", name, error),
        };
        let hangup = watched(SignalKind::hangup(), "SIGHUP")?;
        let status = watched(SignalKind::user_defined1(), "SIGUSR1")?;
        let debug = watched(SignalKind::user_defined2(), "SIGUSR2")?;
        // Of a file that grows beyond RLIMIT_FSIZE: an error of that write is enough.
        drop(watched(SignalKind::from_raw(SIGXFSZ), "SIGXFSZ")?);
        let (sender, asked) = mpsc::channel(ASKED_MAX);
        tokio::spawn(pass_on(hangup, status, debug, sender));
        Ok(Self {
            asked,
            is_reloading: false,
            watchdog: Watchdog::new(),
        })
    }

    /// Returns what is asked next. What was asked before has been done by then. Cancel-safe.
    pub async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.is_reloading) {
            service::ready();
        }
        let asked = tokio::select! {
            Some(asked) = self.asked.recv() => asked,
            never = self.watchdog.feed() => match never {},
        };
        self.is_reloading = asked == Asked::Reload;
        if self.is_reloading {
            service::reloading();
        }
        asked
    }
}

/// The log is seen to here, also while the role has not begun its loop.
async fn pass_on(
    mut hangup: Signal,
    mut status: Signal,
    mut debug: Signal,
    sender: mpsc::Sender<Asked>,
) {
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => {
                if let Err(error) = logs::reopen() {
                    tracing::error!("the log stays where it was: {error}");
                }
                Asked::Reload
            }
            Some(()) = status.recv() => Asked::Status,
            Some(()) = debug.recv() => {
                match logs::toggle_debug() {
                    Ok(true) => tracing::info!("debug is logged until the next SIGUSR2"),
                    Ok(false) => tracing::info!("what is configured is logged again"),
                    Err(error) => tracing::error!("{error}"),
                }
                continue;
            }
            else => return,
        };
        // A full queue holds the same question already.
        let _ = sender.try_send(asked);
    }
}
