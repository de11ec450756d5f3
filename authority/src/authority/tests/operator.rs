//! What an operator says of relays, and what a scanner measures, all the way to the consensus.

use std::sync::Arc;

use super::*;
use crate::bandwidth::FileError;
use crate::rules::{Rule, Rules, Verdict};

fn rsa(relay: usize) -> RsaId {
    RELAY_KEYS[relay].identity.public().id()
}

/// A round after all authorities were told the same.
fn round(world: &mut World, tell: impl Fn(&mut Authority, Now)) -> Arc<Consensus> {
    let now = world.now();
    for index in 0..3 {
        world.with(index, |authority| tell(authority, now));
    }
    world.settle();
    world.run_until(world.millis + 20_000);
    Arc::clone(world.consensus(0, Flavour::Ns).consensus())
}

#[test]
fn rules_hold_from_the_next_vote_on() {
    let mut world = booted();
    let said = [
        (0, Verdict::BadExit),
        (0, Verdict::StripGuard),
        (1, Verdict::Reject),
        (2, Verdict::MiddleOnly),
        (3, Verdict::StripHsDir),
        (3, Verdict::StripV2Dir),
    ];
    let mut rules = Rules::default();
    for (relay, verdict) in said {
        rules.push(Rule {
            subject: format!("{}/32", address(relay)).parse().unwrap(),
            verdict,
            comment: String::new(),
        });
    }
    let consensus = round(&mut world, |authority, now| {
        let rules = rules.clone();
        authority.set_config(Config { rules, ..config() }, now);
    });
    let flags = |relay| consensus.router(&rsa(relay)).map(|router| router.flags);
    let has = |relay, flag| flags(relay).is_some_and(|flags| flags.contains(flag));
    assert!(has(0, Flags::BAD_EXIT) && !has(0, Flags::GUARD) && has(0, Flags::HS_DIR));
    assert_eq!(flags(1), None);
    assert!(has(2, Flags::MIDDLE_ONLY) && !has(2, Flags::GUARD) && !has(2, Flags::HS_DIR));
    assert!(has(3, Flags::GUARD) && !has(3, Flags::HS_DIR) && !has(3, Flags::V2_DIR));
    let again = descriptor(1, at(world.millis / 1000 * 1000), |_| {});
    let reply = world.upload(0, &again).unwrap();
    assert_eq!(
        (reply.status, &*reply.reason),
        (400, "Suspicious relay address range")
    );
    // And back.
    round(&mut world, |authority, now| {
        authority.set_config(config(), now)
    });
    world.upload_all();
    let consensus = round(&mut world, |_, _| {});
    assert!(consensus.router(&rsa(1)).is_some());
}

#[test]
fn measurements_weigh_relays() {
    let mut world = booted();
    let before = Arc::clone(world.consensus(0, Flavour::Ns).consensus());
    let weight = |consensus: &Consensus, relay| {
        let router = consensus.router(&rsa(relay)).unwrap();
        let bandwidth = router.bandwidth.as_ref().unwrap();
        (bandwidth.bandwidth, bandwidth.unmeasured)
    };
    assert_eq!(weight(&before, 2), (0, true));
    let file = format!("{START}\nversion=1.9.0\n=====\nbw=77 node_id=${}\n", rsa(2));
    let consensus = round(&mut world, |authority, now| {
        assert_eq!(
            authority.handle_bandwidth_file(Some(file.as_bytes()), now),
            Ok(1)
        );
    });
    assert_eq!(weight(&consensus, 2), (77, false));
    assert_eq!(weight(&consensus, 1), (0, true));
    let vote = world.places[0].authority.as_ref().unwrap().own_vote.clone();
    let vote = vote.unwrap();
    let headers = vote.vote().bandwidth_file_headers.as_deref();
    assert_eq!(headers, Some(&*format!("timestamp={START} version=1.9.0")));
    assert!(vote.text().contains("\nbandwidth-file-digest sha256="));
    // A file that says nothing is as none.
    let consensus = round(&mut world, |authority, now| {
        let read = authority.handle_bandwidth_file(Some(b"soon"), now);
        assert_eq!(read, Err(FileError::NoTime));
    });
    assert_eq!(weight(&consensus, 2), (0, true));
}
