//! The operator's rules, as the client applies them: to each new consensus, and in words to the
//! operator where they say something that cannot be (path-spec 2.2).

use cepa_netdoc::consensus::Consensus;

use cepa_wire::Now;

use super::Client;
use crate::directory::fetches::Source;
use crate::select::emptied::emptied;
use crate::select::rules::{Rules, Subject};

impl Client {
    /// Chooses paths by these rules from now on. No new stream goes over a circuit that was built
    /// by those before; streams that are open stay.
    pub fn set_rules(&mut self, rules: Rules, now: Now) {
        if self.config.rules == rules {
            return;
        }
        self.guards.set_rules(rules.first_hops_id());
        self.config.rules = rules;
        self.told_rules.clear();
        self.handle_consensus(now);
        self.pool.wear_out_all(now);
        self.settle(now);
    }

    /// Judges the relays of a new consensus. A pattern that matches nothing is told once.
    pub(super) fn apply_rules(&mut self) {
        let Some(view) = self.download.view() else {
            return;
        };
        let rules = &self.config.rules;
        self.permits = rules.permits(view.consensus());
        for (set, pattern) in rules.unmatched(view.consensus()) {
            let kind = pattern.kind_name();
            let text = format!("`{set}`: no relay of the network has the {kind} {pattern}");
            if self.told_rules.insert(text.clone()) {
                tracing::warn!("{text}");
            }
        }
    }

    /// Finds out whether the rules leave any path, and tells which of them empties which hop.
    pub(super) fn review_rules(&mut self) {
        self.is_cut_off = false;
        let view = self.download.view();
        let Some(view) = view.filter(|view| self.permits.know_enough(view)) else {
            return;
        };
        let distinct = !self.config.subnets_shared;
        for one in emptied(&self.config.rules, &self.permits, view, distinct) {
            self.is_cut_off |= one.cuts_off();
            let text = format!("no path: {one}");
            if self.told_rules.insert(text.clone()) {
                tracing::error!("{text}");
            }
        }
    }

    /// Whether a directory may be asked: an excluded relay is no first hop, not even of that.
    pub(super) fn may_ask(&self, source: &Source, consensus: Option<&Consensus>) -> bool {
        let rules = &self.config.rules;
        let rsa = &source.target.rsa;
        let authorities = &self.network.authorities;
        let authority = authorities.iter().find(|one| one.rsa_id == *rsa);
        let nickname = authority.map_or("", |one| &one.nickname);
        let listed = consensus.and_then(|consensus| consensus.router(rsa));
        let mut addrs = source.target.addrs.iter();
        !addrs.any(|addr| rules.excludes(&Subject::at(rsa, nickname, *addr)))
            && !listed.is_some_and(|status| rules.excludes(&Subject::listed(status)))
    }
}
