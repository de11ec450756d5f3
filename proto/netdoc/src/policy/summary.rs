//! The summary of an exit policy: which ports most addresses can be reached at (dir-spec.txt
//! section 3.8.2, with the thresholds of `tor`'s `policy_summarize`).
//!
//! Authorities must agree on the bytes, so what `tor` computes is the rule: a port is accepted
//! if a rule for every address accepts it and at most two /8 of IPv4 (one /16 of IPv6) were
//! rejected for it before; rules about the private networks do not count.

use super::{Action, AddrRule, PortPolicy, PortRange, SUMMARY_LEN_MAX};

/// Addresses that may be rejected for a port that counts as accepted: two /8.
const IPV4_REJECTED_MAX: u64 = 1 << 25;
/// The same for IPv6, in networks of /64: one /16.
const IPV6_REJECTED_MAX: u64 = 1 << 48;

/// A range of ports that all rules up to now have treated alike.
#[derive(Clone, Copy, Debug)]
struct Span {
    ports: PortRange,
    rejected: u64,
    is_accepted: bool,
}

/// Summarizes rules of one family.
pub(super) fn summarize<'a>(rules: impl Iterator<Item = &'a AddrRule>) -> PortPolicy {
    let mut spans = vec![Span {
        ports: PortRange::ALL,
        rejected: 0,
        is_accepted: false,
    }];
    for rule in rules {
        let ports = PortRange {
            low: rule.ports.low.max(1),
            high: rule.ports.high,
        };
        if ports.low > ports.high {
            continue;
        }
        match rule.action {
            Action::Accept if rule.is_every_address() => {
                let rejected_max = if rule.is_ipv4() {
                    IPV4_REJECTED_MAX
                } else {
                    IPV6_REJECTED_MAX
                };
                for span in spans_of(&mut spans, ports) {
                    span.is_accepted |= span.rejected <= rejected_max;
                }
            }
            Action::Reject if !rule.is_private_net() => {
                if let Some(weight) = weight(rule) {
                    for span in spans_of(&mut spans, ports) {
                        span.rejected = span.rejected.saturating_add(weight);
                    }
                }
            }
            _ => {}
        }
    }
    shorter(&spans)
}

/// How much a rule rejects: IPv4 addresses, or IPv6 networks of /64; less than one is nothing.
fn weight(rule: &AddrRule) -> Option<u64> {
    let bits: u8 = if rule.is_ipv4() { 32 } else { 64 };
    let free_bits = bits.checked_sub(rule.prefix_len)?;
    Some(1u64.checked_shl(free_bits.into()).unwrap_or(u64::MAX))
}

/// The spans that make up exactly `ports`, after cutting those that only overlap.
fn spans_of(spans: &mut Vec<Span>, ports: PortRange) -> &mut [Span] {
    split_before(spans, ports.low);
    if let Some(behind) = ports.high.checked_add(1) {
        split_before(spans, behind);
    }
    let first = spans.partition_point(|span| span.ports.low < ports.low);
    let end = spans.partition_point(|span| span.ports.low <= ports.high);
    spans.get_mut(first..end).unwrap_or_default()
}

fn split_before(spans: &mut Vec<Span>, port: u16) {
    let behind = spans.partition_point(|span| span.ports.low < port);
    let Some(span) = behind.checked_sub(1).and_then(|index| spans.get_mut(index)) else {
        return;
    };
    if span.ports.high >= port {
        let upper = Span {
            ports: PortRange {
                low: port,
                high: span.ports.high,
            },
            ..*span
        };
        span.ports.high = port - 1;
        spans.insert(behind, upper);
    }
}

fn shorter(spans: &[Span]) -> PortPolicy {
    let accepts = joined(spans.iter().filter(|span| span.is_accepted));
    let rejects = joined(spans.iter().filter(|span| !span.is_accepted));
    if accepts.is_empty() || rejects.is_empty() {
        return PortPolicy::new(Action::Accept, accepts);
    }
    let len = |ranges: &[PortRange]| list(ranges).len();
    let list_len_max = SUMMARY_LEN_MAX - "accept ".len();
    if len(&accepts) > list_len_max && len(&rejects) > list_len_max {
        return PortPolicy::new(Action::Accept, cut(accepts, list_len_max));
    }
    if len(&rejects) < len(&accepts) {
        PortPolicy::new(Action::Reject, rejects)
    } else {
        PortPolicy::new(Action::Accept, accepts)
    }
}

/// Joins ranges that touch.
fn joined<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for Span { ports, .. } in spans {
        match ranges.last_mut() {
            Some(last) if last.high.checked_add(1) == Some(ports.low) => last.high = ports.high,
            _ => ranges.push(*ports),
        }
    }
    ranges
}

fn list(ranges: &[PortRange]) -> String {
    let words: Vec<String> = ranges.iter().map(PortRange::to_string).collect();
    words.join(",")
}

/// As many ranges from the start as fit into `len_max` bytes.
fn cut(mut ranges: Vec<PortRange>, len_max: usize) -> Vec<PortRange> {
    let mut len = 0;
    let fitting = ranges.iter().take_while(|range| {
        len += range.to_string().len() + 1;
        len - 1 <= len_max
    });
    let count = fitting.count();
    ranges.truncate(count);
    ranges
}

#[cfg(test)]
mod tests {
    use crate::policy::AddrPolicy;
    use proptest::prelude::*;

    fn summary(text: &str) -> String {
        AddrPolicy::parse_config([text])
            .unwrap()
            .summary_ipv4()
            .encode()
    }

    // The expected values are those of `tor`'s own unit tests for the same policies.
    #[test]
    fn summaries_are_those_of_tor() {
        assert_eq!(summary("accept *:*"), "accept 1-65535");
        assert_eq!(summary("reject *:*"), "reject 1-65535");
        assert_eq!(
            summary("reject 198.51.100.0/24:*,accept *:*"),
            "accept 1-65535"
        );
        assert_eq!(summary("reject *:80,accept *:*"), "reject 80");
        assert_eq!(
            summary("accept *:80,accept *:443,reject *:*"),
            "accept 80,443"
        );
        assert_eq!(
            summary("accept *:1,accept *:2,accept *:3,reject *:*"),
            "accept 1-3"
        );
        assert_eq!(summary("reject 0.0.0.0/7:80,accept *:*"), "accept 1-65535");
        assert_eq!(summary("reject 0.0.0.0/6:80,accept *:*"), "reject 80");
        assert_eq!(summary("reject private:80,accept *:*"), "accept 1-65535");
        assert_eq!(summary("accept 11.0.0.0/8:80,reject *:*"), "reject 1-65535");
        assert_eq!(summary("reject *:1-65534,accept *:*"), "accept 65535");
    }

    #[test]
    fn ipv6_counts_its_own_rules() {
        let policy = AddrPolicy::parse_config([
            "reject [2000::]/15:25,reject [2000::]/16:26,reject [2001:db8::1]:27,accept *6:*",
        ]);
        let policy = policy.unwrap();
        assert_eq!(policy.summary_ipv6().encode(), "reject 25");
        assert_eq!(policy.summary_ipv4().encode(), "reject 1-65535");
    }

    #[test]
    fn a_long_summary_is_cut_at_a_range() {
        let rules: Vec<String> = (1..400)
            .map(|n| format!("accept *:{}", n * 101))
            .chain(["reject *:*".to_owned()])
            .collect();
        let policy = AddrPolicy::parse_config(rules.iter().map(String::as_str)).unwrap();
        let summary = policy.summary_ipv4().encode();
        assert!(summary.starts_with("accept 101,202,"));
        assert!(
            summary.len() <= 1000 && summary.len() > 990,
            "{}",
            summary.len()
        );
    }

    proptest! {
        #[test]
        fn rules_for_every_address_are_summed_up_exactly(
            rules in proptest::collection::vec((any::<bool>(), 1u16..200, 0u16..20), 0..12),
            port in 1u16..230,
        ) {
            let lines: Vec<String> = rules.iter().map(|(accept, low, len)| {
                let action = if *accept { "accept" } else { "reject" };
                format!("{action} *4:{low}-{}", low + len)
            }).chain(["reject *:*".to_owned()]).collect();
            let policy = AddrPolicy::parse_config(lines.iter().map(String::as_str)).unwrap();
            let expected = policy.allows("198.51.100.1".parse().unwrap(), port);
            prop_assert_eq!(policy.summary_ipv4().allows(port), expected);
        }
    }
}
