//! One accounting of strangers for all doors of a process.
//!
//! ```text
//! enter(door, address) ──> Entered { ticket, account, evicted } ──> leave
//!                     └──> Denied: no place, or one of `tor`'s rules
//! ```
//! Each door has its [`Places`]; who connects is counted by address over all of them. What an
//! address did is exact while it has a connection, and remembered in the bounded history after.
//! Known relays and authorities are exempt from `tor`'s rules, and have a reserve at each door.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cepa_crypto::Rng;

use crate::account::{Account, draw};
use crate::dos::{DosCounts, DosParams, DosRule};
use crate::history::{History, Record};
use crate::places::{PlaceLimits, Places, Refused, Ticket};
use crate::{Rate, Source};

/// A door, by its place in the list that [`Strangers::new`] was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door(pub usize);

/// What holds at a door: its places, and which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorRules {
    /// Its places.
    pub places: PlaceLimits,
    /// `DoSConnection…` holds here: it is an OR port.
    pub is_or_port: bool,
}

/// Somebody came in.
#[derive(Debug, Clone)]
pub struct Entered {
    /// His place, to be given to [`Strangers::leave`].
    pub ticket: Ticket,
    /// Who has to go for him; that one leaves by himself.
    pub evicted: Option<Ticket>,
    /// What his address may do; `None` for who has none.
    pub account: Option<Arc<Account>>,
}

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The door has no place for him.
    #[error(transparent)]
    NoPlace(#[from] Refused),
    /// One of `tor`'s rules.
    #[error("{}", .0.option())]
    Dos(DosRule),
}

/// What has happened at a door since the start, and who is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct DoorCounts {
    /// How many were let in.
    pub entered: u64,
    /// Sent away for another.
    pub evicted: u64,
    /// Not let in, for want of a place.
    pub refused: u64,
    /// Sent away because a stage took too long.
    pub timed_out: u64,
    /// Not taken for want of descriptors, each time that was so.
    pub starved: u64,
    /// Inside now.
    pub inside: usize,
}

#[derive(Debug)]
struct DoorState {
    rules: DoorRules,
    places: Places,
    counts: DoorCounts,
}

/// An address or prefix that has connections now.
#[derive(Debug)]
struct Live {
    connections: usize,
    record: Record,
    account: Arc<Account>,
}

/// All strangers of a process: who is inside which door, and what was done by whom.
#[derive(Debug)]
pub struct Strangers {
    epoch: Instant,
    dos: DosParams,
    requests: Option<Rate>,
    doors: Vec<DoorState>,
    history: History,
    live: BTreeMap<Source, Live>,
    known: BTreeSet<Source>,
    counts: DosCounts,
    rng: Rng,
}

impl Strangers {
    /// Nobody so far. `requests` bounds the directory requests of one address.
    #[must_use]
    pub fn new(doors: &[DoorRules], requests: Option<Rate>, mut rng: Rng, now: Instant) -> Self {
        let door = |rules: &DoorRules| DoorState {
            rules: *rules,
            places: Places::new(rules.places),
            counts: DoorCounts::default(),
        };
        Strangers {
            epoch: now,
            dos: DosParams::default(),
            requests,
            doors: doors.iter().map(door).collect(),
            history: History::new(&mut rng),
            live: BTreeMap::new(),
            known: BTreeSet::new(),
            counts: DosCounts::default(),
            rng,
        }
    }

    /// Replaces `tor`'s rules.
    pub fn set_dos(&mut self, dos: DosParams) {
        self.dos = dos;
    }

    /// Replaces the addresses of relays and authorities.
    pub fn set_known(&mut self, known: impl IntoIterator<Item = IpAddr>) {
        self.known = known.into_iter().map(Source::of).collect();
    }

    /// Whether a relay or an authority has this address.
    #[must_use]
    pub fn is_known(&self, ip: IpAddr) -> bool {
        self.known.contains(&Source::of(ip))
    }

    /// Somebody wants in; `None` is who has no address.
    pub fn enter(
        &mut self,
        door: Door,
        ip: Option<IpAddr>,
        now: Instant,
    ) -> Result<Entered, Denied> {
        let source = ip.map(Source::of);
        let is_known = source.is_some_and(|source| self.known.contains(&source));
        let is_or_port = self.doors.get(door.0).is_some_and(|it| it.rules.is_or_port);
        let account = source.map(|source| self.arrive(source));
        let entered = match source.filter(|_| is_or_port && !is_known) {
            Some(source) => self.check_connection(source, now),
            None => Ok(()),
        };
        let entered = entered.and_then(|()| self.take_place(door, source, is_known));
        match entered {
            Ok((ticket, evicted)) => Ok(Entered {
                ticket,
                evicted,
                account,
            }),
            Err(denied) => {
                if let Some(source) = source {
                    self.depart(source, now);
                }
                Err(denied)
            }
        }
    }

    /// Somebody who came in by [`Strangers::enter`] is gone, sent away or not.
    pub fn leave(&mut self, door: Door, ip: Option<IpAddr>, ticket: Ticket, now: Instant) {
        if let Some(door) = self.doors.get_mut(door.0) {
            door.places.leave(ticket);
        }
        if let Some(ip) = ip {
            self.depart(Source::of(ip), now);
        }
    }

    /// Somebody rests from now on, or is busy.
    pub fn set_busy(&mut self, door: Door, ticket: Ticket, is_busy: bool) {
        if let Some(door) = self.doors.get_mut(door.0) {
            door.places.set_busy(ticket, is_busy);
        }
    }

    /// Something moves where somebody rests: others have rested for longer.
    pub fn moved(&mut self, door: Door, ticket: Ticket) {
        if let Some(door) = self.doors.get_mut(door.0) {
            door.places.moved(ticket);
        }
    }

    /// A stage of somebody's took too long.
    pub fn timed_out(&mut self, door: Door) {
        if let Some(door) = self.doors.get_mut(door.0) {
            door.counts.timed_out += 1;
        }
    }

    /// The process has no descriptor for the next one at this door; how often that was so.
    pub fn starved(&mut self, door: Door) -> u64 {
        let Some(door) = self.doors.get_mut(door.0) else {
            return 0;
        };
        door.counts.starved += 1;
        door.counts.starved
    }

    /// Who must go to free a descriptor: of this door or, if nobody rests there, of another.
    pub fn relieve(&mut self, door: Door) -> Option<(Door, Ticket)> {
        let all = (0..self.doors.len()).map(Door).filter(|it| *it != door);
        [door].into_iter().chain(all).find_map(|door| {
            let state = self.doors.get_mut(door.0)?;
            let ticket = state.places.relieve()?;
            state.counts.evicted += 1;
            Some((door, ticket))
        })
    }

    /// Whether a directory request of this address is answered.
    pub fn take_request(&mut self, ip: IpAddr, now: Instant) -> bool {
        let source = Source::of(ip);
        let Some(rate) = self.requests.filter(|_| !self.known.contains(&source)) else {
            return true;
        };
        let live = self.live.get_mut(&source);
        live.is_none_or(|live| live.record.requests.take(rate, now))
    }

    /// How often `tor`'s rules have refused somebody at a door.
    #[must_use]
    pub fn dos_counts(&self) -> DosCounts {
        self.counts
    }

    /// What has happened at each door, in the order of the doors.
    #[must_use]
    pub fn door_counts(&self) -> Vec<DoorCounts> {
        let counts = |door: &DoorState| DoorCounts {
            inside: door.places.len(),
            ..door.counts
        };
        self.doors.iter().map(counts).collect()
    }

    fn take_place(
        &mut self,
        door: Door,
        source: Option<Source>,
        is_known: bool,
    ) -> Result<(Ticket, Option<Ticket>), Denied> {
        let state = self.doors.get_mut(door.0).ok_or(Refused::Full)?;
        match state.places.admit(source, is_known) {
            Ok(admitted) => {
                state.counts.entered += 1;
                state.counts.evicted += u64::from(admitted.evicted.is_some());
                Ok((admitted.ticket, admitted.evicted))
            }
            Err(refused) => {
                state.counts.refused += 1;
                Err(refused.into())
            }
        }
    }

    /// `DoSConnection…`: how often an address connects, and how many links it has open.
    fn check_connection(&mut self, source: Source, now: Instant) -> Result<(), Denied> {
        let rules = self.dos.connection;
        let Some(live) = self.live.get_mut(&source).filter(|_| rules.is_enabled) else {
            return Ok(());
        };
        let is_over = rules
            .connect
            .is_some_and(|rate| !live.record.connects.take(rate, now));
        let is_refused = live.record.refused_until.is_some_and(|until| until > now);
        if is_over && !is_refused {
            let period = draw(rules.period, &mut self.rng);
            live.record.refused_until = now.checked_add(period);
        }
        let rule = if is_over || is_refused {
            DosRule::ConnRejected
        } else if live.account.open_links() >= rules.concurrent_max {
            DosRule::ConcurrentConnRejected
        } else {
            return Ok(());
        };
        self.counts.count(rule);
        let acts = rules.defends && !self.dos.is_dry_run;
        if acts { Err(Denied::Dos(rule)) } else { Ok(()) }
    }

    /// One more connection of an address, and of its prefix.
    fn arrive(&mut self, source: Source) -> Arc<Account> {
        let prefix = source.prefix();
        let above = (prefix != source).then(|| self.arrive(prefix));
        let (history, epoch) = (&mut self.history, self.epoch);
        let live = self.live.entry(source).or_insert_with(|| {
            let record = history.take(source);
            Live {
                connections: 0,
                record,
                account: Arc::new(Account::new(record.circuits, above, epoch)),
            }
        });
        live.connections += 1;
        Arc::clone(&live.account)
    }

    /// One fewer.
    fn depart(&mut self, source: Source, now: Instant) {
        let prefix = source.prefix();
        if let Some(live) = self.live.get_mut(&source) {
            live.connections -= 1;
            if live.connections == 0
                && let Some(live) = self.live.remove(&source)
            {
                let record = Record {
                    circuits: live.account.state(),
                    ..live.record
                };
                self.history.put(source, record, now);
            }
        }
        if prefix != source {
            self.depart(prefix, now);
        }
    }
}

#[cfg(test)]
mod tests;
