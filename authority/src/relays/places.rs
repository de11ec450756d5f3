//! For how many relays there is room, and for whose.
//!
//! Whoever has two keys can upload a descriptor, with any address in it. So places are counted by
//! address, and a relay that no test has reached there, a *stranger*, gives its place to one that
//! comes when there is no other: the one whose test failed first. Relays that were reached keep
//! theirs, and authorities always have one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::SystemTime;

use cepa_crypto::RsaId;

use crate::config::{Config, RELAYS_MAX};

/// Places on one address for each relay that may be Running there: a new key, or a relay that
/// takes over from another, finds room before the old one is forgotten.
const PLACES_PER_SERVER: usize = 4;

/// Which places are taken.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_address: BTreeMap<Ipv4Addr, BTreeSet<RsaId>>,
    taken: BTreeMap<RsaId, Ipv4Addr>,
    /// Strangers that a test could not reach, by when that was.
    unreachable: BTreeSet<(SystemTime, RsaId)>,
    unreachable_since: BTreeMap<RsaId, SystemTime>,
}

/// What it takes to let a relay in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nothing.
    Free,
    /// This stranger has to go.
    Of(RsaId),
    /// There is none; the reason for the relay's operator.
    Full(&'static str),
}

impl Places {
    /// Whether there is room for a relay at an address.
    pub(crate) fn room(&self, id: &RsaId, address: Ipv4Addr, config: &Config) -> Room {
        let is_authority = config.authorities.iter().any(|one| one.rsa_id == *id);
        let held = self.taken.get(id);
        if is_authority || held == Some(&address) {
            return Room::Free;
        }
        let there = self.by_address.get(&address);
        let most = config
            .relays_per_address_max
            .saturating_mul(PLACES_PER_SERVER);
        if most > 0 && there.is_some_and(|there| there.len() >= most) {
            let since = |id: &RsaId| Some((*self.unreachable_since.get(id)?, *id));
            let first = there.and_then(|there| there.iter().filter_map(since).min());
            return first.map_or(
                Room::Full("Too many relays have published with this address."),
                |(_, id)| Room::Of(id),
            );
        }
        if held.is_some() || self.taken.len() < RELAYS_MAX {
            return Room::Free;
        }
        self.unreachable.first().map_or(
            Room::Full("Too many relays are known. Try again later."),
            |(_, id)| Room::Of(*id),
        )
    }

    /// The relay has its place at this address; it is not known whether it can be reached there.
    pub(crate) fn take(&mut self, id: RsaId, address: Ipv4Addr) {
        self.leave(&id);
        self.taken.insert(id, address);
        self.by_address.entry(address).or_default().insert(id);
    }

    /// The relay is gone.
    pub(crate) fn leave(&mut self, id: &RsaId) {
        self.reached(id);
        let Some(address) = self.taken.remove(id) else {
            return;
        };
        if let Some(there) = self.by_address.get_mut(&address) {
            there.remove(id);
            if there.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// A test has reached it.
    pub(crate) fn reached(&mut self, id: &RsaId) {
        if let Some(since) = self.unreachable_since.remove(id) {
            self.unreachable.remove(&(since, *id));
        }
    }

    /// A test of a stranger failed.
    pub(crate) fn failed(&mut self, id: &RsaId, now: SystemTime) {
        if self.taken.contains_key(id) && !self.unreachable_since.contains_key(id) {
            self.unreachable_since.insert(*id, now);
            self.unreachable.insert((now, *id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn id(number: u32) -> RsaId {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RsaId::from(bytes)
    }

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn an_address_has_so_many_places_and_strangers_give_theirs() {
        let config = Config::new(Vec::new(), String::new());
        let address = Ipv4Addr::new(203, 0, 113, 7);
        let mut places = Places::default();
        for number in 0..8 {
            assert_eq!(places.room(&id(number), address, &config), Room::Free);
            places.take(id(number), address);
        }
        // None has been tested: nobody has to go, and nobody can come.
        assert!(matches!(
            places.room(&id(9), address, &config),
            Room::Full(_)
        ));
        assert_eq!(places.room(&id(3), address, &config), Room::Free);
        places.failed(&id(5), at(2));
        places.failed(&id(4), at(1));
        assert_eq!(places.room(&id(9), address, &config), Room::Of(id(4)));
        places.reached(&id(4));
        assert_eq!(places.room(&id(9), address, &config), Room::Of(id(5)));
        places.leave(&id(5));
        assert_eq!(places.room(&id(9), address, &config), Room::Free);
        // Who moves here needs a place, too.
        places.take(id(9), Ipv4Addr::new(203, 0, 113, 8));
        places.take(id(10), address);
        assert!(matches!(
            places.room(&id(9), address, &config),
            Room::Full(_)
        ));
    }

    #[test]
    fn a_full_house_lets_nobody_push_out_who_was_reached() {
        let config = Config::new(Vec::new(), String::new());
        let address = |number: u32| Ipv4Addr::from(0x0100_0000 + number);
        let mut places = Places::default();
        for number in 0..u32::try_from(RELAYS_MAX).unwrap() {
            places.take(id(number), address(number));
        }
        let newcomer = id(u32::MAX);
        let room = |places: &Places| places.room(&newcomer, address(1 << 20), &config);
        assert!(matches!(room(&places), Room::Full(_)));
        places.failed(&id(77), at(5));
        assert_eq!(room(&places), Room::Of(id(77)));
        places.reached(&id(77));
        assert!(matches!(room(&places), Room::Full(_)));
    }

    #[test]
    fn a_test_network_and_authorities_have_no_bound() {
        let address = Ipv4Addr::LOCALHOST;
        let config = Config {
            relays_per_address_max: 0,
            ..Config::new(Vec::new(), String::new())
        };
        let mut places = Places::default();
        for number in 0..100 {
            assert_eq!(places.room(&id(number), address, &config), Room::Free);
            places.take(id(number), address);
        }
    }
}
