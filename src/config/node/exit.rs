//! What a relay's file says of the streams that leave by it: `exit_policy` and its kin.
//!
//! Each entry that is wrong is named, with its line and with what may stand there, all in one go.
//! In a test network (`testing = true`) internal addresses and IPv6 are allowed unless the file
//! says otherwise, as `TestingTorNetwork` has it; what is allowed there is told in the log.

use cepa_netdoc::policy::{AddrPolicy, BadPolicy};
use cepa_relay::{ExitOptions, ExitPolicy};
use toml::Spanned;

use super::NodeTable;
use crate::config::source::Source;
use crate::error::Failure;

/// Lines of an exit policy, at most.
const POLICY_LINES_MAX: usize = 500;

/// The options of the file, checked.
pub(super) fn options(source: &Source, table: &NodeTable) -> Result<ExitOptions, Failure> {
    let mut wrong = Vec::new();
    if let Some(line) = table.exit_policy.get(POLICY_LINES_MAX) {
        let expected = format!("at most {POLICY_LINES_MAX} lines");
        return Err(source.wrong(line, "exit_policy", &expected));
    }
    let entries = table
        .exit_policy
        .iter()
        .flat_map(|line| line.get_ref().split(',').map(move |entry| (line, entry)));
    for (line, entry) in entries {
        if let Err(error) = AddrPolicy::parse_config([entry]) {
            wrong.push(wrong_entry(source, line, entry, error));
        }
    }
    if let Some(all) = Failure::several(wrong) {
        return Err(all);
    }
    let lines = table.exit_policy.iter().map(|line| line.get_ref().as_str());
    let options = AddrPolicy::parse_config(lines).map(|rules| ExitOptions {
        rules,
        reduced: table.reduced_exit_policy,
        ipv6: table.ipv6_exit.unwrap_or(table.testing),
        reject_private: table.exit_policy_reject_private.unwrap_or(!table.testing),
        local: Vec::new(),
        reevaluate: table.reevaluate_exit_policy,
    });
    let checked = options.and_then(|options| ExitPolicy::new(&options, []).map(|_| options));
    checked.map_err(|error| match table.exit_policy.first() {
        Some(line) => wrong_entry(source, line, line.get_ref(), error),
        None => source.lacks("exit_policy", "rules that a descriptor has room for"),
    })
}

fn wrong_entry(source: &Source, line: &Spanned<String>, entry: &str, error: BadPolicy) -> Failure {
    let expected = match error {
        BadPolicy::BadAction => "accept or reject (accept6 or reject6), then ADDRESS:PORTS",
        BadPolicy::BadAddress => {
            "an address, ADDRESS/BITS, *, *4, *6 or private (IPv6 in brackets, no names)"
        }
        BadPolicy::BadPorts => {
            "a port from 1 to 65535, LOW-HIGH with LOW not above HIGH, or * behind the colon"
        }
        BadPolicy::WrongFamily => "an IPv6 address behind accept6 and reject6",
        BadPolicy::TooLong | BadPolicy::Empty => {
            return source.wrong(line, "exit_policy", "fewer rules: they fit no descriptor");
        }
    };
    let expected = format!("{expected}, such as accept *:80");
    source.wrong(
        line,
        &format!("exit_policy entry `{}`", entry.trim()),
        &expected,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const RELAY: &str = "nickname = \"relay1\"\nor_port = 5000\n\
        data_dir = \"d\"\nnetwork = \"network.toml\"\n";

    fn read(text: &str) -> Result<ExitOptions, Failure> {
        let source = Source::from_text(Path::new("/etc/relay.toml"), &format!("{RELAY}{text}"));
        options(&source, &source.parse().unwrap())
    }

    #[test]
    fn every_wrong_entry_is_named_with_what_may_stand_there() {
        let wrong = read(
            "exit_policy = [\n\"accept *:443-80\",\n\"accept *:65536, accept *:80\",\n\
             \"accept localhost:80\", \"allow *:*\",\n\"accept6 1.2.3.4:80\"]",
        );
        let told: Vec<_> = wrong
            .unwrap_err()
            .each()
            .map(|one| one.to_string())
            .collect();
        let expected = [
            (6, "accept *:443-80", "LOW-HIGH"),
            (7, "accept *:65536", "65535"),
            (8, "accept localhost:80", "no names"),
            (8, "allow *:*", "accept or reject"),
            (9, "accept6 1.2.3.4:80", "IPv6"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (text, (line, entry, allowed)) in told.iter().zip(expected) {
            assert!(text.contains(&format!("relay.toml line {line}")), "{text}");
            assert!(text.contains(entry) && text.contains(allowed), "{text}");
        }
    }

    #[test]
    fn a_policy_that_fits_no_descriptor_is_refused() {
        let lines: Vec<_> = (0..499)
            .map(|n| format!("\"reject 192.0.{}.{}/32:1000-2000\"", n / 250, n % 250))
            .collect();
        let wrong = read(&format!(
            "exit_policy = [\n{},\n\"accept *:80\"]",
            lines.join(",\n")
        ));
        let text = wrong.unwrap_err().to_string();
        assert!(
            text.contains("relay.toml line 6") && text.contains("fewer"),
            "{text}"
        );
    }

    #[test]
    fn a_test_network_lifts_what_it_says() {
        let public = read("exit_policy = [\"accept *:*\"]").unwrap();
        assert!(public.reject_private && !public.ipv6);
        let testing = read("testing = true\nexit_policy = [\"accept *:*\"]").unwrap();
        assert!(!testing.reject_private && testing.ipv6);
        let strict = "testing = true\nexit_policy_reject_private = true\nipv6_exit = false";
        let strict = read(strict).unwrap();
        assert!(strict.reject_private && !strict.ipv6 && strict.rules.rules().is_empty());
    }
}
