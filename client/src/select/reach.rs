//! Which addresses may be connected to: from behind a firewall that lets few ports through, or from
//! where there is one family of addresses alone (`ReachableAddresses`, `FascistFirewall`,
//! `ClientUseIPv4`, `ClientUseIPv6`, `ClientPreferIPv6ORPort` in tor(1)).
//!
//! It is about first hops and directories: guards, bridges, fallback directories, authorities. A
//! relay that has no address left is none of these.

use std::net::SocketAddr;
use std::sync::Arc;

use cepa_netdoc::policy::AddrPolicy;
use cepa_pt::BridgeLine;

/// Which addresses may be connected to, and which are tried first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// What may be connected to; none: everything.
    pub policy: Option<AddrPolicy>,
    /// No IPv4 address is connected to (`ClientUseIPv4 0`).
    pub no_ipv4: bool,
    /// No IPv6 address is connected to (`ClientUseIPv6 0`).
    pub no_ipv6: bool,
    /// IPv6 addresses are tried before IPv4 addresses (`ClientPreferIPv6ORPort 1`).
    pub prefers_ipv6: bool,
}

impl Reach {
    /// Whether everything may be connected to.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.policy.is_none() && !self.no_ipv4 && !self.no_ipv6
    }

    /// The same as words, for the name of what rules say.
    pub(super) fn words(&self) -> String {
        let rules = self.policy.iter().flat_map(AddrPolicy::rules);
        let rules: Vec<String> = rules.map(ToString::to_string).collect();
        let families = [self.no_ipv4, self.no_ipv6];
        format!("reach {families:?} {}\n", rules.join(","))
    }

    /// Whether an address may be connected to.
    #[must_use]
    pub fn allows(&self, addr: SocketAddr) -> bool {
        let is_shut = match addr.is_ipv4() {
            true => self.no_ipv4,
            false => self.no_ipv6,
        };
        let policy = self.policy.as_ref();
        !is_shut && policy.is_none_or(|policy| policy.allows(addr.ip(), addr.port()))
    }

    /// Leaves the addresses of a relay that may be connected to, in the order in which they are
    /// tried; of a bridge its lines, in their order. There may be none.
    pub(crate) fn limit(&self, addrs: &mut Vec<SocketAddr>, lines: &mut Vec<Arc<BridgeLine>>) {
        match lines.is_empty() {
            true => {
                addrs.retain(|addr| self.allows(*addr));
                if self.prefers_ipv6 {
                    addrs.sort_by_key(SocketAddr::is_ipv4);
                }
            }
            false => {
                lines.retain(|line| self.allows(line.addr));
                *addrs = lines.iter().map(|line| line.addr).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(reach: &Reach, addrs: &[&str]) -> Vec<String> {
        let mut addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        reach.limit(&mut addrs, &mut Vec::new());
        addrs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_of_a_bridge_keep_their_order() {
        let line = |text: &str| Arc::new(text.parse::<BridgeLine>().unwrap());
        let mut lines = vec![line("192.0.2.1:443"), line("[2001:db8::1]:443")];
        let reach = Reach {
            no_ipv4: true,
            prefers_ipv6: true,
            ..Reach::default()
        };
        let mut addrs = lines.iter().map(|line| line.addr).collect();
        reach.limit(&mut addrs, &mut lines);
        assert_eq!((addrs.len(), lines.len()), (1, 1));
        assert!(addrs[0].is_ipv6() && lines[0].addr == addrs[0]);
    }

    #[test]
    fn ports_and_families_are_left_out() {
        let both = ["192.0.2.1:443", "[2001:db8::1]:9001"];
        assert_eq!(limited(&Reach::default(), &both), both);
        let policy = AddrPolicy::parse_config(["accept *:443,reject *:*"]).unwrap();
        let https = Reach {
            policy: Some(policy),
            ..Reach::default()
        };
        assert_eq!(limited(&https, &both), [both[0]]);
        assert!(!https.is_free() && !https.allows(both[1].parse().unwrap()));
        let no_ipv4 = Reach {
            no_ipv4: true,
            ..Reach::default()
        };
        assert_eq!(limited(&no_ipv4, &both), [both[1]]);
        let no_ipv6 = Reach {
            no_ipv6: true,
            ..Reach::default()
        };
        assert_eq!(limited(&no_ipv6, &both), [both[0]]);
        let prefers = Reach {
            prefers_ipv6: true,
            ..Reach::default()
        };
        assert!(prefers.is_free());
        assert_eq!(limited(&prefers, &both), [both[1], both[0]]);
    }
}
