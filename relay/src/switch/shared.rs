//! What the tables of a switch work with, none of which is theirs: the channels below, the other
//! workers beside, the shell above; settings, defences, memory and chance.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_limits::Memory;
use cepa_link::ChannelKey;
use cepa_wire::cell::{CellBuf, CircId};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::{End, EndReason};

use super::channels::Channels;
use super::command::Command;
use super::config::SwitchConfig;
use super::dos::Defenses;
use super::handover::Outbox;
use super::known::KnownRelays;

/// What a switch keeps for all of its tables.
pub(super) struct Shared {
    pub(super) config: Arc<SwitchConfig>,
    pub(super) relays: Arc<KnownRelays>,
    /// What the process holds, all workers together, and may hold.
    pub(super) memory: Arc<Memory>,
    pub(super) rng: Rng,
    pub(super) channels: Channels,
    pub(super) outbox: Outbox,
    pub(super) commands: VecDeque<Command>,
    pub(super) defenses: Defenses,
}

impl Shared {
    /// Queues the DESTROY of a circuit.
    pub(super) fn send_destroy(
        &mut self,
        channel: ChannelKey,
        circ_id: CircId,
        reason: DestroyReason,
    ) {
        let commands = &mut self.commands;
        self.channels
            .send_destroy(channel, circ_id, reason, commands);
    }

    /// Answers a CREATE cell with DESTROY.
    pub(super) fn refuse_create(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        reason: DestroyReason,
    ) {
        let commands = &mut self.commands;
        self.channels.refuse_create(channel, cell, reason, commands);
    }

    /// Whether a stream may leave to an address, which a client may remember for `ttl_secs`; if
    /// not, what the client is told (see [`crate::Switch::exit_check`]).
    pub(super) fn exit_check(&self, address: IpAddr, port: u16, ttl_secs: u32) -> Result<(), End> {
        if !self.config.exit_policy.allows(address, port) {
            return Err(End {
                reason: EndReason::EXITPOLICY,
                refused: Some((address, ttl_secs)),
            });
        }
        if self.relays.is_reentry(address, port) {
            return Err(EndReason::CONNECTREFUSED.into());
        }
        Ok(())
    }
}
