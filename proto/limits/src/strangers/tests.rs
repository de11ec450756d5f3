//! The doors together: what is remembered, who is exempt, what a dry run does.

use std::time::Duration;

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

const OR_PORT: Door = Door(0);
const DIR_PORT: Door = Door(1);
const START: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "any instant is as good")]
fn now() -> Instant {
    Instant::now() + START
}

fn strangers(total: usize, now: Instant) -> Strangers {
    let door = |is_or_port| DoorRules {
        places: PlaceLimits::shared(total),
        is_or_port,
    };
    let requests = Rate::new(1, 10);
    Strangers::new(
        &[door(true), door(false)],
        requests,
        Rng::from_seed([3; 32]),
        now - START,
    )
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn with_connection_rules(mut all: Strangers) -> Strangers {
    all.set_dos(DosParams::read(|name, default, min, max| match name {
        "DoSConnectionEnabled" => 1,
        _ => default.clamp(min, max),
    }));
    all
}

#[test]
fn a_punishment_outlives_the_connection() {
    let now = now();
    let mut all = with_connection_rules(strangers(10_000, now));
    let attacker = ip("192.0.2.1");
    let connect = |all: &mut Strangers, from, now| {
        let entered = all.enter(OR_PORT, from, now);
        if let Ok(entered) = &entered {
            all.leave(OR_PORT, from, entered.ticket, now);
        }
        entered.is_ok()
    };
    let taken = (0..100)
        .filter(|_| connect(&mut all, attacker, now))
        .count();
    assert_eq!(taken, 40);
    assert_eq!(all.dos_counts().number(DosRule::ConnRejected), 60);
    assert!(all.live.is_empty());
    let hour = Duration::from_secs(3600);
    assert!(!connect(&mut all, attacker, now + 20 * hour));
    assert!(connect(&mut all, attacker, now + 36 * hour));
    assert!(
        connect(&mut all, ip("192.0.2.2"), now),
        "his neighbour did nothing"
    );
    assert!(
        all.enter(DIR_PORT, attacker, now).is_ok(),
        "it is a rule of the OR port"
    );
}

#[test]
fn open_links_of_one_address_are_bounded_but_for_relays() {
    let now = now();
    let mut all = with_connection_rules(strangers(100_000, now));
    let from = ip("192.0.2.1");
    for n in 0..100_u32 {
        let later = now + Duration::from_secs(n.into());
        all.enter(OR_PORT, from, later)
            .unwrap()
            .account
            .unwrap()
            .opened();
    }
    let later = now + Duration::from_secs(100);
    let rule = DosRule::ConcurrentConnRejected;
    assert_eq!(
        all.enter(OR_PORT, from, later).unwrap_err(),
        Denied::Dos(rule)
    );
    all.set_known(from);
    assert!(all.is_known(from.unwrap()) && all.enter(OR_PORT, from, later).is_ok());
    all.set_known(None);
    all.dos.is_dry_run = true;
    assert!(all.enter(OR_PORT, from, later).is_ok());
    assert_eq!(all.dos_counts().number(rule), 2);
}

#[test]
fn requests_of_one_address_are_bounded() {
    let now = now();
    let mut all = strangers(100, now);
    let from = ip("2001:db8::1");
    let entered = all.enter(DIR_PORT, from, now).unwrap();
    let ask = |all: &mut Strangers, now| all.take_request(from.unwrap(), now);
    assert_eq!((0..20).filter(|_| ask(&mut all, now)).count(), 10);
    all.leave(DIR_PORT, from, entered.ticket, now);
    all.enter(DIR_PORT, from, now).unwrap();
    assert!(!ask(&mut all, now), "it is remembered");
    assert!(ask(&mut all, now + Duration::from_secs(1)));
    all.set_known(from);
    assert_eq!((0..20).filter(|_| ask(&mut all, now)).count(), 20);
}

#[test]
fn for_want_of_descriptors_the_other_door_gives_up_one() {
    let now = now();
    let mut all = strangers(100, now);
    assert_eq!((all.starved(OR_PORT), all.relieve(OR_PORT)), (1, None));
    let resting = all.enter(DIR_PORT, ip("192.0.2.1"), now).unwrap().ticket;
    assert_eq!(all.relieve(OR_PORT), Some((DIR_PORT, resting)));
    let counts = all.door_counts();
    assert_eq!(
        (counts[0].starved, counts[1].evicted, counts[1].inside),
        (1, 1, 0)
    );
    all.leave(DIR_PORT, ip("192.0.2.1"), resting, now);
    assert!(all.live.is_empty());
}

proptest! {
    /// Comings and goings of many leave nothing behind, and memory stays within its bounds.
    #[test]
    fn nothing_is_left_behind(
        steps in prop::collection::vec((any::<bool>(), 0_usize..2, 0_u8..6, 0_u8..6), 1..300),
    ) {
        let now = now();
        let mut all = strangers(48, now);
        let mut inside = Vec::new();
        for (comes, door, net, host) in steps {
            let (door, from) = (Door(door), ip(&format!("192.0.{net}.{host}")));
            if comes {
                if let Ok(entered) = all.enter(door, from, now) {
                    inside.push((door, from, entered.ticket));
                }
            } else if !inside.is_empty() {
                let (door, from, ticket) = inside.remove(usize::from(net) % inside.len());
                all.leave(door, from, ticket, now);
            }
            let known: usize = all.door_counts().iter().map(|it| it.inside).sum();
            prop_assert!(known <= 96 && known <= inside.len());
            let live: usize = all.live.iter().filter(|it| it.0.prefix() != *it.0)
                .map(|it| it.1.connections).sum();
            prop_assert_eq!(live, inside.len());
        }
        for (door, from, ticket) in inside {
            all.leave(door, from, ticket, now);
        }
        prop_assert!(all.live.is_empty());
        prop_assert!(all.door_counts().iter().all(|it| it.inside == 0));
    }
}
