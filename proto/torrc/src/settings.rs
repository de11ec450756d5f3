//! What is set: the entries of the defaults, of the torrc and of the command line, one after the
//! other, as `tor` lets each override those before it.
//!
//! An option of one value has the last one that is written. One of many lines has those of the last
//! file that has any, and of those before it too where it says `+`. `/` takes away what was there.
//! Options of onion services are one list, as their order matters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::names::{self, Named};
use crate::option::{Fate, Kind, OptionInfo};
use crate::{Change, Entry, Place, Problem, value};

/// What a word on an entry is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is for whoever wants to know.
    Info,
    /// It is for everybody.
    Warning,
}

/// A value that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The option.
    pub option: &'static OptionInfo,
    /// Its text.
    pub text: String,
    /// Where it is written.
    pub place: Place,
}

impl Value {
    /// A problem of it.
    pub fn wrong(&self, what: impl std::fmt::Display) -> Problem {
        Problem::of(self.option.name, &self.place, what)
    }
}

/// What an empty value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// 0, or nothing (SETCONF).
    Nought,
    /// The default (RESETCONF).
    Default,
}

/// Why options cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no such option.
    Unknown(String),
    /// The option cannot have such a value.
    Value {
        /// The option.
        name: &'static str,
        /// The value.
        text: String,
        /// What it is to be.
        expected: &'static str,
    },
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Unknown(name) => write!(f, "Unknown option '{name}'.  Failing."),
            ChangeError::Value {
                name,
                text,
                expected: "0 or 1",
            } => write!(
                f,
                "Could not parse {name}: Unrecognized value {text}. Allowed values are 0 and 1."
            ),
            ChangeError::Value {
                name,
                text,
                expected,
            } => write!(f, "Could not parse {name}: {text:?} is not {expected}"),
        }
    }
}

/// All that is set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Vec<Value>>,
    onions: Vec<Value>,
    /// What is worth a word, in turn.
    pub notes: Vec<(Severity, Problem)>,
}

impl Settings {
    /// What these layers set, each over those before it; or all that is wrong with them.
    pub fn read(layers: &[Vec<Entry>]) -> Result<Self, Vec<Problem>> {
        let mut settings = Settings::default();
        let mut wrong = Vec::new();
        for layer in layers {
            let mut fresh = BTreeSet::new();
            for entry in layer {
                if let Err(problem) = settings.take(entry, &mut fresh) {
                    wrong.push(problem);
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(settings),
            false => Err(wrong),
        }
    }

    fn take(&mut self, entry: &Entry, fresh: &mut BTreeSet<&'static str>) -> Result<(), Problem> {
        let Some(option) = self.find(entry)? else {
            return Ok(());
        };
        if entry.change == Change::Clear {
            self.values.remove(option.name);
            if is_of_onions(option) {
                self.onions.clear();
            }
            return Ok(());
        }
        if entry.value.is_empty() {
            // As if it were not there: the default.
            if option.kind == Kind::Lines {
                let problem = Problem::of(option.name, &entry.place, "it has no value");
                self.notes.push((Severity::Warning, problem));
            } else {
                self.values.remove(option.name);
            }
            return Ok(());
        }
        if let Some(expected) = value::wrong(option.kind, &entry.value) {
            let what = format!("{:?} is not {expected}", entry.value);
            return Err(Problem::of(option.name, &entry.place, what));
        }
        let value = Value {
            option,
            text: entry.value.clone(),
            place: entry.place.clone(),
        };
        let (list, key) = match is_of_onions(option) {
            true => (&mut self.onions, "HiddenServiceOptions"),
            false => (self.values.entry(option.name).or_default(), option.name),
        };
        let is_first = fresh.insert(key);
        if option.kind != Kind::Lines && !is_first {
            let what = "it is written more than once; the last one counts";
            let problem = Problem::of(option.name, &entry.place, what);
            self.notes.push((Severity::Warning, problem));
        }
        let is_more = entry.change == Change::Append || !is_first;
        if option.kind != Kind::Lines || !is_more {
            list.clear();
        }
        list.push(value);
        Ok(())
    }

    /// The option that an entry is of; none if it is one to pass over.
    fn find(&mut self, entry: &Entry) -> Result<Option<&'static OptionInfo>, Problem> {
        let warn = |what: String| {
            let problem = Problem::of(&entry.name, &entry.place, what);
            (Severity::Warning, problem)
        };
        match names::find(&entry.name) {
            Named::Known(option) => Ok(Some(option)),
            Named::Abbreviated(option) => {
                self.notes
                    .push(warn(format!("read as {}, write that", option.name)));
                Ok(Some(option))
            }
            Named::Renamed(option) => {
                self.notes.push(warn(format!("it is {} now", option.name)));
                Ok(Some(option))
            }
            Named::Obsolete(name) => {
                self.notes
                    .push(warn(format!("{name} is obsolete, and passed over")));
                Ok(None)
            }
            Named::Unknown => Err(Problem::at(
                &entry.place,
                format!("Unknown option '{}'.  Failing.", entry.name),
            )),
        }
    }

    /// The values of an option that has lines, in turn.
    pub fn lines(&self, name: &str) -> &[Value] {
        debug_assert!(names::named(name).is_some(), "{name} is an option");
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an option, if it is written.
    pub fn one(&self, name: &str) -> Option<&Value> {
        self.lines(name).last()
    }

    /// Whether an option is 1; its default, if it is not written.
    pub fn is_on(&self, name: &str) -> bool {
        let default = names::named(name).map_or("0", |option| option.default);
        let text = self.one(name).map_or(default, |value| &value.text);
        value::bool(text) == Some(true)
    }

    /// The lines of onion services, in turn.
    pub fn onions(&self) -> &[Value] {
        &self.onions
    }

    /// The same with other values of these options, in place of all that they had; those of onion
    /// services are one list. An empty value is the default, or nought where that is asked for.
    ///
    /// # Errors
    /// If there is no such option, or if it has no such value.
    pub fn changed(
        &self,
        changes: &[(String, String)],
        empty: Empty,
    ) -> Result<Settings, ChangeError> {
        let mut next = Settings {
            notes: Vec::new(),
            ..self.clone()
        };
        let place = Place {
            file: "controller".into(),
            line: 0,
        };
        let mut values = Vec::new();
        for (name, text) in changes {
            match names::find(name) {
                Named::Known(option) | Named::Abbreviated(option) | Named::Renamed(option) => {
                    values.push((option, text));
                }
                Named::Obsolete(_) => {}
                Named::Unknown => return Err(ChangeError::Unknown(name.clone())),
            }
        }
        for (option, _) in &values {
            match is_of_onions(option) {
                true => next.onions.clear(),
                false => drop(next.values.remove(option.name)),
            }
        }
        for (option, text) in values {
            let text = match (text.is_empty(), empty) {
                (false, _) => text.clone(),
                (true, Empty::Nought) if option.kind == Kind::Bool && option.default == "1" => {
                    "0".to_owned()
                }
                (true, _) => continue,
            };
            if let Some(expected) = value::wrong(option.kind, &text) {
                let name = option.name;
                return Err(ChangeError::Value {
                    name,
                    text,
                    expected,
                });
            }
            let list = match is_of_onions(option) {
                true => &mut next.onions,
                false => next.values.entry(option.name).or_default(),
            };
            if option.kind != Kind::Lines && !is_of_onions(option) {
                list.clear();
            }
            let place = place.clone();
            list.push(Value {
                option,
                text,
                place,
            });
        }
        Ok(next)
    }

    /// The texts of an option, in turn; of one of onion services, all lines of those.
    pub fn texts(&self, option: &OptionInfo) -> Vec<(&'static str, &str)> {
        let values = match is_of_onions(option) {
            true => &self.onions[..],
            false => self.lines(option.name),
        };
        values
            .iter()
            .map(|value| (value.option.name, value.text.as_str()))
            .collect()
    }

    /// All values, option by option.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.values.values().flatten().chain(&self.onions)
    }

    /// Notes on what has no meaning here, and what is refused; `is_idle` are options of roles that
    /// the process does not have, which are of no effect.
    pub fn judged(&self, is_idle: impl Fn(&OptionInfo) -> bool) -> (Vec<Problem>, Vec<Problem>) {
        let (mut notes, mut refused) = (Vec::new(), Vec::new());
        for value in self.all().filter(|value| !says_nothing(value)) {
            let why = value.option.why;
            match value.option.fate {
                Fate::Meant => {}
                Fate::Refused if is_idle(value.option) => {
                    notes.push(value.wrong("of no effect in this role"));
                }
                Fate::Accepted => notes.push(value.wrong(format!("it has no meaning here: {why}"))),
                Fate::Refused => refused.push(value.wrong(format!("not as tor has it: {why}"))),
            }
        }
        (notes, refused)
    }
}

/// Whether an option is one of onion services, whose order matters.
pub(crate) fn is_of_onions(option: &OptionInfo) -> bool {
    let all = [
        "HiddenServiceSingleHopMode",
        "HiddenServiceNonAnonymousMode",
        "HiddenServiceStatistics",
    ];
    option.name.starts_with("HiddenService") && !all.contains(&option.name)
}

/// Whether a value says what is so anyway.
fn says_nothing(value: &Value) -> bool {
    let text = value.text.trim();
    let option = value.option;
    let is_same = |read: fn(&str) -> Option<u64>| {
        let default = read(option.default);
        default.is_some() && default == read(text)
    };
    if text.eq_ignore_ascii_case(option.default) {
        return true;
    }
    match option.kind {
        Kind::Interval => is_same(value::seconds),
        Kind::Millis => is_same(value::millis),
        Kind::Size => is_same(value::size),
        Kind::Float => match (text.parse::<f64>(), option.default.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.total_cmp(&b).is_eq(),
            _ => false,
        },
        Kind::Words => value::words(text).eq(value::words(option.default)),
        // A line of a switch: of ports and of onion services.
        Kind::Lines => text == "0",
        _ => HARMLESS.contains(&(option.name, text)),
    }
}

/// What is so anyway, though it is not `tor`'s default.
const HARMLESS: [(&str, &str); 6] = [
    ("ClientUseIPv4", "1"),
    ("HSLayer2Nodes", ""),
    ("HSLayer3Nodes", ""),
    ("NumEntryGuards", "0"),
    ("PublishServerDescriptor", "v3"),
    ("AddressDisableIPv6", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::include::{self, tests::Shelf};

    fn entries(text: &str) -> Vec<Entry> {
        include::read("t", text, &Shelf::default()).unwrap()
    }

    fn read(layers: &[&str]) -> Result<Settings, Vec<String>> {
        let layers: Vec<_> = layers.iter().map(|text| entries(text)).collect();
        let read = Settings::read(&layers);
        read.map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
    }

    fn texts(settings: &Settings, name: &str) -> Vec<String> {
        let lines = settings.lines(name).iter();
        lines.map(|value| value.text.clone()).collect()
    }

    #[test]
    fn a_later_file_overrides_or_appends_or_clears() {
        let settings = read(&[
            "SocksPort 9150\nSocksPort 9151\nLog notice stdout\nControlPort 9051\nNickname a",
            "SocksPort 9050\nSocksPort 9052\n+Log info file x\n/ControlPort\nNickname b",
        ])
        .unwrap();
        assert_eq!(texts(&settings, "SocksPort"), ["9050", "9052"]);
        assert_eq!(texts(&settings, "Log"), ["notice stdout", "info file x"]);
        assert!(texts(&settings, "ControlPort").is_empty());
        assert_eq!(texts(&settings, "Nickname"), ["b"]);
        assert!(settings.notes.is_empty());
        let twice = read(&["Nickname a\nNickname b"]).unwrap();
        assert_eq!(twice.notes.len(), 1);
    }

    #[test]
    fn a_controller_changes_what_is_set() {
        let set = |pairs: &[(&str, &str)], empty| {
            let pairs = pairs
                .iter()
                .map(|(name, text)| (name.to_string(), text.to_string()));
            let before = read(&["Log notice stdout\nHiddenServiceDir a\nHiddenServicePort 80\n"]);
            before.unwrap().changed(&pairs.collect::<Vec<_>>(), empty)
        };
        let onions = [("HiddenServiceDir", "b"), ("hiddenserviceport", "81")];
        let next = set(&onions, Empty::Nought).unwrap();
        let lines = next.onions().iter().map(|one| one.text.as_str());
        assert_eq!(lines.collect::<Vec<_>>(), ["b", "81"]);
        let next = set(
            &[("Log", "info stdout"), ("Log", "warn stderr")],
            Empty::Nought,
        )
        .unwrap();
        assert_eq!(texts(&next, "Log"), ["info stdout", "warn stderr"]);
        let on = |empty| {
            set(
                &[("SafeLogging", ""), ("ExitPolicyRejectPrivate", "")],
                empty,
            )
        };
        assert!(!on(Empty::Nought).unwrap().is_on("ExitPolicyRejectPrivate"));
        assert!(on(Empty::Default).unwrap().is_on("ExitPolicyRejectPrivate"));
        let wrong = |name, text| set(&[(name, text)], Empty::Nought).unwrap_err().to_string();
        assert_eq!(wrong("Foo", "1"), "Unknown option 'Foo'.  Failing.");
        assert_eq!(
            wrong("DisableNetwork", "2"),
            "Could not parse DisableNetwork: Unrecognized value 2. Allowed values are 0 and 1."
        );
    }

    #[test]
    fn services_keep_their_order_and_are_one_list() {
        let services = "HiddenServiceDir a\nHiddenServicePort 80\nHiddenServiceDir b\n\
            HiddenServicePort 81\n";
        let settings = read(&[services]).unwrap();
        assert_eq!(settings.onions().len(), 4);
        let settings = read(&[services, "HiddenServiceDir c\nHiddenServicePort 82\n"]).unwrap();
        assert_eq!(settings.onions()[0].text, "c");
        assert_eq!(settings.onions().len(), 2);
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let wrong =
            read(&["Foo 1\nSocksTimeout 1 parsec\nNickname a\nSafeLogging 0\nClientOnly 2"]);
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(wrong[0], "t line 1: Unknown option 'Foo'.  Failing.");
        assert!(
            wrong[1].starts_with("t line 2: SocksTimeout: "),
            "{wrong:?}"
        );
    }

    #[test]
    fn what_is_so_anyway_is_not_refused() {
        let quiet = "HiddenServiceSingleHopMode 0\nDisableNetwork 0\nHeartbeatPeriod 6 hours\n\
            SigningKeyLifetime 30 days\nExtORPort 0\nPublishServerDescriptor 1\n";
        let judged = |text: &str| read(&[text]).unwrap().judged(|_| false);
        assert_eq!(judged(quiet), (Vec::new(), Vec::new()));
        let loud = "NATDPort 1\nMainloopStats 1\nDisableAllSwap 1\n";
        let (notes, refused) = judged(loud);
        assert_eq!((notes.len(), refused.len()), (1, 2));
        let natd = |one: &Problem| one.to_string().starts_with("t line 1: NATDPort: ");
        assert!(refused.iter().any(natd));
    }
}
