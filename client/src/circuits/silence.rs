//! What follows when the relay of a channel does not answer ([`crate::plane::liveness`]).
//!
//! ```text
//! suspect ─▶ a second link to the same relay is opened; what is not built yet, and what waits for
//!            a stream, goes over to it; streams that are open wait
//! heard ───▶ as if nothing had been; it was the network, if guards failed meanwhile
//! dead ────▶ the channel is closed: its streams end, its circuits are built anew
//! ```
//!
//! The guard is not to blame for a path that broke, as a fresh link to it proves. It is if nothing
//! ever comes over its links.

use cepa_crypto::RsaId;
use cepa_link::ChannelKey;

use super::Circuits;
use super::links::Need;
use super::pool::{Entry, Purpose};
use crate::command::Command;
use crate::context::Context;
use crate::status::{CircuitEnd, LinkEnd};

impl Circuits {
    /// The relay of a channel does not answer: its circuits take no more streams.
    pub(crate) fn link_suspect(&mut self, channel: ChannelKey, ctx: &mut Context<'_>) {
        let Some(target) = self.links.suspect(channel, true) else {
            return;
        };
        tracing::info!(relay = %target.rsa, "a relay does not answer: another link is opened");
        let relay = target.rsa;
        if self.is_off {
            return;
        }
        if let Need::Open(_) = self.links.need(target, ctx.now, ctx.commands) {
            self.supersede_silent(&relay, ctx);
        }
        for id in self.pool.over(channel, ctx.plane) {
            let Some(entry) = self.pool.entry_mut(id) else {
                continue;
            };
            entry.is_stalled = true;
            if !is_in_use(entry) {
                self.close(id, CircuitEnd::Silent, ctx);
            }
        }
    }

    /// It has answered after all.
    pub(crate) fn link_heard(&mut self, channel: ChannelKey, ctx: &mut Context<'_>) {
        let Some(target) = self.links.suspect(channel, false) else {
            return;
        };
        tracing::info!(relay = %target.rsa, "a relay answers again");
        for id in self.pool.over(channel, ctx.plane) {
            if let Some(entry) = self.pool.entry_mut(id) {
                entry.is_stalled = false;
            }
        }
        // Whoever seemed to be out of reach meanwhile may have been so for the same reason.
        self.choice.guards.retry_primary();
    }

    /// Nothing comes over a channel any more.
    pub(crate) fn link_dead(
        &mut self,
        channel: ChannelKey,
        has_spoken: bool,
        ctx: &mut Context<'_>,
    ) {
        let Some(relay) = self.links.closed(channel, LinkEnd::Silent) else {
            return;
        };
        if !has_spoken {
            self.choice.guards.handle_unreachable(&relay, ctx.now);
        }
        ctx.plane.channel_closed(channel, ctx.now);
        let reason = "its relay does not answer";
        ctx.commands
            .push_back(Command::CloseChannel { channel, reason });
    }

    /// A fresh link to a relay stands: silent ones are not waited for much longer.
    pub(super) fn supersede_silent(&mut self, relay: &RsaId, ctx: &mut Context<'_>) {
        for old in self.links.suspects(relay) {
            ctx.plane.supersede_channel(old);
        }
    }
}

/// Whether somebody would miss a circuit that is closed: all its hops stand, and it is no
/// directory's, nor to become longer.
fn is_in_use(entry: &Entry) -> bool {
    let stands = entry.bound.is_none_or(|bound| bound.is_ready);
    stands && entry.has_all_hops() && !matches!(entry.purpose, Purpose::Directory)
}
