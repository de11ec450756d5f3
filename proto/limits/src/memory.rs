//! One accounting of memory for the whole process, by what it is for (`MaxMemInQueues` of `tor`).
//!
//! ```text
//! worker: counts of its own ─> MemoryShare ─ by the batch, when they have moved ─> Memory
//! past the limit            whoever holds queued data closes its share of it, oldest first
//! three quarters standing   no new circuits, but the first ones of each link
//! seven eighths standing    no new circuits, no new links
//! ```
//!
//! What waits (cells, bytes of streams) can be thrown away, what stands (links, circuits,
//! documents) cannot; so that what stands never crowds out what moves, it is stopped before the
//! limit. Nothing here is done for a single cell: owners count in plain numbers and tell the sums.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Shares tell of their counts when these have moved by so much.
const STEP_BYTES_MAX: usize = 64 * 1024;
/// That is at most this part of the limit.
const STEP_PART: usize = 4096;
/// What a link has of circuits, or a circuit of streams, while that is short: somebody who comes
/// with one is not refused for somebody else's thousands.
const FIRST_ONES: usize = 16;

/// What a process holds memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryClass {
    /// Cells in queues.
    Cells,
    /// Bytes of streams that wait for their sockets, and the streams.
    Streams,
    /// Links, without their queues.
    Links,
    /// Circuits, without their queues.
    Circuits,
    /// Buffers of TLS.
    Tls,
    /// Replies of the directory that are being sent, and requests that are being read.
    Directory,
    /// Descriptors of onion services that are kept for others.
    Descriptors,
    /// Introductions and rendezvous.
    Introductions,
}

impl MemoryClass {
    /// All classes of memory.
    pub const ALL: [Self; 8] = [
        Self::Cells,
        Self::Streams,
        Self::Links,
        Self::Circuits,
        Self::Tls,
        Self::Directory,
        Self::Descriptors,
        Self::Introductions,
    ];

    /// The value of the label `subsys` in metrics, `tor`'s where it has one.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cells => "cell",
            Self::Streams => "stream",
            Self::Links => "link",
            Self::Circuits => "circuit",
            Self::Tls => "tls",
            Self::Directory => "dir",
            Self::Descriptors => "hsdir",
            Self::Introductions => "intro",
        }
    }

    /// Whether it can be thrown away when memory is short.
    fn is_queued(self) -> bool {
        matches!(self, Self::Cells | Self::Streams)
    }

    fn index(self) -> usize {
        self as usize
    }
}

const CLASSES: usize = MemoryClass::ALL.len();

/// What a process holds, over all its threads.
#[derive(Debug)]
pub struct Memory {
    max_bytes: AtomicUsize,
    held: [AtomicUsize; CLASSES],
    /// Bytes that were thrown away, ever.
    freed: [AtomicU64; CLASSES],
}

impl Memory {
    /// No more than so many bytes are to be held.
    #[must_use]
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Memory {
            max_bytes: AtomicUsize::new(max_bytes),
            held: Default::default(),
            freed: Default::default(),
        })
    }

    /// Another limit, after the operator's configuration has changed.
    pub fn set_max_bytes(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// The limit.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of one class.
    #[must_use]
    pub fn held_bytes(&self, class: MemoryClass) -> usize {
        let held = self.held.get(class.index());
        held.map_or(0, |held| held.load(Ordering::Relaxed))
    }

    /// Bytes of one class that were thrown away because memory was short, ever.
    #[must_use]
    pub fn freed_bytes(&self, class: MemoryClass) -> u64 {
        let freed = self.freed.get(class.index());
        freed.map_or(0, |freed| freed.load(Ordering::Relaxed))
    }

    /// So much was thrown away.
    pub fn note_freed(&self, class: MemoryClass, bytes: usize) {
        if let Some(freed) = self.freed.get(class.index()) {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            freed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn sum(&self, is_counted: impl Fn(MemoryClass) -> bool) -> usize {
        let classes = MemoryClass::ALL.into_iter();
        classes
            .filter(|class| is_counted(*class))
            .map(|class| self.held_bytes(class))
            .fold(0, usize::saturating_add)
    }

    /// Bytes of all classes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.sum(|_| true)
    }

    /// Bytes that can be thrown away.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.sum(MemoryClass::is_queued)
    }

    /// What is to go if the limit is passed: as much as makes a tenth of it free.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        let (total, max_bytes) = (self.total_bytes(), self.max_bytes());
        let low_bytes = max_bytes - max_bytes / 10;
        (total > max_bytes).then(|| Shortage {
            bytes: total - low_bytes,
            of_bytes: self.queued_bytes(),
        })
    }

    /// Whether a new circuit is taken over a link that has so many, or a new stream on a circuit
    /// that has so many: not while what stands holds three quarters, nor while more is held than
    /// throwing away could mend. The first few are taken for as long as links are.
    #[must_use]
    pub fn takes_circuits(&self, has: usize) -> bool {
        let max_bytes = self.max_bytes();
        let standing = self.sum(|class| !class.is_queued());
        let has_room = standing <= max_bytes / 4 * 3
            && self.total_bytes() <= max_bytes.saturating_add(max_bytes / 16);
        has_room || has < FIRST_ONES && self.takes_links()
    }

    /// Whether new links are taken: not while what stands holds seven eighths.
    #[must_use]
    pub fn takes_links(&self) -> bool {
        let max_bytes = self.max_bytes();
        let standing = self.sum(|class| !class.is_queued());
        standing <= max_bytes / 8 * 7
            && self.total_bytes() <= max_bytes.saturating_add(max_bytes / 8)
    }
}

/// How much is to go, of what can be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    bytes: usize,
    of_bytes: usize,
}

impl Shortage {
    /// The part of somebody who holds so much of it.
    #[must_use]
    pub fn share(self, queued_bytes: usize) -> usize {
        let of = self.of_bytes.max(queued_bytes).max(1) as u128;
        let share = (self.bytes as u128 * queued_bytes as u128).div_ceil(of);
        usize::try_from(share)
            .unwrap_or(usize::MAX)
            .min(queued_bytes)
    }
}

/// What one owner (a worker, a directory) has told of what it holds. It takes that along.
#[derive(Debug)]
pub struct MemoryShare {
    memory: Arc<Memory>,
    told: [usize; CLASSES],
}

impl MemoryShare {
    /// A share of nothing so far.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        MemoryShare {
            memory,
            told: [0; CLASSES],
        }
    }

    /// The whole.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// So many bytes of a class are held now. Small moves are told later.
    pub fn tell(&mut self, class: MemoryClass, bytes: usize) {
        let step = (self.memory.max_bytes() / STEP_PART).min(STEP_BYTES_MAX);
        let told = self.told.get(class.index()).copied().unwrap_or(0);
        if bytes.abs_diff(told) > step || bytes == 0 && told > 0 {
            self.tell_exactly(class, bytes);
        }
    }

    /// Tells how many bytes of a class this holder has, however little that has changed.
    pub fn tell_exactly(&mut self, class: MemoryClass, bytes: usize) {
        let held = self.memory.held.get(class.index());
        let (Some(held), Some(told)) = (held, self.told.get_mut(class.index())) else {
            return;
        };
        if bytes >= *told {
            held.fetch_add(bytes - *told, Ordering::Relaxed);
        } else {
            held.fetch_sub(*told - bytes, Ordering::Relaxed);
        }
        *told = bytes;
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        for class in MemoryClass::ALL {
            self.tell_exactly(class, 0);
        }
    }
}

/// The limit where the operator sets none, as `tor` computes it: two fifths of the machine's memory
/// if that is 8 GiB or more, three quarters of less; at least 256 MiB, at most 8 GiB. `None`: the
/// machine does not tell.
#[must_use]
pub fn default_max_bytes(machine_bytes: Option<u64>) -> usize {
    const GIB: u64 = 1 << 30;
    let bytes = match machine_bytes {
        None => 8 * GIB,
        Some(bytes) if bytes >= 8 * GIB => bytes / 5 * 2,
        Some(bytes) => bytes / 4 * 3,
    };
    usize::try_from(bytes.clamp(GIB / 4, 8 * GIB)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const M: usize = 1 << 20;

    fn holding(max_bytes: usize, held: &[(MemoryClass, usize)]) -> (Arc<Memory>, MemoryShare) {
        let memory = Memory::new(max_bytes);
        let mut share = MemoryShare::new(Arc::clone(&memory));
        for (class, bytes) in held {
            share.tell_exactly(*class, *bytes);
        }
        (memory, share)
    }

    #[test]
    fn what_stands_is_stopped_before_the_limit() {
        let cases = [
            (0, 0, (false, true, true)),
            (74, 0, (false, true, true)),
            (76, 0, (false, false, true)),
            (88, 0, (false, false, false)),
            (50, 49, (false, true, true)),
            (50, 52, (true, true, true)),
            (50, 60, (true, false, true)),
            (50, 64, (true, false, false)),
        ];
        for (circuits, cells, expected) in cases {
            let held = [
                (MemoryClass::Circuits, circuits * M),
                (MemoryClass::Cells, cells * M),
            ];
            let (memory, _share) = holding(100 * M, &held);
            let is = (
                memory.shortage().is_some(),
                memory.takes_circuits(FIRST_ONES),
                memory.takes_links(),
            );
            assert_eq!(is, expected, "{circuits} {cells}");
            let first = memory.takes_circuits(FIRST_ONES - 1);
            assert_eq!(first, memory.takes_links(), "{circuits} {cells}");
        }
    }

    /// Each of several owners frees its part, and a tenth is free when the last one has.
    #[test]
    fn owners_free_in_proportion() {
        let memory = Memory::new(100 * M);
        let mut shares: Vec<_> = [80, 0, 20, 10]
            .map(|cells| (MemoryShare::new(Arc::clone(&memory)), cells * M))
            .into();
        let tell = |share: &mut MemoryShare, bytes| share.tell_exactly(MemoryClass::Cells, bytes);
        shares
            .iter_mut()
            .for_each(|(share, held)| tell(share, *held));
        let shortage = memory.shortage().unwrap();
        let mut freed = Vec::new();
        for (share, held) in &mut shares {
            let bytes = shortage.share(*held);
            tell(share, *held - bytes);
            freed.push(bytes / M);
        }
        assert_eq!(freed, [14, 0, 3, 1]);
        assert_eq!(memory.shortage(), None);
        assert!(memory.total_bytes() <= 90 * M);
        drop(shares);
        assert_eq!(memory.total_bytes(), 0);
    }

    #[test]
    fn the_default_is_that_of_tor() {
        let gib = |n: u64| n << 30;
        let cases = [
            (None, gib(8)),
            (Some(gib(64)), gib(8)),
            (Some(gib(10)), gib(4)),
            (Some(gib(4)), gib(3)),
            (Some(1 << 20), gib(1) / 4),
        ];
        for (machine, expected) in cases {
            assert_eq!(
                default_max_bytes(machine),
                usize::try_from(expected).unwrap()
            );
        }
    }

    proptest! {
        /// The whole is the sum of what owners told, and lags behind by less than a step for each.
        #[test]
        fn the_whole_is_the_sum(
            moves in prop::collection::vec((0_usize..3, 0_usize..8, 0_usize..1_000_000), 1..200),
        ) {
            let memory = Memory::new(1 << 30);
            let mut shares: Vec<_> =
                (0..3).map(|_| MemoryShare::new(Arc::clone(&memory))).collect();
            let mut truth = [[0_usize; CLASSES]; 3];
            for (owner, class, bytes) in moves {
                truth[owner][class] = bytes;
                shares[owner].tell(MemoryClass::ALL[class], bytes);
                let all: usize = truth.iter().flatten().sum();
                prop_assert!(memory.total_bytes().abs_diff(all) <= 3 * CLASSES * STEP_BYTES_MAX);
            }
            for (share, truth) in shares.iter_mut().zip(truth) {
                for (class, bytes) in MemoryClass::ALL.into_iter().zip(truth) {
                    share.tell_exactly(class, bytes);
                }
            }
            prop_assert_eq!(memory.total_bytes(), truth.iter().flatten().sum::<usize>());
        }
    }
}
