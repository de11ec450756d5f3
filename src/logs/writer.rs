//! Where lines of the log go: standard streams, or files that can be opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Level, LogPlace, LogTo};
use crate::error::{Failure, fail};

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    all: Vec<Place>,
    /// Whether all of it goes everywhere.
    is_debug: bool,
    /// Lines that could not be written since one was.
    lost: u64,
}

#[derive(Debug)]
struct Place {
    level: Level,
    to: To,
}

#[derive(Debug)]
enum To {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    /// Files are emptied first where that is wanted.
    pub(super) fn open(places: &[LogPlace], truncates: bool) -> Result<Self, Failure> {
        Ok(Output(Arc::new(Mutex::new(Places {
            all: open_all(places, truncates)?,
            is_debug: false,
            lost: 0,
        }))))
    }

    /// The files of these names from now on, whatever became of those before.
    pub(super) fn reopen(&self, places: &[LogPlace], truncates: bool) -> Result<(), Failure> {
        let all = open_all(places, truncates)?;
        self.places().all = all;
        Ok(())
    }

    /// Whether lines of any level go to each place.
    pub(super) fn debug(&self, is_debug: bool) {
        self.places().is_debug = is_debug;
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_all(places: &[LogPlace], truncates: bool) -> Result<Vec<Place>, Failure> {
    let open = places.iter().map(|place| {
        let to = match &place.to {
            LogTo::Stderr => To::Stderr,
            LogTo::Stdout => To::Stdout,
            LogTo::File(path) => To::File(open(path, truncates)?),
        };
        let level = place.level;
        Ok(Place { level, to })
    });
    open.collect()
}

fn open(path: &Path, truncates: bool) -> Result<File, Failure> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    // Of what is no file, such as a pipe, nothing can be taken away.
    let emptied = opened.inspect(|file| {
        if truncates {
            let _ = file.set_len(0);
        }
    });
    emptied.or_else(|error| fail("cannot write the log", path.display(), error))
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            places: self.places(),
            level: Level::Error,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line {
            places: self.places(),
            level: match *meta.level() {
                tracing::Level::ERROR => Level::Error,
                tracing::Level::WARN => Level::Warn,
                tracing::Level::INFO => Level::Info,
                tracing::Level::DEBUG => Level::Debug,
                tracing::Level::TRACE => Level::Trace,
            },
        }
    }
}

/// One line, which is written by one call to each place that it is for.
pub(super) struct Line<'a> {
    places: MutexGuard<'a, Places>,
    level: Level,
}

impl Line<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (level, is_debug) = (self.level, self.places.is_debug);
        let all = self.places.all.iter_mut();
        let put =
            all.filter(|place| is_debug || level <= place.level)
                .map(|place| match &mut place.to {
                    To::File(file) => file.write_all(bytes),
                    To::Stderr => io::stderr().lock().write_all(bytes),
                    To::Stdout => {
                        let mut out = io::stdout().lock();
                        out.write_all(bytes).and_then(|()| out.flush())
                    }
                });
        // A place that takes nothing keeps no line from the others.
        put.fold(Ok(()), Result::and)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.places.lost > 0 {
            let told = format!(
                "({} lines of this log could not be written)\n",
                self.places.lost
            );
            if self.put(told.as_bytes()).is_ok() {
                self.places.lost = 0;
            }
        }
        if self.put(bytes).is_err() {
            self.places.lost = self.places.lost.saturating_add(1);
            // Whoever collects standard error learns of a disk that takes no more; beyond that
            // there is nobody to tell.
            let _ = io::stderr().lock().write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(path: &Path) -> [LogPlace; 1] {
        [LogPlace {
            level: Level::Info,
            to: LogTo::File(path.to_owned()),
        }]
    }

    #[test]
    fn a_renamed_file_is_written_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let output = Output::open(&to(&path), false).unwrap();
        let write = |text: &str| output.make_writer().write_all(text.as_bytes()).unwrap();
        write("one\n");
        std::fs::rename(&path, &old).unwrap();
        write("two\n");
        output.reopen(&to(&path), false).unwrap();
        write("three\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // One that cannot be opened changes nothing.
        assert!(output.reopen(&to(dir.path()), true).is_err());
        write("four\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn a_file_is_emptied_where_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let output = Output::open(&to(&path), true).unwrap();
        let write = |text: &str| output.make_writer().write_all(text.as_bytes()).unwrap();
        write("one\n");
        write("two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        output.reopen(&to(&path), true).unwrap();
        write("three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::open(&to(Path::new("/dev/full")), false).unwrap();
        let write = |text: &str| output.make_writer().write_all(text.as_bytes()).unwrap();
        write("one\n");
        write("two\n");
        let path = dir.path().join("log");
        output.reopen(&to(&path), false).unwrap();
        write("three\n");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "(2 lines of this log could not be written)\nthree\n");
    }
}
