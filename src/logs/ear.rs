//! Lines of the log for whoever listens (the events DEBUG to ERR of controllers).
//!
//! ```text
//! tracing ─▶ Ear (up to the level that is wanted, whatever is written) ─▶ a queue ─▶ heard()
//! ```
//! Nothing is kept while nobody listens; what comes while the queue is full is dropped.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that wait at most.
const LINES_MAX: usize = 1000;
/// Bytes of a line that are told at most.
const LINE_BYTES_MAX: usize = 10_000;

/// The level that is wanted: 0 for no line, 1 for errors, 5 for traces.
static WANTED: AtomicU8 = AtomicU8::new(0);
/// Lines that wait.
static LINES: Mutex<VecDeque<(Level, String)>> = Mutex::new(VecDeque::new());
/// Rings when there are some.
static WAKER: Notify = Notify::const_new();

fn lines() -> MutexGuard<'static, VecDeque<(Level, String)>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has lines of this level, and of those that matter more, heard from now on; none: no line. True
/// if that is another level than before.
pub(super) fn listen(level: Option<Level>) -> bool {
    let wanted = level.map_or(0, number);
    WANTED.swap(wanted, Ordering::Relaxed) != wanted
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The lines that came since last asked, once there are any. Cancel-safe.
pub(crate) async fn heard() -> Vec<(Level, String)> {
    loop {
        let waiting = std::mem::take(&mut *lines());
        if !waiting.is_empty() {
            return waiting.into();
        }
        WAKER.notified().await;
    }
}

/// Hears what the log is told.
pub(super) struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if number(*event.metadata().level()) > WANTED.load(Ordering::Relaxed) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let mut waiting = lines();
        if waiting.len() < LINES_MAX {
            waiting.push_back((*event.metadata().level(), line.text()));
            drop(waiting);
            WAKER.notify_one();
        }
    }
}

/// An event as a line: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(self) -> String {
        let mut text = self.message + &self.fields;
        let mut end = LINE_BYTES_MAX.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded() {
        let line = Line {
            message: "ä".repeat(LINE_BYTES_MAX),
            fields: String::new(),
        };
        assert!(line.text().len() <= LINE_BYTES_MAX);
    }
}
