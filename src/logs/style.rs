//! Lines as `tor` writes them, which programs that start it read: `Nov 29 07:00:00.000 [notice] …`.
//!
//! What a node does, a line a stage, is notice there and info here; the times are of UTC.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::config::GRANULARITY_MS;

/// What times of lines are multiples of, in milliseconds (`LogTimeGranularity`).
static GRANULARITY: AtomicU32 = AtomicU32::new(GRANULARITY_MS);

/// Times of lines are multiples of so many milliseconds from now on.
pub(super) fn set_granularity(ms: u32) {
    GRANULARITY.store(ms.max(1), Ordering::Relaxed);
}

/// `tor`'s style.
pub(super) struct Tor;

impl<S, N> FormatEvent<S, N> for Tor
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(&line(*event.metadata().level(), ""))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// One line.
pub(super) fn line(level: Level, what: &str) -> String {
    let wall = rounded(clock::now().wall, GRANULARITY.load(Ordering::Relaxed));
    let now = OffsetDateTime::from(wall);
    let format = format_description!(
        "[month repr:short] [day] [hour]:[minute]:[second].[subsecond digits:3]"
    );
    let time = now.format(format).unwrap_or_default();
    let word = match level {
        Level::ERROR => "err",
        Level::WARN => "warn",
        Level::INFO => "notice",
        Level::DEBUG => "info",
        Level::TRACE => "debug",
    };
    format!("{time} [{word}] {what}")
}

/// The last multiple of so many milliseconds; of a second, or part of it, within that.
fn rounded(wall: SystemTime, ms: u32) -> SystemTime {
    let since = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (secs, millis) = (since.as_secs(), u64::from(since.subsec_millis()));
    let ms = u64::from(ms.max(1));
    let rounded = match ms / 1000 {
        0 => secs * 1000 + millis / ms * ms,
        step => secs / step * step * 1000,
    };
    SystemTime::UNIX_EPOCH + Duration::from_millis(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_multiples() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        for (ms, is) in [
            (1, 61_789),
            (10, 61_780),
            (500, 61_500),
            (1000, 61_000),
            (60_000, 60_000),
        ] {
            assert_eq!(rounded(at(61_789), ms), at(is), "{ms}");
        }
    }

    #[test]
    fn a_line_is_as_tors() {
        let line = line(Level::INFO, "Bootstrapped 100% (done): Done");
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[0].len(), words[2].len()), (3, 12), "{line}");
        assert!(line.ends_with(" [notice] Bootstrapped 100% (done): Done"));
    }
}
