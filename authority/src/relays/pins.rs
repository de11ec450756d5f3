//! Which two identity keys belong together (dir-spec 3.2, "key pinning").

use cepa_netdoc::descriptor::ServerDescriptor;

use super::Relays;
use crate::command::{Command, RowKind};

impl Relays {
    /// Whether neither of a relay's identity keys is known with another.
    pub(super) fn is_pinned_as(&self, desc: &ServerDescriptor) -> bool {
        let pin = self.pins.get(&desc.identity);
        let pinned = self.pinned.get(&desc.ed25519);
        pin.is_none_or(|ed| *ed == desc.ed25519) && pinned.is_none_or(|rsa| *rsa == desc.identity)
    }

    /// Forgets with whom these keys were known.
    pub(super) fn unpin(&mut self, desc: &ServerDescriptor, commands: &mut Vec<Command>) {
        if let Some(ed) = self.pins.remove(&desc.identity) {
            self.pinned.remove(&ed);
        }
        if let Some(rsa) = self.pinned.remove(&desc.ed25519) {
            self.pins.remove(&rsa);
            commands.push(Command::Drop(RowKind::KeyPin, rsa.to_string()));
        }
    }
}
