//! Checks the house rules that no lint knows (CONTRIBUTING.md, "What a change needs"): sizes,
//! names, first lines, which crate may use which, and that what documents and code say of each
//! other is there.
//!
//! What breaks a rule is cut or renamed; there are no exceptions. Sizes are read off rustfmt's
//! layout: a function ends at the first line that is its closing brace at its indent.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/impls.rs"]
mod impls;

/// Lines of a file without its tests, at most.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line, at most.
const LINE_CHARS_MAX: usize = 100;

/// Words that say nothing: no type's name has one, and no function's starts with `get_`.
const EMPTY_WORDS: [&str; 5] = ["Manager", "Inner", "Impl", "Util", "Helper"];

/// Words of ours alone that stood for something which the field has a word for: no item that others
/// see has one in its name (docs/glossary.md says which are left).
const PRIVATE_WORDS: [&str; 9] = [
    "bell", "beside", "doomed", "hands", "meeting", "meetings", "outset", "told", "wish",
];

/// What only `src/` may use: runtimes, sockets, files, clocks, terminals.
const SHELL_ONLY: [&str; 15] = [
    "tokio",
    "mio",
    "async-std",
    "smol",
    "futures",
    "socket2",
    "rusqlite",
    "hyper",
    "hyper-util",
    "rustls",
    "rustix",
    "getrandom",
    "hickory-resolver",
    "indicatif",
    "clap",
];

/// Which of our crates each one may use (docs/architecture.md, "The house").
const ARROWS: [(&str, &str, &[&str]); 15] = [
    ("cepa-crypto", "proto/crypto", &[]),
    ("cepa-wire", "proto/wire", &["cepa-crypto"]),
    ("cepa-netdoc", "proto/netdoc", &["cepa-crypto", "cepa-wire"]),
    (
        "cepa-dir",
        "proto/dir",
        &["cepa-crypto", "cepa-wire", "cepa-netdoc"],
    ),
    ("cepa-link", "proto/link", &["cepa-crypto", "cepa-wire"]),
    (
        "cepa-circuit",
        "proto/circuit",
        &["cepa-crypto", "cepa-wire"],
    ),
    (
        "cepa-control",
        "proto/control",
        &["cepa-crypto", "cepa-wire", "cepa-netdoc"],
    ),
    ("cepa-limits", "proto/limits", &["cepa-crypto", "cepa-wire"]),
    ("cepa-torrc", "proto/torrc", &[]),
    ("cepa-pt", "proto/pt", &["cepa-crypto"]),
    (
        "cepa-authority",
        "authority",
        &["cepa-crypto", "cepa-wire", "cepa-netdoc", "cepa-dir"],
    ),
    (
        "cepa-relay",
        "relay",
        &[
            "cepa-crypto",
            "cepa-wire",
            "cepa-netdoc",
            "cepa-dir",
            "cepa-link",
            "cepa-circuit",
            "cepa-limits",
        ],
    ),
    (
        "cepa-client",
        "client",
        &[
            "cepa-crypto",
            "cepa-wire",
            "cepa-netdoc",
            "cepa-dir",
            "cepa-link",
            "cepa-circuit",
            "cepa-limits",
            "cepa-pt",
        ],
    ),
    (
        "cepa-testnet",
        "testnet",
        &[
            "cepa-crypto",
            "cepa-wire",
            "cepa-netdoc",
            "cepa-dir",
            "cepa-link",
            "cepa-circuit",
            "cepa-limits",
            "cepa-authority",
            "cepa-relay",
            "cepa-client",
        ],
    ),
    (
        "cepa",
        ".",
        &[
            "cepa-crypto",
            "cepa-wire",
            "cepa-netdoc",
            "cepa-dir",
            "cepa-link",
            "cepa-circuit",
            "cepa-control",
            "cepa-limits",
            "cepa-torrc",
            "cepa-pt",
            "cepa-authority",
            "cepa-relay",
            "cepa-client",
            "cepa-testnet",
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each file of the repository with one of these extensions, but for what cargo and git make.
fn files_of(extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    let is_one = |path: &Path| {
        extensions
            .iter()
            .any(|one| path.extension() == Some(one.as_ref()))
    };
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if is_one(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Each Rust file of the repository.
fn rust_files() -> Vec<PathBuf> {
    let files = files_of(&["rs"]);
    assert!(files.len() > 50, "the files were not found");
    files
}

/// Fails with all that is wrong, not with the first.
fn assert_none(wrong: Vec<String>) {
    assert!(
        wrong.is_empty(),
        "{} to tidy:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The lines before the tests of a file.
fn without_tests(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{')
    });
    lines.truncate(tests.unwrap_or(lines.len()));
    lines
}

/// The crate whose product code a file belongs to.
fn crate_of(path: &Path) -> Option<&'static str> {
    let mut crates = ARROWS.iter();
    let found = crates.find(|(_, folder, _)| path.starts_with(root().join(folder).join("src")));
    found.map(|(name, _, _)| *name)
}

/// Whether a file is all tests, or what tests alone need.
fn is_test(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let mut parts = parts.iter().map(|part| part.trim_end_matches(".rs"));
    parts.any(|part| ["tests", "fixture", "testing"].contains(&part))
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = without_tests(&text).len();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "{}: {lines} lines, at most {FILE_LINES_MAX}",
                shown(&path)
            ));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{}:1: does not start with //!", shown(&path)));
        }
    }
    assert_none(wrong);
}

#[test]
fn lines_are_short() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let chars = line.chars().count();
            // A vector of a peer's, such as a PEM line, cannot be cut.
            if chars > LINE_CHARS_MAX && !is_one_literal(line) {
                wrong.push(format!(
                    "{}:{}: {chars} characters",
                    shown(&path),
                    number + 1
                ));
            }
        }
    }
    assert_none(wrong);
}

/// Whether a line is nothing but one string without spaces.
fn is_one_literal(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '&', '(', '[']);
    line.starts_with(['"', 'b', 'h']) && line.matches(' ').count() <= 1 && line.contains('"')
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let body = lines.get(start..).unwrap_or_default();
            // A declaration has no body; a short one ends on its own line.
            let length = 1 + body.iter().position(|line| *line == end).unwrap_or(0);
            let signature_end = body.iter().find(|line| line.ends_with(['{', ';', '}']));
            let is_declared = signature_end.is_some_and(|line| line.ends_with(';'));
            if length > FUNCTION_LINES_MAX && !line.ends_with('}') && !is_declared {
                wrong.push(format!(
                    "{}:{}: {name} has {length} lines",
                    shown(&path),
                    start + 1
                ));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn modules_have_files_of_their_names() {
    let tests = root().join("tests");
    let product = rust_files().into_iter();
    let product = product.filter(|path| !path.starts_with(&tests));
    let wrong = product.filter(|path| path.ends_with("mod.rs"));
    assert_none(wrong.map(|path| shown(&path)).collect());
}

/// The name of the function that starts at this line, if one does.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[test]
fn names_say_something() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", shown(&path), number + 1);
            if function_name(line).is_some_and(|name| name.starts_with("get_")) {
                wrong.push(format!("{place}: a function's name starts with get_"));
            }
            if let Some(name) = type_name(line)
                && EMPTY_WORDS.iter().any(|word| has_word(name, word))
            {
                wrong.push(format!("{place}: {name} says nothing"));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn names_are_the_fields_words() {
    let mut wrong = Vec::new();
    let product = rust_files().into_iter();
    for path in product.filter(|path| crate_of(path).is_some() && !is_test(path)) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in without_tests(&text).iter().enumerate() {
            let is_seen = ["pub ", "pub(crate) "]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            let name = function_name(line).or_else(|| type_name(line));
            let words = words(name.filter(|_| is_seen).unwrap_or_default());
            if let Some(word) = PRIVATE_WORDS.iter().find(|one| words.contains(**one)) {
                wrong.push(format!("{}:{}: {word}", shown(&path), number + 1));
            }
        }
    }
    assert_none(wrong);
}

/// The words of a name, of either case, in small letters.
fn words(name: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word = String::new();
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.insert(std::mem::take(&mut word));
        }
        if c != '_' {
            word.extend(c.to_lowercase());
        }
    }
    words.insert(word);
    words
}

/// The name of the type that starts at this line, if one does.
fn type_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    let rest = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// Whether a camel-case name has that word, not only its letters (`Implicit` has no `Impl`).
fn has_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| {
        let after = name.get(at + word.len()..).unwrap_or_default();
        !after.starts_with(char::is_lowercase)
    })
}

/// The dependencies of a crate's manifest, those of its tests apart.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let mut names = BTreeSet::new();
    let mut within = false;
    for line in text.lines() {
        if line.starts_with('[') {
            within = line == "[dependencies]";
        } else if within && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    names
}

#[test]
fn only_the_shell_touches_the_world() {
    let mut wrong = Vec::new();
    for (name, folder, _) in ARROWS {
        if folder != "." {
            let used = dependencies(folder);
            let found = SHELL_ONLY.iter().filter(|one| used.contains(**one));
            wrong.extend(found.map(|one| format!("{name} uses {one}")));
        }
    }
    assert_none(wrong);
}

#[test]
fn crates_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    let ours: BTreeMap<_, _> = ARROWS
        .iter()
        .map(|(name, _, allowed)| (*name, *allowed))
        .collect();
    for (name, folder, allowed) in ARROWS {
        for used in dependencies(folder) {
            if ours.contains_key(used.as_str()) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} must not use {used}"));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn every_crate_has_its_arrows() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let missing = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" = { path = \"")?;
        let folder = rest.split('"').next()?;
        let is_known = ARROWS
            .iter()
            .any(|(known, at, _)| *known == name && *at == folder);
        (!is_known).then(|| format!("{name} in {folder} is not in ARROWS"))
    });
    assert_none(missing.collect());
}
