//! One virtual machine with an authority: the core of production, its disk, its clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cepa_authority::{Authority, Config, Row, RowKind};
use cepa_crypto::Rng;
use cepa_dir::DirStore;
use cepa_wire::Now;

use super::Fault;
use super::liar::Liar;
use crate::sim::net::keys::AuthorityKeys;

/// A crash that is to come: after so many steps of what the core asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrashPlan {
    pub(super) steps: u32,
    pub(super) down: Duration,
    /// What becomes of the clock meanwhile, in milliseconds.
    pub(super) jump: i64,
}

/// What runs.
pub(super) struct Core {
    pub(super) authority: Authority,
    pub(super) store: DirStore,
}

/// A machine.
pub(super) struct Node {
    pub(super) keys: Arc<AuthorityKeys>,
    config: Config,
    pub(super) core: Option<Core>,
    /// Its disk: what the core had kept.
    rows: BTreeMap<(RowKind, String), Row>,
    /// Which start this is: answers to an earlier one find nobody.
    pub(super) generation: u64,
    /// When it was last started.
    pub(super) since: Duration,
    /// How far its clock is ahead, in milliseconds.
    pub(super) skew: i64,
    pub(super) crash: Option<CrashPlan>,
    /// The wake-up that is planned.
    pub(super) wake: Option<Duration>,
    /// The vote that it posted last.
    pub(super) last_vote: Option<Arc<str>>,
    pub(super) liar: Option<Liar>,
    pub(super) fault: Option<Fault>,
    rng: Rng,
}

impl Node {
    pub(super) fn new(keys: Arc<AuthorityKeys>, config: Config, rng: Rng) -> Self {
        Node {
            keys,
            config,
            core: None,
            rows: BTreeMap::new(),
            generation: 0,
            since: Duration::ZERO,
            skew: 0,
            crash: None,
            wake: None,
            last_vote: None,
            liar: None,
            fault: None,
            rng,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Starts it with what its disk has.
    pub(super) fn start(&mut self, at: Duration, now: Now) {
        if self.fault == Some(Fault::ForgetsRows) {
            let is_kept = |kind| !matches!(kind, RowKind::Vote | RowKind::SharedRandom);
            self.rows.retain(|(kind, _), _| is_kept(*kind));
        }
        let rows = self.rows.values().cloned().collect();
        let (config, keys) = (self.config.clone(), self.keys.of_core());
        let authority = Authority::restore(config, keys, rows, self.rng.fork(), now);
        self.generation += 1;
        (self.since, self.wake, self.crash) = (at, None, None);
        self.core = Some(Core {
            authority,
            store: DirStore::new(Some(self.keys.id())),
        });
    }

    /// It is gone, but for its disk.
    pub(super) fn kill(&mut self) {
        self.core = None;
        self.generation += 1;
        self.crash = None;
    }

    /// A step of what the core asks for; says whether it crashes before it.
    pub(super) fn step(&mut self) -> bool {
        match &mut self.crash {
            Some(plan) if plan.steps == 0 => true,
            Some(plan) => {
                plan.steps -= 1;
                false
            }
            None => false,
        }
    }

    /// Writes to its disk, all or nothing.
    pub(super) fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(row) => {
                    self.rows.insert((row.kind, row.key.clone()), row);
                }
                Change::Drop(kind, key) => {
                    self.rows.remove(&(kind, key));
                }
            }
        }
    }
}

/// A change of the disk.
pub(super) enum Change {
    Put(Row),
    Drop(RowKind, String),
}
