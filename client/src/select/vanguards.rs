//! Vanguards: which few relays may ever be a second hop, and in full mode a third, of circuits for
//! onion services (vanguards-spec; proposals 292 and 333).
//!
//! A stranger who makes a client or a service build circuits at will would sooner or later own the
//! hop behind the guard, and see the guard. So that hop is one of a handful, each kept for a random
//! time, the longer of two draws between the network's bounds. A relay that is not listed any more
//! is replaced. The sets of full mode survive restarts; as in `tor` those of lite mode do not.
//!
//! A relay may be listed for an hour after it died. One that cannot be reached rests, and if fewer
//! than two answer others stand in, drawn once and kept: as many as the set has, so that whoever
//! fails our circuits at will gains no more than a second set. (`tor` and Arti wait in vain then.)

mod layer;

use std::str::FromStr;
use std::time::{Instant, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_dir::NetworkView;
use cepa_netdoc::params::Params;
use cepa_netdoc::timestamp;
use cepa_wire::Now;

use crate::select::rules::Permits;
use layer::{Layer, Lifetimes};

/// Which sets of vanguards there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VanguardMode {
    /// There are none: any relay may be the second hop.
    Off,
    /// There is a set of second hops (vanguards-lite).
    #[default]
    Lite,
    /// There are sets of second and of third hops (full vanguards).
    Full,
}

/// A word that names no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not full, lite or off")]
pub struct VanguardModeError;

impl FromStr for VanguardMode {
    type Err = VanguardModeError;

    fn from_str(word: &str) -> Result<Self, VanguardModeError> {
        match word {
            "full" => Ok(VanguardMode::Full),
            "lite" => Ok(VanguardMode::Lite),
            "off" => Ok(VanguardMode::Off),
            _ => Err(VanguardModeError),
        }
    }
}

/// What becomes of a vanguard, for its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct VanguardStatus {
    /// Its place in a path, of which the guard has 0: 1 or 2.
    pub hop: usize,
    /// The relay that is the vanguard.
    pub id: RsaId,
    /// Until when the vanguard is kept.
    #[serde(serialize_with = "timestamp::serialize")]
    pub until: SystemTime,
    /// Whether it only stands in for others.
    pub is_spare: bool,
    /// Whether it failed, and is not tried for a while.
    pub is_resting: bool,
}

/// The second and third hops of circuits for onion services.
#[derive(Debug)]
pub struct Vanguards {
    /// What the operator wants; the network decides else.
    wanted: Option<VanguardMode>,
    mode: VanguardMode,
    layer2: Layer,
    layer3: Layer,
    is_changed: bool,
}

impl Vanguards {
    /// The vanguards of a client that has drawn none yet.
    #[must_use]
    pub fn new(wanted: Option<VanguardMode>) -> Self {
        Vanguards {
            wanted,
            mode: wanted.unwrap_or_default(),
            layer2: Layer::default(),
            layer3: Layer::default(),
            is_changed: false,
        }
    }

    /// What there is as of the last consensus.
    #[must_use]
    pub fn mode(&self) -> VanguardMode {
        self.mode
    }

    /// Takes what [`Vanguards::encode`] wrote, in full mode; else it stays where it is kept. The
    /// lines that are damaged come back by their numbers: all else is taken.
    pub fn restore(&mut self, text: &str, now: Now) -> Vec<usize> {
        let mut damaged = Vec::new();
        if self.mode != VanguardMode::Full {
            return damaged;
        }
        for (at, line) in text.lines().enumerate() {
            let read = match line.split_once(' ') {
                Some(("layer2", rest)) => self.layer2.restore(rest, now),
                Some(("layer3", rest)) => self.layer3.restore(rest, now),
                _ => None,
            };
            if read.is_none() {
                damaged.push(at + 1);
            }
        }
        damaged
    }

    /// As text: a line each, the layer, the identity, and until when it is kept.
    #[must_use]
    pub fn encode(&self, now: Now) -> String {
        let mut text = String::new();
        self.layer2.write("layer2", now, &mut text);
        self.layer3.write("layer3", now, &mut text);
        text
    }

    /// True once after something changed that is to be kept.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Replaces those that are too old, or listed no more, so that there are as many as the network
    /// wants (`guard-hs-l2-number`, `guard-hs-l3-number`) or has, and enough that answer.
    pub fn refresh(&mut self, view: &NetworkView, permits: &Permits, now: Now, rng: &mut Rng) {
        let params = view.params();
        self.mode = self.wanted.unwrap_or_else(|| mode_of(params));
        if self.mode == VanguardMode::Off {
            return;
        }
        let [second, third] = Lifetimes::read(params);
        let mut is_changed = self.layer2.refresh(second, view, permits, now, rng);
        if self.mode == VanguardMode::Full {
            is_changed |= self.layer3.refresh(third, view, permits, now, rng);
            self.is_changed |= is_changed;
        }
    }

    /// Second hops; `None` if any relay may be one.
    #[must_use]
    pub fn layer2(&self, now: Now) -> Option<Vec<RsaId>> {
        (self.mode != VanguardMode::Off).then(|| self.layer2.in_use(now))
    }

    /// Third hops; `None` if any relay may be one.
    #[must_use]
    pub fn layer3(&self, now: Now) -> Option<Vec<RsaId>> {
        (self.mode == VanguardMode::Full).then(|| self.layer3.in_use(now))
    }

    /// A path could not be extended to its hop of this index, the guard's being 0; by the word of
    /// the hop before, or for want of an answer.
    pub fn handle_failure(&mut self, hop: usize, id: &RsaId, is_told: bool, now: Now) {
        if let Some(layer) = self.layer_of(hop) {
            layer.handle_failure(id, is_told, now);
        }
    }

    /// The hop of this index stands.
    pub fn handle_answer(&mut self, hop: usize, id: &RsaId) {
        if let Some(layer) = self.layer_of(hop) {
            layer.handle_answer(id);
        }
    }

    /// Those of the mode that there is, second hops first.
    pub fn statuses(&self, now: Now) -> impl Iterator<Item = VanguardStatus> {
        let layers = match self.mode {
            VanguardMode::Off => [None, None],
            VanguardMode::Lite => [Some(&self.layer2), None],
            VanguardMode::Full => [Some(&self.layer2), Some(&self.layer3)],
        };
        let layers = (1..).zip(layers.into_iter().flatten());
        layers.flat_map(move |(hop, layer)| layer.statuses(hop, now))
    }

    fn layer_of(&mut self, hop: usize) -> Option<&mut Layer> {
        match (hop, self.mode) {
            (1, VanguardMode::Lite | VanguardMode::Full) => Some(&mut self.layer2),
            (2, VanguardMode::Full) => Some(&mut self.layer3),
            _ => None,
        }
    }

    /// When [`Vanguards::refresh`] has something to do, without a new consensus.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let layers = [self.layer2.poll_timeout(), self.layer3.poll_timeout()];
        layers.into_iter().flatten().min()
    }
}

/// What the network wants of clients that have no will of their own.
fn mode_of(params: &Params) -> VanguardMode {
    match params.value("vanguards-lite-enabled", 1, 0, 1) {
        0 => VanguardMode::Off,
        _ => VanguardMode::Lite,
    }
}

#[cfg(test)]
mod tests;
