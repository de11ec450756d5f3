//! Sets up the log of a process (`tracing`), to standard error or to a file.
//!
//! The level is the configuration's; `CEPA_LOG` overrides it with a filter of tracing's syntax,
//! such as `info,cepa_relay=debug`. Addresses of clients and destinations are scrubbed by whoever
//! logs them, through `Scrubbed`, unless the operator asked for them.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Level, LogConfig};
use crate::error::{Failure, fail};

/// Whether `Scrubbed` shows what it holds: set once at the start.
static SHOWS_ADDRESSES: AtomicBool = AtomicBool::new(false);

/// Starts logging; a second call in one process changes nothing but the scrubbing.
pub fn start(config: &LogConfig) -> Result<(), Failure> {
    SHOWS_ADDRESSES.store(config.addresses, Ordering::Relaxed);
    let filter = match std::env::var("CEPA_LOG") {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => filter,
            Err(error) => return fail("wrong filter", "CEPA_LOG", error),
        },
        Err(_) => EnvFilter::new(directives(config.level)),
    };
    let writer = match &config.file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let opened = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path);
            match opened {
                Ok(file) => BoxMakeWriter::new(Mutex::new(file)),
                Err(error) => return fail("cannot write the log", path.display(), error),
            }
        }
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(config.file.is_none() && crate::terminal::is_watched())
        .with_target(false);
    // Fails only if a subscriber is set already, as in tests.
    let _ = subscriber.try_init();
    Ok(())
}

/// Our own crates at the level, libraries at warnings.
fn directives(level: Level) -> String {
    let name = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    if level == Level::Error {
        return name.to_owned();
    }
    // A directive matches by prefix: `cepa` stands for each of our crates.
    format!("warn,cepa={name}")
}

/// Shows an address or name of a user's only where the operator asked for that.
#[derive(Debug, Clone, Copy)]
pub struct Scrubbed<T>(pub T);

impl<T: fmt::Display> fmt::Display for Scrubbed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if SHOWS_ADDRESSES.load(Ordering::Relaxed) {
            self.0.fmt(f)
        } else {
            f.write_str("[scrubbed]")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_scrubbed_by_default() {
        assert_eq!(Scrubbed("127.0.0.1:80").to_string(), "[scrubbed]");
    }

    #[test]
    fn filters_parse() {
        for level in [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            assert!(EnvFilter::try_new(directives(level)).is_ok());
        }
    }
}
