//! Addresses that stand for others (`MapAddress` in tor(1), MAPADDRESS in control-spec 3.9).
//!
//! A stream to the first leads to the second; that may be mapped in its turn. A pattern `*.name`
//! stands for the name and all that end so. There are [`MAPPINGS_MAX`] mappings at most.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use cepa_crypto::{Rng, encoding};
use cepa_wire::host::Host;

use super::virtual_nets::VirtualNets;

/// Most mappings.
pub const MAPPINGS_MAX: usize = 4096;
/// The longest address, in bytes.
pub const ADDRESS_LEN_MAX: usize = 255;
/// How often one address is mapped on to another.
const REWRITES_MAX: usize = 16;
/// How names end that are made up.
const VIRTUAL: &str = ".virtual";
/// Random bytes of such a name.
const VIRTUAL_LEN: usize = 10;

/// Who wants a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedBy {
    /// The configuration.
    Config,
    /// A controller.
    Controller,
}

/// What kind of address is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VirtualKind {
    /// An address of the network of IPv4.
    Ipv4,
    /// An address of the network of IPv6.
    Ipv6,
    /// A name.
    Name,
}

/// Why there is no such mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// All names would be mapped, or to all.
    #[error("can't remap from or to *")]
    Star,
    /// A pattern is to come of what is none.
    #[error("can only use wildcard (i.e. '*.') if 'from' address uses wildcard also")]
    Wildcard,
    /// It is no address, or too long for one.
    #[error("destination is invalid")]
    Destination,
    /// There are too many.
    #[error("there are too many mappings")]
    Full,
}

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What is asked for, as it was written.
    pub from: String,
    /// What is meant, as it was written.
    pub to: String,
    /// Who wants it.
    pub by: MappedBy,
}

/// All mappings.
#[derive(Debug, Clone, Default)]
pub struct AddressMap {
    /// By what is asked for, without `*.`.
    by_key: BTreeMap<(String, bool), Mapping>,
    /// Of which networks made-up addresses are.
    pub(crate) nets: VirtualNets,
}

impl AddressMap {
    /// Maps an address; to itself, if it is to be mapped no longer.
    pub fn set(&mut self, from: &str, to: &str, by: MappedBy) -> Result<(), MapError> {
        if from == "*" || to == "*" {
            return Err(MapError::Star);
        }
        let (key, is_pattern) = key(from);
        let (target, is_to_pattern) = key_of_target(to);
        if is_to_pattern && !is_pattern {
            return Err(MapError::Wildcard);
        }
        if !is_destination(target) || from.is_empty() || from.len() > ADDRESS_LEN_MAX {
            return Err(MapError::Destination);
        }
        let key = (key, is_pattern);
        if from.eq_ignore_ascii_case(to) {
            self.by_key.remove(&key);
            return Ok(());
        }
        if self.by_key.len() >= MAPPINGS_MAX && !self.by_key.contains_key(&key) {
            return Err(MapError::Full);
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        self.by_key.insert(key, Mapping { from, to, by });
        Ok(())
    }

    /// Makes up an address that stands for another; the one that it has already, if there is one.
    pub fn set_virtual(
        &mut self,
        kind: VirtualKind,
        to: &str,
        rng: &mut Rng,
    ) -> Result<String, MapError> {
        let mut known = self.by_key.values();
        let is_of = |one: &Mapping| virtual_kind(&one.from, &self.nets) == Some(kind);
        if let Some(known) = known.find(|one| one.to == to && is_of(one)) {
            return Ok(known.from.clone());
        }
        loop {
            let from = draw(kind, &self.nets, rng);
            if !self.by_key.contains_key(&(key(&from).0, false)) {
                self.set(&from, to, MappedBy::Controller)?;
                return Ok(from);
            }
        }
    }

    /// Takes these mappings for those of the configuration, in place of all of those before. How
    /// many of them cannot be.
    pub fn set_config(&mut self, mappings: &[(String, String)]) -> usize {
        self.by_key.retain(|_, one| one.by != MappedBy::Config);
        let set = |(from, to): &&(String, String)| self.set(from, to, MappedBy::Config).is_err();
        mappings.iter().filter(set).count()
    }

    /// What an address stands for, if it stands for another.
    #[must_use]
    pub fn rewrite(&self, host: &Host) -> Option<Host> {
        let mut now = host_text(host);
        let mut is_mapped = false;
        for _ in 0..REWRITES_MAX {
            let Some(next) = self.once(&now) else { break };
            (now, is_mapped) = (key(&next).0, true);
        }
        let bare = now.trim_start_matches('[').trim_end_matches(']');
        is_mapped.then(|| Host::parse(bare.as_bytes()).ok())?
    }

    fn once(&self, host: &str) -> Option<String> {
        let exact = [false, true].map(|is_pattern| (host.to_owned(), is_pattern));
        if let Some(found) = exact.iter().find_map(|key| self.by_key.get(key)) {
            return Some(key_of_target(&found.to).0.to_owned());
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.by_key.get(&(parent.to_owned(), true)) {
                let (target, is_pattern) = key_of_target(&found.to);
                let head = host.strip_suffix(parent).filter(|_| is_pattern);
                return Some(format!("{}{target}", head.unwrap_or_default()));
            }
            rest = parent;
        }
        None
    }

    /// All of them, in the order of what is asked for.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.by_key.values()
    }
}

/// An address as it is looked for, and whether it is a pattern.
fn key(from: &str) -> (String, bool) {
    let (name, is_pattern) = key_of_target(from);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = match bare.parse::<IpAddr>() {
        Ok(ip) => host_text(&Host::Ip(ip)),
        Err(_) => name.to_ascii_lowercase(),
    };
    (name, is_pattern)
}

fn key_of_target(text: &str) -> (&str, bool) {
    match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string().to_ascii_lowercase(),
    }
}

/// Whether an address may be mapped to: of letters, digits, `-`, `.` and `_`, or an IPv6 address.
#[must_use]
pub fn is_destination(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_right = bare.parse::<Ipv6Addr>().is_ok() || text.bytes().all(is_plain);
    is_right && text.len() <= ADDRESS_LEN_MAX
}

fn draw(kind: VirtualKind, nets: &VirtualNets, rng: &mut Rng) -> String {
    match kind {
        VirtualKind::Ipv4 => nets.draw_ipv4(rng).to_string(),
        VirtualKind::Ipv6 => format!("[{}]", nets.draw_ipv6(rng)),
        VirtualKind::Name => {
            let bytes: [u8; VIRTUAL_LEN] = rng.array();
            encoding::base32_lower(&bytes) + VIRTUAL
        }
    }
}

/// Of which kind an address is, if it is made up.
fn virtual_kind(from: &str, nets: &VirtualNets) -> Option<VirtualKind> {
    if from.ends_with(VIRTUAL) {
        return Some(VirtualKind::Name);
    }
    let bare = from.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = bare.parse().ok()?;
    let kind = match address.is_ipv4() {
        true => VirtualKind::Ipv4,
        false => VirtualKind::Ipv6,
    };
    nets.contains(address).then_some(kind)
}

#[cfg(test)]
mod tests {
    use cepa_crypto::Rng;
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text.as_bytes()).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> AddressMap {
        let mut map = AddressMap::default();
        for (from, to) in pairs {
            map.set(from, to, MappedBy::Controller).unwrap();
        }
        map
    }

    #[test]
    fn addresses_are_mapped_on_and_by_patterns() {
        let map = map(&[
            ("a.example", "B.example"),
            ("b.example", "1.2.3.4"),
            ("*.c.example", "*.d.example"),
            ("*.e.example", "f.example"),
            ("::1", "g.example"),
            ("x", "y"),
            ("y", "x"),
        ]);
        for (from, to) in [
            ("A.EXAMPLE", Some("1.2.3.4")),
            ("b.example", Some("1.2.3.4")),
            ("c.example", Some("d.example")),
            ("www.c.example", Some("www.d.example")),
            ("www.e.example", Some("f.example")),
            ("::1", Some("g.example")),
            ("ac.example", None),
            ("x", Some("x")),
        ] {
            assert_eq!(map.rewrite(&host(from)), to.map(host), "{from}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_itself_is_nothing() {
        let mut map = map(&[("a", "b")]);
        let mut set = |from: &str, to: &str| map.set(from, to, MappedBy::Controller);
        assert_eq!(set("*", "a"), Err(MapError::Star));
        assert_eq!(set("a", "*.b"), Err(MapError::Wildcard));
        assert_eq!(set("a", "b c"), Err(MapError::Destination));
        assert_eq!(set("a", "a"), Ok(()));
        assert_eq!(map.iter().count(), 0);
        for number in 0..MAPPINGS_MAX {
            map.set(&format!("n{number}"), "b", MappedBy::Config)
                .unwrap();
        }
        assert_eq!(map.set("a", "b", MappedBy::Config), Err(MapError::Full));
        assert_eq!(map.set_config(&[("a".into(), "*".into())]), 1);
        assert_eq!(map.iter().count(), 0);
    }

    #[test]
    fn made_up_addresses_stand_for_one() {
        let (mut map, mut rng) = (AddressMap::default(), Rng::from_seed([3; 32]));
        map.nets.ipv4 = ([10, 0, 0, 0].into(), 8);
        for kind in [VirtualKind::Ipv4, VirtualKind::Ipv6, VirtualKind::Name] {
            let mut draw = |to| map.set_virtual(kind, to, &mut rng).unwrap();
            let (one, other) = (draw("a.example"), draw("b.example"));
            assert_eq!(draw("a.example"), one);
            assert_ne!(one, other);
            assert_eq!(one.starts_with("10."), kind == VirtualKind::Ipv4, "{one}");
            let bare = one.trim_matches(['[', ']']);
            assert_eq!(map.rewrite(&host(bare)), Some(host("a.example")), "{one}");
        }
    }

    proptest! {
        #[test]
        fn any_pair_is_mapped_or_refused(
            from in "[*.a-c\\[\\]:0-9]{0,9}",
            to in "[*.a-c:0-9]{0,9}",
        ) {
            let mut map = AddressMap::default();
            let _ = map.set(&from, &to, MappedBy::Controller);
            if let Ok(host) = Host::parse(from.as_bytes()) {
                let _ = map.rewrite(&host);
            }
        }
    }
}
