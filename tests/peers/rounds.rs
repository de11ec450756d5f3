//! Relays of ours in a network of `tor`, through an hour of accelerated rounds: 240 consensuses.
//!
//! A day of keys is 40 s here, so that onion keys are rotated each 112 rounds and signing keys
//! each 60. Takes 40 minutes, so it is run by hand:
//! `cargo test -p cepa --test peers -- --ignored --nocapture rounds`; `ROUNDS` says otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::documents::{Seen, read, seconds_of_day};
use crate::support::fetch::{self, document};
use crate::support::{server, until};
use crate::tor::is_tor_here;
use crate::world::{INTERVAL_SECS, World};

/// Rounds unless told otherwise.
const ROUNDS: u64 = 240;
/// Between two fetches through our relays.
const ROUNDS_PER_FETCH: u64 = 10;
/// How late a consensus may be.
const LATE_MAX: Duration = Duration::from_secs(60);
/// Seconds of a day of keys, of which an onion key lasts 28 and a signing key 15.
const KEY_DAY_SECS: u64 = 40;

#[test]
#[ignore = "takes 40 minutes: 240 consensuses of tor, while keys are rotated"]
fn relays_of_ours_stay_through_rounds_of_tor() {
    if !is_tor_here() {
        return;
    }
    let rounds = std::env::var("ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let args = "--authorities 0 --relays 0 --exits 0 --clients 0 \
                --with tor:authority=3,tor:relay=3,tor:exit=1";
    let args: Vec<_> = args.split_whitespace().collect();
    let world = World::up(dir.path(), "", &args);
    let day = format!("key_day_secs = {KEY_DAY_SECS}");
    let exit = format!("{day}\nexit_policy = [\"accept *:*\"]");
    let _relay = world.relay("ourrelay", 101, &day);
    let _exit = world.relay("ourexit", 102, &exit);
    let mut before = world.wait_for(2);
    let pins = "EntryNodes torrelay1\nMiddleNodes ourrelay\nExitNodes ourexit";
    let (_tor, socks) = world.tor_client("client", 0, pins);
    let server = server::start();

    let ids = ["ourrelay", "ourexit"].map(|name| world.fingerprint(name));
    let (mut onion, mut signing) = (BTreeSet::new(), BTreeSet::new());
    for round in 1..=rounds {
        let (seen, text) = next(&world, &before);
        let passed = seconds_of_day(&seen.valid_after) + 86_400;
        let passed = (passed - seconds_of_day(&before.valid_after)) % 86_400;
        if passed != INTERVAL_SECS {
            // Authorities of a busy machine may miss a round, without any doing of ours.
            println!("round {round}: {passed} s after {}", before.valid_after);
        }
        for name in ["ourrelay", "ourexit"] {
            let entry = text.split("\nr ").find(|entry| entry.starts_with(name));
            let entry = entry.unwrap_or_else(|| panic!("round {round}: {name} is not there"));
            let flags = entry.lines().find(|line| line.starts_with("s ")).unwrap();
            for flag in [" Running", " Valid"] {
                assert!(flags.contains(flag), "round {round}: {name}: {flags}");
            }
        }
        for id in &ids {
            let path = format!("/tor/server/fp/{id}");
            let desc = document(world.dirs()[0], &path).unwrap();
            onion.insert(line_of(&desc, "ntor-onion-key "));
        }
        // `tor`'s authorities keep a descriptor for hours that differs in nothing else.
        for name in ["ourrelay", "ourexit"] {
            let cert = world.folder(name).join("keys/ed25519_signing_cert");
            signing.insert(std::fs::read(cert).unwrap());
        }
        if round % ROUNDS_PER_FETCH == 0 {
            let fetched = fetch::get(socks, server, "/bytes/100000").unwrap();
            assert_eq!(fetched.sha256, server::sha256_of(100_000));
            println!(
                "round {round}: {} onion, {} signing keys",
                onion.len(),
                signing.len()
            );
        }
        before = seen;
    }
    let days = rounds * INTERVAL_SECS / KEY_DAY_SECS;
    let least = |life: u64| usize::try_from(2 * (1 + days / life)).unwrap() - 1;
    assert!(onion.len() >= least(28), "{} onion keys", onion.len());
    assert!(signing.len() >= least(15), "{} signing keys", signing.len());
    let complaints = world.complaints(&[("ourrelay", 101), ("ourexit", 102)]);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn next(world: &World, before: &Seen) -> (Seen, String) {
    until(LATE_MAX, "the next consensus", || {
        let text = document(world.dirs()[0], "/tor/status-vote/current/consensus")?;
        let seen = read(&text)?;
        (seen.valid_after > before.valid_after).then_some((seen, text))
    })
}

/// What follows these words, to the end of the line.
fn line_of(text: &str, words: &str) -> String {
    let (_, rest) = text.split_once(words).unwrap();
    rest.lines().next().unwrap().to_owned()
}
