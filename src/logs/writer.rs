//! Where lines of the log go: standard error, or a file that can be opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Failure, fail};

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Mutex<Place>>);

#[derive(Debug)]
struct Place {
    /// None: standard error.
    file: Option<File>,
    /// Lines that could not be written since one was.
    lost: u64,
}

impl Output {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(open).transpose()?;
        Ok(Output(Arc::new(Mutex::new(Place { file, lost: 0 }))))
    }

    /// The file of this name from now on, whatever became of the one before.
    pub(super) fn reopen(&self, path: Option<&Path>) -> Result<(), Failure> {
        let file = path.map(open).transpose()?;
        self.place().file = file;
        Ok(())
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    opened.or_else(|error| fail("cannot write the log", path.display(), error))
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self.place())
    }
}

/// One line, which is written by one call.
pub(super) struct Line<'a>(MutexGuard<'a, Place>);

impl Line<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0.file {
            Some(file) => file.write_all(bytes),
            None => io::stderr().lock().write_all(bytes),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.lost > 0 {
            let told = format!("({} lines of this log could not be written)\n", self.0.lost);
            if self.put(told.as_bytes()).is_ok() {
                self.0.lost = 0;
            }
        }
        if self.put(bytes).is_err() {
            self.0.lost = self.0.lost.saturating_add(1);
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

    #[test]
    fn a_renamed_file_is_written_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let output = Output::open(Some(&path)).unwrap();
        let write = |text: &str| output.make_writer().write_all(text.as_bytes()).unwrap();
        write("one\n");
        std::fs::rename(&path, &old).unwrap();
        write("two\n");
        output.reopen(Some(&path)).unwrap();
        write("three\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // One that cannot be opened changes nothing.
        assert!(output.reopen(Some(dir.path())).is_err());
        write("four\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::open(Some(Path::new("/dev/full"))).unwrap();
        let write = |text: &str| output.make_writer().write_all(text.as_bytes()).unwrap();
        write("one\n");
        write("two\n");
        let path = dir.path().join("log");
        output.reopen(Some(&path)).unwrap();
        write("three\n");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "(2 lines of this log could not be written)\nthree\n");
    }
}
