//! Settings as a torrc (`--dump-config`): those that are not as they are anyway, or all.

use crate::line::quote;
use crate::names;
use crate::settings::{Settings, is_of_onions};

/// Which options are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that were written.
    Short,
    /// And those that have a default.
    Full,
}

/// Writes them, in the order of their names; those of onion services as they are written.
pub fn dump(settings: &Settings, which: Which) -> String {
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        text.push_str(name);
        text.push(' ');
        text.push_str(&quote(value));
        text.push('\n');
    };
    let mut are_services_told = false;
    for option in names::all() {
        if is_of_onions(option) {
            if !std::mem::replace(&mut are_services_told, true) {
                for value in settings.onions() {
                    put(value.option.name, &value.text);
                }
            }
            continue;
        }
        let lines = settings.lines(option.name);
        for value in lines {
            if which == Which::Full || !value.text.eq_ignore_ascii_case(option.default) {
                put(option.name, &value.text);
            }
        }
        if lines.is_empty() && which == Which::Full && !option.default.is_empty() {
            put(option.name, option.default);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::include::{self, tests::Shelf};

    #[test]
    fn what_is_dumped_is_read_back() {
        let text = "SocksPort 9050\nSocksPort 9051\nContactInfo \"a # b\"\nSafeLogging 1\n\
            HiddenServiceDir b\nHiddenServicePort 80\nHiddenServiceDir a\n";
        let read = |text: &str| {
            let entries = include::read("t", text, &Shelf::default()).unwrap();
            Settings::read(&[entries]).unwrap()
        };
        let short = dump(&read(text), Which::Short);
        assert_eq!(
            short,
            "ContactInfo \"a # b\"\nHiddenServiceDir b\nHiddenServicePort 80\n\
             HiddenServiceDir a\nSocksPort 9050\nSocksPort 9051\n"
        );
        assert_eq!(dump(&read(&short), Which::Short), short);
        let full = dump(&read(text), Which::Full);
        assert!(full.contains("SafeLogging 1\n") && full.contains("UseBridges 0\n"));
        assert_eq!(dump(&read(&full), Which::Full), full);
    }
}
