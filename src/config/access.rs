//! Who may use the ports of a client, and which names get addresses there: `socks_policy`,
//! `automap_suffixes`, `virtual_ipv4` and `virtual_ipv6`.

use std::net::IpAddr;

use cepa_client::automap::AutomapRules;
use cepa_client::virtual_nets::VirtualNets;
use cepa_netdoc::policy::AddrPolicy;
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// The rules of names and networks.
pub(super) fn automap(
    source: &Source,
    suffixes: Option<&[String]>,
    [ipv4, ipv6]: [Option<&Spanned<String>>; 2],
) -> Result<AutomapRules, Failure> {
    let mut rules = AutomapRules::default();
    if let Some(suffixes) = suffixes {
        suffixes.clone_into(&mut rules.suffixes);
    }
    let nets = &mut rules.nets;
    let network = |text: &Spanned<String>| VirtualNets::network(text.get_ref());
    if let Some(text) = ipv4 {
        let expected = "an IPv4 network of 16 bits or fewer, such as 127.192.0.0/10";
        nets.ipv4 = match network(text) {
            Some((IpAddr::V4(net), bits)) => (net, bits),
            _ => return Err(source.wrong(text, "virtual_ipv4", expected)),
        };
    }
    if let Some(text) = ipv6 {
        let expected = "an IPv6 network of 104 bits or fewer, such as [FE80::]/10";
        nets.ipv6 = match network(text) {
            Some((IpAddr::V6(net), bits)) => (net, bits),
            _ => return Err(source.wrong(text, "virtual_ipv6", expected)),
        };
    }
    Ok(rules)
}

/// The policy of the ports; what no line matches is accepted, and ports in it mean nothing.
pub(super) fn policy(
    source: &Source,
    lines: &[Spanned<String>],
) -> Result<Option<AddrPolicy>, Failure> {
    let Some(first) = lines.first() else {
        return Ok(None);
    };
    let expected = "accept or reject, then an address or a network, such as reject 192.0.2.0/24";
    for line in lines {
        let read = AddrPolicy::parse_config([line.get_ref().as_str()]);
        read.map_err(|_| source.wrong(line, "socks_policy", expected))?;
    }
    let all = AddrPolicy::parse_config(lines.iter().map(|line| line.get_ref().as_str()));
    let rules = all.map(|all| {
        all.rules()
            .iter()
            .map(super::metrics::any_port)
            .collect::<Vec<_>>()
    });
    let rules = rules.and_then(|rules| AddrPolicy::parse_config(rules.iter().map(String::as_str)));
    rules
        .map(Some)
        .map_err(|_| source.wrong(first, "socks_policy", "fewer rules"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::client::tests::read;

    #[test]
    fn names_get_addresses_as_the_file_says() {
        let without = read("virtual_ipv4 = \"10.0.0.0/8\"").unwrap();
        assert_eq!((without.automap, without.virtual_nets.ipv4.1), (None, 8));
        let text = "automap = true\nautomap_suffixes = [\".x\"]\n\
            virtual_ipv4 = \"10.192.0.0/10\"\nvirtual_ipv6 = \"[fd00::]/8\"";
        let rules = read(text).unwrap().automap.unwrap();
        assert_eq!(rules.suffixes, [".x"]);
        assert_eq!((rules.nets.ipv4.1, rules.nets.ipv6.1), (10, 8));
        assert_eq!(
            read("automap = true").unwrap().automap,
            Some(AutomapRules::default())
        );
        for wrong in [
            "virtual_ipv4 = \"10.0.0.0/24\"",
            "virtual_ipv6 = \"10.0.0.0/8\"",
        ] {
            assert!(read(wrong).unwrap_err().contains("line 3"), "{wrong}");
        }
    }

    #[test]
    fn ports_are_for_whom_the_policy_accepts() {
        let policy = read("socks_policy = [\"accept 192.0.2.7:1\", \"reject 192.0.2.0/24\"]");
        let policy = policy.unwrap().caution.policy.unwrap();
        let allows = |ip: &str| policy.allows(ip.parse().unwrap(), 1);
        assert!(allows("192.0.2.7") && !allows("192.0.2.8") && allows("127.0.0.1"));
        assert_eq!(read("").unwrap().caution.policy, None);
        assert!(
            read("socks_policy = [\"x\"]")
                .unwrap_err()
                .contains("line 3")
        );
    }
}
