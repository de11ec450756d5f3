//! The networks of addresses that stand for names (`VirtualAddrNetworkIPv4` and `…IPv6` in tor(1)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cepa_crypto::Rng;

/// The narrowest networks, in bits of the prefix: `tor`'s bounds.
const IPV4_PREFIX_MAX: u8 = 16;
const IPV6_PREFIX_MAX: u8 = 104;

/// A network of each family, and how many bits of it are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualNets {
    /// The network of IPv4 addresses.
    pub ipv4: (Ipv4Addr, u8),
    /// The network of IPv6 addresses.
    pub ipv6: (Ipv6Addr, u8),
}

impl Default for VirtualNets {
    fn default() -> Self {
        VirtualNets {
            ipv4: (Ipv4Addr::new(127, 192, 0, 0), 10),
            ipv6: (Ipv6Addr::from(0xFE80 << 112), 10),
        }
    }
}

impl VirtualNets {
    /// Reads a network of either family, `ADDRESS/BITS`, with brackets around IPv6 or not. None if
    /// it is none, or too narrow.
    #[must_use]
    pub fn network(text: &str) -> Option<(IpAddr, u8)> {
        let (address, bits) = text.trim().rsplit_once('/')?;
        let inner = address.trim_start_matches('[').trim_end_matches(']');
        let (address, bits): (IpAddr, u8) = (inner.parse().ok()?, bits.parse().ok()?);
        let most = match address {
            IpAddr::V4(_) => IPV4_PREFIX_MAX,
            IpAddr::V6(_) => IPV6_PREFIX_MAX,
        };
        (bits <= most).then_some((address, bits))
    }

    /// Whether an address is of its family's network.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ip) => {
                let (net, bits) = self.ipv4;
                (u32::from(ip) ^ u32::from(net)) & !ipv4_hosts(bits) == 0
            }
            IpAddr::V6(ip) => {
                let (net, bits) = self.ipv6;
                (u128::from(ip) ^ u128::from(net)) & !ipv6_hosts(bits) == 0
            }
        }
    }

    /// An IPv4 address, neither the first nor the last of any network.
    pub(super) fn draw_ipv4(&self, rng: &mut Rng) -> Ipv4Addr {
        let (net, bits) = self.ipv4;
        let hosts = ipv4_hosts(bits);
        let [a, b, c, d] = rng.array();
        let host = u32::from_be_bytes([a, b, c, d.clamp(1, 254)]) & hosts;
        Ipv4Addr::from((u32::from(net) & !hosts) | host)
    }

    /// An IPv6 address.
    pub(super) fn draw_ipv6(&self, rng: &mut Rng) -> Ipv6Addr {
        let (net, bits) = self.ipv6;
        let hosts = ipv6_hosts(bits);
        let host = u128::from_be_bytes(rng.array()) & hosts;
        Ipv6Addr::from((u128::from(net) & !hosts) | host)
    }
}

/// The bits of an address that are drawn.
fn ipv4_hosts(bits: u8) -> u32 {
    u32::MAX.checked_shr(bits.into()).unwrap_or(0)
}

fn ipv6_hosts(bits: u8) -> u128 {
    u128::MAX.checked_shr(bits.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_networks() {
        let network = |text| VirtualNets::network(text).unwrap();
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) =
            (network("10.192.0.0/12").0, network("[fd00:1::]/32").0)
        else {
            panic!("networks of both families");
        };
        let nets = VirtualNets {
            ipv4: (ipv4, 12),
            ipv6: (ipv6, 32),
        };
        let mut rng = Rng::from_seed([1; 32]);
        for _ in 0..200 {
            let (v4, v6) = (nets.draw_ipv4(&mut rng), nets.draw_ipv6(&mut rng));
            let [a, b, _, last] = v4.octets();
            assert_eq!((a, b & 0xF0), (10, 192));
            assert!((1..=254).contains(&last), "{v4}");
            assert!(v6.to_string().starts_with("fd00:1:"), "{v6}");
            assert!(nets.contains(v4.into()) && nets.contains(v6.into()));
        }
        assert!(!nets.contains("127.192.1.1".parse().unwrap()));
        let wrong = ["10.0.0.0", "10.0.0.0/17", "[::1]/105", "x/8", "10.0.0.0/x"];
        for wrong in wrong {
            assert_eq!(VirtualNets::network(wrong), None, "{wrong}");
        }
    }
}
