//! All that `cepa` prints itself goes through here (logs apart, which go through `tracing`).
//!
//! Results go to standard output, so that a script can read them; errors and warnings to standard
//! error. A closed pipe is no reason to die: what cannot be printed is dropped.

use std::io::{IsTerminal as _, Write as _};

/// Prints one line of a result to standard output.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: nothing to do about it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a whole document to standard output, as it is.
pub fn write(document: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(document.as_bytes())
        .and_then(|()| out.flush());
}

/// Prints one line to standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether a person watches standard error, so that a progress bar makes sense.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}
