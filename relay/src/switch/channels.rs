//! The channels of a switch, and what waits on them.
//!
//! What waits (cells, bytes) is counted where it changes, over all channels, and a channel that has
//! new output is listed once for the shell. Nothing here knows circuits but by their ids.

use std::sync::Arc;
use std::time::Instant;

use cepa_limits::Account;
use cepa_link::channel::{ControlFull, Waiting};
use cepa_link::{Channel, ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{CellBuf, CircId};
use cepa_wire::destroy::DestroyReason;
use slotmap::SlotMap;

/// A channel as the switch holds it.
pub(super) struct Link {
    pub(super) channel: Channel,
    /// It is in `ready`.
    listed: bool,
    /// Since when it has had no circuit.
    pub(super) idle_since: Option<Instant>,
    /// Circuits that the peer made and that are still there.
    pub(super) accepted: usize,
    /// The shell was asked to close it.
    pub(super) closing: bool,
    /// There is a better one to the same relay: it ends when it is idle.
    pub(super) is_retired: bool,
    /// The shell was told that it has circuits.
    pub(super) is_used: bool,
    /// What its address may do; `None` for what has none, or is ours.
    pub(super) account: Option<Arc<Account>>,
}

impl Link {
    fn load(&self) -> Load {
        Load {
            cells: self.channel.queued_total(),
            bytes: self.channel.queue_bytes(),
        }
    }
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Load {
    cells: usize,
    bytes: usize,
}

/// All channels of a switch.
#[derive(Default)]
pub(super) struct Channels {
    links: SlotMap<ChannelKey, Link>,
    /// Those that have new output since the shell last asked.
    ready: Vec<ChannelKey>,
    load: Load,
}

impl Channels {
    pub(super) fn insert(&mut self, channel: Channel, now: Now) -> ChannelKey {
        self.links.insert(Link {
            channel,
            listed: false,
            idle_since: Some(now.mono),
            accepted: 0,
            closing: false,
            is_retired: false,
            is_used: false,
            account: None,
        })
    }

    /// Takes a channel out, with all that waits on it.
    pub(super) fn remove(&mut self, key: ChannelKey) -> Option<Link> {
        let link = self.links.remove(key)?;
        self.count(link.load(), Load::default());
        Some(link)
    }

    pub(super) fn get(&self, key: ChannelKey) -> Option<&Link> {
        self.links.get(key)
    }

    /// For what changes nothing that waits; else [`Channels::change`].
    pub(super) fn link_mut(&mut self, key: ChannelKey) -> Option<&mut Link> {
        self.links.get_mut(key)
    }

    pub(super) fn contains_key(&self, key: ChannelKey) -> bool {
        self.links.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = ChannelKey> + '_ {
        self.links.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ChannelKey, &Link)> {
        self.links.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Cells that wait, over all channels.
    pub(super) fn queued_cells(&self) -> usize {
        self.load.cells
    }

    /// Memory of what waits, over all channels.
    pub(super) fn queue_bytes(&self) -> usize {
        self.load.bytes
    }

    fn count(&mut self, before: Load, after: Load) {
        self.load.cells = self.load.cells + after.cells - before.cells;
        self.load.bytes = self.load.bytes + after.bytes - before.bytes;
    }

    /// Changes what waits on a channel, and lists it if that is more than before.
    pub(super) fn change<R>(
        &mut self,
        key: ChannelKey,
        change: impl FnOnce(&mut Link) -> R,
    ) -> Option<R> {
        let link = self.links.get_mut(key)?;
        let before = link.load();
        let result = change(link);
        let after = link.load();
        if after.cells > before.cells && !std::mem::replace(&mut link.listed, true) {
            self.ready.push(key);
        }
        self.count(before, after);
        Some(result)
    }

    /// Queues a cell for the circuit that its id names. `false`: there is no such circuit, or its
    /// queue is full.
    pub(super) fn queue(&mut self, key: ChannelKey, cell: &CellBuf, now: Now) -> bool {
        self.change(key, |link| link.channel.queue(cell, now).is_ok())
            .unwrap_or(false)
    }

    /// Queues the DESTROY of a circuit.
    pub(super) fn queue_destroy(
        &mut self,
        key: ChannelKey,
        circ_id: CircId,
        reason: DestroyReason,
    ) -> Result<(), ControlFull> {
        self.change(key, |link| link.channel.queue_destroy(circ_id, reason))
            .unwrap_or(Ok(()))
    }

    /// Refuses a CREATE cell.
    pub(super) fn queue_refusal(
        &mut self,
        key: ChannelKey,
        circ_id: CircId,
        reason: DestroyReason,
    ) -> Result<(), ControlFull> {
        self.change(key, |link| link.channel.queue_refusal(circ_id, reason))
            .unwrap_or(Ok(()))
    }

    /// Forgets a circuit on a channel, and the cells queued for it.
    pub(super) fn forget(&mut self, key: ChannelKey, circ_id: CircId) -> Option<CircuitRef> {
        self.change(key, |link| link.channel.remove(circ_id))?
    }

    /// Frees the memory of queues that no circuit of a channel uses now.
    pub(super) fn trim_pool(&mut self, key: ChannelKey) {
        self.change(key, |link| link.channel.trim_pool());
    }

    /// Frees the memory of queues that no circuit of any channel uses now.
    pub(super) fn trim(&mut self) {
        for link in self.links.values_mut() {
            let before = link.channel.queue_bytes();
            link.channel.trim();
            self.load.bytes = self.load.bytes - before + link.channel.queue_bytes();
        }
    }

    /// All circuits that have cells queued, in no order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (ChannelKey, Waiting)> + '_ {
        self.iter()
            .flat_map(|(key, link)| link.channel.waiting().map(move |waiting| (key, waiting)))
    }

    /// Calls `tick` for each channel, which may queue; those that it is true for are returned.
    pub(super) fn tick(
        &mut self,
        mut tick: impl FnMut(ChannelKey, &mut Link) -> bool,
    ) -> Vec<ChannelKey> {
        let keys: Vec<ChannelKey> = self.links.keys().collect();
        let mut found = Vec::new();
        for key in keys {
            if self.change(key, |link| tick(key, link)) == Some(true) {
                found.push(key);
            }
        }
        found
    }

    /// Moves out the channels that have new output since last asked; each stands there once.
    pub(super) fn take_ready(&mut self, out: &mut Vec<ChannelKey>) {
        for key in &self.ready {
            if let Some(link) = self.links.get_mut(*key) {
                link.listed = false;
            }
        }
        out.append(&mut self.ready);
    }
}
