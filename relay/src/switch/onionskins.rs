//! Onionskins that wait for their answer (`onion_queue.c` of `tor`).
//!
//! ```text
//! link ─> its queue ─┐
//! link ─> its queue ─┼─ in turn ─> a few at once, answered elsewhere ─> what they cost
//! link ─> its queue ─┘
//! ```
//!
//! Each link has a queue of its own and they take turns, so that who asks for much waits for what
//! he asked himself. An onionskin that would be answered too late, by the cost that was measured,
//! is refused as it comes; so is one of a link that has as many places as are free still, which
//! leaves some to whoever comes next. One whose circuit has ended meanwhile is passed over.

mod create;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, OnionskinJob};
use cepa_link::ChannelKey;
use cepa_wire::create::HandshakeType;

use super::config::OnionskinLimits;

/// What one is taken to cost before any was measured, as by `tor`.
const COST_START: Duration = Duration::from_millis(1);
/// The newest measure counts for one part in so many.
const COST_WEIGHT: u32 = 16;
/// With fewer than that waiting, none is too late (as in `tor`): a pause of the machine is no load.
const ALWAYS_TAKEN: usize = 50;

/// What has waited longer was given up by who asked for it (`ONIONQUEUE_WAIT_CUTOFF` of `tor`).
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How circuits are made, as metrics tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnionskinKind {
    /// CREATE_FAST.
    Fast,
    /// CREATE2 with ntor.
    Ntor,
    /// CREATE2 with ntor-v3.
    NtorV3,
}

impl OnionskinKind {
    /// All kinds of onionskins.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Ntor, Self::NtorV3];

    /// `tor`'s name of it in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Ntor => "ntor",
            Self::NtorV3 => "ntor_v3",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Fast => 0,
            Self::Ntor => 1,
            Self::NtorV3 => 2,
        }
    }
}

impl From<HandshakeType> for OnionskinKind {
    fn from(handshake_type: HandshakeType) -> Self {
        match handshake_type {
            HandshakeType::NTOR_V3 => Self::NtorV3,
            _ => Self::Ntor,
        }
    }
}

/// How many onionskins of each kind were answered and refused since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct OnionskinCounts {
    processed: [u64; 3],
    dropped: [u64; 3],
}

impl OnionskinCounts {
    fn processed(&mut self, kind: OnionskinKind) {
        if let Some(count) = self.processed.get_mut(kind.index()) {
            *count += 1;
        }
    }

    fn dropped(&mut self, kind: OnionskinKind) {
        if let Some(count) = self.dropped.get_mut(kind.index()) {
            *count += 1;
        }
    }

    /// How many were answered, and how many refused because there were too many.
    #[must_use]
    pub fn number(&self, kind: OnionskinKind) -> (u64, u64) {
        let of = |counts: &[u64; 3]| counts.get(kind.index()).copied().unwrap_or(0);
        (of(&self.processed), of(&self.dropped))
    }
}

impl std::ops::AddAssign for OnionskinCounts {
    fn add_assign(&mut self, other: Self) {
        let add = |to: &mut [u64; 3], from: [u64; 3]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        add(&mut self.processed, other.processed);
        add(&mut self.dropped, other.dropped);
    }
}

/// An onionskin that waits.
#[derive(Debug)]
struct Pending {
    circuit: CircuitKey,
    job: Box<OnionskinJob>,
    came: Instant,
}

/// All that wait, and those that are out.
#[derive(Debug)]
pub(super) struct Onionskins {
    /// By link; none is empty.
    queues: BTreeMap<ChannelKey, VecDeque<Pending>>,
    /// The links that have a queue, the next in turn first; and some that are gone.
    turns: VecDeque<ChannelKey>,
    waiting: usize,
    out: usize,
    cost: Duration,
    pub(super) counts: OnionskinCounts,
    /// Whether no new circuits are taken, as the relay has used up what it may carry.
    pub(super) is_hibernating: bool,
}

impl Default for Onionskins {
    fn default() -> Self {
        Onionskins {
            queues: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            out: 0,
            cost: COST_START,
            counts: OnionskinCounts::default(),
            is_hibernating: false,
        }
    }
}

impl Onionskins {
    /// Those that wait, and those that are out.
    pub(super) fn len(&self) -> usize {
        self.waiting + self.out
    }

    /// Whether one more of a link is taken.
    fn has_room(&self, link: ChannelKey, limits: &OnionskinLimits) -> bool {
        let own = self.queues.get(&link).map_or(0, VecDeque::len);
        let free = limits.waiting_max.saturating_sub(self.waiting);
        if own >= free {
            return false;
        }
        self.waiting < ALWAYS_TAKEN || self.delay(own, limits) <= limits.delay_max
    }

    /// When the one behind `own` others of its link would be answered: these and it take turns with
    /// all other links.
    fn delay(&self, own: usize, limits: &OnionskinLimits) -> Duration {
        let ahead = (own + 1).saturating_mul(self.queues.len().max(1));
        let ahead = ahead.min(self.waiting + 1) + self.out;
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.cost.saturating_mul(ahead) / limits.threads.max(1)
    }

    fn push(&mut self, link: ChannelKey, pending: Pending) {
        self.waiting += 1;
        let queue = self.queues.entry(link).or_default();
        if queue.is_empty() {
            self.turns.push_back(link);
        }
        queue.push_back(pending);
    }

    /// Takes out whose turn it is, if more may be out. It counts as out only by
    /// [`Onionskins::went_out`].
    fn pop(&mut self, limits: &OnionskinLimits) -> Option<Pending> {
        if self.out >= limits.out_max {
            return None;
        }
        loop {
            let link = self.turns.pop_front()?;
            let Some(queue) = self.queues.get_mut(&link) else {
                continue;
            };
            let pending = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&link);
            } else {
                self.turns.push_back(link);
            }
            if pending.is_some() {
                self.waiting -= 1;
                return pending;
            }
        }
    }

    fn went_out(&mut self) {
        self.out += 1;
    }

    /// One that was out came back.
    fn came_back(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// What answering one has cost.
    pub(super) fn note_cost(&mut self, cost: Duration) {
        self.cost = (self.cost * (COST_WEIGHT - 1) + cost) / COST_WEIGHT;
    }

    /// A link is gone, and all circuits that it asked for.
    pub(super) fn forget(&mut self, link: ChannelKey) {
        if let Some(queue) = self.queues.remove(&link) {
            // Its turn finds nothing, and is over.
            self.waiting -= queue.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use cepa_circuit::OnionskinJob;
    use cepa_wire::create::Create2;
    use slotmap::{KeyData, SlotMap};

    use super::*;

    fn link(n: u64) -> ChannelKey {
        KeyData::from_ffi(1 << 32 | n).into()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    struct Circuits {
        keys: SlotMap<CircuitKey, u64>,
        now: Instant,
    }

    impl Circuits {
        fn new() -> Self {
            let keys = SlotMap::with_key();
            Circuits { keys, now: now() }
        }

        fn pending(&mut self, owner: u64) -> Pending {
            let create = Create2 {
                handshake_type: HandshakeType::NTOR,
                data: &[0; 84],
            };
            Pending {
                circuit: self.keys.insert(owner),
                job: Box::new(OnionskinJob::new(&create).unwrap()),
                came: self.now,
            }
        }
    }

    /// Links that ask without end, and one that asks once: it is next but for one of each.
    #[test]
    fn links_take_turns() {
        let (mut circuits, mut skins) = (Circuits::new(), Onionskins::default());
        let limits = OnionskinLimits::default();
        for n in 0..900 {
            let flooder = n % 3;
            skins.push(link(flooder), circuits.pending(flooder));
        }
        skins.push(link(9), circuits.pending(9));
        let mut order = Vec::new();
        while let Some(pending) = skins.pop(&limits) {
            order.push(circuits.keys[pending.circuit]);
        }
        assert_eq!(order.iter().position(|owner| *owner == 9), Some(3));
        assert_eq!((order.len(), skins.len()), (901, 0));
    }

    /// However many flood, there are places for who comes next, up to the delay.
    #[test]
    fn places_are_left_for_others() {
        let (mut circuits, mut skins) = (Circuits::new(), Onionskins::default());
        skins.note_cost(Duration::ZERO);
        let limits = OnionskinLimits {
            delay_max: Duration::from_secs(3600),
            ..OnionskinLimits::default()
        };
        for flooders in 1..=10 {
            for flooder in 0..flooders {
                while skins.has_room(link(flooder), &limits) {
                    skins.push(link(flooder), circuits.pending(flooder));
                }
            }
            assert!(skins.has_room(link(99), &limits));
            assert!(skins.len() <= limits.waiting_max);
        }
    }

    /// Who would be answered too late is refused, by what answers cost; another link is not.
    #[test]
    fn what_would_be_late_is_refused() {
        let limits = OnionskinLimits::default();
        let mut taken = Vec::new();
        for (cost_ms, threads) in [(1, 1), (5, 1), (5, 4), (50, 1), (500, 1)] {
            let limits = OnionskinLimits { threads, ..limits };
            let (mut circuits, mut skins) = (Circuits::new(), Onionskins::default());
            (0..500).for_each(|_| skins.note_cost(Duration::from_millis(cost_ms)));
            while skins.has_room(link(1), &limits) {
                skins.push(link(1), circuits.pending(1));
            }
            taken.push(skins.len());
            assert!(skins.has_room(link(2), &limits) || skins.len() == ALWAYS_TAKEN);
        }
        assert_eq!(taken[3..], [50, 50]);
        assert!((1700..=1760).contains(&taken[0]), "{taken:?}");
        assert!((345..=352).contains(&taken[1]) && (1390..=1410).contains(&taken[2]));
    }

    #[test]
    fn a_link_that_ends_takes_its_queue_along() {
        let (mut circuits, mut skins) = (Circuits::new(), Onionskins::default());
        let limits = OnionskinLimits::default();
        for n in 0..40 {
            skins.push(link(n % 2), circuits.pending(n % 2));
        }
        skins.forget(link(0));
        skins.forget(link(7));
        assert_eq!(skins.len(), 20);
        for _ in 0..limits.out_max {
            assert!(skins.pop(&limits).is_some());
            skins.went_out();
        }
        assert!(skins.pop(&limits).is_none());
        skins.came_back();
        assert!(skins.pop(&limits).is_some());
    }
}
