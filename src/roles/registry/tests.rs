//! Who gets which channel, who waits for which, and how many strangers make us open.

use cepa_relay::LinkTarget;

use super::*;

const REAL: &str = "198.51.100.1:9001";
const PROXY: &str = "203.0.113.66:443";

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
fn start() -> (Registry, Instant) {
    let now = Instant::now();
    (Registry::new(now), now)
}

fn target(ed: Option<u8>, addr: &str) -> LinkTarget {
    LinkTarget {
        rsa: RsaId::from([1; 20]),
        ed: ed.map(|byte| Ed25519Id::from([byte; 32])),
        addrs: [addr.parse().unwrap()].into_iter().collect(),
        is_listed: addr == REAL,
        asker: ChannelKey::default(),
    }
}

fn waiter(worker: u8) -> Waiter {
    (WorkerId(worker), CircuitKey::default())
}

fn place(worker: u8) -> Place {
    (WorkerId(worker), ChannelKey::default())
}

fn link(addr: &str, is_canonical: bool, worker: u8) -> Opened {
    let addr: SocketAddr = addr.parse().unwrap();
    Opened {
        peer: PeerIdentity {
            rsa: RsaId::from([1; 20]),
            ed: Ed25519Id::from([2; 32]),
        },
        address: addr.ip(),
        is_canonical,
        place: place(worker),
    }
}

fn missing(found: Found) -> Attempt {
    match found {
        Found::Missing(attempt) => attempt,
        other => panic!("{other:?}"),
    }
}

fn open(found: Found) -> Place {
    match found {
        Found::Open(place) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_is_opened_once_for_all_who_want_the_same() {
    let (registry, now) = start();
    let attempt = missing(registry.find(&target(Some(2), REAL), waiter(0), now));
    let same = registry.find(&target(Some(2), REAL), waiter(1), now);
    assert!(matches!(same, Found::Waiting));
    let news = registry.opened(link(REAL, true, 1), Some(&attempt));
    assert_eq!(news.waiters, [waiter(0), waiter(1)]);
    let found = registry.find(&target(Some(2), REAL), waiter(1), now);
    assert_eq!(open(found), place(1));
    // Another Ed25519 identity is another relay.
    let other = missing(registry.find(&target(Some(3), REAL), waiter(1), now));
    assert_eq!(registry.failed(&other), [waiter(1)]);
    registry.closed(RsaId::from([1; 20]), place(0));
    assert_eq!(
        open(registry.find(&target(None, REAL), waiter(0), now)),
        place(1)
    );
    registry.closed(RsaId::from([1; 20]), place(1));
    let attempt = missing(registry.find(&target(None, REAL), waiter(0), now));
    assert_eq!(registry.failed(&attempt), [waiter(0)]);
    assert!(registry.lock().relays.is_empty());
}

#[test]
fn nobody_chooses_the_way_of_another() {
    let (registry, now) = start();
    // The attacker's comes first: neither waited for, nor shared when it is open.
    let proxied = missing(registry.find(&target(Some(2), PROXY), waiter(0), now));
    let honest = missing(registry.find(&target(Some(2), REAL), waiter(1), now));
    let news = registry.opened(link(PROXY, false, 5), Some(&proxied));
    assert_eq!(news.waiters, [waiter(0)]);
    let found = registry.find(&target(Some(2), REAL), waiter(2), now);
    assert!(matches!(found, Found::Waiting));
    // Who asks for that way gets it.
    let again = registry.find(&target(Some(2), PROXY), waiter(3), now);
    assert_eq!(open(again), place(5));
    // The true one is better for all, and the other ends when it is idle.
    let news = registry.opened(link(REAL, true, 6), Some(&honest));
    assert_eq!(news.waiters, [waiter(1), waiter(2)]);
    assert_eq!(news.retired, [place(5)]);
    for addr in [REAL, PROXY] {
        let found = registry.find(&target(Some(2), addr), waiter(4), now);
        assert_eq!(open(found), place(6));
    }
}

#[test]
fn a_canonical_link_of_the_peers_ends_the_wait() {
    let (registry, now) = start();
    let mut attempt = missing(registry.find(&target(Some(2), PROXY), waiter(0), now));
    let news = registry.opened(link(REAL, true, 6), None);
    assert_eq!(news.waiters, [waiter(0)]);
    assert!(attempt.given_up.try_recv().is_err(), "not given up");
    assert_eq!(registry.failed(&attempt), []);
    // A younger one beside it ends when it is idle, and one from elsewhere, too.
    assert_eq!(
        registry.opened(link(REAL, true, 7), None).retired,
        [place(7)]
    );
    assert_eq!(
        registry.opened(link(PROXY, false, 8), None).retired,
        [place(8)]
    );
}

#[test]
fn what_nobody_waits_for_is_given_up() {
    let (registry, now) = start();
    let mut attempt = missing(registry.find(&target(Some(2), REAL), waiter(0), now));
    registry.find(&target(Some(2), REAL), waiter(1), now);
    registry.unwanted(attempt.rsa, waiter(0));
    assert_eq!(
        attempt.given_up.try_recv(),
        Err(oneshot::error::TryRecvError::Empty)
    );
    registry.unwanted(attempt.rsa, waiter(1));
    assert_eq!(
        attempt.given_up.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    );
    assert!(registry.lock().relays.is_empty());
}

#[test]
fn strangers_open_so_many_and_the_listed_ones_all_the_same() {
    let (registry, now) = start();
    let mut attempts = Vec::new();
    let mut refused = 0;
    for number in 0..400_u16 {
        // Of many channels, to many addresses.
        let addr = format!("203.0.{}.{}:443", number / 250, number % 250);
        match registry.find(&target(Some(2), &addr), waiter((number / 10) as u8), now) {
            Found::Missing(attempt) => attempts.push(attempt),
            Found::TooMany => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (attempts.len(), refused),
        (UNLISTED_MAX, 400 - UNLISTED_MAX)
    );
    let listed = missing(registry.find(&target(Some(2), REAL), waiter(0), now));
    for attempt in attempts.iter().chain([&listed]) {
        registry.failed(attempt);
    }
    // In time, too: what was opened and failed at once counts.
    let again = |number: u16, now| {
        let addr = format!("203.0.113.{}:443", number % 250);
        let found = registry.find(&target(Some(2), &addr), waiter(number as u8), now);
        match found {
            Found::Missing(attempt) => !registry.failed(&attempt).is_empty(),
            _ => false,
        }
    };
    let more = (0..400).filter(|number| again(*number, now)).count();
    assert_eq!(
        more,
        usize::try_from(UNLISTED_BURST).unwrap() - UNLISTED_MAX
    );
    let later = now + std::time::Duration::from_secs(1);
    let more = (0..400).filter(|number| again(*number, later)).count();
    assert_eq!(more, usize::try_from(UNLISTED_PER_SECOND).unwrap());
    let ways = registry.lock();
    assert!(ways.unlisted == 0 && ways.unlisted_to.is_empty() && ways.unlisted_of.is_empty());
}

#[test]
fn one_address_and_one_channel_have_their_share() {
    let (registry, now) = start();
    let find = |addr: String, worker| {
        let found = registry.find(&target(Some(2), &addr), waiter(worker), now);
        matches!(found, Found::Missing(_))
    };
    let one = (0..40)
        .filter(|n| find(format!("203.0.113.66:{}", 1 + n), *n))
        .count();
    assert_eq!(one, UNLISTED_PER_ADDRESS_MAX);
    let one = (0..40)
        .filter(|n| find(format!("203.0.113.{n}:9"), 100))
        .count();
    assert_eq!(one, UNLISTED_PER_CHANNEL_MAX);
}
