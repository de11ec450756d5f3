//! The whole exit policy of a relay (dir-spec.txt sections 2.1.1 and 2.1.3).
//!
//! Rules are tried in order; what no rule matches is accepted. An IPv4 address in IPv6 form is
//! looked up as the IPv4 address, so that no rule can be passed by in that way.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::{Action, AddrRule, BadPolicy, PortPolicy, RULES_MAX, is_internal, summary};

/// The rules of an exit policy, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddrPolicy {
    rules: Vec<AddrRule>,
}

impl AddrPolicy {
    /// The policy of a relay that is no exit: `reject *:*` for both families.
    pub fn reject_all() -> Self {
        Self::parse_config(["reject *:*"]).unwrap_or_default()
    }

    /// Reads configured rules (`accept *:80`, `reject private:*`), one or several a line,
    /// separated by commas.
    pub fn parse_config<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPolicy> {
        let mut policy = Self::default();
        for rule in lines.into_iter().flat_map(|line| line.split(',')) {
            AddrRule::parse_config(rule, &mut policy.rules)?;
            policy.check_len()?;
        }
        Ok(policy)
    }

    /// Adds a rule of a descriptor: its keyword (accept, reject, accept6, reject6) and argument.
    pub fn push_descriptor_rule(&mut self, keyword: &str, pattern: &str) -> Result<(), BadPolicy> {
        AddrRule::parse_descriptor(keyword, pattern, &mut self.rules)?;
        self.check_len()
    }

    fn check_len(&self) -> Result<(), BadPolicy> {
        if self.rules.len() > RULES_MAX {
            Err(BadPolicy::TooLong)
        } else {
            Ok(())
        }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[AddrRule] {
        &self.rules
    }

    /// A policy of these rules without those that can never decide, because an earlier one covers
    /// them (`tor`'s `exit_policy_remove_redundancies`).
    pub fn without_idle(rules: impl IntoIterator<Item = AddrRule>) -> Result<Self, BadPolicy> {
        let mut policy = Self::default();
        for rule in rules {
            if !policy.rules.iter().any(|earlier| earlier.covers(&rule)) {
                policy.rules.push(rule);
                policy.check_len()?;
            }
        }
        Ok(policy)
    }

    /// Whether a connection to an address and port is accepted.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        let rule = self.rules.iter().find(|rule| rule.matches(address, port));
        port != 0 && rule.is_none_or(|rule| rule.action == Action::Accept)
    }

    /// Whether a connection to a port of an address that is not known yet may be accepted: in
    /// one family, the first rule that covers all addresses accepts the port. A family without
    /// rules says nothing unless there are no rules at all.
    pub fn allows_name(&self, port: u16) -> bool {
        let by_family = [true, false].map(|is_ipv4| {
            let mut rules = self
                .rules
                .iter()
                .filter(|rule| rule.is_ipv4() == is_ipv4)
                .peekable();
            let is_silent = rules.peek().is_none() && !self.rules.is_empty();
            let decides = |rule: &&AddrRule| rule.ports.contains(port) && rule.is_every_address();
            let accepts = rules
                .find(decides)
                .is_none_or(|rule| rule.action == Action::Accept);
            accepts && !is_silent
        });
        port != 0 && by_family.contains(&true)
    }

    /// Whether nothing of a family is accepted for certain; `by_default` is the answer where no
    /// rule decides.
    pub fn is_reject_all(&self, ipv4: bool, by_default: bool) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.is_ipv4() == ipv4) {
            match rule.action {
                Action::Accept => return false,
                Action::Reject if rule.ports.is_all() && rule.is_every_address() => return true,
                Action::Reject => {}
            }
        }
        by_default
    }

    /// Whether an authority gives the flag Exit for it: ports 80 and 443 are accepted in at
    /// least one /8 of IPv4 each (dir-spec.txt section 3.4.2). In a test network internal
    /// addresses count too (`count_internal`, `tor`'s `DirAllowPrivateAddresses`).
    pub fn is_general_exit(&self, count_internal: bool) -> bool {
        self.accepts_in_a_slash8(80, count_internal)
            && self.accepts_in_a_slash8(443, count_internal)
    }

    fn accepts_in_a_slash8(&self, port: u16, count_internal: bool) -> bool {
        let mut rejected: BTreeSet<u8> = BTreeSet::new();
        for rule in self.rules.iter().filter(|rule| rule.ports.contains(port)) {
            let IpAddr::V4(address) = rule.address else {
                continue;
            };
            let host_bits = u32::MAX.checked_shr(rule.prefix_len.into()).unwrap_or(0);
            let first = (address.to_bits() & !host_bits).to_be_bytes()[0];
            let last = (address.to_bits() | host_bits).to_be_bytes()[0];
            for slash8 in first..=last {
                let internal = is_internal(Ipv4Addr::new(slash8, 0, 0, 0).into());
                if rejected.contains(&slash8) || (internal && !count_internal) {
                    continue;
                }
                match rule.action {
                    Action::Accept if rule.prefix_len <= 8 => return true,
                    Action::Accept => {}
                    Action::Reject => {
                        rejected.insert(slash8);
                    }
                }
            }
        }
        false
    }

    /// The ports that are accepted for most IPv4 addresses: `p` lines.
    pub fn summary_ipv4(&self) -> PortPolicy {
        summary::summarize(self.rules.iter().filter(|rule| rule.is_ipv4()))
    }

    /// The ports that are accepted for most IPv6 addresses: `ipv6-policy` and `p6` lines.
    pub fn summary_ipv6(&self) -> PortPolicy {
        summary::summarize(self.rules.iter().filter(|rule| !rule.is_ipv4()))
    }

    /// The lines of a descriptor for the IPv4 rules, as `tor` writes them; those for IPv6 are in
    /// `ipv6-policy` only. Without any rule the line is `reject *:*`.
    pub fn encode_descriptor(&self) -> String {
        let mut text = String::new();
        for rule in self.rules.iter().filter(|rule| rule.is_ipv4()) {
            text.push_str(&rule.to_string());
            text.push('\n');
        }
        if text.is_empty() {
            text.push_str("reject *:*\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(text: &str) -> AddrPolicy {
        AddrPolicy::parse_config([text]).unwrap()
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let policy = config("reject 192.0.2.0/24:*,accept *:80-90,reject *4:*,accept [2000::]/3:1");
        let allows = |address: &str, port| policy.allows(address.parse().unwrap(), port);
        assert!(!allows("192.0.2.7", 80));
        assert!(!allows("::ffff:192.0.2.7", 80));
        assert!(allows("192.0.3.7", 80) && allows("2001:db8::1", 90));
        assert!(!allows("192.0.3.7", 91) && !allows("192.0.3.7", 0));
        assert!(
            allows("2001:db8::1", 91),
            "what no rule matches is accepted"
        );
        let policy = config("accept *:80,reject *:*");
        assert!(policy.allows_name(80) && !policy.allows_name(443));
    }

    #[test]
    fn private_is_expanded_and_written_out() {
        let policy = config("reject private:*,accept 1.2.3.4/255.255.0.0:25,reject *:*");
        assert_eq!(
            policy.encode_descriptor(),
            "reject 0.0.0.0/8:*\nreject 169.254.0.0/16:*\nreject 127.0.0.0/8:*\n\
             reject 192.168.0.0/16:*\nreject 10.0.0.0/8:*\nreject 172.16.0.0/12:*\n\
             accept 1.2.3.4/16:25\nreject *:*\n"
        );
        assert!(!policy.is_reject_all(true, true) && policy.is_reject_all(false, false));
        assert!(AddrPolicy::reject_all().is_reject_all(true, false));
    }

    #[test]
    fn rules_that_cannot_decide_are_left_out() {
        let rules = config("accept 192.0.2.0/24:80-90,reject 192.0.2.7:85,reject *4:*,accept *:80");
        let policy = AddrPolicy::without_idle(rules.rules().iter().copied()).unwrap();
        let text: Vec<_> = policy.rules().iter().map(AddrRule::to_string).collect();
        let expected = [
            "accept 192.0.2.0/24:80-90",
            "reject *:*",
            "accept6 [::]/0:80",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_descriptor_keeps_families_apart() {
        let mut policy = AddrPolicy::default();
        policy.push_descriptor_rule("accept", "*:80").unwrap();
        policy
            .push_descriptor_rule("reject6", "[2001:db8::]/32:*")
            .unwrap();
        assert_eq!(policy.rules().len(), 2);
        for (keyword, pattern) in [
            ("accept6", "*:80"),
            ("accept", "[::]:80"),
            ("accept6", "1.2.3.4"),
        ] {
            let result = policy.push_descriptor_rule(keyword, pattern);
            assert_eq!(result, Err(BadPolicy::WrongFamily), "{keyword} {pattern}");
        }
    }

    #[test]
    fn refuses_malformed_rules() {
        for rule in [
            "",
            "accept",
            "allow *:*",
            "accept *:70000",
            "accept *:90-80",
            "accept *:+80",
            "accept 1.2.3:80",
            "accept 1.2.3.4/33:80",
            "accept 1.2.3.4/255.0.255.0:80",
            "accept *:80-",
            "accept [::1:80",
            "accept6 1.2.3.4:80",
            "accept [::]/129:80",
            "accept */8:80",
            "accept 1.2.3.4/:80",
            "accept [1.2.3.4]:80",
        ] {
            assert!(AddrPolicy::parse_config([rule]).is_err(), "{rule}");
        }
    }

    #[test]
    fn general_exits() {
        assert!(config("accept *:80,accept *:443,reject *:*").is_general_exit(false));
        assert!(!config("accept *:80,reject *:*").is_general_exit(false));
        assert!(config("accept 8.0.0.0/7:*,reject *:*").is_general_exit(false));
        assert!(!config("accept 8.0.0.0/9:*,reject *:*").is_general_exit(false));
        let private = config("accept 127.0.0.0/8:*,reject *:*");
        assert!(!private.is_general_exit(false) && private.is_general_exit(true));
    }

    proptest! {
        #[test]
        fn descriptor_rules_round_trip(
            accept: bool, address: IpAddr, prefix_len in 0u8..=128, low in 1u16.., high in 1u16..
        ) {
            let prefix_len = if address.is_ipv4() { prefix_len % 33 } else { prefix_len };
            let address = match address {
                IpAddr::V4(_) if prefix_len == 0 => Ipv4Addr::UNSPECIFIED.into(),
                address => address,
            };
            let action = if accept { Action::Accept } else { Action::Reject };
            let ports = crate::policy::PortRange { low: low.min(high), high: low.max(high) };
            let rule = AddrRule { action, address, prefix_len, ports };
            let line = rule.to_string();
            let (keyword, pattern) = line.split_once(' ').unwrap();
            let mut policy = AddrPolicy::default();
            policy.push_descriptor_rule(keyword, pattern).unwrap();
            prop_assert_eq!(policy.rules(), &[rule]);
        }

        #[test]
        fn any_text_is_survived(text in "(accept|reject)6? [0-9./:*a-f\\[\\]-]{0,20}|\\PC{0,20}") {
            let _ = AddrPolicy::parse_config([text.as_str()]);
            if let Some((keyword, pattern)) = text.split_once(' ') {
                let _ = AddrPolicy::default().push_descriptor_rule(keyword, pattern);
            }
        }
    }
}
