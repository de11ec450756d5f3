//! stem, the library of controllers, which judges our control port.

use std::process::Command;

/// The Python that has the system's packages.
const PYTHON: &str = "/usr/bin/python3";

/// A Python with stem, to run this script; none where there is no stem, which is said.
pub(crate) fn python(script: &str) -> Option<Command> {
    let import = Command::new(PYTHON).args(["-c", "import stem"]).output();
    if !import.is_ok_and(|import| import.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3-stem is required");
        println!("stem is not here: {script} is not run");
        return None;
    }
    let mut command = Command::new(PYTHON);
    // It imports what lies beside it, and leaves nothing there.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR")));
    Some(command)
}
