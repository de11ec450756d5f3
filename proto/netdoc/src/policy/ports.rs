//! The port lists of `p`, `p6` and `ipv6-policy` lines: `accept 80,443` (dir-spec.txt
//! sections 3.4.1 and 3.8.2).
//!
//! The list says what is accepted, or what is rejected; the other ports are the other way
//! round. Entries of a form that we do not know are skipped, as `tor` does, if others remain.

use std::fmt;
use std::str::FromStr;

use super::{Action, BadPolicy, PortRange, SUMMARY_LEN_MAX};

/// A list of ports that are accepted, or rejected, where most addresses are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortPolicy {
    action: Action,
    ranges: Vec<PortRange>,
}

impl PortPolicy {
    /// `reject 1-65535`: no port at all. A missing `p` or `p6` line means this.
    pub fn reject_all() -> Self {
        Self {
            action: Action::Reject,
            ranges: vec![PortRange::ALL],
        }
    }

    /// `accept 1-65535`.
    pub fn accept_all() -> Self {
        Self {
            action: Action::Accept,
            ranges: vec![PortRange::ALL],
        }
    }

    /// A list of ranges; none at all is the opposite of all.
    pub fn new(action: Action, ranges: Vec<PortRange>) -> Self {
        match (action, ranges.is_empty()) {
            (Action::Accept, true) => Self::reject_all(),
            (Action::Reject, true) => Self::accept_all(),
            (_, false) => Self { action, ranges },
        }
    }

    /// Reads `accept PORTS` or `reject PORTS`.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let (action, list) = text.split_once(' ').ok_or(BadPolicy::BadAction)?;
        let action = action.parse()?;
        let mut ranges = Vec::new();
        let mut rest = list;
        while !rest.is_empty() {
            let (low, behind) = leading_number(rest);
            let Some(low) = low.filter(|port| *port > 0) else {
                if rest.starts_with(|first: char| first.is_ascii_digit()) {
                    return Err(BadPolicy::BadPorts);
                }
                // A form that we do not know.
                rest = behind.split_once(',').map_or("", |(_, next)| next);
                continue;
            };
            let (high, behind) = match behind.strip_prefix('-') {
                Some(behind) => leading_number(behind),
                None => (Some(low), behind),
            };
            let high = high
                .filter(|high| *high >= low)
                .ok_or(BadPolicy::BadPorts)?;
            rest = match behind.strip_prefix(',') {
                Some(next) => next,
                None if behind.is_empty() => "",
                None => return Err(BadPolicy::BadPorts),
            };
            if ranges.len() >= SUMMARY_LEN_MAX {
                return Err(BadPolicy::TooLong);
            }
            ranges.push(PortRange { low, high });
        }
        if ranges.is_empty() {
            Err(BadPolicy::Empty)
        } else {
            Ok(Self { action, ranges })
        }
    }

    /// Writes the list, as in `p` lines behind the keyword.
    pub fn encode(&self) -> String {
        self.to_string()
    }

    /// Whether a port is accepted, where most addresses are concerned.
    pub fn allows(&self, port: u16) -> bool {
        let listed = self.ranges.iter().any(|range| range.contains(port));
        port != 0 && listed == (self.action == Action::Accept)
    }

    /// Whether no port is accepted, and the list says so in one range.
    pub fn is_reject_all(&self) -> bool {
        self.action == Action::Reject && self.ranges.iter().any(PortRange::is_all)
    }

    /// Whether the listed ports are accepted or rejected.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The listed ports.
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges
    }
}

/// The port that a text starts with, as C reads a number: white space and a sign may stand before
/// it. What follows is given, too, also if it is no port.
fn leading_number(text: &str) -> (Option<u16>, &str) {
    let bare = text.trim_start_matches([' ', '\t', '\r', '\n', '\x0b', '\x0c']);
    let unsigned = bare.strip_prefix(['+', '-']).unwrap_or(bare);
    let behind = unsigned.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = unsigned.get(..unsigned.len() - behind.len());
    let digits = digits.filter(|digits| !digits.is_empty() && !bare.starts_with('-'));
    let value = digits.map(|digits| digits.trim_start_matches('0'));
    let port = value.and_then(|value| {
        if value.is_empty() {
            Some(0)
        } else {
            value.parse().ok()
        }
    });
    (port, behind)
}

impl FromStr for PortPolicy {
    type Err = BadPolicy;

    fn from_str(text: &str) -> Result<Self, BadPolicy> {
        Self::parse(text)
    }
}

impl fmt::Display for PortPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ", self.action)?;
        for (index, range) in self.ranges.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(out, "{separator}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_lists() {
        let web = PortPolicy::parse("accept 80,443,8000-8999").unwrap();
        assert!(web.allows(80) && web.allows(8500) && !web.allows(81) && !web.allows(0));
        let most = PortPolicy::parse("reject 25,119").unwrap();
        assert!(!most.allows(25) && most.allows(80) && !most.allows(0));
        assert!(PortPolicy::reject_all().is_reject_all() && !most.is_reject_all());
        for (text, read) in [
            ("accept 80,new~form,90", "accept 80,90"),
            ("accept 80, 443,\t+90-0100,", "accept 80,443,90-100"),
            ("accept -5,80, 0,x-y", "accept 80"),
        ] {
            assert_eq!(PortPolicy::parse(text).unwrap().encode(), read);
        }
    }

    #[test]
    fn refuses_malformed_lists() {
        for text in [
            "",
            "accept",
            "accept ",
            "permit 80",
            "accept 0",
            "accept 65536",
            "accept 90-80",
            "accept x",
            "accept 80-",
            "accept 80 90",
            "accept 80-x",
            "accept 80 ",
            "accept 80 ,90",
        ] {
            assert!(PortPolicy::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_lists_parse(
            accept: bool, ports in proptest::collection::vec((1u16.., 1u16..), 1..20)
        ) {
            let action = if accept { Action::Accept } else { Action::Reject };
            let ranges = ports.into_iter()
                .map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) }).collect();
            let policy = PortPolicy::new(action, ranges);
            prop_assert_eq!(PortPolicy::parse(&policy.encode()), Ok(policy));
        }

        #[test]
        fn any_text_is_survived(text in "(accept|reject) [0-9,-]{0,20}|\\PC{0,20}") {
            let _ = PortPolicy::parse(&text);
        }
    }
}
