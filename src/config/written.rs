//! A configuration as it was written, and what another one changes of it.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// A configuration as it was written, to tell what another one changes.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The file, for messages.
    path: PathBuf,
    /// The folder from which relative paths are meant.
    folder: PathBuf,
    /// What took effect at the start.
    started: Table,
    /// What was read last.
    now: Table,
}

/// The keys that another configuration changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect now.
    pub now: Vec<String>,
    /// Those that take effect at the next start.
    pub later: Vec<String>,
}

impl Written {
    /// The configuration with which a node starts.
    pub fn new(table: Table) -> Self {
        let now = table.clone();
        Written {
            path: PathBuf::new(),
            folder: PathBuf::new(),
            started: table,
            now,
        }
    }

    /// The same from a file.
    #[must_use]
    pub fn from_file(mut self, path: &Path, folder: &Path) -> Self {
        (self.path, self.folder) = (path.to_owned(), folder.to_owned());
        self
    }

    /// Lays keys over what was written, as arguments are.
    pub fn lay_over(&mut self, keys: &Table) {
        for table in [&mut self.started, &mut self.now] {
            if keys.contains_key("network") {
                table.remove("inline_network");
            }
            lay(table, keys);
        }
    }

    /// The file, and the folder from which relative paths are meant.
    pub fn places(&self) -> (&Path, &Path) {
        (&self.path, &self.folder)
    }

    /// What was read last.
    pub fn table(&self) -> &Table {
        &self.now
    }

    /// Whether another one differs in keys that take effect at a start only.
    pub fn differs_in(&self, next: &Table, fixed: &[&str]) -> bool {
        let different = different(&self.now, next);
        different.iter().any(|key| is_fixed(key, fixed))
    }

    /// Reads another one; `fixed` names keys that take effect at a start only (of a table's keys
    /// as `table.key`, or the table).
    pub fn read(&mut self, next: &Written, fixed: &[&str]) -> Changes {
        let is_fixed = |key: &str| is_fixed(key, fixed);
        let changes = Changes {
            now: different(&self.now, &next.now)
                .into_iter()
                .filter(|key| !is_fixed(key))
                .collect(),
            later: different(&self.started, &next.now)
                .into_iter()
                .filter(|key| is_fixed(key))
                .collect(),
        };
        self.now.clone_from(&next.now);
        changes
    }
}

impl Changes {
    /// Tells the operator; `besides`: what was read again beside the configuration.
    pub fn tell(&self, besides: &str) {
        let changed = match self.now.is_empty() {
            true => "nothing in it has changed".to_owned(),
            false => format!("changed: {}", self.now.join(", ")),
        };
        tracing::info!("Configuration read again; {changed}; {besides} read again, too");
        if !self.later.is_empty() {
            tracing::warn!(
                "changed in the configuration, but as before until the next start: {}",
                self.later.join(", ")
            );
        }
    }
}

fn lay(table: &mut Table, keys: &Table) {
    for (key, value) in keys {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(keys)) => lay(inner, keys),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

/// Whether a key, or its table, is one of those.
fn is_fixed(key: &str, fixed: &[&str]) -> bool {
    let table = key.split_once('.').map(|(table, _)| table);
    fixed.contains(&key) || table.is_some_and(|table| fixed.contains(&table))
}

/// The keys whose values differ, those of tables one by one.
fn different(one: &Table, other: &Table) -> Vec<String> {
    let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys {
        match (one.get(key), other.get(key)) {
            (a, b) if a == b => {}
            (Some(Value::Table(a)), Some(Value::Table(b))) => {
                let inner = different(a, b).into_iter();
                found.extend(inner.map(|inner| format!("{key}.{inner}")));
            }
            (None, Some(Value::Table(table))) | (Some(Value::Table(table)), None) => {
                found.extend(table.keys().map(|inner| format!("{key}.{inner}")));
            }
            _ => found.push(key.clone()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_by_when_they_take_effect() {
        let written = |text: &str| Written::new(text.parse().unwrap());
        let mut ours = written("or_port = 1\ncontact = \"a\"\n[log]\nlevel = \"info\"\n");
        let fixed = ["or_port", "authority.voting_interval"];
        let same = ours.clone();
        assert_eq!(ours.read(&same, &fixed), Changes::default());
        let next = written("or_port = 2\ncontact = \"b\"\n[log]\nlevel = \"debug\"\n");
        let changes = ours.read(&next, &fixed);
        assert_eq!(changes.now, ["contact", "log.level"]);
        assert_eq!(changes.later, ["or_port"]);
        // What waits for a start is named each time, what has taken effect is not.
        let changes = ours.read(&next, &fixed);
        assert!(changes.now.is_empty());
        assert_eq!(changes.later, ["or_port"]);
        let next = written("or_port = 1\n[authority]\nvoting_interval = 3\nparams = { a = 1 }\n");
        let changes = ours.read(&next, &fixed);
        assert_eq!(changes.now, ["authority.params", "contact", "log.level"]);
        assert_eq!(changes.later, ["authority.voting_interval"]);
    }
}
