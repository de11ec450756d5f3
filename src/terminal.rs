//! All that `cepa` prints itself goes through here (logs apart, which go through `tracing`).
//!
//! Results go to standard output, so that a script can read them; errors and warnings to standard
//! error. A closed pipe is no reason to die: what cannot be printed is dropped.

use std::io::{IsTerminal as _, Write as _};

use zeroize::Zeroizing;

use crate::error::{Failure, fail};

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

/// Asks the person at the terminal for a secret, which is not shown.
pub fn ask_secret(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match rpassword::prompt_password(question) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        Err(error) => fail("cannot ask", question.trim_end_matches([':', ' ']), error),
    }
}

/// Whether a person watches standard error, so that a progress bar makes sense.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}
