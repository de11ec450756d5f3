//! Applying a diff (prop 140).

use crate::consensus::{CONSENSUS_BYTES_MAX, ConsensusText};
use crate::diff::{DiffError, DiffHeader, document_digest};

/// Commands of one diff, at most: a document at its bound that changed in every second line has not
/// as many (TROVE-2026-042: diffs are bounded in what they cost, too).
pub(super) const COMMANDS_MAX: usize = 1 << 18;

/// What a command does with the lines from `from` through `to`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// `a`: adds lines behind line `to`.
    Append { to: usize },
    /// `c`: replaces lines.
    Change { from: usize, to: usize },
    /// `d`: deletes lines.
    Delete { from: usize, to: usize },
}

/// The text that `diff` makes of `base`: not parsed, but of the digest that the diff names.
///
/// # Errors
/// [`DiffError`]; nothing of the result is to be used then.
pub fn apply(base: &ConsensusText, diff: &str) -> Result<String, DiffError> {
    let (header, script) = DiffHeader::parse(diff)?;
    if header.base != base.diff_base_digest() {
        return Err(DiffError::OtherBase);
    }
    let result = run(base.text(), script)?;
    if document_digest(&result) != header.target {
        return Err(DiffError::WrongResult);
    }
    Ok(result)
}

/// Runs the script: the commands go backwards through the lines of the base.
pub(super) fn run(base: &str, script: &str) -> Result<String, DiffError> {
    let starts = line_starts(base);
    let lines = starts.len().saturating_sub(1);
    // Lines before `left` are not yet dealt with; `parts` is the result from its end on.
    let (mut left, mut parts, mut bytes, mut commands) = (lines, Vec::new(), 0, 0);
    let mut keep = |parts: &mut Vec<_>, part| {
        bytes += str::len(part);
        parts.push(part);
        match bytes > CONSENSUS_BYTES_MAX {
            true => Err(DiffError::TooLarge),
            false => Ok(()),
        }
    };
    let unchanged = |from: usize, to: usize| {
        let (from, to) = (starts.get(from).copied(), starts.get(to).copied());
        let part = from.zip(to).and_then(|(from, to)| base.get(from..to));
        part.unwrap_or_default()
    };
    let mut rest = script;
    while !rest.is_empty() {
        commands += 1;
        if commands > COMMANDS_MAX {
            return Err(DiffError::TooLarge);
        }
        let (line, after) = rest.split_once('\n').ok_or(DiffError::Truncated)?;
        rest = after;
        let command = command(line, lines, left == lines && parts.is_empty())?;
        let (from, to) = match command {
            Command::Append { to } => (to + 1, to),
            Command::Change { from, to } | Command::Delete { from, to } => (from, to),
        };
        if to > left {
            return Err(DiffError::Order);
        }
        keep(&mut parts, unchanged(to, left))?;
        left = from - 1;
        if !matches!(command, Command::Delete { .. }) {
            let (added, after) = added_lines(rest)?;
            keep(&mut parts, added)?;
            rest = after;
        }
    }
    keep(&mut parts, unchanged(0, left))?;
    parts.reverse();
    Ok(parts.concat())
}

/// The offsets of all lines' first bytes, and that of the end. A last line without a newline
/// counts as a line.
fn line_starts(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
    if starts.last() != Some(&text.len()) {
        starts.push(text.len());
    }
    starts
}

/// The lines up to a line with a dot, and what comes behind that.
fn added_lines(rest: &str) -> Result<(&str, &str), DiffError> {
    if rest.starts_with(".\n") {
        return Err(DiffError::Command);
    }
    let end = rest.find("\n.\n").ok_or(DiffError::Truncated)?;
    let added = rest.get(..=end).ok_or(DiffError::Truncated)?;
    Ok((added, rest.get(end + 3..).unwrap_or_default()))
}

fn command(line: &str, lines: usize, is_first: bool) -> Result<Command, DiffError> {
    let bad = DiffError::Command;
    let (range, kind) = line
        .split_at_checked(line.len().saturating_sub(1))
        .ok_or(bad)?;
    let (from, to) = match range.split_once(',') {
        None => {
            let line = number(range)?;
            (line, line)
        }
        Some((from, "$")) if is_first && kind == "d" => (number(from)?, lines),
        Some((from, to)) => (number(from)?, number(to)?),
    };
    let is_range = range.contains(',');
    match kind {
        "a" if !is_range => Ok(Command::Append { to }),
        "c" | "d" if from == 0 || from > to => Err(DiffError::Order),
        "c" => Ok(Command::Change { from, to }),
        "d" => Ok(Command::Delete { from, to }),
        _ => Err(bad),
    }
}

fn number(text: &str) -> Result<usize, DiffError> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number {
        text.parse().map_err(|_| DiffError::Command)
    } else {
        Err(DiffError::Command)
    }
}
