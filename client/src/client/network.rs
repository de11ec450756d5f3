//! The network is left alone, or joined again (`DisableNetwork` in tor(1)).
//!
//! While it is left alone there is no link, no circuit and no fetch; requests of applications are
//! refused at once, and hosted services wait.

use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;

use super::Client;
use crate::command::Command;
use crate::names::RequestId;
use crate::plane::CircuitClose;
use crate::status::CircuitEnd;

impl Client {
    /// Whether the network is left alone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.circuits.is_off
    }

    /// Leaves the network alone from now on, or joins it.
    pub fn set_off(&mut self, is_off: bool, now: Now) {
        if std::mem::replace(&mut self.circuits.is_off, is_off) == is_off {
            return;
        }
        if is_off {
            self.leave_network(now);
        } else {
            tracing::info!("the network is joined");
            self.circuits.upkeep.wake(now);
            self.directory.hurry_bridges(now);
            self.review_bridges(now);
            self.run_download(now);
        }
        self.settle(now);
    }

    fn leave_network(&mut self, now: Now) {
        tracing::info!("the network is left alone: all circuits and links are closed");
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        let waiting: Vec<RequestId> = streams.by_id.keys().copied().collect();
        for id in waiting {
            // Each is there still.
            let _ = streams.close_by_hand(id, EndReason::NOROUTE, onion, circuits, ctx);
        }
        self.close_all("the network is left alone", now);
    }

    /// Closes all circuits and links.
    pub(super) fn close_all(&mut self, reason: &'static str, now: Now) {
        let (_, _, circuits, ctx) = &mut self.split(now);
        let end = CircuitEnd::Plane(CircuitClose::Requested(DestroyReason::NONE));
        let all: Vec<_> = circuits.pool.iter().map(|(id, _)| id).collect();
        for id in all {
            circuits.close(id, end, ctx);
        }
        for channel in circuits.links.take_all() {
            ctx.plane.channel_closed(channel, now);
            ctx.commands
                .push_back(Command::CloseChannel { channel, reason });
        }
    }

    /// Whether nothing is fetched.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_dormant() || self.is_off()
    }
}
