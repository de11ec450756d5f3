//! How much behaviour a type has: the lines of its `impl` blocks over all files of its crate.
//!
//! A file's length says nothing of it: a type may be spread over a folder. Types of one name in
//! one crate count as one.

use std::collections::BTreeMap;
use std::fs;

use super::{assert_none, crate_of, is_test, rust_files, without_tests};

/// Lines of `impl` blocks of a type, at most.
const IMPL_LINES_MAX: usize = 900;

/// Lines of `impl` blocks, tests apart, by crate and type.
fn lines_of_impls() -> BTreeMap<(&'static str, String), usize> {
    let mut sums = BTreeMap::new();
    for path in rust_files() {
        let Some(name) = crate_of(&path).filter(|_| !is_test(&path)) else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let lines = without_tests(&text);
        for (start, line) in lines.iter().enumerate() {
            let head: String = lines[start..]
                .iter()
                .take_while(|line| !line.is_empty())
                .flat_map(|line| [line.trim_start(), " "])
                .collect();
            let Some(of) = type_of(line, &head) else {
                continue;
            };
            let length = lines[start..].iter().position(|line| *line == "}");
            let length = if line.ends_with('}') {
                0
            } else {
                length.unwrap_or(0)
            };
            *sums.entry((name, of)).or_default() += length + 1;
        }
    }
    sums
}

/// The type of an `impl` block that starts at this line, by its last name.
fn type_of(line: &str, head: &str) -> Option<String> {
    if !line.starts_with("impl ") && !line.starts_with("impl<") {
        return None;
    }
    let head = head.split('{').next()?.split(" where ").next()?;
    // Generics, however deep, are of no interest.
    let mut plain = String::new();
    let (mut depth, mut last) = (0_usize, ' ');
    for c in head.chars() {
        match c {
            '<' => depth += 1,
            // Not that of `->`.
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
        last = c;
    }
    let of = plain
        .split(" for ")
        .last()?
        .trim_start_matches("impl")
        .trim();
    let of = of
        .trim_start_matches(['&', '\'', ' '])
        .trim_start_matches("mut ");
    Some(of.rsplit("::").next()?.to_owned())
}

#[test]
fn no_type_does_too_much() {
    let sums = lines_of_impls();
    assert!(sums.len() > 300, "the types were not found");
    let mut longest: Vec<_> = sums
        .iter()
        .map(|((name, of), sum)| (sum, name, of))
        .collect();
    longest.sort_unstable();
    for (sum, name, of) in longest.iter().rev().take(12) {
        println!("{name} {of}: {sum} lines of impl");
    }
    let mut wrong = Vec::new();
    for ((name, of), sum) in &sums {
        if *sum > IMPL_LINES_MAX {
            wrong.push(format!(
                "{name} {of}: {sum} lines of impl, at most {IMPL_LINES_MAX}"
            ));
        }
    }
    assert_none(wrong);
}
