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

use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::Client;
use crate::circuits::links::Need;
use crate::circuits::pool::{CircuitId, Purpose};
use crate::command::{Command, RequestId};
use crate::onion::circuits::Stage;
use crate::status::{CircuitEnd, LinkEnd};
use crate::streams::requests::{State, Via};

impl Client {
    /// The relay of a channel does not answer.
    pub(super) fn channel_suspect(&mut self, channel: ChannelKey, now: Now) {
        let Some(target) = self.links.suspect(channel, true) else {
            return;
        };
        tracing::info!(relay = %target.rsa, "a relay does not answer: another link is opened");
        let relay = target.rsa;
        if let Need::Open(_) = self.links.need(target, now, &mut self.commands) {
            self.supersede_silent(&relay);
        }
        for id in self.over(channel) {
            if let Some(entry) = self.pool.entry_mut(id) {
                entry.is_stalled = true;
            }
            if !self.is_in_use(id) {
                self.close_circuit(id, CircuitEnd::Silent, now);
            }
        }
        for id in self.asked_over_stalled() {
            // Another circuit may answer; the old one says nothing against its exit.
            self.detach(id, EndReason::DESTROY, now);
        }
    }

    /// It has answered after all.
    pub(super) fn channel_heard(&mut self, channel: ChannelKey) {
        let Some(target) = self.links.suspect(channel, false) else {
            return;
        };
        tracing::info!(relay = %target.rsa, "a relay answers again");
        for id in self.over(channel) {
            if let Some(entry) = self.pool.entry_mut(id) {
                entry.is_stalled = false;
            }
        }
        // Whoever seemed to be out of reach meanwhile may have been so for the same reason.
        self.guards.retry_primary();
    }

    /// Nothing comes over a channel any more.
    pub(super) fn channel_dead(&mut self, channel: ChannelKey, has_spoken: bool, now: Now) {
        let Some(relay) = self.links.closed(channel, LinkEnd::Silent) else {
            return;
        };
        if !has_spoken {
            self.guards.handle_unreachable(&relay, now);
        }
        self.plane.channel_closed(channel, now);
        let reason = "its relay does not answer";
        self.commands
            .push_back(Command::CloseChannel { channel, reason });
    }

    /// A fresh link to a relay stands: silent ones are not waited for much longer.
    pub(super) fn supersede_silent(&mut self, relay: &cepa_crypto::RsaId) {
        for old in self.links.suspects(relay) {
            self.plane.supersede_channel(old);
        }
    }

    /// The circuits over a channel.
    fn over(&self, channel: ChannelKey) -> Vec<CircuitId> {
        let is_over = |key| {
            let status = self.plane.circuit_status(key);
            status.is_some_and(|status| status.channel == channel)
        };
        let over = self.pool.iter();
        over.filter(|(_, entry)| entry.key().is_some_and(is_over))
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether somebody would miss a circuit that is closed: all its hops stand, and it is no
    /// directory's, nor to become longer.
    fn is_in_use(&self, id: CircuitId) -> bool {
        let named = self.onion.name_of(id);
        let named = named.and_then(|name| self.onion.by_name.get(&name));
        let stands = named.is_none_or(|named| named.stage == Stage::Ready(id));
        let entry = self.pool.entry(id);
        stands
            && entry.is_some_and(|entry| {
                entry.has_all_hops() && !matches!(entry.purpose, Purpose::Directory)
            })
    }

    /// Requests that wait for an exit's answer over circuits that are stalled.
    fn asked_over_stalled(&self) -> Vec<RequestId> {
        let is_stalled = |circuit| {
            let entry = self.pool.entry(circuit);
            entry.is_some_and(|entry| entry.is_stalled)
        };
        let requests = self.requests.by_id.iter();
        let asked = requests.filter(|(_, request)| match (request.via, request.state) {
            (Via::Exit(_), State::Attached { circuit, .. }) => is_stalled(circuit),
            _ => false,
        });
        asked.map(|(id, _)| *id).collect()
    }
}
