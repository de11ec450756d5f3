//! Making a diff (prop 140).
//!
//! Both consensuses list their relays in the same order, so they are merged relay by relay; only
//! the few lines of a relay, the head and the foot are compared line by line, within a bound.
//! The first command deletes all of the old signatures, since the base may have come with others.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::ops::Range;

use crate::consensus::{ConsensusText, SIGNATURE_KEYWORD};
use crate::diff::{DiffError, DiffHeader, apply, document_digest};

/// Most pairs of lines that one comparison may look at; larger parts are replaced as a whole.
const PAIRS_MAX: usize = 1 << 20;

/// Lines of the base and the lines of the target that stand in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    base: Range<usize>,
    target: Range<usize>,
}

/// The script that makes `target` of `base`; it has been tried.
///
/// # Errors
/// [`DiffError::Flavours`].
pub fn make(base: &ConsensusText, target: &ConsensusText) -> Result<String, DiffError> {
    if base.consensus().flavour != target.consensus().flavour {
        return Err(DiffError::Flavours);
    }
    let header = DiffHeader {
        base: base.diff_base_digest(),
        target: document_digest(target.text()),
    };
    let mut diff = header.encode();
    let (old, new) = (Parts::of(base), Parts::of(target));
    let hunks = compare(&old, &new);
    write_script(&old, &new, hunks, &mut diff);
    apply::apply(base, &diff)?;
    Ok(diff)
}

/// The lines of a consensus and where its parts begin.
struct Parts<'a> {
    lines: Vec<&'a str>,
    /// The first line of each relay.
    routers: Vec<usize>,
    ids: Vec<&'a [u8; 20]>,
    /// The first line behind the relays.
    footer: usize,
    /// The first line of the signatures.
    signatures: usize,
}

impl<'a> Parts<'a> {
    fn of(text: &'a ConsensusText) -> Self {
        let lines: Vec<&str> = text.text().split_inclusive('\n').collect();
        let find = |keyword: &str| lines.iter().position(|line| line.starts_with(keyword));
        let signatures = find(SIGNATURE_KEYWORD).unwrap_or(lines.len());
        let footer = find("directory-footer").unwrap_or(signatures);
        let routers: Vec<usize> = (0..footer)
            .filter(|at| lines.get(*at).is_some_and(|line| line.starts_with("r ")))
            .collect();
        let ids = text
            .consensus()
            .routers
            .iter()
            .map(|router| router.rsa_id.as_bytes())
            .collect();
        Self {
            lines,
            routers,
            ids,
            footer,
            signatures,
        }
    }

    /// The lines of the relay at `at`; behind the last one, the empty range before the footer.
    fn router(&self, at: usize) -> Range<usize> {
        let start = |at: usize| self.routers.get(at).copied().unwrap_or(self.footer);
        start(at)..start(at + 1)
    }

    fn slice(&self, range: &Range<usize>) -> &[&'a str] {
        self.lines.get(range.clone()).unwrap_or_default()
    }
}

/// All that changed, in the order of the documents.
fn compare(old: &Parts<'_>, new: &Parts<'_>) -> Vec<Hunk> {
    let mut hunks = Vec::new();
    compare_lines(
        old,
        new,
        0..old.router(0).start,
        0..new.router(0).start,
        &mut hunks,
    );
    let (mut a, mut b) = (0, 0);
    loop {
        let order = match (old.ids.get(a), new.ids.get(b)) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        let (base, target) = (old.router(a), new.router(b));
        match order {
            Ordering::Equal => compare_lines(old, new, base, target, &mut hunks),
            Ordering::Less => push(&mut hunks, base, target.start..target.start),
            Ordering::Greater => push(&mut hunks, base.start..base.start, target),
        }
        a += usize::from(order != Ordering::Greater);
        b += usize::from(order != Ordering::Less);
    }
    let (base, target) = (old.footer..old.signatures, new.footer..new.signatures);
    compare_lines(old, new, base, target, &mut hunks);
    hunks
}

/// Adds a hunk, joined to the one before if they touch.
fn push(hunks: &mut Vec<Hunk>, base: Range<usize>, target: Range<usize>) {
    if base.is_empty() && target.is_empty() {
        return;
    }
    match hunks.last_mut() {
        Some(last) if last.base.end == base.start && last.target.end == target.start => {
            last.base.end = base.end;
            last.target.end = target.end;
        }
        _ => hunks.push(Hunk { base, target }),
    }
}

/// Compares two parts line by line.
fn compare_lines(
    old: &Parts<'_>,
    new: &Parts<'_>,
    mut base: Range<usize>,
    mut target: Range<usize>,
    hunks: &mut Vec<Hunk>,
) {
    let (a, b) = (old.slice(&base), new.slice(&target));
    let prefix = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let tail = a.len().min(b.len()) - prefix;
    let suffix = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(tail)
        .take_while(|(a, b)| a == b)
        .count();
    base = base.start + prefix..base.end - suffix;
    target = target.start + prefix..target.end - suffix;
    let (a, b) = (old.slice(&base), new.slice(&target));
    if a.is_empty() || b.is_empty() || a.len().saturating_mul(b.len()) > PAIRS_MAX {
        return push(hunks, base, target);
    }
    let common = longest_common(a, b);
    let (mut x, mut y) = (base.start, target.start);
    for (i, j) in common {
        let (i, j) = (base.start + i, target.start + j);
        push(hunks, x..i, y..j);
        (x, y) = (i + 1, j + 1);
    }
    push(hunks, x..base.end, y..target.end);
}

/// The pairs of positions of a longest common subsequence.
fn longest_common(a: &[&str], b: &[&str]) -> Vec<(usize, usize)> {
    let width = b.len() + 1;
    // `table[i * width + j]`: its length for `a[i..]` and `b[j..]`.
    let mut table = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i * width + j] = if a[i] == b[j] {
                table[(i + 1) * width + j + 1] + 1
            } else {
                table[(i + 1) * width + j].max(table[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if table[(i + 1) * width + j] >= table[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Writes the commands, from the last line to the first.
fn write_script(old: &Parts<'_>, new: &Parts<'_>, mut hunks: Vec<Hunk>, out: &mut String) {
    // Line numbers count from 1.
    let _ = writeln!(out, "{},$d", old.signatures + 1);
    push(
        &mut hunks,
        old.signatures..old.signatures,
        new.signatures..new.lines.len(),
    );
    for Hunk { base, target } in hunks.into_iter().rev() {
        let added = new.slice(&target);
        let (from, to) = (base.start + 1, base.end);
        let _ = match (base.len(), added.is_empty()) {
            (0, _) => writeln!(out, "{to}a"),
            (1, false) => writeln!(out, "{from}c"),
            (1, true) => writeln!(out, "{from}d"),
            (_, false) => writeln!(out, "{from},{to}c"),
            (_, true) => writeln!(out, "{from},{to}d"),
        };
        if !added.is_empty() {
            out.extend(added.iter().copied());
            out.push_str(".\n");
        }
    }
}
