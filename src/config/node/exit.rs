//! Whereto streams may leave at a node: the lines of its exit policy.

use super::NodeTable;
use crate::config::source::Source;
use crate::error::Failure;

/// Lines of an exit policy, at most.
const POLICY_LINES_MAX: usize = 500;

/// Checks the lines.
pub(super) fn check(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    for line in &table.exit_policy {
        let expected = "accept or reject, then ADDRESS:PORT, such as accept *:80";
        source.expect(line, "exit_policy", expected, |line| is_policy_line(line))?;
    }
    if let Some(line) = table.exit_policy.get(POLICY_LINES_MAX) {
        return Err(source.wrong(line, "exit_policy", "at most 500 lines"));
    }
    Ok(())
}

fn is_policy_line(line: &str) -> bool {
    let Some((verb, pattern)) = line.split_once(' ') else {
        return false;
    };
    matches!(verb, "accept" | "reject" | "accept6" | "reject6")
        && pattern.contains(':')
        && !pattern.contains(char::is_whitespace)
}
