//! One rule of an exit policy: `accept 192.0.2.0/24:80-90` (dir-spec.txt section 2.1.3).
//!
//! A rule holds one network of one family; `private` and the `*` of a configuration become
//! several rules when they are read. A network keeps its address as written: `tor` compares it
//! so when it looks for the private networks in a summary.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Action, BadPolicy, PortRange};

/// A rule: what is done with connections to some ports of some addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddrRule {
    /// Whether what the rule matches is accepted or rejected.
    pub action: Action,
    /// An address of the network.
    pub address: IpAddr,
    /// How many leading bits of the address count; at most 32 or 128.
    pub prefix_len: u8,
    /// The ports.
    pub ports: PortRange,
}

const fn v4(a: u8, b: u8, prefix_len: u8) -> (IpAddr, u8) {
    (IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix_len)
}

const fn v6(first: u16, prefix_len: u8) -> (IpAddr, u8) {
    (
        IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)),
        prefix_len,
    )
}

/// What `private` stands for, in `tor`'s order.
pub const PRIVATE_NETS: [(IpAddr, u8); 12] = [
    v4(0, 0, 8),
    v4(169, 254, 16),
    v4(127, 0, 8),
    v4(192, 168, 16),
    v4(10, 0, 8),
    v4(172, 16, 12),
    v6(0, 8),
    v6(0xfc00, 7),
    v6(0xfe80, 10),
    v6(0xfec0, 10),
    v6(0xff00, 8),
    v6(0, 127),
];

/// Whether an address is of no use in the public network: private, loopback, link-local and so
/// on. An IPv4 address in IPv6 form counts as the IPv4 address.
pub fn is_internal(address: IpAddr) -> bool {
    let nets4 = [
        v4(10, 0, 8),
        v4(0, 0, 8),
        v4(127, 0, 8),
        v4(100, 64, 10),
        v4(169, 254, 16),
    ];
    let more4 = [v4(172, 16, 12), v4(192, 168, 16)];
    let nets6 = [v6(0xfc00, 7), v6(0xfe80, 10), v6(0xfec0, 10), v6(0, 127)];
    let address = address.to_canonical();
    let mut nets = nets4.iter().chain(&more4).chain(&nets6);
    nets.any(|(net, prefix_len)| in_net(address, *net, *prefix_len))
}

/// Whether an address is in a network of its family.
fn in_net(address: IpAddr, net: IpAddr, prefix_len: u8) -> bool {
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            let differing = address.to_bits() ^ net.to_bits();
            differing.leading_zeros() >= u32::from(prefix_len)
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => {
            let differing = address.to_bits() ^ net.to_bits();
            differing.leading_zeros() >= u32::from(prefix_len)
        }
        _ => false,
    }
}

impl AddrRule {
    /// Whether the rule says something about an address and a port.
    pub fn matches(&self, address: IpAddr, port: u16) -> bool {
        self.ports.contains(port) && in_net(address, self.address, self.prefix_len)
    }

    /// Whether all that another rule matches matches this one, too.
    pub fn covers(&self, other: &Self) -> bool {
        let ports = self.ports.low.max(1) <= other.ports.low.max(1);
        self.prefix_len <= other.prefix_len
            && in_net(other.address, self.address, self.prefix_len)
            && ports
            && other.ports.high <= self.ports.high
    }

    /// Whether the rule is about every address of its family.
    pub fn is_every_address(&self) -> bool {
        self.prefix_len == 0
    }

    /// Whether the rule is about IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether its network is one of [`PRIVATE_NETS`], written the same way.
    pub fn is_private_net(&self) -> bool {
        PRIVATE_NETS.contains(&(self.address, self.prefix_len))
    }

    /// Reads a descriptor's rule: `keyword` is accept, reject, accept6 or reject6 and `pattern`
    /// its one argument. `*` is every IPv4 address, and nothing else can be with accept6.
    pub(super) fn parse_descriptor(
        keyword: &str,
        pattern: &str,
        rules: &mut Vec<Self>,
    ) -> Result<(), BadPolicy> {
        let (action, is_v6) = match keyword.strip_suffix('6') {
            Some(action) => (action.parse()?, true),
            None => (keyword.parse()?, false),
        };
        let (address, ports) = split_ports(pattern)?;
        // `tor` takes a range from 0, as one from 1, but no rule about port 0 alone.
        if ports.high == 0 {
            return Err(BadPolicy::BadPorts);
        }
        if address == "private" {
            push_private(action, ports, rules);
            return Ok(());
        }
        let rule = match address {
            "*" => Self {
                action,
                address: Ipv4Addr::UNSPECIFIED.into(),
                prefix_len: 0,
                ports,
            },
            _ => Self::parse_net(action, address, ports)?,
        };
        if rule.address.is_ipv6() != is_v6 {
            return Err(BadPolicy::WrongFamily);
        }
        rules.push(rule);
        Ok(())
    }

    /// Reads a configured rule: `*` is every address, `*4` and `*6` those of one family, and
    /// accept6 and reject6 are about IPv6 only.
    pub(super) fn parse_config(text: &str, rules: &mut Vec<Self>) -> Result<(), BadPolicy> {
        let (keyword, pattern) = text
            .trim()
            .split_once([' ', '\t'])
            .ok_or(BadPolicy::BadAction)?;
        let (action, is_v6) = match keyword.strip_suffix('6') {
            Some(action) => (action.parse()?, true),
            None => (keyword.parse()?, false),
        };
        let (address, ports) = split_ports(pattern.trim())?;
        let every4 = Self {
            action,
            address: Ipv4Addr::UNSPECIFIED.into(),
            prefix_len: 0,
            ports,
        };
        let every6 = Self {
            address: Ipv6Addr::UNSPECIFIED.into(),
            ..every4
        };
        match address {
            "private" => push_private(action, ports, rules),
            "*" if is_v6 => rules.push(every6),
            "*" => rules.extend([every4, every6]),
            "*4" if !is_v6 => rules.push(every4),
            "*6" => rules.push(every6),
            _ => {
                let rule = Self::parse_net(action, address, ports)?;
                if is_v6 && rule.is_ipv4() {
                    return Err(BadPolicy::WrongFamily);
                }
                rules.push(rule);
            }
        }
        Ok(())
    }

    fn parse_net(action: Action, text: &str, ports: PortRange) -> Result<Self, BadPolicy> {
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let bracketed = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address: IpAddr = match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => address.parse::<Ipv4Addr>().map(IpAddr::V4),
        }
        .map_err(|_| BadPolicy::BadAddress)?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match mask {
            None => bits,
            Some(mask) => parse_mask(mask, address.is_ipv4())
                .filter(|len| *len <= bits)
                .ok_or(BadPolicy::BadAddress)?,
        };
        Ok(Self {
            action,
            address,
            prefix_len,
            ports,
        })
    }

    /// The rule without its first word, as a descriptor has it.
    pub(super) fn pattern(&self) -> String {
        let bits = if self.is_ipv4() { 32 } else { 128 };
        let address = match (self.prefix_len, self.address) {
            (0, IpAddr::V4(_)) => "*".to_owned(),
            (_, IpAddr::V4(address)) => address.to_string(),
            (_, IpAddr::V6(address)) => format!("[{address}]"),
        };
        let mask = match self.prefix_len {
            0 if self.is_ipv4() => String::new(),
            len if len == bits => String::new(),
            len => format!("/{len}"),
        };
        match self.ports.is_all() {
            true => format!("{address}{mask}:*"),
            false => format!("{address}{mask}:{}", self.ports),
        }
    }
}

impl fmt::Display for AddrRule {
    /// Writes the line of a descriptor, without its newline.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let six = if self.is_ipv4() { "" } else { "6" };
        write!(out, "{}{six} {}", self.action, self.pattern())
    }
}

fn push_private(action: Action, ports: PortRange, rules: &mut Vec<AddrRule>) {
    rules.extend(PRIVATE_NETS.map(|(address, prefix_len)| AddrRule {
        action,
        address,
        prefix_len,
        ports,
    }));
}

/// Cuts `ADDRESS:PORTS`; the ports may be missing or `*`, which is all of them.
fn split_ports(pattern: &str) -> Result<(&str, PortRange), BadPolicy> {
    let behind_bracket = pattern.find(']').unwrap_or(0);
    let colon = (pattern
        .get(behind_bracket..)
        .and_then(|rest| rest.find(':')))
    .map(|at| at + behind_bracket);
    let Some(colon) = colon else {
        return Ok((pattern, PortRange::ALL));
    };
    let (address, ports) = pattern.split_at(colon);
    let ports = match ports.strip_prefix(':').unwrap_or_default() {
        "" | "*" => PortRange::ALL,
        ports => PortRange::parse(ports)?,
    };
    Ok((address, ports))
}

/// Reads the bits of a mask, or an IPv4 mask in dotted form.
fn parse_mask(text: &str, is_ipv4: bool) -> Option<u8> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let mask = text.parse::<Ipv4Addr>().ok().filter(|_| is_ipv4)?.to_bits();
    let len = mask.leading_ones();
    (len + mask.trailing_zeros() >= 32)
        .then(|| u8::try_from(len).ok())
        .flatten()
}
