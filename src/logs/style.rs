//! Lines as `tor` writes them, which programs that start it read: `Nov 29 07:00:00.000 [notice] …`.
//!
//! What a node does, a line a stage, is notice there and info here; the times are of UTC.

use std::fmt;

use time::OffsetDateTime;
use time::macros::format_description;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

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
    let now = OffsetDateTime::from(clock::now().wall);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_tors() {
        let line = line(Level::INFO, "Bootstrapped 100% (done): Done");
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[0].len(), words[2].len()), (3, 12), "{line}");
        assert!(line.ends_with(" [notice] Bootstrapped 100% (done): Done"));
    }
}
