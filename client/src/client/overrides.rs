//! Other overrides of the operator than before ([`crate::overrides`]).

use cepa_wire::Now;

use super::Client;
use crate::circuits;
use crate::overrides::Overrides;

impl Client {
    /// Does all of this otherwise than the network has it, from now on. Circuits and requests that
    /// are begun go on as they were begun.
    pub fn set_overrides(&mut self, overrides: Overrides, now: Now) {
        if self.shared.config.overrides == overrides {
            return;
        }
        self.shared.config.overrides = overrides;
        self.heed(now);
        self.run_download(now);
        self.settle(now);
    }

    /// Has all machines heed the overrides that there are.
    pub(super) fn heed(&mut self, now: Now) {
        let overrides = self.shared.config.overrides.clone();
        self.dormancy.set_overrides(overrides.dormancy);
        self.onion.visits.fetch_nothing(overrides.fetches.no_onions);
        let is_silent = overrides.fetches.publishes_nothing;
        self.onion.services.publish_nothing(is_silent, now);
        let (_, _, circuits, ctx) = &mut self.split(now);
        if circuits::overrides::set(circuits, &overrides, ctx.rng) {
            circuits.handle_consensus(ctx);
        }
    }
}
