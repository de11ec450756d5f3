//! The doors of this process, and how many strangers each lets in (`cepa_limits`).
//!
//! ```text
//! listener ──accept──> Gate::enter ──Pass──> the task that serves him
//!                                      └─ evicted(): another needs the place more
//! ```
//! A [`Gate`] is one door, a [`Pass`] the place of who came in, given back when it is dropped. What
//! was refused, and why, is told once a minute with its number, never with an address.

mod descriptors;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_limits::{
    Account, Denied, Door, DoorCounts, DoorRules, DosCounts, DosParams, DosRule, PlaceLimits, Rate,
    Strangers, Ticket,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::{clock, listen};

pub use descriptors::Descriptors;

/// The links of an OR port.
pub const OR_PORT: Door = Door(0);
/// Those of them whose handshake is under way.
pub const HANDSHAKES: Door = Door(1);
/// The DirPort.
pub const DIR_PORT: Door = Door(2);
/// Directory streams over circuits.
pub const BEGIN_DIR: Door = Door(3);
/// Streams that leave the network here.
pub const EXITS: Door = Door(4);
/// The ports of a client, for applications.
pub const APPLICATIONS: Door = Door(0);
/// Streams of those who visit the onion services of a client.
pub const VISITORS: Door = Door(1);

/// Handshakes of incoming links under way at once: each takes memory and arithmetic.
const HANDSHAKES_MAX: usize = 1024;
/// Connections of a DirPort at once.
const DIR_CONNECTIONS_MAX: usize = 1024;
/// Directory streams at once.
const DIR_STREAMS_MAX: usize = 1024;
/// Connections of applications at once.
const APPLICATIONS_MAX: usize = 10_000;
/// Connections of who asks for metrics or a page.
const ASIDE_MAX: usize = 1024;
/// Directory requests of one address: a client that begins asks for a hundred.
const REQUESTS: (u32, u32) = (20, 500);
/// How often it is noted of a place that something moves there.
const MOVED_EVERY: Duration = Duration::from_secs(10);
/// How often what was refused is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The first pause of a listener that finds no descriptor.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// All doors of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    names: &'static [&'static str],
}

#[derive(Debug)]
struct State {
    strangers: Strangers,
    wakers: BTreeMap<(Door, Ticket), Arc<Notify>>,
    told: (Vec<DoorCounts>, DosCounts),
}

impl Doors {
    /// Those of a relay: [`OR_PORT`], [`HANDSHAKES`], [`DIR_PORT`], [`BEGIN_DIR`], [`EXITS`]. In a
    /// test network an address has no share of its own: its clients are all one host. Streams that
    /// leave have the descriptors that links and the DirPort do not have.
    #[must_use]
    pub fn of_relay(descriptors: Descriptors, testing: bool, rng: Rng) -> Self {
        let connections = descriptors.connections_max();
        let shared = |total: usize| match PlaceLimits::shared(total.max(1)) {
            limits if testing => limits.unshared(),
            limits => limits,
        };
        let door = |total, is_or_port| DoorRules {
            places: shared(total),
            is_or_port,
        };
        let (links, dir) = (connections / 2, DIR_CONNECTIONS_MAX.min(connections / 4));
        let rules = [
            door(links, true),
            door(HANDSHAKES_MAX.min(connections / 4), false),
            door(dir, false),
            door(DIR_STREAMS_MAX, false),
            DoorRules {
                places: unreserved(connections - links - dir),
                is_or_port: false,
            },
        ];
        let requests = Rate::new(REQUESTS.0, REQUESTS.1).filter(|_| !testing);
        let names = &[
            "or_port",
            "or_port handshakes",
            "dir_port",
            "BEGIN_DIR",
            "exit streams",
        ];
        Self::new(&rules, names, requests, rng)
    }

    /// Those of a client, [`APPLICATIONS`] and [`VISITORS`]: the ones are of one host, the others
    /// come from nobody knows where, and none have shares.
    #[must_use]
    pub fn of_client(descriptors: Descriptors, rng: Rng) -> Self {
        let connections = descriptors.connections_max();
        let applications = APPLICATIONS_MAX.min(connections / 2);
        let rules = [applications, connections - applications].map(|total| DoorRules {
            places: unreserved(total),
            is_or_port: false,
        });
        let names = &["the client's ports", "streams of visitors"];
        Self::new(&rules, names, None, rng)
    }

    /// One for what is none of a network's: metrics, a page.
    #[must_use]
    pub fn aside(name: &'static [&'static str; 1]) -> Gate {
        let rules = DoorRules {
            places: unreserved(ASIDE_MAX),
            is_or_port: false,
        };
        // Nothing is remembered here that would want a secret.
        Self::new(&[rules], name, None, Rng::from_seed([0; 32])).gate(Door(0))
    }

    fn new(
        rules: &[DoorRules],
        names: &'static [&'static str],
        requests: Option<Rate>,
        rng: Rng,
    ) -> Self {
        let strangers = Strangers::new(rules, requests, rng, clock::now().mono);
        let told = (strangers.door_counts(), strangers.dos_counts());
        let state = Mutex::new(State {
            strangers,
            wakers: BTreeMap::new(),
            told,
        });
        Doors {
            shared: Arc::new(Shared { state, names }),
        }
    }

    /// One of them.
    #[must_use]
    pub fn gate(&self, door: Door) -> Gate {
        Gate {
            doors: self.clone(),
            door,
        }
    }

    /// Replaces `tor`'s rules.
    pub fn set_dos(&self, dos: DosParams) {
        self.lock().strangers.set_dos(dos);
    }

    /// Replaces the addresses of relays and authorities, which have a reserve.
    pub fn set_known(&self, known: impl IntoIterator<Item = IpAddr>) {
        self.lock().strangers.set_known(known);
    }

    /// What happened at each door, by its name.
    #[must_use]
    pub fn door_counts(&self) -> Vec<(&'static str, DoorCounts)> {
        let counts = self.lock().strangers.door_counts();
        self.shared.names.iter().copied().zip(counts).collect()
    }

    /// What `tor`'s rules refused at the doors.
    #[must_use]
    pub fn dos_counts(&self) -> DosCounts {
        self.lock().strangers.dos_counts()
    }

    /// Tells what was refused, once a minute if anything was, for as long as the process lives.
    /// `inside` is what `tor`'s rules refused further in.
    pub async fn run_teller<F>(self, inside: impl Fn() -> F)
    where
        F: Future<Output = DosCounts>,
    {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let mut dos = inside().await;
            dos += &self.dos_counts();
            self.tell(dos);
        }
    }

    fn tell(&self, dos: DosCounts) {
        let counts = self.lock().strangers.door_counts();
        let told = std::mem::replace(&mut self.lock().told, (counts.clone(), dos));
        for ((door, now), before) in self.shared.names.iter().zip(&counts).zip(&told.0) {
            let refused = now.refused - before.refused;
            let evicted = now.evicted - before.evicted;
            let too_slow = now.timed_out - before.timed_out;
            if refused + evicted + too_slow > 0 {
                tracing::warn!(
                    door,
                    refused,
                    evicted,
                    too_slow,
                    inside = now.inside,
                    "connections that found no place, or gave theirs up"
                );
            }
        }
        for rule in DosRule::ALL {
            let count = dos.number(rule) - told.1.number(rule);
            if count > 0 {
                tracing::warn!(rule = rule.option(), kind = rule.label(), count, "refused");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places that are the same for all.
fn unreserved(total: usize) -> PlaceLimits {
    PlaceLimits {
        reserve: 0,
        ..PlaceLimits::shared(total.max(1)).unshared()
    }
}

/// One door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    doors: Doors,
    door: Door,
}

impl Gate {
    /// Lets somebody in; `None` is who has no address.
    pub fn enter(&self, ip: Option<IpAddr>) -> Result<Pass, Denied> {
        let mut state = self.doors.lock();
        let entered = state.strangers.enter(self.door, ip, clock::now().mono)?;
        if let Some(evicted) = entered.evicted {
            state.ring(self.door, evicted);
        }
        let waker = Arc::new(Notify::new());
        let key = (self.door, entered.ticket);
        state.wakers.insert(key, Arc::clone(&waker));
        Ok(Pass {
            gate: self.clone(),
            ip,
            ticket: entered.ticket,
            waker,
            account: entered.account,
            is_open: AtomicBool::new(false),
            moved: Mutex::new(clock::now().mono),
        })
    }

    /// The next connection that has a place. Listeners never give up: out of descriptors, whoever
    /// has rested for longest goes, and the listener waits and goes on.
    pub async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr, Pass) {
        self.accept_by(|| listener.accept(), |peer: &SocketAddr| Some(peer.ip()))
            .await
    }

    /// The same of a unix socket.
    pub async fn accept_unix(&self, listener: &UnixListener) -> (UnixStream, Pass) {
        let (unix, _, pass) = self.accept_by(|| listener.accept(), |_| None).await;
        (unix, pass)
    }

    async fn accept_by<S, A, F>(
        &self,
        accept: impl Fn() -> F,
        ip: impl Fn(&A) -> Option<IpAddr>,
    ) -> (S, A, Pass)
    where
        F: Future<Output = std::io::Result<(S, A)>>,
    {
        let mut pause = PAUSE_MIN;
        loop {
            match accept().await {
                Ok((stream, peer)) => {
                    pause = PAUSE_MIN;
                    match self.enter(ip(&peer)) {
                        Ok(pass) => return (stream, peer, pass),
                        Err(denied) => tracing::debug!(%denied, "a connection is closed"),
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.relieve(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Whether a directory request of this address is answered.
    #[must_use]
    pub fn take_request(&self, ip: IpAddr) -> bool {
        let mut state = self.doors.lock();
        state.strangers.take_request(ip, clock::now().mono)
    }

    /// Frees a descriptor, as there is none for the next connection.
    fn relieve(&self, error: &std::io::Error) {
        let mut state = self.doors.lock();
        let starved = state.strangers.starved(self.door);
        let gone = match listen::is_want(error) {
            true => state.strangers.relieve(self.door),
            false => None,
        };
        if let Some((door, ticket)) = gone {
            state.ring(door, ticket);
        }
        drop(state);
        // Each power of two: one line for a moment, twenty for days.
        if starved.is_power_of_two() {
            tracing::warn!(
                %error,
                door = self.name(),
                times = starved,
                somebody_went = gone.is_some(),
                "no connection can be accepted now; if descriptors are wanting, {}",
                descriptors::REMEDY
            );
        }
    }

    fn name(&self) -> &'static str {
        let name = self.doors.shared.names.get(self.door.0);
        name.copied().unwrap_or("a door")
    }
}

impl State {
    fn ring(&mut self, door: Door, ticket: Ticket) {
        if let Some(waker) = self.wakers.remove(&(door, ticket)) {
            waker.notify_one();
        }
    }
}

/// A place at a door, given back when it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    ip: Option<IpAddr>,
    ticket: Ticket,
    waker: Arc<Notify>,
    account: Option<Arc<Account>>,
    is_open: AtomicBool,
    /// When it was last noted that something moved.
    moved: Mutex<Instant>,
}

impl Pass {
    /// Returns when another needs the place more: who holds it is to hang up.
    pub async fn evicted(&self) {
        self.waker.notified().await;
    }

    /// The holder rests from now on, or is busy; at first it rests.
    pub fn set_busy(&self, is_busy: bool) {
        let mut state = self.gate.doors.lock();
        state
            .strangers
            .set_busy(self.gate.door, self.ticket, is_busy);
    }

    /// Something moves where the holder rests: it has rested for less long than others.
    pub fn moved(&self) {
        let now = clock::now().mono;
        {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_duration_since(*moved) < MOVED_EVERY {
                return;
            }
            *moved = now;
        }
        let mut state = self.gate.doors.lock();
        state.strangers.moved(self.gate.door, self.ticket);
    }

    /// The address of who came in, if he has one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// A stage took too long.
    pub fn timed_out(&self) {
        self.gate.doors.lock().strangers.timed_out(self.gate.door);
    }

    /// The link is open: `tor`'s rules count it.
    pub fn opened(&self) {
        if let Some(account) = &self.account
            && !self.is_open.swap(true, Ordering::Relaxed)
        {
            account.opened();
        }
    }

    /// What the address of who came in may still do; none for who has no address.
    #[must_use]
    pub fn account(&self) -> Option<Arc<Account>> {
        self.account.clone()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(account) = &self.account
            && self.is_open.load(Ordering::Relaxed)
        {
            account.closed();
        }
        let door = self.gate.door;
        let mut state = self.gate.doors.lock();
        state.wakers.remove(&(door, self.ticket));
        let now = clock::now().mono;
        state.strangers.leave(door, self.ip, self.ticket, now);
    }
}

#[cfg(test)]
mod tests;
