//! Circles of imports: modules side by side of which each needs the other.
//!
//! A module and what is within it are one where it meets its neighbours: of the children of one
//! module, none may use, by way of others or itself, one that uses it. Parents and children use
//! each other as they like. What a parent passes on (`pub use child::Name`) is the child's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{ARROWS, assert_none, crate_of, is_test, root, rust_files, without_tests};

/// A module's path in its crate.
type Name = Vec<String>;

/// The modules of a crate, each with the names that stand for something else in it.
#[derive(Default)]
struct Modules {
    /// Each name that a module imports, with the path that it was imported by.
    names: BTreeMap<Name, BTreeMap<String, Name>>,
    /// All paths that a module uses, in full.
    used: BTreeMap<Name, BTreeSet<Name>>,
}

impl Modules {
    fn of(krate: &str, folder: &str) -> Self {
        let mut modules = Self::default();
        let src = root().join(folder).join("src");
        for path in rust_files() {
            if crate_of(&path) == Some(krate) && path.starts_with(&src) && !is_test(&path) {
                modules.read(&src, &path);
            }
        }
        modules
    }

    fn read(&mut self, src: &Path, path: &Path) {
        let within = path.strip_prefix(src).unwrap().with_extension("");
        let mut module: Name = within
            .iter()
            .map(|part| part.to_string_lossy().into())
            .collect();
        if matches!(module.as_slice(), [one] if one == "lib" || one == "main") {
            module.clear();
        }
        let text = fs::read_to_string(path).unwrap();
        let code: String = without_tests(&text)
            .into_iter()
            .map(|line| line.split("//").next().unwrap_or_default())
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut used = BTreeSet::new();
        let mut names = BTreeMap::new();
        for tree in statements(&code) {
            let mut paths = Vec::new();
            spread(&tree, &mut Vec::new(), &mut paths);
            for (path, alias) in paths {
                if let Some(full) = full(&module, &path) {
                    names.insert(alias, full.clone());
                    used.insert(full);
                }
            }
        }
        for start in ["crate::", "super::", "self::"] {
            for (at, _) in code.match_indices(start) {
                let is_whole =
                    !code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
                let end = code[at..].find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
                let path = &code[at..end.map_or(code.len(), |end| at + end)];
                let path: Name = path
                    .split("::")
                    .filter(|one| !one.is_empty())
                    .map(str::to_owned)
                    .collect();
                if is_whole && let Some(full) = full(&module, &path) {
                    used.insert(full);
                }
            }
        }
        self.names.entry(module.clone()).or_default().extend(names);
        self.used.entry(module).or_default().extend(used);
    }

    /// The module in which what a path names is at home.
    fn home(&self, path: &[String]) -> Name {
        let mut path = path.to_vec();
        // As often as modules pass it on; circles of those are none of ours.
        for _ in 0..8 {
            let known = (0..=path.len())
                .rev()
                .find(|len| self.names.contains_key(&path[..*len]));
            let len = known.unwrap_or(0);
            let passed = path
                .get(len)
                .and_then(|name| self.names.get(&path[..len])?.get(name));
            match passed {
                Some(to) if *to != path[..=len] => {
                    path = [to.as_slice(), &path[len + 1..]].concat();
                }
                _ => {
                    path.truncate(len);
                    return path;
                }
            }
        }
        path
    }

    /// For each parent, which of its children use which, with one place for each pair.
    fn uses(&self) -> BTreeMap<Name, BTreeMap<String, BTreeMap<String, Name>>> {
        let mut uses: BTreeMap<Name, BTreeMap<String, BTreeMap<String, Name>>> = BTreeMap::new();
        for (from, paths) in &self.used {
            for to in paths.iter().map(|path| self.home(path)) {
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(user), Some(used)) = (from.get(shared), to.get(shared)) {
                    let of_parent = uses.entry(from[..shared].to_vec()).or_default();
                    let of_user = of_parent.entry(user.clone()).or_default();
                    of_user.entry(used.clone()).or_insert_with(|| from.clone());
                }
            }
        }
        uses
    }
}

/// The trees of all `use` statements: what stands between `use` and `;`, without blanks.
fn statements(code: &str) -> Vec<String> {
    let mut trees = Vec::new();
    let mut open: Option<String> = None;
    for line in code.lines().map(str::trim) {
        let start = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        let start = start.iter().find_map(|start| line.strip_prefix(start));
        if let Some(tree) = &mut open {
            tree.push_str(line);
        } else if let Some(start) = start {
            open = Some(start.to_owned());
        }
        if open.is_some() && line.ends_with(';') {
            trees.extend(
                open.take()
                    .map(|tree| tree.trim_end_matches(';').to_owned()),
            );
        }
    }
    trees
}

/// The paths of a tree such as `a::{b, c::{self, d as e}}`, each with the name that it has here.
fn spread(tree: &str, before: &mut Name, paths: &mut Vec<(Name, String)>) {
    let len = before.len();
    let mut rest = tree.trim();
    while let Some((first, after)) = rest
        .split_once("::")
        .filter(|(first, _)| !first.contains('{'))
    {
        before.push(first.trim().to_owned());
        rest = after.trim();
    }
    if let Some(list) = rest
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let (mut depth, mut start) = (0_usize, 0);
        for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !list[start..at].trim().is_empty() {
                        spread(&list[start..at], before, paths);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
    } else {
        let (name, alias) = rest.split_once(" as ").unwrap_or((rest, rest));
        let mut path = before.clone();
        if name != "self" && name != "*" {
            path.push(name.to_owned());
        }
        let alias = if alias == "self" {
            path.last().cloned().unwrap_or_default()
        } else {
            alias.to_owned()
        };
        paths.push((path, alias));
    }
    before.truncate(len);
}

/// A path from the root of the crate on; none for paths of other crates.
fn full(module: &[String], path: &[String]) -> Option<Name> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while rest.get(1).is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
            base.pop();
        }
        _ => return None,
    }
    Some([base.as_slice(), &rest[1..]].concat())
}

/// Those of which each uses, by way of others, all of the set it is in: sets of two and more.
fn circles(uses: &BTreeMap<String, BTreeMap<String, Name>>) -> Vec<BTreeSet<&str>> {
    let reached = |from: &str| {
        let (mut found, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(one) = open.pop() {
            for next in uses.get(&one).into_iter().flatten().map(|(next, _)| next) {
                if found.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        found
    };
    let all: BTreeMap<&str, _> = uses
        .keys()
        .map(|one| (one.as_str(), reached(one)))
        .collect();
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for (one, of_one) in &all {
        let mutual = |other: &&str| of_one.contains(*other) && all[*other].contains(*one);
        let circle: BTreeSet<&str> = all.keys().copied().filter(mutual).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// A circle, and which of its modules uses which, where.
fn shown(circle: &BTreeSet<&str>, uses: &BTreeMap<String, BTreeMap<String, Name>>) -> String {
    let mut text = circle.iter().copied().collect::<Vec<_>>().join(", ");
    for (user, of_user) in uses {
        for (used, place) in of_user {
            if circle.contains(user.as_str()) && circle.contains(used.as_str()) {
                text.push_str(&format!("\n  {user} uses {used} in {}", place.join("::")));
            }
        }
    }
    text
}

#[test]
fn modules_side_by_side_do_not_need_each_other() {
    let mut wrong = Vec::new();
    for (krate, folder, _) in ARROWS {
        for (parent, uses) in Modules::of(krate, folder).uses() {
            let parent = parent.join("::");
            for circle in circles(&uses) {
                wrong.push(format!("{krate} {parent}: {}", shown(&circle, &uses)));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn circles_are_found() {
    let pairs = [
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("c", "d"),
        ("d", "e"),
        ("e", "d"),
        ("f", "a"),
    ];
    let mut uses = BTreeMap::<String, BTreeMap<String, Name>>::new();
    for (user, used) in pairs {
        uses.entry(user.into())
            .or_default()
            .insert(used.into(), Vec::new());
    }
    assert_eq!(
        circles(&uses),
        [["a", "b", "c"].into(), BTreeSet::from(["d", "e"])]
    );
    let mut paths = Vec::new();
    spread(
        "crate::{a, b::{self, C as D}, e::*}",
        &mut Vec::new(),
        &mut paths,
    );
    let paths: Vec<_> = paths
        .iter()
        .map(|(path, name)| (path.join("::"), name.as_str()))
        .collect();
    let wanted = [
        ("crate::a", "a"),
        ("crate::b", "b"),
        ("crate::b::C", "D"),
        ("crate::e", "*"),
    ];
    assert_eq!(paths, wanted.map(|(path, name)| (path.to_owned(), name)));
    let path = ["super", "super", "x"].map(str::to_owned);
    assert_eq!(
        full(&["a".into(), "b".into()], &path),
        Some(vec!["x".to_owned()])
    );
}
