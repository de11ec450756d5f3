//! Addresses that stand for names (`AutomapHostsOnResolve`, `VirtualAddrNetworkIPv4` and `…IPv6`
//! in tor(1)).
//!
//! A program that can only connect to addresses looks an `.onion` name up, gets an address of a
//! range that nobody has, and connects to that; the connection is then to the name. A name keeps
//! its address while it is in use; past [`NAMES_MAX`] the one that was used least lately goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cepa_crypto::Rng;

/// Names that have an address at a time.
pub const NAMES_MAX: usize = 4096;
/// 127.192.0.0/10.
const IPV4_NET: u32 = 0x7FC0_0000;
const IPV4_BITS: u32 = 22;
/// FE80::/10; the address is drawn from its lowest 64 bits.
const IPV6_NET: u128 = 0xFE80 << 112;
/// Names that end so are never looked up at an exit.
const SUFFIX: &str = ".onion";

/// Names and their addresses.
#[derive(Debug)]
pub struct Automap {
    by_name: BTreeMap<(String, bool), IpAddr>,
    by_address: BTreeMap<IpAddr, Entry>,
    uses: u64,
    rng: Rng,
}

#[derive(Debug)]
struct Entry {
    name: String,
    used: u64,
}

impl Automap {
    /// Without names.
    pub fn new(rng: Rng) -> Self {
        Automap {
            by_name: BTreeMap::new(),
            by_address: BTreeMap::new(),
            uses: 0,
            rng,
        }
    }

    /// Whether names like this get an address here.
    pub fn is_for(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.ends_with(SUFFIX)
    }

    /// The address of a name, which is drawn if it has none.
    pub fn address(&mut self, name: &str, wants_ipv6: bool) -> IpAddr {
        self.uses += 1;
        let key = (name.to_ascii_lowercase(), wants_ipv6);
        if let Some(address) = self.by_name.get(&key)
            && let Some(entry) = self.by_address.get_mut(address)
        {
            entry.used = self.uses;
            return *address;
        }
        if self.by_address.len() >= NAMES_MAX {
            self.drop_oldest();
        }
        let mut address = self.draw(wants_ipv6);
        while self.by_address.contains_key(&address) {
            address = self.draw(wants_ipv6);
        }
        let (name, used) = (key.0.clone(), self.uses);
        self.by_address.insert(address, Entry { name, used });
        self.by_name.insert(key, address);
        address
    }

    /// The name that an address stands for. `Err(())`: one of our range that stands for none.
    #[expect(clippy::result_unit_err, reason = "there is nothing else to say")]
    pub fn name(&mut self, address: IpAddr) -> Result<Option<String>, ()> {
        self.uses += 1;
        match self.by_address.get_mut(&address) {
            Some(entry) => {
                entry.used = self.uses;
                Ok(Some(entry.name.clone()))
            }
            None if is_virtual_ipv4(address) => Err(()),
            None => Ok(None),
        }
    }

    fn draw(&mut self, wants_ipv6: bool) -> IpAddr {
        let drawn = self.rng.u64();
        if wants_ipv6 {
            return Ipv6Addr::from(IPV6_NET | u128::from(drawn)).into();
        }
        let host = u32::try_from(drawn >> (64 - IPV4_BITS)).unwrap_or(0);
        // Neither the first nor the last of the net.
        let host = host.clamp(1, (1 << IPV4_BITS) - 2);
        Ipv4Addr::from(IPV4_NET | host).into()
    }

    fn drop_oldest(&mut self) {
        let oldest = self.by_address.iter().min_by_key(|(_, entry)| entry.used);
        let Some(address) = oldest.map(|(address, _)| *address) else {
            return;
        };
        if let Some(entry) = self.by_address.remove(&address) {
            self.by_name.remove(&(entry.name, address.is_ipv6()));
        }
    }
}

fn is_virtual_ipv4(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => u32::from(address) >> IPV4_BITS == IPV4_NET >> IPV4_BITS,
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_while_it_is_used() {
        let mut map = Automap::new(Rng::from_seed([1; 32]));
        let (v4, v6) = (map.address("A.onion", false), map.address("a.onion", true));
        assert!(is_virtual_ipv4(v4) && v6.is_ipv6());
        assert_eq!(map.address("a.onion", false), v4);
        assert_eq!(map.name(v4), Ok(Some("a.onion".into())));
        for number in 0..2 * NAMES_MAX {
            map.address(&format!("{number}.onion"), false);
            assert_eq!(map.address("a.onion", false), v4);
        }
        assert!(map.by_address.len() <= NAMES_MAX && map.by_name.len() <= NAMES_MAX);
        assert_eq!(map.name(v6), Ok(None), "it was not used for long");
        assert_eq!(map.name("127.0.0.1".parse().unwrap()), Ok(None));
        assert_eq!(map.name("127.255.255.255".parse().unwrap()), Err(()));
        assert!(Automap::is_for("x.ONION") && !Automap::is_for("onion"));
    }
}
