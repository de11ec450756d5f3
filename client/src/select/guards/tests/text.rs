//! The state as text, and what the operator is told.

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;

#[test]
fn damaged_states_are_named() {
    let mut world = world(5);
    let first = world.best();
    world.succeed(first);
    let text = world.guards.encode();
    let parse = |text: &str| {
        let guards = Guards::parse(text, GuardParams::default());
        guards.map(|guards| guards.len())
    };
    assert_eq!(parse(&text), Ok(5));
    assert_eq!(parse(""), Ok(0));
    assert_eq!(parse("# a comment\n"), Ok(0));
    assert_eq!(parse("nonsense"), Err(GuardStateError::Line(1)));
    let lines: Vec<&str> = text.lines().collect();
    let twice = format!("{text}{}\n", lines[0]);
    assert_eq!(parse(&twice), Err(GuardStateError::Twice(6)));
    assert_eq!(
        parse(&text.replace("sampled_on=20", "sampled_on=x")),
        Err(GuardStateError::Line(1))
    );
    assert_eq!(
        parse(&text.replace(" listed=1", " listed=7")),
        Err(GuardStateError::Line(1))
    );
    for cut in 1..lines[0].len() {
        let _ = parse(&text[..cut]);
    }
}

/// A line as `tor` 0.4.8 writes it.
const OF_TOR: &str = "Guard in=default rsa_id=9695DFC35FFEB861329B9F1AB04C46397020CE31 \
    nickname=moria1 sampled_on=2026-10-27T09:12:51 sampled_idx=0 sampled_by=0.4.8.10 listed=1 \
    confirmed_on=2026-10-30T21:00:00 confirmed_idx=0 pb_use_attempts=2.000000 \
    pb_use_successes=2.000000 pb_circ_attempts=3.000000\n";

#[test]
fn lines_of_tor_are_read_and_kept() {
    let guards = Guards::parse(OF_TOR, GuardParams::default()).unwrap();
    assert_eq!(guards.encode(), OF_TOR);
    let told = guards.statuses()[0].to_string();
    assert_eq!(
        told,
        "moria1 (9695DFC35FFEB861329B9F1AB04C46397020CE31): in use as primary guard 1; \
         drawn about 2026-10-27 09:12, carries traffic since about 2026-10-30 21:00"
    );
}

#[test]
fn the_operator_is_told() {
    let mut world = world(40);
    let first = world.best();
    world.succeed(first);
    world.fail(first);
    let statuses = world.guards.statuses();
    assert_eq!(statuses.len(), 20);
    assert!(!statuses[0].is_in_use && statuses[1].is_in_use);
    assert!(statuses[0].to_string().contains("not reachable since 20"));
    assert!(
        statuses[19]
            .to_string()
            .contains(": in reserve; drawn about")
    );
    world.wait(140 * 86_400);
    world.consensus(candidates(40));
    let told = world.guards.departures().next().unwrap().to_string();
    assert!(told.ends_with("its time was over"), "{told}");
    assert_eq!(world.guards.departures().count(), 20);
    let read = Guards::parse(&world.guards.encode(), GuardParams::default()).unwrap();
    assert_eq!(read.encode(), world.guards.encode());
}

proptest! {
    /// Whatever happens: the state round-trips, the sample stays within its bounds, and no guard
    /// leaves it for having failed.
    #[test]
    fn any_history(seed: [u8; 32], steps in prop::collection::vec(0_u8..7, 1..60)) {
        let mut world = world(60);
        world.rng = Rng::from_seed(seed);
        let mut listed = candidates(60);
        for step in steps {
            let before = world.sampled();
            match step {
                0 | 1 => { let best = world.best(); world.fail(best); }
                2 => { let best = world.best(); world.succeed(best); }
                3 => { let best = world.best(); world.begin(best); }
                4 => world.wait(300),
                5 => {
                    crate::select::shuffle(&mut listed, &mut world.rng);
                    world.consensus(listed[..50].to_vec());
                }
                _ => world.consensus(candidates(60)),
            }
            while world.event().is_some() {}
            prop_assert!(world.sampled().starts_with(&before));
            prop_assert!(world.guards.len() <= 20);
            prop_assert!(world.guards.primary().len() <= 3);
            prop_assert!(!world.ranked(GuardUse::Data).is_empty());
            let text = world.guards.encode();
            let read = Guards::parse(&text, GuardParams::default()).unwrap();
            prop_assert_eq!(read.encode(), text);
        }
    }

    #[test]
    fn any_text_is_survived(
        text in "((Guard|Departed) ([a-z_]{1,10}=[0-9A-F:T-]{0,40} ?){0,3}\n){0,4}|\\PC{0,80}"
    ) {
        let _ = Guards::parse(&text, GuardParams::default());
    }
}
