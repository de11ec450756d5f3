//! Files as `tor` 0.4.9.11 writes them.

use super::*;
use std::time::{Duration, UNIX_EPOCH};

const STABILITY: &str = "format 2
stored-at 2026-11-29 12:00:00
tracked-since 2026-11-20 00:00:00
last-downrated 2026-11-29 06:00:00
data
R CDB615CAC9703FBDD45AB1CB1A4F535F48CB8A85
+MTBF 3600 2.00000 S=2026-11-29 11:00:00
+WFU 3600 7200
R 1C0EAF103F5F9E088DE74129705986764AA7B13F
+MTBF 7200 1.00000
+WFU 7200 7200 S=2026-11-29 10:00:00
R E5CBD28EAB3857976CE065CA2A438EA159381AE9
+MTBF x y
+WFU -1 inf
+NEW 1 2
R nobody
+MTBF 1 1
.

";

fn at(text: &str) -> SystemTime {
    timestamp::parse(text).unwrap()
}

fn history(rows: &[Row], id: &str) -> History {
    let row = rows.iter().find(|row| row.key == id).unwrap();
    History::parse(std::str::from_utf8(&row.bytes).unwrap()).unwrap()
}

#[test]
fn a_history_goes_on_where_tor_left_it() {
    let rows = histories(STABILITY);
    assert_eq!(rows.len(), 3);
    let hour = Duration::from_secs(3600);
    // Moved three hours later: that time is nobody's.
    let now = at("2026-11-29 15:00:00") + hour;
    let resumed = |id| {
        let mut history = history(&rows, id);
        history.resume(at("2026-11-29 15:00:00"));
        history
    };
    let up = resumed("CDB615CAC9703FBDD45AB1CB1A4F535F48CB8A85");
    let stats = up.stats(now);
    assert_eq!(stats.time_known_seconds, 4 * 3600);
    assert!((stats.wfu - 0.75).abs() < 1e-9, "{stats:?}");
    assert!((stats.mtbf_seconds - 3600.0).abs() < 1e-9, "{stats:?}");
    assert_eq!(up.uptime_seconds(now), 2 * 3600);
    assert_eq!(up.discounted, at("2026-11-29 06:00:00"));
    let down = resumed("1C0EAF103F5F9E088DE74129705986764AA7B13F");
    let stats = down.stats(now);
    assert_eq!(stats.time_known_seconds, 5 * 3600);
    assert!((stats.wfu - 0.4).abs() < 1e-9, "{stats:?}");
    assert_eq!(down.uptime_seconds(now), 0);
    let odd = resumed("E5CBD28EAB3857976CE065CA2A438EA159381AE9");
    assert_eq!(odd.stats(now).time_known_seconds, 0);
    for text in ["", "data\n", "stored-at soon\ndata\nR 1\n", "\ndata\n"] {
        assert!(histories(text).is_empty(), "{text}");
    }
}

#[test]
fn keys_stay_bound_to_each_other() {
    let journal = "\n@opened-at 2026-11-29 12:46:16\n# a comment\n\
        0XjYXiE44esnji5Ti14dHaa+ms4 qneRNdxBx7QCIzjnQLYNbe8cX6bcTDNrwYEWO/cYNcs\n\
        5cvSjqs4V5ds4GXKKkOOoVk4Guk o1N0tUotpNZBMzWruKu20EDH5MWW5WMtZVI7SphZAkk\n\
        TL+flQaIU+3leqh0TnRPSpvknTg qneRNdxBx7QCIzjnQLYNbe8cX6bcTDNrwYEWO/cYNcs\n\
        5cvSjqs4V5ds4GXKKkOOoVk4Guk frEpWkIyRHTKzuRKvmfs3U7l0RoTnM+0UGhgcTmCcA8\n\
        short line\n";
    let rows = key_pins(journal);
    let held: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row.key.as_str(), std::str::from_utf8(&row.bytes).unwrap()))
        .collect();
    // The last word on a key counts.
    let wanted = [
        (
            "4CBF9F95068853EDE57AA8744E744F4A9BE49D38",
            "qneRNdxBx7QCIzjnQLYNbe8cX6bcTDNrwYEWO/cYNcs",
        ),
        (
            "E5CBD28EAB3857976CE065CA2A438EA159381AE9",
            "frEpWkIyRHTKzuRKvmfs3U7l0RoTnM+0UGhgcTmCcA8",
        ),
    ];
    assert_eq!(held, wanted);
}

#[test]
fn a_run_of_shared_randomness_goes_on() {
    let own = RsaId::from([1; 20]);
    let other = RsaId::from([2; 20]);
    let zeros = "A".repeat(43) + "=";
    let state = format!(
        "# Tor shared random state file last generated on 2026-11-29 12:47:25 local time\n\n\
         Commit 1 sha3-256 {own} COMMIT REVEAL\nCommit 1 sha3-256 {other} THEIRS\n\
         Commit 2 sha3-256 {other} NEW\nCommit 1 sha3-256 nobody X\n\
         SharedRandCurrentValue 3 {zeros}\nSharedRandPreviousValue x {zeros}\n\
         TorVersion 0.4.9.11\nValidAfter 2026-11-29 12:00:00\n\
         ValidUntil 2026-11-30 00:00:00\nVersion 1\n"
    );
    let timing = Timing::hourly();
    let rows = shared_random(&state, own, &timing);
    let text = String::from_utf8(rows[0].bytes.clone()).unwrap();
    let mut read = SharedRandom::parse(&text);
    let start = at("2026-11-29 13:00:00");
    let mut rng = cepa_crypto::Rng::from_seed([1; 32]);
    read.advance(start, &timing, own, &mut rng);
    let vote = read.vote(start, &timing, own);
    assert_eq!(vote.commits.len(), 2);
    let ours = vote.commits.iter().find(|one| one.identity == own).unwrap();
    // It is the second half of the day: our number is shown.
    assert_eq!(
        (ours.commit.as_str(), ours.reveal.as_deref()),
        ("COMMIT", Some("REVEAL"))
    );
    let theirs = vote
        .commits
        .iter()
        .find(|one| one.identity == other)
        .unwrap();
    assert_eq!(
        (theirs.commit.as_str(), theirs.reveal.as_deref()),
        ("THEIRS", None)
    );
    assert_eq!(vote.current.map(|value| value.reveals), Some(3));
    assert_eq!(vote.previous, None);
    assert!(shared_random("Version 1\n", own, &timing).is_empty());
    assert!(start > UNIX_EPOCH);
}
