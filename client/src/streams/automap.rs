//! Addresses that stand for names (`AutomapHostsOnResolve`, `VirtualAddrNetworkIPv4` and `…IPv6`
//! in tor(1)).
//!
//! A program that can only connect to addresses looks an `.onion` name up, gets an address of a
//! range that nobody has, and connects to that; the connection is then to the name. A name keeps
//! its address while it is in use; past [`NAMES_MAX`] the one that was used least lately goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cepa_crypto::Rng;

use super::virtual_nets::VirtualNets;

/// Names that have an address at a time.
pub const NAMES_MAX: usize = 4096;
/// Which names get addresses, and of which networks these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomapRules {
    /// Ends of names (`AutomapHostsSuffixes`); a lone point: all names.
    pub suffixes: Vec<String>,
    /// The networks of the addresses.
    pub nets: VirtualNets,
}

impl Default for AutomapRules {
    fn default() -> Self {
        AutomapRules {
            suffixes: [".onion", ".exit"].map(str::to_owned).into(),
            nets: VirtualNets::default(),
        }
    }
}

impl AutomapRules {
    /// Whether names like this get an address here.
    fn is_for(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let mut ends = self.suffixes.iter();
        ends.any(|end| end == "." || name.ends_with(&end.to_ascii_lowercase()))
    }
}

/// Names and their addresses.
#[derive(Debug)]
pub struct Automap {
    by_name: BTreeMap<(String, bool), IpAddr>,
    by_address: BTreeMap<IpAddr, Entry>,
    uses: u64,
    rules: AutomapRules,
    rng: Rng,
}

#[derive(Debug)]
struct Entry {
    name: String,
    used: u64,
}

impl Automap {
    /// Without names.
    pub fn new(rules: AutomapRules, rng: Rng) -> Self {
        Automap {
            by_name: BTreeMap::new(),
            by_address: BTreeMap::new(),
            uses: 0,
            rules,
            rng,
        }
    }

    /// Whether names like this get an address here.
    pub fn is_for(&self, name: &str) -> bool {
        self.rules.is_for(name)
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
        let is_virtual = self.is_virtual_ipv4(address);
        match self.by_address.get_mut(&address) {
            Some(entry) => {
                entry.used = self.uses;
                Ok(Some(entry.name.clone()))
            }
            None if is_virtual => Err(()),
            None => Ok(None),
        }
    }

    fn draw(&mut self, wants_ipv6: bool) -> IpAddr {
        let (nets, rng) = (&self.rules.nets, &mut self.rng);
        match wants_ipv6 {
            true => nets.draw_ipv6(rng).into(),
            false => nets.draw_ipv4(rng).into(),
        }
    }

    fn is_virtual_ipv4(&self, address: IpAddr) -> bool {
        address.is_ipv4() && self.rules.nets.contains(address)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_while_it_is_used() {
        let mut map = Automap::new(AutomapRules::default(), Rng::from_seed([1; 32]));
        let (v4, v6) = (map.address("A.onion", false), map.address("a.onion", true));
        assert!(map.is_virtual_ipv4(v4) && v6.is_ipv6());
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
        assert!(map.is_for("x.ONION") && !map.is_for("onion") && !map.is_for("x.net"));
    }

    #[test]
    fn names_and_networks_are_those_of_the_rules() {
        let nets = VirtualNets {
            ipv4: ([10, 192, 0, 0].into(), 12),
            ..VirtualNets::default()
        };
        let suffixes = vec![".net".to_owned()];
        let rules = AutomapRules { suffixes, nets };
        let mut map = Automap::new(rules, Rng::from_seed([1; 32]));
        assert!(map.is_for("a.NET") && !map.is_for("a.onion"));
        let address = map.address("a.net", false);
        assert!(nets.contains(address), "{address}");
        assert_eq!(map.name(address), Ok(Some("a.net".into())));
        assert_eq!(map.name("127.192.1.1".parse().unwrap()), Ok(None));
        let all = AutomapRules {
            suffixes: vec![".".to_owned()],
            ..AutomapRules::default()
        };
        assert!(all.is_for("anything"));
    }
}
