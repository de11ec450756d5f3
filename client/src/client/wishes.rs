//! Other wishes of the operator than before ([`crate::wishes`]).

use cepa_wire::Now;

use super::Client;
use crate::circuits;
use crate::wishes::Wishes;

impl Client {
    /// Does all of this otherwise than the network has it, from now on. Circuits and requests that
    /// are begun go on as they were begun.
    pub fn set_wishes(&mut self, wishes: Wishes, now: Now) {
        if self.shared.config.wishes == wishes {
            return;
        }
        self.shared.config.wishes = wishes;
        self.heed(now);
        self.run_download(now);
        self.settle(now);
    }

    /// Has all machines heed the wishes that there are.
    pub(super) fn heed(&mut self, now: Now) {
        let wishes = self.shared.config.wishes.clone();
        self.dormancy.set_wishes(wishes.dormancy);
        self.onion.visits.fetch_nothing(wishes.fetches.no_onions);
        let is_silent = wishes.fetches.publishes_nothing;
        self.onion.services.publish_nothing(is_silent, now);
        let (_, _, circuits, ctx) = &mut self.split(now);
        if circuits::wishes::set(circuits, &wishes, ctx.rng) {
            circuits.handle_consensus(ctx);
        }
    }
}
