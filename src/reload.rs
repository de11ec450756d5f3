//! Reading a configuration again while a node runs: on SIGHUP, as with `tor`.
//!
//! What is read again is decided by the role; a file that is wrong by then is named in the log, and
//! all stays as it was.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Failure, fail};

/// Reads a configuration again from where it came.
pub type Reread<T> = Box<dyn Fn() -> Result<T, Failure> + Send>;

/// Resolves each time that a configuration is to be read again.
#[derive(Debug)]
pub struct Hangups {
    signals: Signal,
}

impl Hangups {
    /// Watches SIGHUP. Must be called within a runtime.
    pub fn watch() -> Result<Self, Failure> {
        match signal(SignalKind::hangup()) {
            Ok(signals) => Ok(Self { signals }),
            Err(error) => fail("cannot watch SIGHUP", "process", error),
        }
    }

    /// Returns at the next one.
    pub async fn next(&mut self) {
        if self.signals.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
