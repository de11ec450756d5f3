//! A client that reaches the network over bridges alone (`UseBridges` in tor(1)), and goes over to
//! them, or away from them, while it runs.

use cepa_crypto::RsaId;
use cepa_link::PeerIdentity;
use cepa_pt::BridgeLine;
use cepa_wire::Now;

use super::Client;

impl Client {
    /// Uses these bridges from now on, and connects to nothing else; with none, to guards of the
    /// network. All circuits and links of before are closed: not a cell more goes over them.
    pub fn set_bridges(&mut self, lines: &[BridgeLine], now: Now) {
        if self.shared.config.bridges == lines {
            return;
        }
        self.shared.config.bridges = lines.to_vec();
        tracing::info!("{} bridges are used from now on", lines.len());
        self.close_all("other bridges are used", now);
        self.use_bridges(now);
        self.onion.network_changed();
        self.run_download(now);
        self.settle(now);
    }

    /// Has the machines use the bridges of the settings.
    pub(super) fn use_bridges(&mut self, now: Now) {
        let lines = self.shared.config.bridges.clone();
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.links.only_bridges = !lines.is_empty();
        circuits.choice.set_bridges(&lines, ctx.rng, ctx.now);
        self.review_bridges(now);
    }

    /// Asks bridges for their descriptors where it is time.
    pub(super) fn review_bridges(&mut self, now: Now) {
        if self.is_at_rest() {
            return;
        }
        let (circuits, shared) = (&mut self.circuits, &mut self.shared);
        self.directory.review_bridges(circuits, shared, now);
    }

    /// A link has proven who is at its other end. A bridge whose line does not tell that has a name
    /// from now on.
    pub(super) fn bridge_proved(&mut self, id: RsaId, peer: &PeerIdentity, now: Now) {
        if !self.circuits.choice.bridges().contains(&id) {
            return;
        }
        let (_, _, circuits, ctx) = &mut self.split(now);
        let choice = &mut circuits.choice;
        choice.bridge_proved(&id, peer, ctx.rng, ctx.now);
        if id != peer.rsa {
            circuits.links.rename(id, peer.rsa);
            circuits.pool.rename_first(&id, peer.rsa);
            self.directory.bridges.rename(id, peer.rsa);
        }
    }
}
