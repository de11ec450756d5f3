//! Authorities of ours and of `tor` vote together: ten rounds in a row one consensus in each
//! flavour, the same bytes at all four, with the signatures of all four.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::time::Duration;

use crate::matrix::{Board, Column, VOTING, message};
use crate::support::documents::{read, seconds_of_day};
use crate::support::fetch::document;
use crate::support::until;
use crate::world::World;

/// Rounds in a row.
const ROUNDS: usize = 10;
/// Seconds of a round, of which votes have a fifth. With half of that a busy machine may make `tor`
/// post a vote too late, and warn of the answer.
const INTERVAL_SECS: u64 = 20;
/// How long the next consensus may take until all authorities have it with all signatures.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// The two cells of mixed voting: it is the same in both directions.
pub(crate) fn run(board: &Board) {
    let voted = catch_unwind(vote);
    for column in [Column::OursAmongTheirs, Column::TheirsAmongOurs] {
        board.cell(VOTING, column, || match &voted {
            Ok(()) => {}
            Err(panic) => panic!("{}", message(panic.as_ref())),
        });
    }
}

fn vote() {
    let dir = tempfile::tempdir().unwrap();
    let interval = INTERVAL_SECS.to_string();
    let args = "--authorities 2 --relays 0 --exits 1 --clients 1 \
                --with tor:authority=2,tor:exit=1,tor:client=1 --interval";
    let args: Vec<_> = args.split_whitespace().chain([&*interval]).collect();
    let mut world = World::up(dir.path(), "", &args);
    let mut before = String::new();
    for round in 0..=ROUNDS {
        let after = agreed(&world.dirs(), &before);
        // The round that the launcher waited for may have been the first, or not.
        if round > 0 {
            let passed = seconds_of_day(&after) + 86_400 - seconds_of_day(&before);
            assert_eq!(passed % 86_400, INTERVAL_SECS, "{before}, then {after}");
        } else {
            world.settle();
        }
        before = after;
    }
    println!("{ROUNDS} rounds in a row up to {before}");
    let complaints = world.complaints(&[]);
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// The start of the first consensus after `before` on which all agree, in both flavours.
fn agreed(dirs: &[SocketAddr], before: &str) -> String {
    let flavours = ["consensus", "consensus-microdesc"];
    let [start, other] = flavours.map(|flavour| {
        let path = format!("/tor/status-vote/current/{flavour}");
        until(ROUND_MAX, &format!("one {flavour} after {before}"), || {
            let texts = dirs.iter().map(|dir| document(*dir, &path));
            let texts: Vec<_> = texts.collect::<Option<_>>()?;
            let seen: Vec<_> = texts.iter().filter_map(|text| read(text)).collect();
            let is_next = |start: &str| start > before;
            let all_signed = seen.iter().all(|one| one.signers.len() == dirs.len());
            let starts: BTreeSet<_> = seen.iter().map(|one| &one.valid_after).collect();
            let one_start = starts.len() == 1 && seen.len() == dirs.len();
            let is_there = one_start && all_signed && is_next(&seen.first()?.valid_after);
            let bodies: BTreeSet<_> = texts.iter().map(|text| signed_part(text)).collect();
            // Two bodies of one start are what must never be.
            assert!(!one_start || bodies.len() == 1, "{bodies:#?}");
            is_there.then(|| seen[0].valid_after.clone())
        })
    });
    assert_eq!(start, other, "flavours of one round");
    start
}

/// What the signatures are on.
fn signed_part(text: &str) -> &str {
    text.split_once("\ndirectory-signature ").unwrap().0
}
