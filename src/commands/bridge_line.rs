//! `cepa bridge line`: the lines by which a bridge is handed out.

use crate::args::BridgeLineArgs;
use crate::error::{Failure, fail};
use crate::roles::BRIDGE_LINES_FILE;
use crate::terminal;

/// Prints them.
pub(super) fn run(args: &BridgeLineArgs) -> Result<(), Failure> {
    let path = args.data_dir.join(BRIDGE_LINES_FILE);
    let advice = "start the bridge (a relay with bridge = true), which writes it";
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(
            format!("there are no bridge lines ({error})"),
            path.display(),
            advice,
        )
    })?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    if lines.is_empty() {
        let advice = "no transport serves yet: look into the log of the bridge";
        return fail("there are no bridge lines", path.display(), advice);
    }
    terminal::say(&lines.join("\n"));
    Ok(())
}
