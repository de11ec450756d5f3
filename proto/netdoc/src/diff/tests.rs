//! Diffs that `tor` made, and ours, applied and damaged.

use proptest::prelude::*;

use super::*;
use crate::consensus::{Consensus, ConsensusText};

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

fn consensus(text: &str) -> ConsensusText {
    ConsensusText::parse(text).expect("tor's own document")
}

#[test]
fn diffs_of_tor_apply() {
    for (old, new, diff) in [
        (
            real!("consensus-1"),
            real!("consensus-2"),
            real!("diff-1-2"),
        ),
        (
            real!("consensus-microdesc-1"),
            real!("consensus-microdesc-2"),
            real!("diff-microdesc-1-2"),
        ),
    ] {
        assert!(is_diff(diff) && !is_diff(old));
        let (old, target) = (consensus(old), new);
        assert_eq!(apply(&old, diff).as_deref(), Ok(target));
        assert_eq!(apply(&consensus(new), diff), Err(DiffError::OtherBase));
        let made = make(&old, &consensus(new)).expect("same flavour");
        assert_eq!(apply(&old, &made).as_deref(), Ok(target));
        assert!(made.len() <= diff.len(), "{} {}", made.len(), diff.len());
        let other = diff.replacen("valid-after 2026", "valid-after 2027", 1);
        assert_eq!(apply(&old, &other), Err(DiffError::WrongResult));
    }
    let (ns, microdesc) = (real!("consensus-1"), real!("consensus-microdesc-2"));
    assert_eq!(
        make(&consensus(ns), &consensus(microdesc)),
        Err(DiffError::Flavours)
    );
}

#[test]
fn a_base_with_fewer_signatures_is_the_same_base() {
    let old = real!("consensus-1");
    let last = old.rfind("directory-signature").unwrap();
    let fewer = consensus(&old[..last]);
    assert_eq!(
        apply(&fewer, real!("diff-1-2")).as_deref(),
        Ok(real!("consensus-2"))
    );
}

#[test]
fn scripts() {
    let base = "one\ntwo\nthree\nfour\n";
    let run = |script: &str| apply::run(base, script);
    assert_eq!(run("").as_deref(), Ok(base));
    assert_eq!(run("2,$d\n").as_deref(), Ok("one\n"));
    assert_eq!(
        run("4d\n2,3c\nx\n.\n0a\ny\nz\n.\n").as_deref(),
        Ok("y\nz\none\nx\n")
    );
    assert_eq!(
        run("4a\nfive\n.\n1d\n").as_deref(),
        Ok("two\nthree\nfour\nfive\n")
    );
    assert_eq!(
        run("3,$d\n2a\nx\n.\n2c\ny\n.\n").as_deref(),
        Ok("one\ny\nx\n")
    );
    for (script, error) in [
        ("2d\n3d\n", DiffError::Order),
        ("2,3d\n3d\n", DiffError::Order),
        ("5d\n", DiffError::Order),
        ("0d\n", DiffError::Order),
        ("3,2d\n", DiffError::Order),
        ("5a\nx\n.\n", DiffError::Order),
        ("4d\n1,$d\n", DiffError::Command),
        ("1,2a\nx\n.\n", DiffError::Command),
        ("1,$c\nx\n.\n", DiffError::Command),
        ("2x\n", DiffError::Command),
        ("d\n", DiffError::Command),
        ("\n", DiffError::Command),
        ("+2d\n", DiffError::Command),
        ("1234567890d\n", DiffError::Command),
        ("2c\n.\n", DiffError::Command),
        ("2é\n", DiffError::Command),
        ("2c\nx\n", DiffError::Truncated),
        ("2c\nx", DiffError::Truncated),
        ("2d", DiffError::Truncated),
    ] {
        assert_eq!(run(script), Err(error), "{script}");
    }
}

#[test]
fn headers() {
    let bad = |text: &str| assert_eq!(DiffHeader::parse(text), Err(DiffError::Header), "{text}");
    bad("");
    bad("network-status-diff-version 1\n");
    bad("network-status-diff-version 2\nhash 00 00\n");
    bad("network-status-diff-version 1\nhash 00 00\n");
    bad("network-status-diff-version 1\nhash\n");
    let (header, script) = DiffHeader::parse(real!("diff-1-2")).unwrap();
    assert!(script.starts_with("90,$d\n"));
    assert!(real!("diff-1-2").starts_with(&header.encode()));
}

/// A consensus in which relays, their lines and parameters came, went and changed.
fn changed(base: &Consensus, changes: &[(u8, u8)]) -> ConsensusText {
    let mut consensus = base.clone();
    for (what, at) in changes {
        let at = usize::from(*at) % consensus.routers.len();
        match what % 5 {
            0 if consensus.routers.len() > 1 => drop(consensus.routers.remove(at)),
            1 => consensus.routers[at].bandwidth = None,
            2 => {
                let mut other = consensus.routers[at].clone();
                let mut id = *other.rsa_id.as_bytes();
                id[19] ^= 1;
                other.rsa_id = id.into();
                let place = consensus
                    .routers
                    .partition_point(|one| one.rsa_id < other.rsa_id);
                if consensus
                    .routers
                    .get(place)
                    .is_none_or(|one| one.rsa_id != other.rsa_id)
                {
                    consensus.routers.insert(place, other);
                }
            }
            3 => consensus.params.set(&format!("p{at}"), 1),
            _ => drop(consensus.signatures.pop().filter(|_| false)),
        }
    }
    if consensus.signatures.is_empty() {
        consensus.signatures.clone_from(&base.signatures);
    }
    self::consensus(&consensus.encode())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_made_applies(
        old in prop::collection::vec(any::<(u8, u8)>(), 0..12),
        new in prop::collection::vec(any::<(u8, u8)>(), 0..12),
    ) {
        let base = consensus(real!("consensus-microdesc-1"));
        let (old, new) = (changed(base.consensus(), &old), changed(base.consensus(), &new));
        let diff = make(&old, &new).expect("same flavour");
        prop_assert_eq!(apply(&old, &diff), Ok(new.text().to_string()));
    }

    #[test]
    fn damage_never_panics(script in "([0-9$,]{0,4}[acd]\n|x\n|\\.\n){0,8}") {
        let _ = apply::run("one\ntwo\nthree\nfour\n", &script);
    }
}

#[test]
fn what_a_diff_may_cost_is_bounded() {
    let many = "1a\nx\n.\n".repeat(apply::COMMANDS_MAX);
    assert!(apply::run("a\nb\n", &many).is_ok());
    let one_more = format!("2d\n{many}");
    let refused = apply::run("a\nb\n", &one_more);
    assert_eq!(refused, Err(DiffError::TooLarge));
    let half = "x".repeat(DIFF_BYTES_MAX / 2 + 1);
    let base = format!("{half}\n");
    let doubled = format!("1a\n{half}\n.\n");
    assert_eq!(apply::run(&base, &doubled), Err(DiffError::TooLarge));
    let long = "x".repeat(DIFF_BYTES_MAX + 1);
    assert_eq!(DiffHeader::parse(&long), Err(DiffError::TooLarge));
}
