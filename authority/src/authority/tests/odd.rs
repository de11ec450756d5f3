//! What is taken must be voted, and what is voted must be read: odd descriptors, odd votes.

use super::*;
use cepa_crypto::Rng;
use cepa_netdoc::vote::VoteRouter;
use proptest::prelude::*;
use std::sync::Arc;

fn id(relay: usize) -> RsaId {
    RELAY_KEYS[relay].identity.public().id()
}

/// The descriptor of a relay, with another line for one of its own.
fn with_line(relay: usize, published: SystemTime, keyword: &str, line: &str) -> String {
    let text = descriptor(relay, published, |_| {});
    signed_again(relay, &text, |unsigned| {
        let lines = unsigned.lines().map(|own| {
            let is_it = own.split(' ').next() == Some(keyword);
            if is_it { line } else { own }
        });
        lines.map(|line| format!("{line}\n")).collect()
    })
}

/// Uploads a text to all, who have their three other relays.
fn upload_to_all(world: &mut World, text: &str) -> Vec<u16> {
    let replies = (0..3).map(|index| world.upload(index, text));
    replies.map(|reply| reply.unwrap().status).collect()
}

fn started(millis: u64) -> World {
    let mut world = World::new(millis);
    (0..3).for_each(|index| world.start(index));
    world
}

#[test]
fn a_long_version_ends_no_vote() {
    let mut world = started(7_300);
    let published = at(7_000);
    let with_version = |len: usize| {
        let version = format!("0.4.9.11-{}", "a".repeat(len));
        descriptor(0, published, |fields| {
            fields.platform = format!("Tor {version} on Linux");
        })
    };
    // As `tor`: one of 127 bytes is none, and one of more than 120 is not voted.
    assert_eq!(upload_to_all(&mut world, &with_version(300)), [400; 3]);
    assert_eq!(upload_to_all(&mut world, &with_version(115)), [200; 3]);
    for relay in 1..RELAYS {
        upload_to_all(&mut world, &descriptor(relay, published, |_| {}));
    }
    assert_eq!(world.starts(0), [0]);
    let named = |world: &World| {
        let text = world.consensus(1, Flavour::Ns).clone();
        let status = text.consensus().router(&id(0)).cloned();
        status.map(|status| status.version)
    };
    assert_eq!(named(&world), Some(None));
    // And over restarts, with the vote and the descriptor of before.
    (0..3).for_each(|index| world.kill(index));
    (0..3).for_each(|index| world.start(index));
    world.run_until(25_000);
    assert_eq!(world.starts(0).last(), Some(&20));
    assert_eq!(named(&world), Some(None));
}

#[test]
fn one_relay_may_add_so_much_to_a_vote() {
    let mut world = started(7_300);
    let published = at(7_000);
    let entries = |count: usize| (0..count).map(|n| format!(" P{n}=1")).collect::<String>();
    let proto = |count| with_line(0, published, "proto", &format!("proto{}", entries(count)));
    let reply = world.upload(0, &proto(2200)).unwrap();
    assert_eq!(reply.status, 400);
    assert!(reply.reason.contains("bytes of a vote"), "{}", reply.reason);
    assert_eq!(upload_to_all(&mut world, &proto(300)), [200; 3]);
    for relay in 1..RELAYS {
        upload_to_all(&mut world, &descriptor(relay, published, |_| {}));
    }
    let consensus = Arc::clone(world.consensus(0, Flavour::Ns).consensus());
    assert_eq!(consensus.routers.len(), RELAYS);
    assert!(
        consensus
            .router(&id(0))
            .unwrap()
            .protocols
            .contains("P299=1")
    );
}

#[test]
fn what_was_stored_is_looked_at_like_an_upload() {
    let mut world = started(7_300);
    world.upload_all();
    let published = at(7_000);
    let long = format!("proto{}", " Pppppp=1".repeat(2000));
    let poison = with_line(0, published, "proto", &long);
    let key = (RowKind::Descriptor, id(0).to_string());
    for index in 0..3 {
        world.kill(index);
        world.places[index].rows.get_mut(&key).unwrap().bytes = poison.clone().into();
    }
    (0..3).for_each(|index| world.start(index));
    for place in &world.places {
        assert_eq!(place.authority.as_ref().unwrap().relays_known(), RELAYS - 1);
        assert!(!place.rows.contains_key(&key));
    }
    world.run_until(45_000);
    assert_eq!(world.starts(0).last(), Some(&40));
}

#[test]
fn what_else_stands_in_an_upload_is_taken() {
    let mut world = started(7_300);
    let published = at(7_000);
    let texts: Vec<String> = (0..3)
        .map(|relay| descriptor(relay, published, |_| {}))
        .collect();
    let reason = |reply: Option<Reply>| {
        let reply = reply.unwrap();
        (reply.status, reply.reason)
    };
    let two = format!("junk\n{}{}more junk\n\0", texts[0], texts[1]);
    assert_eq!(reason(world.upload(0, &two)), (200, "OK".to_owned()));
    let bad = texts[2].replacen("uptime 2", "uptime 3", 1);
    let mixed = format!("{bad}{}", texts[0]);
    assert_eq!(reason(world.upload(0, &mixed)).0, 400);
    let annotated = format!("@purpose bridge\n{}", texts[2]);
    assert_eq!(reason(world.upload(0, &annotated)).0, 400);
    let unfinished = texts[2].trim_end();
    let (status, text) = reason(world.upload(0, unfinished));
    assert!(status == 400 && text.contains("does not end"), "{text}");
    let known = |world: &World| world.places[0].authority.as_ref().unwrap().relays_known();
    assert_eq!(known(&world), 2);
    // Two of one second: the first stays.
    let other = descriptor(0, published, |fields| fields.contact = Some("x".into()));
    let reply = world.upload(0, &other).unwrap();
    assert_eq!((reply.status, reply.is_not_new), (200, true));
    assert_eq!(reason(world.upload(0, &texts[2])).0, 200);
    assert_eq!(known(&world), 3);
}

#[test]
fn a_relay_without_a_tap_key_is_taken_and_voted() {
    let mut world = started(7_300);
    let published = at(7_000);
    let text = descriptor(0, published, |_| {});
    let bare = signed_again(0, &text, |unsigned| {
        let cut = |text: &str, from: &str, to: &str| {
            let start = text.find(from).unwrap();
            let end = start + text[start..].find(to).unwrap();
            format!("{}{}", &text[..start], &text[end..])
        };
        let text = cut(unsigned, "onion-key\n", "signing-key\n");
        cut(&text, "onion-key-crosscert\n", "ntor-onion-key-crosscert ")
    });
    assert_eq!(upload_to_all(&mut world, &bare), [200; 3]);
    for relay in 1..RELAYS {
        upload_to_all(&mut world, &descriptor(relay, published, |_| {}));
    }
    let consensus = Arc::clone(world.consensus(0, Flavour::Microdesc).consensus());
    assert_eq!((consensus.method, consensus.routers.len()), (37, RELAYS));
    let vote = world.places[0].authority.as_ref().unwrap().own_vote.clone();
    let entry = vote.unwrap().vote().router(&id(0)).cloned().unwrap();
    assert_eq!(entry.microdesc_digest(35), None);
    assert!(entry.microdesc_digest(36).is_some());
}

#[test]
fn a_clashing_contact_costs_the_vote_and_says_so() {
    let mut world = started(7_300);
    world.with(0, |authority| authority.config.contact = "a\nb".to_owned());
    world.upload_all();
    // Without the vote of the first, the others go on.
    world.run_until(25_000);
    assert_eq!(world.starts(1).last(), Some(&20));
    assert_eq!(signers(world.consensus(1, Flavour::Ns)), 2);
}

#[test]
fn a_stranger_of_whom_nothing_came_leaves_nothing() {
    let mono = some_instant();
    let clock = |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: at(secs * 1000),
    };
    let config = Config {
        allows_private_addresses: true,
        relays_per_address_max: 0,
        ..Config::new(config().authorities, "nobody".into())
    };
    let rng = Rng::from_seed([4; 32]);
    let mut authority = Authority::restore(config, keys(0), Vec::new(), rng, clock(0));
    for relay in 0..2 {
        let text = descriptor(relay, at(0), |_| {});
        assert_eq!(authority.handle_descriptor(&text, clock(1)).status, 200);
    }
    let port = |relay: usize| SocketAddr::from((address(relay), 9001));
    authority.handle_reachability(&id(0), port(0), true, clock(2));
    authority.handle_reachability(&id(1), port(1), false, clock(2));
    std::iter::from_fn(|| authority.poll_command()).for_each(drop);
    authority.handle_timeout(clock(3 * 86_400));
    let dropped = std::iter::from_fn(|| authority.poll_command()).filter_map(|one| match one {
        Command::Drop(kind, key) => Some((kind, key)),
        _ => None,
    });
    let dropped: Vec<_> = dropped.collect();
    let was_dropped = |kind, relay: usize| dropped.contains(&(kind, id(relay).to_string()));
    assert!(was_dropped(RowKind::Descriptor, 0) && was_dropped(RowKind::Descriptor, 1));
    assert!(!was_dropped(RowKind::KeyPin, 0) && was_dropped(RowKind::KeyPin, 1));
}

/// A change of a descriptor: the line at this place, among all, and what is done to it.
#[derive(Debug, Clone)]
enum Change {
    Drop(usize),
    Twice(usize),
    Append(usize, String),
    Replace(usize, String),
    Insert(usize, String),
}

fn odd_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-zA-Z0-9=,.:_*/$~!+-]{0,12}",
        "[0-9]{1,24}",
        "\\PC{0,6}",
        Just("\t".to_owned()),
        Just(" ".to_owned()),
        Just("\r".to_owned()),
        Just("Relay=1-63 Foo=0".to_owned()),
        Just("Tor 0.4.9.11-".to_owned()),
        (1usize..4000).prop_map(|len| "x".repeat(len)),
        (1usize..600).prop_map(|len| "Aa=1 ".repeat(len)),
    ];
    prop::collection::vec(word, 0..4).prop_map(|words| words.join(" "))
}

fn change() -> impl Strategy<Value = Change> {
    const KEYWORDS: [&str; 13] = [
        "platform",
        "proto",
        "contact",
        "family",
        "uptime",
        "bandwidth",
        "published",
        "accept",
        "reject",
        "ipv6-policy",
        "or-address",
        "opt proto",
        "odd_one",
    ];
    let line = (prop::sample::select(&KEYWORDS[..]), odd_text());
    let line = line
        .prop_map(|(keyword, text)| format!("{keyword} {text}"))
        .boxed();
    prop_oneof![
        1 => (0usize..60).prop_map(Change::Drop),
        1 => (0usize..60).prop_map(Change::Twice),
        1 => (0usize..60, odd_text()).prop_map(|(at, text)| Change::Append(at, text)),
        4 => (0usize..60, line.clone()).prop_map(|(at, line)| Change::Replace(at, line)),
        4 => (0usize..60, line).prop_map(|(at, line)| Change::Insert(at, line)),
    ]
}

fn changed(unsigned: &str, changes: &[Change]) -> String {
    let mut lines: Vec<String> = unsigned.lines().map(str::to_owned).collect();
    for change in changes {
        let len = lines.len();
        match change {
            Change::Drop(at) => drop(lines.remove(at % len)),
            Change::Twice(at) => lines.insert(at % len, lines[at % len].clone()),
            Change::Append(at, text) => lines[at % len].push_str(text),
            Change::Insert(at, line) => lines.insert(at % len, line.clone()),
            // A line of the same keyword, if there is one.
            Change::Replace(at, line) => {
                let keyword = line.split(' ').next();
                let own = lines
                    .iter()
                    .position(|own| own.split(' ').next() == keyword);
                lines[own.unwrap_or(at % len)].clone_from(line);
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each descriptor that intake takes gives a vote that is read back, with its entry in it, and
    /// a consensus of three of them that is read, and the microdescriptor that it names.
    #[test]
    fn what_is_taken_is_voted_and_read(changes in prop::collection::vec(change(), 1..4)) {
        let mut world = started(7_300);
        let published = at(7_000);
        for relay in 1..RELAYS {
            upload_to_all(&mut world, &descriptor(relay, published, |_| {}));
        }
        let text = descriptor(0, published, |_| {});
        let odd = signed_again(0, &text, |unsigned| changed(unsigned, &changes));
        let replies = upload_to_all(&mut world, &odd);
        prop_assert!(replies.iter().all(|status| *status == replies[0]));
        // By the grid, if the first vote has to wait for a relay that is not taken.
        world.run_until(65_000);
        prop_assert_eq!(world.starts(0).last().copied(), Some(60));
        let consensus = world.consensus(2, Flavour::Microdesc);
        prop_assert_eq!(signers(consensus), 3);
        let authority = world.places[1].authority.as_ref().unwrap();
        let held = authority.relays.iter().find(|(held, _)| **held == id(0));
        if let Some((_, relay)) = held {
            let listed = consensus.consensus().router(&id(0));
            let vote = authority.own_vote.as_ref().unwrap().vote();
            let entry: Option<&VoteRouter> = vote.router(&id(0));
            let is_votable = relay.desc.protocols().is_some();
            prop_assert_eq!(entry.is_some(), is_votable);
            prop_assert_eq!(listed.is_some(), is_votable && !relay.desc.is_hibernating);
            if let Some(entry) = entry {
                prop_assert_eq!(&entry.status.protocols, &relay.desc.proto);
                prop_assert_eq!(entry.status.descriptor_digest, relay.desc.digest);
                let digest = entry.microdesc_digest(37).unwrap();
                let text = cepa_netdoc::microdesc::from_descriptor(&relay.desc, 37).unwrap();
                let read = cepa_netdoc::microdesc::Microdesc::parse(&text).unwrap();
                prop_assert_eq!(read.digest, digest);
            }
        }
    }
}
