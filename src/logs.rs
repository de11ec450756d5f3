//! The log of a process (`tracing`), to standard error or to a file.
//!
//! The level is the configuration's; `CEPA_LOG` overrides it with a filter of tracing's syntax,
//! such as `info,cepa_relay=debug`. Level and file change while the process runs: SIGHUP opens the
//! file anew (one that was renamed is written on no more), SIGUSR2 turns debug on and off. What a
//! full disk does not take is counted, and told as soon as it takes something. Addresses of
//! clients and destinations are scrubbed by whoever logs them, through `Scrubbed`, unless the
//! operator asked for them.

pub(crate) mod ear;
mod style;
mod writer;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::writer::Output;
use crate::config::{Level, LogConfig, LogStyle, LogTo};
use crate::error::{Failure, fail};

/// Whether `Scrubbed` shows what it holds.
static SHOWS_ADDRESSES: AtomicBool = AtomicBool::new(false);

/// The filter that lets nothing pass.
const NOTHING: &str = "off";

/// The log of this process.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What controllers hear, whatever is written.
    heard: reload::Handle<EnvFilter, Registry>,
    output: Output,
    state: Mutex<State>,
}

/// What was asked for last.
struct State {
    config: LogConfig,
    is_debug: bool,
}

/// Starts logging; a second call in one process changes nothing but the scrubbing.
pub fn start(config: &LogConfig) -> Result<(), Failure> {
    SHOWS_ADDRESSES.store(config.addresses, Ordering::Relaxed);
    style::set_granularity(config.granularity_ms);
    let (written, filter) = reload::Layer::new(filter(config.level())?);
    let (to_be_heard, heard) = reload::Layer::new(EnvFilter::new(NOTHING));
    let output = Output::open(&config.places, config.truncates)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(output.clone())
        // They would go to standard error, which may be what cannot be written.
        .log_internal_errors(false)
        .with_target(false);
    let lines = match config.style {
        LogStyle::Cepa => {
            let is_shown = config.places.iter().all(|place| place.to == LogTo::Stderr);
            let lines = lines.with_ansi(is_shown && crate::terminal::is_watched());
            lines.boxed()
        }
        LogStyle::Tor => lines.with_ansi(false).event_format(style::Tor).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(vec![
        lines.with_filter(written).boxed(),
        ear::Ear.with_filter(to_be_heard).boxed(),
    ]);
    // Fails only if a subscriber is set already, as in tests.
    if subscriber.try_init().is_ok() {
        let state = Mutex::new(State {
            config: config.clone(),
            is_debug: false,
        });
        let _ = LOG.set(Log {
            filter,
            heard,
            output,
            state,
        });
    }
    Ok(())
}

/// Logs by another configuration from now on, and opens its file anew. If that fails, all stays.
pub fn change(config: &LogConfig) -> Result<(), Failure> {
    let Some(log) = LOG.get() else { return Ok(()) };
    let mut state = log.state.lock().unwrap_or_else(PoisonError::into_inner);
    let filter = filter(shown(config.level(), state.is_debug))?;
    log.output.reopen(&config.places, config.truncates)?;
    style::set_granularity(config.granularity_ms);
    // An error means that there is no subscriber any more, at the end of the process.
    let _ = log.filter.reload(filter);
    SHOWS_ADDRESSES.store(config.addresses, Ordering::Relaxed);
    state.config = config.clone();
    Ok(())
}

/// Has controllers hear lines of this level and of those that matter more, also where they are not
/// written; none: no line.
pub(crate) fn hear(level: Option<tracing::Level>) {
    if !ear::listen(level) {
        return;
    }
    let filter = level.map_or_else(|| NOTHING.to_owned(), |level| directives(level.into()));
    if let Some(log) = LOG.get() {
        let _ = log.heard.reload(EnvFilter::new(filter));
    }
}

/// Opens the log's file anew, where there is one.
pub fn reopen() -> Result<(), Failure> {
    let Some(log) = LOG.get() else { return Ok(()) };
    let state = log.state.lock().unwrap_or_else(PoisonError::into_inner);
    let config = &state.config;
    log.output.reopen(&config.places, config.truncates)
}

/// Turns debug on, or back to the configured level; says which.
pub fn toggle_debug() -> Result<bool, Failure> {
    let Some(log) = LOG.get() else {
        return Ok(false);
    };
    let mut state = log.state.lock().unwrap_or_else(PoisonError::into_inner);
    let is_debug = !state.is_debug;
    let _ = log
        .filter
        .reload(filter(shown(state.config.level(), is_debug))?);
    log.output.debug(is_debug);
    state.is_debug = is_debug;
    Ok(is_debug)
}

fn shown(level: Level, is_debug: bool) -> Level {
    match level {
        Level::Trace => Level::Trace,
        _ if is_debug => Level::Debug,
        level => level,
    }
}

fn filter(level: Level) -> Result<EnvFilter, Failure> {
    match std::env::var("CEPA_LOG") {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => Ok(filter),
            Err(error) => fail("wrong filter", "CEPA_LOG", error),
        },
        Err(_) => Ok(EnvFilter::new(directives(level))),
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
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

/// Prints a line in `tor`'s style to standard output, before there is a log.
pub fn say(level: tracing::Level, what: &str) {
    crate::terminal::say(&style::line(level, what));
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
