//! Clocks that are wrong: processes that are told another time of day (libfaketime). Their
//! monotonic clock is left alone, as a wrong clock is set, and does not run faster.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian has the library, below the folder of the machine's kind.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Lets a command run with a clock that is so many seconds ahead, or behind.
pub(crate) fn shift(command: &mut Command, secs: i64) {
    let library = library().unwrap();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("{secs:+}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        // Files that it did not make have the time of this machine.
        .env("NO_FAKE_STAT", "1");
}

/// The same with a clock that goes as [`set`] says, as often as it does.
pub(crate) fn follow(command: &mut Command, file: &Path) {
    let library = library().unwrap();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
}

/// Sets a clock so many seconds ahead, or back; nobody sees half of it.
pub(crate) fn set(file: &Path, secs: i64) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{secs:+}\n")).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// Whether that is possible here. CI must be able to.
pub(crate) fn is_here() -> bool {
    let is_here = library().is_some();
    if !is_here {
        println!("skipped: faketime is not here");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI needs faketime"
        );
    }
    is_here
}

fn library() -> Option<PathBuf> {
    let kinds = std::fs::read_dir("/usr/lib").ok()?;
    let mut libraries = kinds.filter_map(|kind| Some(kind.ok()?.path().join(LIBRARY)));
    libraries.find(|library| library.exists())
}
