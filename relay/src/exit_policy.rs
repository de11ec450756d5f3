//! The exit policy of a relay: what its operator wants, and the rules that follow from it.
//!
//! [`ExitPolicy`] is made once from [`ExitOptions`] and the relay's own addresses, and is what the
//! descriptor says and what the switches do, both. It always ends with `reject *:*`: no rule at all
//! is no exit. Options have the names and meanings of `tor`'s (`ExitPolicyRejectPrivate` and its
//! kin) but for one: behind an operator's rules all is rejected, not what `tor` accepts by default.

use std::net::IpAddr;

use cepa_netdoc::policy::{Action, AddrPolicy, AddrRule, BadPolicy, PRIVATE_NETS, PortRange};

/// `tor`'s `ReducedExitPolicy`: ports of common services, without those of mail and file sharing.
const REDUCED: &str = "accept *:20-23,accept *:43,accept *:53,accept *:79-81,accept *:88,\
    accept *:110,accept *:143,accept *:194,accept *:220,accept *:389,accept *:443,accept *:464,\
    accept *:465,accept *:531,accept *:543-544,accept *:554,accept *:563,accept *:587,\
    accept *:636,accept *:706,accept *:749,accept *:873,accept *:902-904,accept *:981,\
    accept *:989-995,accept *:1194,accept *:1220,accept *:1293,accept *:1500,accept *:1533,\
    accept *:1677,accept *:1723,accept *:1755,accept *:1863,accept *:2082-2083,\
    accept *:2086-2087,accept *:2095-2096,accept *:2102-2104,accept *:3128,accept *:3389,\
    accept *:3690,accept *:4321,accept *:4643,accept *:5050,accept *:5190,accept *:5222-5223,\
    accept *:5228,accept *:5900,accept *:6660-6669,accept *:6679,accept *:6697,accept *:8000,\
    accept *:8008,accept *:8074,accept *:8080,accept *:8082,accept *:8087-8088,\
    accept *:8232-8233,accept *:8332-8333,accept *:8443,accept *:8888,accept *:9418,\
    accept *:9999,accept *:10000,accept *:11371,accept *:19294,accept *:19638,accept *:50002,\
    accept *:64738";
/// Addresses between a provider and its customers (RFC 6598): no `private` of `tor`'s, and internal
/// all the same.
const SHARED_NET: &str = "reject 100.64.0.0/10:*";
/// Bytes that the rules take in a descriptor, at most: it has 20,000 for all (dir-spec 2.1), of
/// which family and certificates need their part.
pub const POLICY_LEN_MAX: usize = 10_000;

/// What the operator says of the streams that leave here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitOptions {
    /// The operator's rules (`ExitPolicy`), tried in order; without any, and without `reduced`,
    /// the relay is no exit.
    pub rules: AddrPolicy,
    /// The reduced policy stands behind the rules (`ReducedExitPolicy`).
    pub reduced: bool,
    /// Streams may leave over IPv6 (`IPv6Exit`).
    pub ipv6: bool,
    /// Internal addresses and the relay's own are refused before any rule
    /// (`ExitPolicyRejectPrivate`), and names do not resolve to internal ones.
    pub reject_private: bool,
    /// Further addresses to refuse: those of the machine's interfaces where the operator wants it
    /// (`ExitPolicyRejectLocalInterfaces`), and the one that connections are made from.
    pub local: Vec<IpAddr>,
    /// Streams that are open are closed when the policy no longer allows them
    /// (`ReevaluateExitPolicy`).
    pub reevaluate: bool,
}

impl ExitOptions {
    /// Those of a relay that is no exit.
    #[must_use]
    pub fn none() -> Self {
        ExitOptions {
            rules: AddrPolicy::default(),
            reduced: false,
            ipv6: false,
            reject_private: true,
            local: Vec::new(),
            reevaluate: false,
        }
    }

    /// Whether the operator wants an exit.
    #[must_use]
    pub fn is_exit(&self) -> bool {
        self.reduced || !self.rules.rules().is_empty()
    }

    /// Those of an exit with these rules, all else as without a word of the operator's.
    #[must_use]
    pub fn with_rules(rules: AddrPolicy) -> Self {
        ExitOptions {
            rules,
            ..ExitOptions::none()
        }
    }
}

/// What a relay says and does about streams that want to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitPolicy {
    rules: AddrPolicy,
    reject_private: bool,
    reevaluate: bool,
}

impl ExitPolicy {
    /// The policy that follows from the options for a relay with these addresses.
    ///
    /// # Errors
    /// The rules are more, or longer, than a descriptor can hold.
    pub fn new(
        options: &ExitOptions,
        own: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, BadPolicy> {
        let mut rules = Vec::new();
        if options.is_exit() {
            if !options.ipv6 {
                rules.extend(parsed("reject *6:*")?);
            }
            let own = own.into_iter().filter(|_| options.reject_private);
            if options.reject_private {
                rules.extend(PRIVATE_NETS.map(|(net, prefix_len)| reject(net, prefix_len)));
                rules.extend(parsed(SHARED_NET)?);
            }
            for address in own.chain(options.local.iter().copied()) {
                let address = address.to_canonical();
                rules.push(reject(address, if address.is_ipv4() { 32 } else { 128 }));
            }
            rules.extend(options.rules.rules());
            if options.reduced {
                rules.extend(parsed(REDUCED)?);
            }
        }
        rules.extend(parsed("reject *:*")?);
        let mut rules = AddrPolicy::without_idle(rules)?;
        if !rules.rules().iter().any(accepts) {
            rules = AddrPolicy::reject_all();
        }
        if rules.encode_descriptor().len() > POLICY_LEN_MAX {
            return Err(BadPolicy::TooLong);
        }
        Ok(ExitPolicy {
            rules,
            reject_private: options.reject_private,
            reevaluate: options.reevaluate,
        })
    }

    /// That of a relay that is no exit.
    #[must_use]
    pub fn none() -> Self {
        ExitPolicy {
            rules: AddrPolicy::reject_all(),
            reject_private: true,
            reevaluate: false,
        }
    }

    /// Whether a stream may leave to this address and port.
    #[must_use]
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        self.rules.allows(address, port)
    }

    /// Whether a stream may leave to some address at this port.
    #[must_use]
    pub fn allows_somewhere(&self, port: u16) -> bool {
        let mut rules = self.rules.rules().iter();
        port != 0 && rules.any(|rule| accepts(rule) && rule.ports.contains(port))
    }

    /// Whether any stream may leave: no others have names looked up here.
    #[must_use]
    pub fn is_exit(&self) -> bool {
        self.rules.rules().iter().any(accepts)
    }

    /// Whether an internal address is an answer to a look-up.
    #[must_use]
    pub fn resolves_internal(&self) -> bool {
        !self.reject_private
    }

    /// Whether open streams are looked at again when this policy comes in the place of another.
    #[must_use]
    pub fn reevaluates(&self) -> bool {
        self.reevaluate
    }

    /// The rules, as a descriptor has them.
    #[must_use]
    pub fn rules(&self) -> &AddrPolicy {
        &self.rules
    }
}

fn accepts(rule: &AddrRule) -> bool {
    rule.action == Action::Accept
}

fn reject(address: IpAddr, prefix_len: u8) -> AddrRule {
    AddrRule {
        action: Action::Reject,
        address,
        prefix_len,
        ports: PortRange::ALL,
    }
}

fn parsed(text: &str) -> Result<Vec<AddrRule>, BadPolicy> {
    Ok(AddrPolicy::parse_config([text])?.rules().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rules: &str) -> ExitOptions {
        ExitOptions::with_rules(AddrPolicy::parse_config([rules]).unwrap())
    }

    fn policy(options: &ExitOptions) -> ExitPolicy {
        ExitPolicy::new(options, ["203.0.113.7".parse().unwrap()]).unwrap()
    }

    fn allows(policy: &ExitPolicy, address: &str, port: u16) -> bool {
        policy.allows(address.parse().unwrap(), port)
    }

    #[test]
    fn without_rules_a_relay_is_no_exit() {
        for lifted in [true, false] {
            let mut none = ExitOptions::none();
            (none.reject_private, none.ipv6) = (!lifted, lifted);
            let none = policy(&none);
            assert!(!none.is_exit() && !none.allows_somewhere(80));
            assert!(!allows(&none, "127.0.0.1", 80) && !allows(&none, "198.51.100.1", 80));
            assert!(!allows(&none, "2001:db8::1", 80));
            assert_eq!(none.rules().encode_descriptor(), "reject *:*\n");
        }
    }

    #[test]
    fn internal_and_own_addresses_are_refused_before_any_rule() {
        let exit = policy(&options("accept *:*"));
        assert!(exit.is_exit() && allows(&exit, "198.51.100.1", 443));
        for refused in [
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.100.100.200",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "203.0.113.7",
            "::ffff:127.0.0.1",
            "::ffff:203.0.113.7",
            "::1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(!allows(&exit, refused, 443), "{refused}");
        }
        assert!(!exit.resolves_internal());
        let mut lifted = options("accept *:80");
        lifted.reject_private = false;
        let lifted = policy(&lifted);
        assert!(allows(&lifted, "127.0.0.1", 80) && allows(&lifted, "203.0.113.7", 80));
        assert!(!allows(&lifted, "127.0.0.1", 81) && lifted.resolves_internal());
    }

    #[test]
    fn what_no_rule_accepts_is_refused() {
        let mut few = options("accept *:80,reject 198.51.100.0/24:443");
        few.ipv6 = true;
        few.local = vec!["198.51.100.77".parse().unwrap()];
        let few = policy(&few);
        assert!(allows(&few, "198.51.100.1", 80) && allows(&few, "2001:db8::1", 80));
        assert!(!allows(&few, "198.51.100.77", 80));
        assert!(!allows(&few, "192.0.2.1", 25) && !allows(&few, "2001:db8::1", 25));
        assert!(few.allows_somewhere(80) && !few.allows_somewhere(25));
        assert!(few.rules().encode_descriptor().ends_with("reject *:*\n"));
    }

    #[test]
    fn the_reduced_policy_stands_behind_the_rules() {
        let mut reduced = options("reject *:22");
        reduced.reduced = true;
        let reduced = policy(&reduced);
        assert!(allows(&reduced, "198.51.100.1", 443) && !allows(&reduced, "198.51.100.1", 22));
        assert!(!allows(&reduced, "198.51.100.1", 25) && allows(&reduced, "198.51.100.1", 64738));
        assert!(reduced.rules().is_general_exit(false));
    }

    #[test]
    fn what_the_descriptor_says_is_what_is_done() {
        let exit = policy(&options(
            "reject 198.51.100.0/24:*,accept *:80,accept *:443",
        ));
        let mut read = AddrPolicy::default();
        for line in exit.rules().encode_descriptor().lines() {
            let (keyword, pattern) = line.split_once(' ').unwrap();
            read.push_descriptor_rule(keyword, pattern).unwrap();
        }
        for address in ["127.0.0.1", "198.51.100.9", "192.0.2.1", "203.0.113.7"] {
            for port in [0, 80, 81, 443] {
                let address = address.parse().unwrap();
                assert_eq!(exit.allows(address, port), read.allows(address, port));
            }
        }
        assert!(read.is_general_exit(false));
    }

    #[test]
    fn rules_that_fit_no_descriptor_are_an_error() {
        let many: Vec<_> = (0..600)
            .map(|n| format!("reject 192.0.{}.{}:80", n / 250, n % 250))
            .collect();
        let rules = format!("{},accept *:80", many.join(","));
        let long = ExitPolicy::new(&options(&rules), []);
        assert_eq!(long, Err(BadPolicy::TooLong));
    }
}
