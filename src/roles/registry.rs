//! The channels to each relay, whichever workers have them (tor-spec 2.1, 5.3.1: links are shared).
//!
//! Asked once for a circuit that is extended, never for a cell. A circuit gets a channel whose far
//! end is where the consensus or the relay itself says that it is (canonical), or one that goes to
//! an address which the circuit's client has named; of several the canonical one, then the oldest.
//! It waits for a channel that is being opened only if that goes to the very addresses and
//! identities it wants: nobody chooses the way of another's circuit, and nobody holds it up.
//! What strangers make us open (ways that the consensus does not have) is bounded at once and in
//! time; ways that it has are as many as there are relays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cepa_circuit::CircuitKey;
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_link::{ChannelKey, PeerIdentity};
use cepa_relay::{LinkTarget, SharedBucket, WorkerId};
use tokio::sync::oneshot;

/// Where an open channel is.
pub(crate) type Place = (WorkerId, ChannelKey);

/// A circuit that waits for a channel, and the worker that owns it.
pub(crate) type Waiter = (WorkerId, CircuitKey);

/// Links being opened at once by ways that the consensus does not have. All bounds are ours.
const UNLISTED_MAX: usize = 128;
/// The same to one address: no more than this many connections are ours to bring to anybody.
const UNLISTED_PER_ADDRESS_MAX: usize = 4;
/// The same for the circuits of one channel.
const UNLISTED_PER_CHANNEL_MAX: usize = 16;
/// The same a second, on average, and in a row.
const UNLISTED_PER_SECOND: u64 = 20;
const UNLISTED_BURST: u64 = 200;
/// Open channels of one relay that circuits may get; of those beyond, none.
const CHANNELS_PER_RELAY_MAX: usize = 16;

/// All open and opening channels to relays.
pub(crate) struct Registry {
    ways: Mutex<Ways>,
}

struct Ways {
    relays: BTreeMap<RsaId, Relay>,
    unlisted: usize,
    unlisted_to: BTreeMap<IpAddr, usize>,
    unlisted_of: BTreeMap<Place, usize>,
    bucket: SharedBucket,
    next: u64,
}

#[derive(Default)]
struct Relay {
    open: Vec<Open>,
    opening: Vec<Opening>,
}

struct Open {
    ed: Ed25519Id,
    address: IpAddr,
    is_canonical: bool,
    place: Place,
}

struct Opening {
    number: u64,
    target: LinkTarget,
    /// The channel that the first circuit came by.
    asker: Place,
    waiters: BTreeSet<Waiter>,
    /// Ends the attempt when it is dropped.
    _goes_on: oneshot::Sender<()>,
}

/// A link that is to be opened, or was.
#[derive(Debug)]
pub(crate) struct Attempt {
    rsa: RsaId,
    number: u64,
    /// Resolves when nobody waits for it any more.
    pub(crate) given_up: oneshot::Receiver<()>,
}

/// A channel that has come to be, by us or by the relay at its other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) peer: PeerIdentity,
    /// The address at the other end of the connection.
    pub(crate) address: IpAddr,
    pub(crate) is_canonical: bool,
    pub(crate) place: Place,
}

/// What to do for a circuit that needs a channel.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is there.
    Open(Place),
    /// Somebody is opening it; the waiter will be told.
    Waiting,
    /// Nobody has it: open it, then call [`Registry::opened`] or [`Registry::failed`].
    Missing(Attempt),
    /// Nobody has it, and strangers have asked for too many others.
    TooMany,
}

/// What follows from a channel that is open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Those who get it.
    pub(crate) waiters: Vec<Waiter>,
    /// Channels that no circuit gets any more, as there is a better one: they end when idle.
    pub(crate) retired: Vec<Place>,
}

impl Registry {
    pub(crate) fn new(now: Instant) -> Self {
        Registry {
            ways: Mutex::new(Ways {
                relays: BTreeMap::new(),
                unlisted: 0,
                unlisted_to: BTreeMap::new(),
                unlisted_of: BTreeMap::new(),
                bucket: SharedBucket::new(Some((UNLISTED_PER_SECOND, UNLISTED_BURST)), now),
                next: 0,
            }),
        }
    }

    /// The relays to which there is a channel, or one is being opened; whether it is open.
    pub(crate) fn links(&self) -> Vec<(RsaId, bool)> {
        let ways = self.lock();
        let links = ways.relays.iter();
        links
            .map(|(id, relay)| (*id, !relay.open.is_empty()))
            .collect()
    }

    /// Looks a channel up for `waiter`, whose circuit comes by a channel of the same worker's.
    pub(crate) fn find(&self, target: &LinkTarget, waiter: Waiter, now: Instant) -> Found {
        let asker = (waiter.0, target.asker);
        let mut ways = self.lock();
        if let Some(relay) = ways.relays.get_mut(&target.rsa) {
            let open = relay.open.iter().filter(|open| open.suits(target));
            // The list is in the order in which they were opened.
            if let Some(best) = open.min_by_key(|open| !open.is_canonical) {
                return Found::Open(best.place);
            }
            let same = |opening: &&mut Opening| opening.is_of(target);
            if let Some(opening) = relay.opening.iter_mut().find(same) {
                opening.waiters.insert(waiter);
                return Found::Waiting;
            }
        }
        if !ways.may_open(target, asker, now) {
            return Found::TooMany;
        }
        let (goes_on, given_up) = oneshot::channel();
        let number = ways.next;
        ways.next += 1;
        let opening = Opening {
            number,
            target: target.clone(),
            asker,
            waiters: BTreeSet::from([waiter]),
            _goes_on: goes_on,
        };
        let relay = ways.relays.entry(target.rsa).or_default();
        relay.opening.push(opening);
        Found::Missing(Attempt {
            rsa: target.rsa,
            number,
            given_up,
        })
    }

    /// A channel is open, by an attempt of ours or by the peer.
    pub(crate) fn opened(&self, opened: Opened, attempt: Option<&Attempt>) -> News {
        let mut ways = self.lock();
        let mut news = News::default();
        if let Some(opening) = attempt.and_then(|attempt| ways.take(attempt)) {
            news.waiters.extend(opening.waiters);
        }
        let open = Open {
            ed: opened.peer.ed,
            address: opened.address.to_canonical(),
            is_canonical: opened.is_canonical,
            place: opened.place,
        };
        // Who waits for another way to the same relay may as well have this one.
        let relay = ways.relays.entry(opened.peer.rsa).or_default();
        let suited = relay.opening.iter().filter(|one| open.suits(&one.target));
        let suited: Vec<u64> = suited.map(|one| one.number).collect();
        for number in suited {
            if let Some(opening) = ways.remove(opened.peer.rsa, number) {
                news.waiters.extend(opening.waiters);
            }
        }
        let relay = ways.relays.entry(opened.peer.rsa).or_default();
        if relay.open.len() < CHANNELS_PER_RELAY_MAX || open.is_canonical {
            relay.open.push(open);
            news.retired = relay.retire();
        }
        ways.forget_if_empty(opened.peer.rsa);
        news
    }

    /// A channel could not be opened; returns those who wait for it.
    pub(crate) fn failed(&self, attempt: &Attempt) -> Vec<Waiter> {
        let mut ways = self.lock();
        let opening = ways.take(attempt);
        ways.forget_if_empty(attempt.rsa);
        opening.map_or(Vec::new(), |opening| opening.waiters.into_iter().collect())
    }

    /// A circuit that waited is gone. An attempt that nobody waits for any more is given up.
    pub(crate) fn unwanted(&self, rsa: RsaId, waiter: Waiter) {
        let mut ways = self.lock();
        let Some(relay) = ways.relays.get_mut(&rsa) else {
            return;
        };
        let mut waited = relay.opening.iter_mut();
        let at = waited.position(|one| one.waiters.remove(&waiter));
        let Some(opening) = at.and_then(|at| relay.opening.get(at)) else {
            return;
        };
        let number = opening.number;
        if opening.waiters.is_empty() {
            ways.remove(rsa, number);
            ways.forget_if_empty(rsa);
        }
    }

    /// A channel is closed.
    pub(crate) fn closed(&self, rsa: RsaId, closed: Place) {
        let mut ways = self.lock();
        if let Some(relay) = ways.relays.get_mut(&rsa) {
            relay.open.retain(|open| open.place != closed);
            ways.forget_if_empty(rsa);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ways {
    /// Whether a link of this way may be opened; counts it if so.
    fn may_open(&mut self, target: &LinkTarget, asker: Place, now: Instant) -> bool {
        if target.is_listed {
            return true;
        }
        let count = |counts: &BTreeMap<IpAddr, usize>, addr: &SocketAddr| {
            counts.get(&addr.ip()).copied().unwrap_or(0)
        };
        let mut addrs = target.addrs.iter();
        let is_full = self.unlisted >= UNLISTED_MAX
            || addrs.any(|addr| count(&self.unlisted_to, addr) >= UNLISTED_PER_ADDRESS_MAX)
            || self.unlisted_of.get(&asker).copied().unwrap_or(0) >= UNLISTED_PER_CHANNEL_MAX;
        if is_full || self.bucket.wait(now).is_some() {
            return false;
        }
        self.bucket.take(1);
        self.unlisted += 1;
        *self.unlisted_of.entry(asker).or_default() += 1;
        for addr in &target.addrs {
            *self.unlisted_to.entry(addr.ip()).or_default() += 1;
        }
        true
    }

    fn take(&mut self, attempt: &Attempt) -> Option<Opening> {
        self.remove(attempt.rsa, attempt.number)
    }

    /// Takes an attempt out, and out of what is counted.
    fn remove(&mut self, rsa: RsaId, number: u64) -> Option<Opening> {
        let opening = &mut self.relays.get_mut(&rsa)?.opening;
        let at = opening.iter().position(|one| one.number == number)?;
        let opening = opening.remove(at);
        if !opening.target.is_listed {
            self.unlisted = self.unlisted.saturating_sub(1);
            count_down(&mut self.unlisted_of, &opening.asker);
            for addr in &opening.target.addrs {
                count_down(&mut self.unlisted_to, &addr.ip());
            }
        }
        Some(opening)
    }

    fn forget_if_empty(&mut self, rsa: RsaId) {
        let relay = self.relays.get(&rsa);
        if relay.is_some_and(|relay| relay.open.is_empty() && relay.opening.is_empty()) {
            self.relays.remove(&rsa);
        }
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Relay {
    /// Takes out the channels that are worse than another (`tor`'s
    /// `connection_or_group_set_badness_`): beside a canonical one all others of that identity, and
    /// of those to one address all but the oldest.
    fn retire(&mut self) -> Vec<Place> {
        let mut kept: Vec<Open> = Vec::new();
        let mut retired = Vec::new();
        self.open.sort_by_key(|open| !open.is_canonical);
        for open in self.open.drain(..) {
            let is_worse = |better: &Open| {
                better.ed == open.ed && (better.is_canonical || better.address == open.address)
            };
            if kept.iter().any(is_worse) {
                retired.push(open.place);
            } else {
                kept.push(open);
            }
        }
        self.open = kept;
        retired
    }
}

impl Open {
    fn suits(&self, target: &LinkTarget) -> bool {
        let mut named = target.addrs.iter().map(|addr| addr.ip().to_canonical());
        target.ed.is_none_or(|wanted| wanted == self.ed)
            && (self.is_canonical || named.any(|address| address == self.address))
    }
}

impl Opening {
    fn is_of(&self, target: &LinkTarget) -> bool {
        self.target.ed == target.ed && self.target.addrs == target.addrs
    }
}

#[cfg(test)]
mod tests;
