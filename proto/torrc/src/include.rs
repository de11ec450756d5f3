//! A file with all that it includes (`%include`): files, the files of a folder, patterns, in the
//! order of their names, down to a depth.

use std::sync::Arc;

use crate::line::Lines;
use crate::{Change, DEPTH_MAX, ENTRIES_MAX, Entry, FILE_LEN_MAX, FILES_MAX, Place, Problem, glob};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// The files that may be included.
pub trait Files {
    /// What is at a path, if anything is.
    fn kind(&self, path: &str) -> Option<Kind>;
    /// The names in a folder; none if it cannot be read.
    fn names(&self, folder: &str) -> Vec<String>;
    /// The text of a file, of at most `FILE_LEN_MAX` bytes, or why there is none.
    fn read(&self, path: &str) -> Result<String, String>;
}

/// Reads a torrc of this name and text, with all that it includes.
pub fn read(file: &str, text: &str, files: &impl Files) -> Result<Vec<Entry>, Problem> {
    let mut reader = Reader {
        files,
        entries: Vec::new(),
        opened: 1,
    };
    reader.file(file, text, 0)?;
    Ok(reader.entries)
}

struct Reader<'a, F> {
    files: &'a F,
    entries: Vec<Entry>,
    opened: usize,
}

impl<F: Files> Reader<'_, F> {
    fn file(&mut self, file: &str, text: &str, depth: usize) -> Result<(), Problem> {
        let name: Arc<str> = file.into();
        let at = |line| Place {
            file: Arc::clone(&name),
            line,
        };
        if text.len() > FILE_LEN_MAX {
            return Err(Problem::at(&at(0), "the file is too large"));
        }
        for (number, line) in Lines::new(text) {
            let place = at(number);
            let line = line.map_err(|error| Problem::at(&place, error))?;
            if self.entries.len() >= ENTRIES_MAX {
                return Err(Problem::at(&place, "too many lines"));
            }
            if line.key.eq_ignore_ascii_case("%include") {
                self.include(&line.value, &place, depth + 1)?;
                continue;
            }
            let (change, name) = split(&line.key);
            self.entries.push(Entry {
                change,
                name: name.to_owned(),
                value: line.value,
                place,
            });
        }
        Ok(())
    }

    fn include(&mut self, path: &str, place: &Place, depth: usize) -> Result<(), Problem> {
        if path.is_empty() {
            return Err(Problem::at(place, "%include names no file"));
        }
        if depth > DEPTH_MAX {
            let what = format!("files include files deeper than {DEPTH_MAX}");
            return Err(Problem::at(place, what));
        }
        let found = match glob::is_pattern(path) {
            true => self.expand(path, place)?,
            false => vec![path.to_owned()],
        };
        for path in found {
            match self.files.kind(&path) {
                Some(Kind::Folder) => {
                    let mut names = self.files.names(&path);
                    names.retain(|name| !name.starts_with('.'));
                    names.sort();
                    for name in names {
                        let path = join(&path, &name);
                        if self.files.kind(&path) == Some(Kind::File) {
                            self.open(&path, place, depth)?;
                        }
                    }
                }
                _ => self.open(&path, place, depth)?,
            }
        }
        Ok(())
    }

    fn open(&mut self, path: &str, place: &Place, depth: usize) -> Result<(), Problem> {
        self.opened += 1;
        if self.opened > FILES_MAX {
            return Err(Problem::at(place, format!("more than {FILES_MAX} files")));
        }
        let text = self.files.read(path);
        let text =
            text.map_err(|why| Problem::at(place, format!("cannot include {path:?}: {why}")))?;
        self.file(path, &text, depth)
    }

    /// The paths that a pattern matches, sorted; of nothing, none.
    fn expand(&self, pattern: &str, place: &Place) -> Result<Vec<String>, Problem> {
        let is_absolute = pattern.starts_with('/');
        let mut paths = vec![if is_absolute { "/" } else { "" }.to_owned()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for path in &paths {
                if !glob::is_pattern(part) {
                    next.push(join(path, part));
                    continue;
                }
                let folder = if path.is_empty() { "." } else { path };
                let names = self.files.names(folder).into_iter();
                next.extend(
                    names
                        .filter(|name| glob::matches(part, name))
                        .map(|name| join(path, &name)),
                );
            }
            paths = next;
            if paths.len() > FILES_MAX {
                return Err(Problem::at(place, format!("more than {FILES_MAX} files")));
            }
        }
        paths.retain(|path| self.files.kind(path).is_some());
        paths.sort();
        Ok(paths)
    }
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{}/{name}", folder.trim_end_matches('/')),
    }
}

/// The prefix of a key, and the option's name.
pub(crate) fn split(key: &str) -> (Change, &str) {
    match (key.strip_prefix('+'), key.strip_prefix('/')) {
        (Some(name), _) => (Change::Append, name),
        (_, Some(name)) => (Change::Clear, name),
        _ => (Change::Set, key),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Files in memory, by path.
    #[derive(Default)]
    pub(crate) struct Shelf(pub(crate) BTreeMap<&'static str, &'static str>);

    impl Files for Shelf {
        fn kind(&self, path: &str) -> Option<Kind> {
            let folder = format!("{path}/");
            match self.0.contains_key(path) {
                true => Some(Kind::File),
                false => {
                    (self.0.keys().any(|one| one.starts_with(&folder))).then_some(Kind::Folder)
                }
            }
        }

        fn names(&self, folder: &str) -> Vec<String> {
            let folder = match folder {
                "." => String::new(),
                folder => format!("{}/", folder.trim_end_matches('/')),
            };
            let below = self.0.keys().filter_map(|path| path.strip_prefix(&*folder));
            let names: BTreeSet<_> = below.filter_map(|path| path.split('/').next()).collect();
            names.into_iter().map(str::to_owned).collect()
        }

        fn read(&self, path: &str) -> Result<String, String> {
            let text = self.0.get(path).map(|text| (*text).to_owned());
            text.ok_or_else(|| "it is not there".to_owned())
        }
    }

    fn names(text: &str, files: &Shelf) -> Result<Vec<String>, String> {
        let entries = read("torrc", text, files).map_err(|error| error.to_string())?;
        let shown = |entry: Entry| format!("{} {}", entry.name, entry.place);
        Ok(entries.into_iter().map(shown).collect())
    }

    #[test]
    fn files_folders_and_patterns_are_included_in_order() {
        let files = Shelf(BTreeMap::from([
            ("d/b", "B 1"),
            ("d/a", "A 1\n%include \"one file\""),
            ("d/.c", "C 1"),
            ("d/sub/d", "D 1"),
            ("one file", "\nOne 1"),
            ("/etc/x/1.conf", "X 1"),
            ("/etc/x/2.conf", "X 2"),
            ("/etc/x/2.old", "X 3"),
        ]));
        let text = "First 1\n%include d\n%INCLUDE /etc/x/*.conf\n%include /none/*\nLast 1";
        let is = names(text, &files).unwrap();
        let expected = [
            "First torrc line 1",
            "A d/a line 1",
            "One one file line 2",
            "B d/b line 1",
            "X /etc/x/1.conf line 1",
            "X /etc/x/2.conf line 1",
            "Last torrc line 5",
        ];
        assert_eq!(is, expected);
        let error = names("\n%include nowhere", &files).unwrap_err();
        assert!(error.starts_with("torrc line 2: cannot include"), "{error}");
        assert!(names("%include", &files).is_err());
    }

    #[test]
    fn a_file_that_includes_itself_has_an_end() {
        let files = Shelf(BTreeMap::from([("a", "X 1\n%include a")]));
        assert!(names("%include a", &files).unwrap_err().contains("deeper"));
        let files = Shelf(BTreeMap::from([
            ("a", "%include b\n%include b"),
            ("b", "%include a\n%include a"),
        ]));
        assert!(names("%include a", &files).is_err());
    }
}
