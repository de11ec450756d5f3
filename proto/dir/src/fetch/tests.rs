//! Downloads against a directory of documents in memory.

use std::time::Duration;

use cepa_netdoc::diff;
use cepa_netdoc::timestamp;

use super::*;
use crate::network::DirAuthority;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

const OLD: &str = "2026-11-21 03:17:05";
const NEW: &str = "2026-11-21 03:17:25";

/// A reading of both clocks; the monotonic one starts somewhere.
#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
pub(crate) fn at(wall: &str) -> Now {
    Now {
        mono: Instant::now(),
        wall: timestamp::parse(wall).unwrap(),
    }
}

fn certs() -> Vec<AuthCert> {
    split_certs(real!("keys"))
        .map(|text| AuthCert::parse(text).unwrap())
        .collect()
}

/// The network that the documents come from.
fn network() -> Arc<NetworkFile> {
    let consensus = ConsensusText::parse(real!("consensus-1")).unwrap();
    let authorities = consensus.consensus().authorities.iter().map(|one| {
        let source = &one.dir_source;
        DirAuthority {
            nickname: source.nickname.clone(),
            v3_identity: source.identity,
            rsa_id: source.identity,
            ed25519_id: None,
            dir_addr: std::net::SocketAddrV4::new(source.ip, source.dir_port),
            or_addr: std::net::SocketAddrV4::new(source.ip, source.or_port),
            or_addr_v6: None,
        }
    });
    Arc::new(NetworkFile {
        authorities: authorities.collect(),
        is_testing: true,
    })
}

/// A directory that has the second round's documents, and diffs to them.
fn serve(request: &DirRequest) -> Reply {
    let body = match request {
        DirRequest::Consensus {
            flavour, diff_from, ..
        } => {
            let (old, new) = match flavour {
                Flavour::Ns => (real!("consensus-1"), real!("consensus-2")),
                Flavour::Microdesc => (
                    real!("consensus-microdesc-1"),
                    real!("consensus-microdesc-2"),
                ),
            };
            let base = ConsensusText::parse(old).unwrap();
            let target = ConsensusText::parse(new).unwrap();
            match diff_from.contains(&base.diff_base_digest()) {
                true => diff::make(&base, &target).unwrap(),
                false => new.to_owned(),
            }
        }
        DirRequest::Certificates(CertQuery::Pairs(pairs)) => certs()
            .into_iter()
            .filter(|cert| pairs.contains(&(cert.identity, cert.signing_key_digest)))
            .map(|cert| cert.text)
            .collect(),
        DirRequest::Microdescs(digests) => split_microdescs(real!("microdescs"))
            .filter(|text| digests.contains(&Microdesc::parse(text).unwrap().digest))
            .collect(),
        DirRequest::ServerDescs(DescQuery::Digests(digests)) => {
            split_descriptors(real!("server-descriptors"))
                .filter(|text| digests.contains(&ServerDescriptor::parse(text).unwrap().digest))
                .collect()
        }
        DirRequest::ExtraInfos(DescQuery::Digests(digests)) => {
            split_extra_infos(real!("extra-infos"))
                .filter(|text| digests.contains(&ExtraInfo::parse(text).unwrap().digest.sha1))
                .collect()
        }
        _ => {
            return Reply {
                status: 404,
                body: Vec::new(),
            };
        }
    };
    Reply {
        status: 200,
        body: body.into_bytes(),
    }
}

/// Carries out what is asked for until nothing is; gives the other commands, and the requests.
fn drive(
    download: &mut DirectoryDownload,
    now: Now,
    rng: &mut Rng,
    serve: impl Fn(&DirRequest) -> Reply,
) -> (Vec<Command>, Vec<DirRequest>) {
    let (mut others, mut requests) = (Vec::new(), Vec::new());
    download.handle_timeout(now, rng);
    for _ in 0..1000 {
        match download.poll_command() {
            Some(Command::Fetch { id, request, .. }) => {
                let reply = serve(&request);
                requests.push(request);
                download.handle_reply(id, reply, now, rng);
            }
            Some(other) => others.push(other),
            None => break,
        }
    }
    (others, requests)
}

#[test]
fn a_client_gets_all_that_paths_need() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([1; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    let (commands, requests) = drive(&mut download, now, &mut rng, serve);
    let kinds: Vec<u8> = requests
        .iter()
        .map(|request| match request {
            DirRequest::Consensus {
                flavour: Flavour::Microdesc,
                ..
            } => 1,
            DirRequest::Certificates(_) => 2,
            DirRequest::Microdescs(_) => 3,
            _ => 4,
        })
        .collect();
    assert_eq!(kinds, [1, 2, 3, 3, 3]);
    assert_eq!(commands.len(), 5);
    let view = download.view().unwrap();
    assert!(view.is_enough() && download.is_complete());
    assert_eq!(view.relays().len(), 9);
    assert_eq!(download.certificates().len(), 3);
    // The next one is asked for after `fresh-until`, 15 seconds from now.
    let wait = download.poll_timeout().unwrap() - now.mono;
    assert!((15..19).contains(&wait.as_secs()), "{wait:?}");
}

#[test]
fn a_cache_gets_all_that_authorities_have() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([2; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::cache(), now);
    download.handle_timeout(now, &mut rng);
    let first = download.poll_command();
    assert!(matches!(
        first,
        Some(Command::Fetch {
            from: Origin::DirPort(0..=2),
            ..
        })
    ));
    let Some(Command::Fetch { id, request, .. }) = first else {
        panic!("a fetch")
    };
    download.handle_reply(id, serve(&request), now, &mut rng);
    let (commands, _) = drive(&mut download, now, &mut rng, serve);
    let descriptors: usize = commands
        .iter()
        .map(|command| {
            if let Command::ServerDescs(some) = command {
                some.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(descriptors, 9);
    assert!(
        commands
            .iter()
            .any(|command| matches!(command, Command::ExtraInfos(_)))
    );
    assert!(download.consensus(Flavour::Ns).is_some());
    assert!(download.consensus(Flavour::Microdesc).is_some());
}

#[test]
fn diffs_are_asked_for_and_bad_ones_given_up() {
    for is_bad in [false, true] {
        let (old, mut rng) = (at(OLD), Rng::from_seed([3; 32]));
        let mut download = DirectoryDownload::new(network(), Interest::client(), old);
        download.restore_certificates(certs(), old);
        let held = ConsensusText::parse(real!("consensus-microdesc-1")).unwrap();
        download
            .offer_consensus(held.clone(), old, &mut rng)
            .expect("good and live");
        let now = old + Duration::from_secs(20);
        let serve = |request: &DirRequest| {
            let mut reply = serve(request);
            if is_bad && reply.text().contains("status-diff-version") {
                reply.body.extend(b"1d\n");
            }
            reply
        };
        let (commands, requests) = drive(&mut download, now, &mut rng, serve);
        let DirRequest::Consensus {
            diff_from, signers, ..
        } = &requests[0]
        else {
            panic!("a consensus is asked for first")
        };
        assert_eq!((diff_from.len(), signers.len()), (1, 3));
        let valid_after = |download: &DirectoryDownload| {
            download
                .consensus(Flavour::Microdesc)
                .unwrap()
                .consensus()
                .lifetime
                .valid_after
        };
        if is_bad {
            let refused = commands.iter().any(|command| {
                matches!(
                    command,
                    Command::Refused(Flavour::Microdesc, Refusal::Diff(_))
                )
            });
            assert!(refused);
            assert_eq!(
                valid_after(&download),
                held.consensus().lifetime.valid_after
            );
            let later = now + Duration::from_secs(3);
            let (_, requests) = drive(&mut download, later, &mut rng, serve);
            let asked_whole = requests.iter().any(|request| {
                matches!(request, DirRequest::Consensus { diff_from, .. } if diff_from.is_empty())
            });
            assert!(asked_whole);
        }
        assert!(valid_after(&download) > held.consensus().lifetime.valid_after);
    }
}

#[test]
fn what_is_not_to_be_believed_changes_nothing() {
    let mut rng = Rng::from_seed([4; 32]);
    let refusal = |text: &str, wall: &str, rng: &mut Rng, is_testing: bool| {
        let now = at(wall);
        let network = NetworkFile {
            is_testing,
            ..NetworkFile::clone(&network())
        };
        let mut download = DirectoryDownload::new(Arc::new(network), Interest::client(), now);
        download.restore_certificates(certs(), now);
        let body = text.as_bytes().to_vec();
        let serve = |_: &DirRequest| Reply {
            status: 200,
            body: body.clone(),
        };
        let (commands, _) = drive(&mut download, now, rng, serve);
        assert!(download.consensus(Flavour::Microdesc).is_none());
        assert!(download.poll_timeout().unwrap() > now.mono);
        match commands.into_iter().next() {
            Some(Command::Refused(_, refusal)) => refusal,
            other => panic!("refused, not {other:?}"),
        }
    };
    let good = real!("consensus-microdesc-2");
    assert_eq!(
        refusal(good, "2026-11-22 03:18:21", &mut rng, true),
        Refusal::Expired(24 * 60)
    );
    assert_eq!(
        refusal(good, "2026-11-20 03:17:19", &mut rng, true),
        Refusal::Future(24 * 60)
    );
    assert_eq!(refusal(good, NEW, &mut rng, false), Refusal::Intervals);
    assert_eq!(
        refusal(real!("consensus-2"), NEW, &mut rng, true),
        Refusal::Flavour
    );
    let forged = good.replace("foo=3", "foo=4");
    assert_eq!(
        refusal(&forged, NEW, &mut rng, true),
        Refusal::Signatures(0, 3)
    );
    let start = good.find("directory-signature").unwrap();
    let end = start + good[start..].find("-----END SIGNATURE-----\n").unwrap() + 24;
    assert_eq!(
        refusal(&good[..end], NEW, &mut rng, true),
        Refusal::Signatures(1, 3)
    );
    assert!(matches!(
        refusal("x", NEW, &mut rng, true),
        Refusal::Malformed(_)
    ));
}

#[test]
fn a_client_whose_clock_is_wrong_gets_what_is_reasonably_live() {
    let hours = Duration::from_secs(2 * 60 * 60);
    for (is_fast, interest) in [
        (true, Interest::client()),
        (false, Interest::client()),
        (true, Interest::cache()),
        (false, Interest::cache()),
    ] {
        let (mut now, mut rng) = (at(NEW), Rng::from_seed([10; 32]));
        match is_fast {
            true => now.wall += hours,
            false => now.wall -= hours,
        }
        let is_cache = interest.is_cache;
        let mut download = DirectoryDownload::new(network(), interest, now);
        let (commands, requests) = drive(&mut download, now, &mut rng, serve);
        let held = download.consensus(Flavour::Microdesc).is_some();
        assert_eq!(held, !is_cache, "fast: {is_fast}");
        if is_cache {
            continue;
        }
        assert!(download.is_complete());
        let asked = |one: &&DirRequest| matches!(one, DirRequest::Consensus { .. });
        assert_eq!(requests.iter().filter(asked).count(), 1);
        // By a slow clock the next one comes in its time, not hours late; by a fast one another
        // directory may have a newer one already.
        let wait = download.poll_timeout().unwrap() - now.mono;
        assert!(wait < Duration::from_secs(30), "fast: {is_fast}, {wait:?}");
        let useless = |one: &&Command| matches!(one, Command::Useless(_));
        assert_eq!(
            commands.iter().filter(useless).count(),
            usize::from(is_fast)
        );
    }
}

#[test]
fn certificates_that_never_come_leave_it_waiting() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([5; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    let without = |request: &DirRequest| match request {
        DirRequest::Certificates(_) => Reply {
            status: 404,
            body: Vec::new(),
        },
        other => serve(other),
    };
    drive(&mut download, now, &mut rng, without);
    assert!(download.is_waiting_for_certificates());
    assert!(download.consensus(Flavour::Microdesc).is_none());
    let now = now + Duration::from_secs(3);
    assert!(download.poll_timeout().unwrap() <= now.mono);
    drive(&mut download, now, &mut rng, serve);
    assert!(!download.is_waiting_for_certificates() && download.is_complete());
}

#[test]
fn failures_are_tried_again_later() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([6; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    let (commands, requests) = drive(&mut download, now, &mut rng, |_| Reply::failed());
    assert_eq!(requests.len(), 1);
    assert!(matches!(
        commands[..],
        [Command::Refused(_, Refusal::NotServed(0))]
    ));
    let without = |request: &DirRequest| match request {
        DirRequest::Microdescs(_) => Reply {
            status: 404,
            body: Vec::new(),
        },
        other => serve(other),
    };
    let now = now + Duration::from_secs(3);
    drive(&mut download, now, &mut rng, without);
    assert!(!download.is_complete() && download.view().unwrap().relays().is_empty());
    let now = now + Duration::from_secs(3);
    assert!(download.poll_timeout().unwrap() <= now.mono);
    drive(&mut download, now, &mut rng, serve);
    assert!(download.is_complete());
    // A reply to a fetch that is long over is ignored.
    download.handle_reply(FetchId(0), Reply::failed(), now, &mut rng);
}

/// The same consensus with signatures by keys that do not exist.
fn forged(text: &str, key: u8) -> String {
    let key = cepa_crypto::encoding::hex_upper(&[key; 20]);
    let line = |line: &str| match line.strip_prefix("directory-signature ") {
        Some(words) => {
            let (rest, _) = words.rsplit_once(' ').unwrap();
            format!("directory-signature {rest} {key}\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// A directory that answers with a new forgery each time, and has nothing else.
fn lie(request: &DirRequest, key: u8) -> Reply {
    let text = match request {
        DirRequest::Consensus { flavour, .. } => match flavour {
            Flavour::Ns => real!("consensus-2"),
            Flavour::Microdesc => real!("consensus-microdesc-2"),
        },
        _ => {
            return Reply {
                status: 200,
                body: Vec::new(),
            };
        }
    };
    Reply {
        status: 200,
        body: forged(text, key).into_bytes(),
    }
}

/// Runs a download for so long; `is_honest` says who answers as `serve` does, all others lie.
/// Gives how many requests for consensuses and how many for certificates there were.
fn run(
    download: &mut DirectoryDownload,
    (start, secs): (Now, u64),
    rng: &mut Rng,
    is_honest: impl Fn(usize) -> bool,
) -> (usize, usize) {
    let (mut consensuses, mut certificates) = (0, 0);
    let (mut now, end) = (start, start + Duration::from_secs(secs));
    download.handle_timeout(now, rng);
    while now.mono < end.mono && !download.is_complete() {
        while let Some(command) = download.poll_command() {
            let Command::Fetch { id, request, from } = command else {
                continue;
            };
            consensuses += usize::from(matches!(request, DirRequest::Consensus { .. }));
            if let DirRequest::Certificates(CertQuery::Pairs(pairs)) = &request {
                certificates += 1;
                assert!(pairs.len() <= CERTS_ASKED_MAX);
            }
            let (Origin::DirPort(one) | Origin::BeginDir { fallback: one }) = from;
            let key = u8::try_from(id.0 % 256).unwrap();
            let reply = match is_honest(one) {
                true => serve(&request),
                false => lie(&request, key),
            };
            download.handle_reply(id, reply, now, rng);
        }
        now = now + Duration::from_millis(100);
        if download.poll_timeout().is_some_and(|due| due <= now.mono) {
            download.handle_timeout(now, rng);
        }
    }
    for slot in &download.slots {
        assert!(slot.candidates.len() <= slot::CANDIDATES_MAX);
    }
    (consensuses, certificates)
}

#[test]
fn one_honest_directory_is_enough() {
    for interest in [Interest::client(), Interest::cache()] {
        for seed in 0..20 {
            let (now, mut rng) = (at(NEW), Rng::from_seed([seed; 32]));
            let mut download = DirectoryDownload::new(network(), interest.clone(), now);
            // The documents end after 55 seconds.
            run(&mut download, (now, 50), &mut rng, |one| one == 0);
            assert!(download.is_complete(), "seed {seed}, {interest:?}");
        }
    }
}

#[test]
fn forgeries_neither_stop_nor_hasten_the_asking() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([7; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    let (consensuses, certificates) = run(&mut download, (now, 50), &mut rng, |_| false);
    // Retries of a test network come within two seconds.
    assert!((20..=120).contains(&consensuses), "{consensuses}");
    assert!((20..=120).contains(&certificates), "{certificates}");
    assert!(download.is_waiting_for_certificates());
    // What waits is given up in the end.
    let later = now + Duration::from_secs(60) + slot::CANDIDATE_AGE_MAX;
    download.handle_timeout(later, &mut rng);
    assert!(!download.is_waiting_for_certificates());
}

#[test]
fn who_had_nothing_of_use_is_named() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([8; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    let (commands, requests) = drive(&mut download, now, &mut rng, |request| lie(request, 1));
    assert_eq!(requests.len(), 2);
    let useless = commands.iter().filter_map(|command| match command {
        Command::Useless(id) => Some(id.0),
        _ => None,
    });
    // The fetch of certificates, and the one that brought the consensus.
    assert_eq!(useless.collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_signature_that_is_not_needed_is_not_asked_for_for_ever() {
    let (now, mut rng) = (at(NEW), Rng::from_seed([9; 32]));
    let mut download = DirectoryDownload::new(network(), Interest::client(), now);
    download.restore_certificates(certs(), now);
    // One of three signatures is by a key that does not exist.
    let good = real!("consensus-microdesc-2");
    let (signed, last) = good.split_at(good.rfind("directory-signature").unwrap());
    let text = ConsensusText::parse(signed.to_owned() + &forged(last, 7)).unwrap();
    download.offer_consensus(text, now, &mut rng).unwrap();
    let (mut asked, mut at) = (0, now);
    for _ in 0..150 {
        let (_, requests) = drive(&mut download, at, &mut rng, serve);
        let is_certs = |one: &&DirRequest| matches!(one, DirRequest::Certificates(_));
        asked += requests.iter().filter(is_certs).count();
        at = at + Duration::from_millis(100);
    }
    assert_eq!(asked, usize::from(SPARE_CERT_TRIES_MAX));
}
