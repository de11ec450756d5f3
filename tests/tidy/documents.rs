//! Documents that code cites exist, with the sections it names; so do files that documents name.
//!
//! A cite is the path of a document (`docs/protocol.md`, or one of the root in capitals), behind
//! it perhaps ` section N`, `#heading` or `, "Heading"`. In a table of `docs/`, what stands in code
//! behind a cell that is a Rust file is a name of that file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{assert_none, files_of, root, shown};

/// Extensions of files that may cite documents.
const CITING: [&str; 5] = ["rs", "toml", "sh", "py", "md"];
/// Those of files whose names are looked up where a document names them.
const NAMED: [&str; 3] = ["rs", "sh", "py"];

/// The documents for people: those of the root and of `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut files = files_of(&["md"]);
    files.retain(|path| {
        let folder = path.parent().unwrap();
        folder == root() || folder == root().join("docs")
    });
    files
}

/// The comments of a file, or all of a document, its lines joined by blanks.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    if path.extension() == Some("md".as_ref()) {
        return text.replace('\n', " ");
    }
    let comments = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let is_rust = path.extension() == Some("rs".as_ref());
        let comment = line.strip_prefix(if is_rust { "//" } else { "#" })?;
        Some(comment.trim_start_matches(['/', '!', '#', ' ']))
    });
    comments.collect::<Vec<_>>().join(" ")
}

/// The documents that a text cites, each with what stands behind it.
fn cites(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    text.match_indices(".md").filter_map(move |(dot, _)| {
        let (before, rest) = text.split_at(dot);
        let start = before.rfind(|c| !is_path(c)).map_or(0, |at| at + 1);
        let name = before.get(start..)?;
        let is_cite = name.starts_with("docs/")
            || name.starts_with(|c: char| c.is_ascii_uppercase())
            || before.get(..start)?.ends_with("](");
        let rest = rest.strip_prefix(".md")?;
        (is_cite && !rest.starts_with(is_path)).then(|| (text.get(start..dot + 3).unwrap(), rest))
    })
}

/// The headings of a document.
fn headings(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| line.trim_start_matches('#').trim().to_owned())
        .collect()
}

/// A heading as links name it.
fn slug(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .replace(|c: char| !c.is_alphanumeric() && !" -_".contains(c), "");
    kept.replace(' ', "-")
}

/// The section that stands behind a cite and that its document has not.
fn lacking(document: &Path, behind: &str) -> Option<String> {
    let headings = headings(document);
    if let Some(rest) = behind.strip_prefix('#') {
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"-_".contains(c));
        let wanted = rest.get(..end.unwrap_or(rest.len()))?;
        let found = headings.iter().any(|one| slug(one) == wanted);
        return (!found).then(|| format!("#{wanted}"));
    }
    if let Some(rest) = behind.strip_prefix(" section ") {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let wanted = rest.get(..end.unwrap_or(rest.len()))?;
        let found = headings
            .iter()
            .any(|one| one.starts_with(&format!("{wanted}. ")));
        return (!found).then(|| format!("section {wanted}"));
    }
    let (wanted, _) = behind.strip_prefix(", \"")?.split_once('"')?;
    (!headings.iter().any(|one| one == wanted)).then(|| format!("\"{wanted}\""))
}

#[test]
fn cited_documents_and_sections_exist() {
    let mut wrong = Vec::new();
    for path in files_of(&CITING) {
        for (name, behind) in cites(&prose(&path)) {
            let beside = path.parent().unwrap().join(name);
            let document = [root().join(name), beside]
                .into_iter()
                .find(|it| it.exists());
            match document {
                None => wrong.push(format!("{} cites {name}, which is not there", shown(&path))),
                Some(document) => {
                    let lacks = lacking(&document, behind);
                    wrong.extend(lacks.map(|it| format!("{}: {name} has no {it}", shown(&path))));
                }
            }
        }
    }
    assert_none(wrong);
}

/// What stands in code on a line: between back quotes.
fn in_code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn files_that_documents_name_exist() {
    let mut wrong = Vec::new();
    let files = files_of(&NAMED).into_iter();
    let all: Vec<String> = files.map(|path| format!("/{}", shown(&path))).collect();
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    for document in documents() {
        for (number, line) in fs::read_to_string(&document).unwrap().lines().enumerate() {
            let names = in_code(line).filter(|word| {
                let end = word.rsplit_once('.').map_or("", |(_, end)| end);
                word.contains('/') && word.chars().all(is_path) && NAMED.contains(&end)
            });
            for name in names {
                // Documents may leave out the first folders.
                if !all.iter().any(|path| path.ends_with(&format!("/{name}"))) {
                    let at = format!("{}:{}", shown(&document), number + 1);
                    wrong.push(format!("{at}: {name} is not there"));
                }
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn names_that_tables_give_are_in_their_files() {
    let mut wrong = Vec::new();
    let is_name = |word: &&str| {
        word.chars()
            .all(|c| c.is_alphanumeric() || "_:".contains(c))
    };
    for document in documents() {
        for (number, line) in fs::read_to_string(&document).unwrap().lines().enumerate() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            for pair in cells.windows(2) {
                let file = pair[0]
                    .strip_prefix('`')
                    .and_then(|it| it.strip_suffix('`'));
                let file = file.filter(|file| file.ends_with(".rs") && !file.contains('`'));
                let Some(text) = file.and_then(|it| fs::read_to_string(root().join(it)).ok())
                else {
                    continue;
                };
                let words: BTreeSet<&str> = text
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .collect();
                for name in in_code(pair[1])
                    .filter(is_name)
                    .flat_map(|it| it.split("::"))
                {
                    if !words.contains(name) {
                        let at = format!("{}:{}", shown(&document), number + 1);
                        wrong.push(format!("{at}: {} has no {name}", pair[0]));
                    }
                }
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn cites_are_found_and_judged() {
    let text = "as docs/protocol.md section 5 says (CONTRIBUTING.md, \"Test\"), not self.md.x";
    let found: Vec<_> = cites(text).map(|(name, _)| name).collect();
    assert_eq!(found, ["docs/protocol.md", "CONTRIBUTING.md"]);
    let protocol = root().join("docs/protocol.md");
    assert_eq!(lacking(&protocol, " section 5 says"), None);
    assert_eq!(
        lacking(&protocol, " section 99)"),
        Some("section 99".to_owned())
    );
    assert_eq!(lacking(&protocol, "#5-directory)"), None);
    assert_eq!(lacking(&protocol, "#nothing)"), Some("#nothing".to_owned()));
    assert_eq!(
        lacking(&root().join("CONTRIBUTING.md"), ", \"Test\")"),
        None
    );
    assert!(lacking(&protocol, ", \"Test\")").is_some());
}
