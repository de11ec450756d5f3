//! Where metrics are served, and to whom: `metrics` and `metrics_policy` (`tor`: MetricsPort and
//! MetricsPortPolicy).
//!
//! Metrics tell much: the addresses of onion services, when their visitors come, what a relay
//! carries. Without a policy they are for this machine, so `metrics` must then be a loopback
//! address; whoever can connect to that may read them. With one, the first rule that matches
//! decides, ports in it mean nothing, and what no rule accepts is rejected, this machine included.

use std::net::{IpAddr, SocketAddr};

use cepa_netdoc::policy::{AddrPolicy, AddrRule, PortRange};
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// A port that serves metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsPort {
    /// The address at which metrics are served.
    pub addr: SocketAddr,
    /// Who may read them; none: whoever connects.
    policy: Option<AddrPolicy>,
}

impl MetricsPort {
    /// Whether metrics are for somebody at this address.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| policy.allows(ip, PortRange::ALL.low))
    }

    /// The port that a file asks for, if it does.
    pub(super) fn checked(
        source: &Source,
        metrics: Option<&Spanned<SocketAddr>>,
        policy: &[Spanned<String>],
    ) -> Result<Option<Self>, Failure> {
        let mut rules = Vec::new();
        for line in policy {
            let read = AddrPolicy::parse_config([line.get_ref().as_str()]);
            let expected = "accept or reject, then an address or a network, such as \
                            accept 192.0.2.0/24";
            let read = read.map_err(|_| source.wrong(line, "metrics_policy", expected))?;
            rules.extend(read.rules().iter().map(any_port));
        }
        rules.push("reject *:*".to_owned());
        let Some(metrics) = metrics else {
            return match policy.first() {
                Some(line) => Err(source.wrong(line, "metrics_policy", "metrics beside it")),
                None => Ok(None),
            };
        };
        let addr = *metrics.get_ref();
        let expected = "a loopback address, or metrics_policy beside it, such as \
                        metrics_policy = [\"accept 192.0.2.7\"]";
        source.expect(metrics, "metrics", expected, |addr| {
            !policy.is_empty() || addr.ip().to_canonical().is_loopback()
        })?;
        let all = AddrPolicy::parse_config(rules.iter().map(String::as_str));
        let expected = "fewer rules";
        let all = all.map_err(|_| source.wrong(metrics, "metrics_policy", expected))?;
        let policy = (!policy.is_empty()).then_some(all);
        Ok(Some(Self { addr, policy }))
    }
}

/// The same rule for all ports, as it is written.
pub(super) fn any_port(rule: &AddrRule) -> String {
    let (action, len) = (rule.action, rule.prefix_len);
    match rule.address {
        IpAddr::V4(ip) => format!("{action} {ip}/{len}:*"),
        IpAddr::V6(ip) => format!("{action} [{ip}]/{len}:*"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Table {
        metrics: Option<Spanned<SocketAddr>>,
        #[serde(default)]
        metrics_policy: Vec<Spanned<String>>,
    }

    fn read(text: &str) -> Result<Option<MetricsPort>, String> {
        let source = Source::from_text(Path::new("relay.toml"), text);
        let table: Table = source.parse().unwrap();
        let port = MetricsPort::checked(&source, table.metrics.as_ref(), &table.metrics_policy);
        port.map_err(|error| error.to_string())
    }

    fn allowed(port: &MetricsPort) -> Vec<&'static str> {
        let all = ["127.0.0.1", "192.0.2.7", "192.0.2.8", "2001:db8::7", "::1"];
        let allows = |ip: &&str| port.allows(ip.parse().unwrap());
        all.into_iter().filter(allows).collect()
    }

    #[test]
    fn metrics_are_for_this_machine_unless_a_policy_says_for_whom() {
        assert_eq!(read(""), Ok(None));
        let port = read("metrics = \"127.0.0.1:9035\"").unwrap().unwrap();
        assert_eq!(allowed(&port).len(), 5);
        assert!(read("metrics = \"[::1]:9035\"").is_ok());
        for addr in ["0.0.0.0:9035", "192.0.2.1:9035", "[::]:9035"] {
            let error = read(&format!("\nmetrics = \"{addr}\"")).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
            assert!(error.contains("metrics_policy = "), "{error}");
        }
    }

    #[test]
    fn what_no_rule_accepts_is_rejected() {
        let with = |rules: &str| {
            let text = format!("metrics = \"0.0.0.0:9035\"\nmetrics_policy = [{rules}]");
            read(&text).map(|port| allowed(&port.unwrap()))
        };
        let one = Ok(vec!["192.0.2.7"]);
        assert_eq!(with("\"accept 192.0.2.7\""), one);
        // Ports mean nothing.
        assert_eq!(with("\"accept 192.0.2.7:80\""), one);
        let but_one = with("\"reject 192.0.2.7, accept 192.0.2.0/24\"");
        assert_eq!(but_one, Ok(vec!["192.0.2.8"]));
        let six = with("\"accept [2001:db8::]/32\", \"accept 127.0.0.1\"");
        assert_eq!(six, Ok(vec!["127.0.0.1", "2001:db8::7"]));
        let error = with("\"accept 127.0.0.1\", \"allow *\"").unwrap_err();
        assert!(error.contains("line 2") && error.contains("accept 192.0.2.0/24"));
        let error = read("metrics_policy = [\"accept *\"]").unwrap_err();
        assert!(error.contains("metrics beside it"), "{error}");
    }
}
