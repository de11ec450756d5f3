//! The places of one door: who may come in, and who goes so that another may.
//!
//! ```text
//! admit ──> resting (a handshake, a head, a link without circuits) <──> busy ──> leave
//! ```
//! A newcomer always finds a place while somebody rests. At the bound of his address or prefix, the
//! longest resting there goes; at the bound of the door, the longest resting of the prefix that
//! has most of them, if it has many, or else the longest resting of all. With nobody resting, who
//! holds much more than he goes, the oldest of that prefix first. Known relays and authorities have
//! a reserve that no stranger takes, a few places each, and are strangers beyond those.
//!
//! What it costs an attacker: to send a client away that rests and is alone in its prefix, he needs
//! the whole door, spread so that no prefix holds [`HEAVY_MIN`] of it: `total / HEAVY_MIN` routed
//! blocks. To keep a newcomer out, every place must be busy, and no prefix may hold much.
//! Memory is bounded by the places. Every call takes time logarithmic in them.

use std::collections::{BTreeMap, BTreeSet};

use slotmap::{SlotMap, new_key_type};

use crate::Source;

/// From so many resting places on, a prefix is the first to give one up.
pub const HEAVY_MIN: usize = 8;
/// Places of the reserve that one known address may hold; it is a stranger for the next one.
pub const KNOWN_PLACES_MAX: usize = 8;

new_key_type! {
    /// A place that is taken.
    pub struct Ticket;
}

/// How many may be inside a door at once: in all, of one address, of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceLimits {
    /// All places of the door, the reserve included.
    pub total: usize,
    /// Those of them that only known relays and authorities may take.
    pub reserve: usize,
    /// Strangers of one address.
    pub per_address: usize,
    /// Strangers of one prefix.
    pub per_prefix: usize,
}

impl PlaceLimits {
    /// `total` places: a sixteenth for one address, an eighth for one prefix, an eighth in reserve.
    #[must_use]
    pub fn shared(total: usize) -> Self {
        PlaceLimits {
            total,
            reserve: total / 8,
            per_address: (total / 16).max(1),
            per_prefix: (total / 8).max(1),
        }
    }

    /// These limits without a share for each address: for test networks, whose clients are one
    /// host.
    #[must_use]
    pub fn unshared(self) -> Self {
        PlaceLimits {
            per_address: self.total,
            per_prefix: self.total,
            ..self
        }
    }
}

/// A newcomer was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// His place.
    pub ticket: Ticket,
    /// Who had to go for him; he has left already.
    pub evicted: Option<Ticket>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All places of his address are busy.
    #[error("all places of one address are busy")]
    Address,
    /// All places of his prefix are busy.
    #[error("all places of one prefix are busy")]
    Prefix,
    /// All places are busy.
    #[error("all places are busy")]
    Full,
}

#[derive(Debug)]
struct Held {
    /// `None`: of nobody knows whom (a stream that came over a circuit).
    source: Option<Source>,
    is_known: bool,
    is_busy: bool,
    /// Grows with each change: the order of who has been so for longest.
    since: u64,
}

/// Who goes first: those who rest before those who are busy, each by age.
type Order<S> = BTreeSet<(S, bool, u64, Ticket)>;

/// How many hold places, and how many of those rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    held: usize,
    resting: usize,
}

/// The places of one door.
#[derive(Debug)]
pub struct Places {
    limits: PlaceLimits,
    held: SlotMap<Ticket, Held>,
    clock: u64,
    /// Places of the reserve that are taken, and by whom.
    known: BTreeMap<Source, usize>,
    known_order: Order<()>,
    strangers: Order<()>,
    by_address: Order<Source>,
    by_prefix: Order<Source>,
    addresses: BTreeMap<Source, usize>,
    prefixes: BTreeMap<Source, Tally>,
    most_held: BTreeSet<(usize, Source)>,
    most_resting: BTreeSet<(usize, Source)>,
}

impl Places {
    /// The places of a door that nobody has taken yet.
    #[must_use]
    pub fn new(limits: PlaceLimits) -> Self {
        Places {
            limits,
            held: SlotMap::with_key(),
            clock: 0,
            known: BTreeMap::new(),
            known_order: BTreeSet::new(),
            strangers: BTreeSet::new(),
            by_address: BTreeSet::new(),
            by_prefix: BTreeSet::new(),
            addresses: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            most_held: BTreeSet::new(),
            most_resting: BTreeSet::new(),
        }
    }

    /// Places that are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nobody is inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes a place, resting at first. `source` is `None` for who cannot be told from others.
    pub fn admit(&mut self, source: Option<Source>, is_known: bool) -> Result<Admitted, Refused> {
        let is_known = is_known && source.is_some_and(|source| self.has_reserve(source));
        let victim = match is_known {
            true => None,
            false => self.victim(source)?,
        };
        if let Some(victim) = victim {
            self.leave(victim);
        }
        let since = self.tick();
        let ticket = self.held.insert(Held {
            source,
            is_known,
            is_busy: false,
            since,
        });
        self.list(ticket);
        Ok(Admitted {
            ticket,
            evicted: victim,
        })
    }

    /// Somebody rests from now on, or is busy. That he was sent away meanwhile is no matter.
    pub fn set_busy(&mut self, ticket: Ticket, is_busy: bool) {
        if self
            .held
            .get(ticket)
            .is_some_and(|it| it.is_busy != is_busy)
        {
            self.list_anew(ticket, is_busy);
        }
    }

    /// Something moves where somebody rests: he has rested for less long than all others.
    pub fn moved(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.get(ticket) {
            self.list_anew(ticket, held.is_busy);
        }
    }

    fn list_anew(&mut self, ticket: Ticket, is_busy: bool) {
        self.unlist(ticket);
        let since = self.tick();
        if let Some(held) = self.held.get_mut(ticket) {
            (held.is_busy, held.since) = (is_busy, since);
        }
        self.list(ticket);
    }

    /// Gives a place back; one that was given back before is no matter.
    pub fn leave(&mut self, ticket: Ticket) {
        self.unlist(ticket);
        self.held.remove(ticket);
    }

    /// Sends away the stranger who has rested for longest, as the process needs what he holds.
    pub fn relieve(&mut self) -> Option<Ticket> {
        let victim = self.longest_resting()?;
        self.leave(victim);
        Some(victim)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn has_reserve(&self, source: Source) -> bool {
        self.known_order.len() < self.limits.reserve
            && self
                .known
                .get(&source)
                .is_none_or(|n| *n < KNOWN_PLACES_MAX)
    }

    /// Who goes for a newcomer, if anybody must.
    fn victim(&self, source: Option<Source>) -> Result<Option<Ticket>, Refused> {
        let mut prefix_held = 0;
        if let Some(source) = source {
            let held = self.addresses.get(&source).copied().unwrap_or(0);
            if held >= self.limits.per_address {
                let victim = first_resting(&self.by_address, source);
                return victim.map(Some).ok_or(Refused::Address);
            }
            let prefix = source.prefix();
            prefix_held = self.prefixes.get(&prefix).map_or(0, |tally| tally.held);
            if prefix_held >= self.limits.per_prefix {
                let victim = first_resting(&self.by_prefix, prefix);
                return victim.map(Some).ok_or(Refused::Prefix);
            }
        }
        if self.strangers.len() < self.limits.total - self.limits.reserve {
            return Ok(None);
        }
        let victim = self.longest_resting();
        let victim = victim.or_else(|| self.of_the_greedy(prefix_held));
        victim.map(Some).ok_or(Refused::Full)
    }

    fn longest_resting(&self) -> Option<Ticket> {
        if let Some((resting, prefix)) = self.most_resting.last()
            && *resting >= HEAVY_MIN
        {
            return first_resting(&self.by_prefix, *prefix);
        }
        first_resting(&self.strangers, ())
    }

    /// The oldest of the prefix that holds most, if that is much more than a newcomer's.
    fn of_the_greedy(&self, prefix_held: usize) -> Option<Ticket> {
        let (held, prefix) = self.most_held.last()?;
        let is_much = *held >= HEAVY_MIN && *held > 2 * (prefix_held + 1);
        is_much.then(|| first(&self.by_prefix, *prefix))?
    }

    fn list(&mut self, ticket: Ticket) {
        let Some(held) = self.held.get(ticket) else {
            return;
        };
        let (is_busy, since) = (held.is_busy, held.since);
        if held.is_known {
            self.known_order.insert(((), is_busy, since, ticket));
            if let Some(source) = held.source {
                *self.known.entry(source).or_default() += 1;
            }
            return;
        }
        self.strangers.insert(((), is_busy, since, ticket));
        let Some(source) = held.source else { return };
        let prefix = source.prefix();
        self.by_address.insert((source, is_busy, since, ticket));
        self.by_prefix.insert((prefix, is_busy, since, ticket));
        *self.addresses.entry(source).or_default() += 1;
        self.tally(prefix, |tally| {
            tally.held += 1;
            tally.resting += usize::from(!is_busy);
        });
    }

    fn unlist(&mut self, ticket: Ticket) {
        let Some(held) = self.held.get(ticket) else {
            return;
        };
        let (is_busy, since) = (held.is_busy, held.since);
        if held.is_known {
            self.known_order.remove(&((), is_busy, since, ticket));
            if let Some(source) = held.source {
                drop_one(&mut self.known, source);
            }
            return;
        }
        self.strangers.remove(&((), is_busy, since, ticket));
        let Some(source) = held.source else { return };
        let prefix = source.prefix();
        self.by_address.remove(&(source, is_busy, since, ticket));
        self.by_prefix.remove(&(prefix, is_busy, since, ticket));
        drop_one(&mut self.addresses, source);
        self.tally(prefix, |tally| {
            tally.held -= 1;
            tally.resting -= usize::from(!is_busy);
        });
    }

    fn tally(&mut self, prefix: Source, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.prefixes.remove(&prefix).unwrap_or_default();
        self.most_held.remove(&(tally.held, prefix));
        self.most_resting.remove(&(tally.resting, prefix));
        change(&mut tally);
        if tally.held > 0 {
            self.most_held.insert((tally.held, prefix));
            self.most_resting.insert((tally.resting, prefix));
            self.prefixes.insert(prefix, tally);
        }
    }
}

fn drop_one(counts: &mut BTreeMap<Source, usize>, source: Source) {
    if let Some(count) = counts.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
        }
    }
}

/// The one who has been in scope for longest; those who rest come first.
fn first<S: Copy + Ord>(order: &Order<S>, scope: S) -> Option<Ticket> {
    let from = (scope, false, 0, Ticket::default());
    let found = order.range(from..).next()?;
    (found.0 == scope).then_some(found.3)
}

/// The one in scope who has rested for longest.
fn first_resting<S: Copy + Ord>(order: &Order<S>, scope: S) -> Option<Ticket> {
    let from = (scope, false, 0, Ticket::default());
    let until = (scope, true, 0, Ticket::default());
    order.range(from..until).next().map(|found| found.3)
}

#[cfg(test)]
mod tests;
