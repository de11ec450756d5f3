//! Addresses that stand for others ([`crate::address_map`]).

use cepa_wire::host::Host;

use super::Client;
use crate::streams::address_map::{AddressMap, MapError, MappedBy, VirtualKind};
use crate::streams::virtual_nets::VirtualNets;

impl Client {
    /// The mappings.
    #[must_use]
    pub fn address_map(&self) -> &AddressMap {
        &self.streams.map
    }

    /// Whether an address stands for another.
    #[must_use]
    pub fn is_mapped(&self, host: &Host) -> bool {
        self.streams.map.rewrite(host).is_some()
    }

    /// Has an address stand for another from now on, or for itself.
    ///
    /// # Errors
    /// If the mapping cannot be.
    pub fn map_address(&mut self, from: &str, to: &str) -> Result<(), MapError> {
        self.streams.map.set(from, to, MappedBy::Controller)
    }

    /// Makes up an address that stands for another from now on.
    ///
    /// # Errors
    /// If there are too many, or if the other is none.
    pub fn map_virtual(&mut self, kind: VirtualKind, to: &str) -> Result<String, MapError> {
        let (map, rng) = (&mut self.streams.map, &mut self.shared.rng);
        map.set_virtual(kind, to, rng)
    }

    /// Makes addresses up of these networks from now on.
    pub fn set_virtual_nets(&mut self, nets: VirtualNets) {
        self.streams.map.nets = nets;
    }

    /// Takes these for the mappings of the configuration. How many of them cannot be.
    pub fn set_address_map(&mut self, mappings: &[(String, String)]) -> usize {
        self.streams.map.set_config(mappings)
    }
}
