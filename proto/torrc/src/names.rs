//! The names of options: what each stands for, whole, abbreviated, or as it was once.

use crate::option::OptionInfo;
use crate::table;

/// What a name in a torrc stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// An option by its name.
    Known(&'static OptionInfo),
    /// An option by the beginning of its name.
    Abbreviated(&'static OptionInfo),
    /// An option by a name that it had.
    Renamed(&'static OptionInfo),
    /// An option that `tor` no longer has, and passes over.
    Obsolete(&'static str),
    /// Nothing.
    Unknown,
}

/// All options, in the order of their names.
pub fn all() -> Vec<&'static OptionInfo> {
    let mut all: Vec<_> = table::TABLES.iter().copied().flatten().collect();
    all.sort_by_key(|option| option.name.to_ascii_lowercase());
    all
}

/// The option of a name, whatever its case.
pub fn named(name: &str) -> Option<&'static OptionInfo> {
    let mut all = table::TABLES.iter().copied().flatten();
    all.find(|option| option.name.eq_ignore_ascii_case(name))
}

/// What a name stands for.
pub fn find(name: &str) -> Named {
    if name.is_empty() {
        return Named::Unknown;
    }
    // Names that are but the plural or the singular of others are read without a word.
    let mut spellings = table::SPELLINGS.iter();
    if let Some((_, now)) = spellings.find(|(one, _)| one.eq_ignore_ascii_case(name)) {
        return known_or_obsolete(now, Named::Known);
    }
    let mut renamed = table::RENAMED.iter();
    if let Some((_, now)) = renamed.find(|(one, _)| one.eq_ignore_ascii_case(name)) {
        return known_or_obsolete(now, Named::Renamed);
    }
    match known_or_obsolete(name, Named::Known) {
        Named::Unknown => {}
        found => return found,
    }
    // The first one of the alphabet that begins so, as in tor.
    let begins = |one: &str| {
        one.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let mut all = all().into_iter();
    match all.find(|option| begins(option.name)) {
        Some(option) => Named::Abbreviated(option),
        None => Named::Unknown,
    }
}

fn known_or_obsolete(name: &str, known: fn(&'static OptionInfo) -> Named) -> Named {
    if let Some(option) = named(name) {
        return known(option);
    }
    let mut obsolete = table::OBSOLETE.iter();
    match obsolete.find(|one| one.eq_ignore_ascii_case(name)) {
        Some(obsolete) => Named::Obsolete(obsolete),
        None => Named::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_tor_finds_them() {
        let name = |text: &str| match find(text) {
            Named::Known(option) => format!("known {}", option.name),
            Named::Abbreviated(option) => format!("short {}", option.name),
            Named::Renamed(option) => format!("old {}", option.name),
            Named::Obsolete(name) => format!("gone {name}"),
            Named::Unknown => "unknown".to_owned(),
        };
        for (text, is) in [
            ("socksport", "known SocksPort"),
            ("SocksPol", "short SocksPolicy"),
            ("Socks", "short Socks4Proxy"),
            ("l", "short LearnCircuitBuildTimeout"),
            ("MaxConn", "old ConnLimit"),
            ("NumHelperNodes", "known NumEntryGuards"),
            ("DirServer", "known DirAuthority"),
            ("StrictEntryNodes", "gone StrictEntryNodes"),
            ("ORBindAddress", "gone ORListenAddress"),
            ("EntryNode", "known EntryNodes"),
            ("Foo", "unknown"),
            ("", "unknown"),
            ("ß", "unknown"),
        ] {
            assert_eq!(name(text), is, "{text}");
        }
    }

    #[test]
    fn each_option_is_there_once() {
        let all = all();
        assert_eq!(all.len(), 377);
        let twice = all.windows(2).find(|two| two[0].name == two[1].name);
        assert_eq!(twice, None);
        for (name, now) in table::SPELLINGS.iter().chain(&table::RENAMED) {
            assert_eq!(named(name), None, "{name}");
            let is_there = named(now).is_some() || table::OBSOLETE.contains(now);
            assert!(is_there, "{now}");
        }
    }
}
