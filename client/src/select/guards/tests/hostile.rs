//! Hostile networks: firewalls, killed guards, captive portals, sleep, clocks that jump.

use super::*;

/// Tries that a client makes for one circuit before it gives up for the moment.
const TRIES: usize = 8;
/// Guards in the network; 20 % are 60, the limit of the sample.
const NETWORK: u16 = 300;

/// A client that wants circuits, in a network that answers as it likes.
struct Client {
    world: World,
    /// Each relay that was ever tried as first hop.
    touched: BTreeSet<RsaId>,
}

impl Client {
    /// It has used its first guard already.
    fn new() -> Self {
        let mut client = Client {
            world: world(NETWORK),
            touched: BTreeSet::new(),
        };
        assert!(client.circuit(|_| true).is_some());
        client
    }

    /// Builds a circuit, as the client does; the guard that carries it.
    fn circuit(&mut self, answers: impl Fn(&RsaId) -> bool) -> Option<RsaId> {
        let mut begun = BTreeMap::new();
        let mut carries = None;
        for _ in 0..TRIES {
            let id = self.world.best();
            self.touched.insert(id);
            let attempt = self.world.begin(id);
            begun.insert(attempt, id);
            if !answers(&id) {
                let now = self.world.now;
                self.world.guards.handle_failure(attempt, now);
            } else if self.world.built(attempt) == GuardUsability::Now {
                carries = Some(id);
            }
            while let Some(event) = self.world.event() {
                if let GuardEvent::Usable(attempt) = event {
                    carries = begun.get(&attempt).copied();
                }
            }
            if carries.is_some() {
                break;
            }
        }
        for attempt in begun.into_keys() {
            self.world.guards.handle_end(attempt);
        }
        carries
    }

    fn first(&self) -> RsaId {
        self.world.guards.primary()[0]
    }
}

/// Every fifth relay is the adversary's.
fn is_evil(id: &RsaId) -> bool {
    id.as_bytes()[1].is_multiple_of(5)
}

#[test]
fn a_firewall_that_lets_only_the_adversary_through() {
    let mut client = Client::new();
    let first = client.first();
    let mut used = BTreeSet::new();
    for _ in 0..3 * 24 * 12 {
        client.world.wait(300);
        used.extend(client.circuit(is_evil));
        assert!(client.world.guards.len() <= 60);
    }
    assert!(used.iter().all(is_evil) && !used.is_empty());
    assert!(client.touched.len() <= 60, "{}", client.touched.len());
    // He gets no more than he would have: those of his that the sample held.
    assert!(used.len() <= 3, "{used:?}");
    // The firewall is gone: back to the first guard as soon as it is tried again.
    let mut minutes = 0;
    if !is_evil(&first) {
        while client.circuit(|_| true) != Some(first) {
            client.world.wait(60);
            minutes += 1;
        }
    }
    assert!(minutes <= 90, "{minutes}");
}

#[test]
fn guards_that_are_killed_one_by_one() {
    let mut client = Client::new();
    let mut killed: BTreeSet<RsaId> = BTreeSet::new();
    for _ in 0..5000 {
        if let Some(used) = client.circuit(|id| !killed.contains(id)) {
            killed.insert(used);
        }
        client.world.wait(600);
        assert!(client.world.guards.len() <= 60);
    }
    // Whoever kills guards gets at the sample's limit, and no further.
    assert_eq!(killed.len(), 60);
    assert_eq!(client.touched, killed);
    // They are all up again: traffic goes over the first ones.
    client.world.wait(9 * 3600);
    let primary = client.world.guards.primary().to_vec();
    assert_eq!(client.circuit(|_| true), Some(primary[0]));
}

#[test]
fn a_captive_portal_moves_nobody() {
    let mut client = Client::new();
    let (first, confirmed) = (client.first(), client.world.confirmed());
    for hours in [1, 5, 30, 200] {
        for _ in 0..hours * 60 {
            client.world.wait(60);
            assert_eq!(client.circuit(|_| false), None);
        }
        assert!(client.world.guards.len() <= 60);
        client.world.wait(60);
        // Up again: at the first circuits that are wanted, and over the same guard.
        let mut used = None;
        for _ in 0..3 {
            used = used.or(client.circuit(|_| true));
        }
        assert_eq!(used, Some(first), "after {hours} hours");
        assert_eq!(client.world.confirmed(), confirmed);
    }
}

#[test]
fn a_laptop_that_sleeps_for_a_day() {
    let mut client = Client::new();
    let first = client.first();
    client.circuit(|_| false);
    let before = client.world.sampled();
    // The monotonic clock stands still.
    client.world.now.wall += Duration::from_secs(86_400);
    client.world.consensus(candidates(NETWORK));
    assert_eq!(client.circuit(|_| true), Some(first));
    assert!(client.world.sampled().starts_with(&before));
}

#[test]
fn clocks_that_jump_by_an_hour() {
    let hour = Duration::from_secs(3600);
    let mut client = Client::new();
    let (first, before) = (client.first(), client.world.sampled());
    for back in [false, true, true, false] {
        match back {
            true => client.world.now.wall -= hour,
            false => client.world.now.wall += hour,
        }
        client.world.consensus(candidates(NETWORK));
        assert_eq!(client.circuit(|_| true), Some(first));
        // A guard that fails is tried again within ten minutes all the same.
        client.world.fail(first);
        let second = client.circuit(|_| true);
        assert!(second.is_some());
        client.world.wait(600);
        assert_eq!(client.circuit(|_| true), Some(first));
    }
    assert_eq!(client.world.sampled(), before);
}

#[test]
fn a_clock_that_was_years_ahead_leaves_no_eternal_guard() {
    let mut world = world(200);
    let first = world.best();
    world.now.wall += 1000 * Duration::from_secs(86_400);
    world.succeed(first);
    world.consensus(candidates(200));
    world.now.wall -= 1000 * Duration::from_secs(86_400);
    let back = world.now.wall;
    for _ in 0..130 {
        world.wait(86_400);
        world.consensus(candidates(200));
    }
    // It may have been drawn again, but has not stayed.
    let statuses = world.guards.statuses();
    let again = statuses.iter().find(|one| one.rsa == first);
    assert!(again.is_none_or(|one| one.sampled_on > back));
}

#[test]
fn the_state_survives_any_instant() {
    let mut client = Client::new();
    let mut killed: BTreeSet<RsaId> = BTreeSet::new();
    for round in 0..200_u64 {
        let used = client.circuit(|id| !killed.contains(id));
        killed.extend(used.filter(|_| round.is_multiple_of(20)));
        client.world.wait(3600);
        let (sampled, confirmed) = (client.world.sampled(), client.world.confirmed());
        let text = client.world.guards.encode();
        client.world.guards = Guards::parse(&text, GuardParams::default()).unwrap();
        client.world.consensus(candidates(NETWORK));
        assert_eq!(client.world.sampled()[..sampled.len()], sampled);
        assert_eq!(client.world.confirmed(), confirmed);
    }
}
