//! Consensuses of a running `tor` network, and what damage does to them.

use proptest::prelude::*;

use super::*;
use crate::authcert::{AuthCert, split_certs};
use crate::routerstatus::Flags;
use crate::timestamp;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

const NS: &str = real!("consensus-1");
const MICRODESC: &str = real!("consensus-microdesc-1");
const SRV: &str = real!("consensus-srv-current");

/// The certificates that `tor` served beside the documents.
fn certs() -> Vec<AuthCert> {
    split_certs(real!("keys"))
        .map(|text| AuthCert::parse(text).unwrap())
        .collect()
}

fn now() -> std::time::SystemTime {
    timestamp::parse("2026-11-21 03:17:10").unwrap()
}

#[test]
fn consensuses_of_tor_round_trip() {
    for (text, flavour) in [
        (NS, Flavour::Ns),
        (real!("consensus-2"), Flavour::Ns),
        (SRV, Flavour::Ns),
        (MICRODESC, Flavour::Microdesc),
        (real!("consensus-microdesc-2"), Flavour::Microdesc),
    ] {
        let parsed = ConsensusText::parse(text).expect("tor's own document");
        assert_eq!(parsed.consensus().encode(), text);
        assert_eq!(parsed.consensus().flavour, flavour);
        assert_eq!(parsed.consensus().routers.len(), 9);
        let signed = parsed.consensus().signed_digest();
        assert_eq!(signed, parsed.signed_digest(flavour.digest_algorithm()));
    }
}

#[test]
fn its_values_are_read() {
    let parsed = ConsensusText::parse(NS).unwrap();
    let consensus = parsed.consensus();
    assert_eq!(consensus.method, 35);
    assert_eq!(
        consensus.voting_delay,
        VotingDelay {
            vote_seconds: 4,
            dist_seconds: 4
        }
    );
    assert_eq!(consensus.params.lookup("hsdir_interval"), Some(8));
    assert_eq!(consensus.bandwidth_weights.len(), 19);
    assert_eq!(
        consensus.client_versions.as_deref(),
        Some("0.4.8.10,0.4.9.11")
    );
    assert!(consensus.lifetime.has_minimum_intervals(true));
    assert!(!consensus.lifetime.has_minimum_intervals(false));
    let exit = consensus
        .routers
        .iter()
        .find(|router| router.nickname == "exit0")
        .unwrap();
    assert!(
        exit.flags
            .contains(Flags::EXIT | Flags::RUNNING | Flags::VALID)
    );
    assert!(exit.policy.is_some() && exit.or_addr_v6().is_some());
    assert_eq!(consensus.router(&exit.rsa_id), Some(exit));
    let srv = ConsensusText::parse(SRV).unwrap();
    assert_eq!(
        srv.consensus()
            .shared_rand_current
            .map(|value| value.reveals),
        Some(3)
    );
}

#[test]
fn signatures_of_tor_verify() {
    let certs = certs();
    let trusted: Vec<RsaId> = certs.iter().map(|cert| cert.identity).collect();
    assert_eq!(trusted.len(), 3);
    for text in [NS, MICRODESC] {
        let parsed = ConsensusText::parse(text).unwrap();
        let signers = parsed.signers(&certs, &trusted, now());
        assert_eq!(signers.good.len(), 3, "{signers:?}");
        assert!(signers.is_majority(3));

        let signers = parsed.signers(&certs[..1], &trusted, now());
        assert_eq!((signers.good.len(), signers.missing_certs.len()), (1, 2));
        assert!(!signers.is_majority(3) && signers.could_be_majority(3));

        let signers = parsed.signers(&certs, &trusted[..1], now());
        assert_eq!((signers.good.len(), signers.unknown.len()), (1, 2));

        let late = timestamp::parse("2036-11-21 03:17:10").unwrap();
        assert_eq!(
            parsed.signers(&certs, &trusted, late).missing_certs.len(),
            3
        );

        let forged = text.replace("foo=3", "foo=4");
        let forged = ConsensusText::parse(forged).unwrap();
        let signers = forged.signers(&certs, &trusted, now());
        assert_eq!((signers.good.len(), signers.bad.len()), (0, 3));
    }
}

#[test]
fn the_weaker_digest_does_not_count_for_microdesc() {
    let certs = certs();
    let trusted: Vec<RsaId> = certs.iter().map(|cert| cert.identity).collect();
    let weaker = MICRODESC.replace("directory-signature sha256 ", "directory-signature sha1 ");
    let parsed = ConsensusText::parse(weaker).unwrap();
    assert_eq!(parsed.signers(&certs, &trusted, now()), Signers::default());
    let unknown = MICRODESC.replace("directory-signature sha256 ", "directory-signature md7 ");
    let parsed = ConsensusText::parse(unknown).unwrap();
    assert!(parsed.consensus().signatures.is_empty());
}

#[test]
fn our_own_signature_verifies() {
    let mut rng = cepa_crypto::Rng::from_seed([7; 32]);
    let key = cepa_crypto::rsa::Keypair::generate(1024, &mut rng).unwrap();
    let parsed = ConsensusText::parse(NS).unwrap();
    let mut consensus = Consensus::clone(parsed.consensus());
    consensus.method = 34;
    let signature = consensus.sign(RsaId::from([3; 20]), &key);
    consensus.signatures = vec![signature];
    let text = ConsensusText::parse(consensus.encode()).unwrap();
    let [signature] = &text.consensus().signatures[..] else {
        panic!("one signature")
    };
    let digest = text.signed_digest(DigestAlgorithm::Sha1);
    assert!(
        key.public()
            .verify_digest(digest, &signature.signature)
            .is_ok()
    );
    assert_eq!(signature.signing_key, key.public().id());
}

#[test]
fn what_tor_refuses_is_refused() {
    let without = |line: &str| -> String {
        NS.lines()
            .filter(|l| !l.starts_with(line))
            .map(|l| format!("{l}\n"))
            .collect()
    };
    for line in [
        "vote-status",
        "consensus-method",
        "valid-after",
        "fresh-until",
        "valid-until",
        "voting-delay",
        "known-flags",
        "s ",
        "pr ",
        "directory-signature",
        "directory-footer",
    ] {
        assert!(ConsensusText::parse(without(line)).is_err(), "{line}");
    }
    for (from, to) in [
        ("network-status-version 3\n", "network-status-version 4\n"),
        (
            "network-status-version 3\n",
            "network-status-version 3 shiny\n",
        ),
        ("network-status-version 3\n", "\nnetwork-status-version 3\n"),
        ("vote-status consensus", "vote-status vote"),
        ("known-flags Authority Exit", "known-flags Exit Authority"),
        (
            "known-flags Authority Exit",
            "known-flags Authority Authority Exit",
        ),
        ("\ns Authority", "\ns Unheard"),
        ("foo2=-7 foo=3", "foo=3 foo2=-7"),
        ("Relay=2-6\nw", "Relay=2-64\nw"),
        ("valid-until 2026", "valid-until 2016"),
        ("directory-footer\n", "r exit0\ndirectory-footer\n"),
        (
            "directory-footer\n",
            "directory-footer\ndirectory-footer\nr x\n",
        ),
        (
            "-----END SIGNATURE-----\ndir",
            "-----END SIGNATURE-----\nparams a=1\ndir",
        ),
    ] {
        assert!(NS.contains(from), "{from}");
        assert!(
            ConsensusText::parse(NS.replacen(from, to, 1)).is_err(),
            "{to}"
        );
    }
    let routers = NS.find("\nr ").unwrap()..NS.find("\ndirectory-footer").unwrap();
    let twice = NS[routers.clone()].repeat(2);
    let text = format!("{}{twice}{}", &NS[..routers.start], &NS[routers.end..]);
    assert!(matches!(
        ConsensusText::parse(text),
        Err(StatusError::Order("routers"))
    ));
}

#[test]
fn unknown_flags_round_trip() {
    let text = NS
        .replacen(
            "known-flags Authority Exit",
            "known-flags Authority Brave Exit",
            1,
        )
        .replacen("\ns Exit", "\ns Brave Exit", 1);
    let parsed = ConsensusText::parse(text.clone()).unwrap();
    assert_eq!(parsed.consensus().encode(), text);
}

#[test]
fn truncation_at_every_line_is_refused_or_survived() {
    let signatures = MICRODESC.find(SIGNATURE_KEYWORD).unwrap();
    for (at, _) in MICRODESC.match_indices('\n') {
        let parsed = ConsensusText::parse(&MICRODESC[..at]);
        assert!(parsed.is_err() || at > signatures);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_panics(at in 0..NS.len(), byte in 0u8..128, len in 0..=NS.len()) {
        let mut bytes = NS.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(len.max(at));
        let _ = ConsensusText::parse(String::from_utf8(bytes).expect("ASCII"));
    }
}
