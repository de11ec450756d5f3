//! Votes and signatures that no authority has sent: long ones, ones that never end, forged ones.
//! The honest ask an authority for its consensus, and the consensus has to come.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cepa_netdoc::timestamp;

use crate::attacker::{Sources, http, tcp};
use crate::bodies::{AUTHORITY, BODY_LEN, readers};
use crate::support::fetch::document;
use crate::trial::Flood;
use crate::world::World;

/// As long as signatures may be, and some.
const SIGNATURES_LEN: [usize; 2] = [1 << 20, 2 << 20];
/// Bytes of a vote that are sent before the stranger falls silent: its head, and some entries.
const HEAD_LEN: usize = 8000;

/// Votes of strangers, of 16 MiB each, of lines that a vote has.
pub(crate) fn strange_votes(world: &World) {
    let dir = world.node(AUTHORITY).dir.unwrap();
    let vote = upcoming(&world.vote(0), 1);
    let (head, rest) = vote.split_once("\ndir-source ").unwrap();
    let line = "r nobody AAAAAAAAAAAAAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAAAAAAAAAAAAA \
                2038-01-01 00:00:00 127.0.0.1 1 0\ns Running\n";
    let more = line.repeat((BODY_LEN - vote.len()) / line.len() - 1);
    let (source, tail) = rest.split_once("directory-footer").unwrap();
    let text = format!("{head}\ndir-source {source}{more}directory-footer{tail}");
    assert!(text.len() < BODY_LEN);
    let mut trial = readers(world, "votes of 16 MiB of strangers");
    let before = world.valid_after();
    let (from, text) = (Sources::claim(), Arc::new(text));
    let flood = Flood::start(2, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let path = ["/tor/post/vote", "/tor/post/consensus-signature"][number % 2];
            let posted = http::post(from.host(number), dir, path, text.as_bytes());
            sent += usize::from(posted.is_ok());
        }
        sent
    });
    trial.during();
    world.two_rounds_after(&before);
    trial.end(flood.stop(), "uploads", 128, 48);
}

/// Votes of each authority for the coming interval, at each authority, which never end: a stranger
/// has the place of a vote on its way, and its author is heard all the same.
pub(crate) fn held_votes(world: &World) {
    let (from, dirs) = (Sources::claim(), world.dirs());
    let votes: Vec<_> = (0..dirs.len()).map(|number| world.vote(number)).collect();
    let mut trial = readers(world, "votes that never end");
    let before = world.valid_after();
    let flood = Flood::start(1, move |_, goes_on| {
        let mut held = Vec::new();
        for (round, interval) in (0..).zip((1..5).cycle()).take_while(|_| goes_on()) {
            for (vote, dir) in votes
                .iter()
                .flat_map(|vote| dirs.iter().map(move |dir| (vote, dir)))
            {
                let begun = upcoming(vote, interval);
                held.extend(hold(from.host(round), *dir, &begun).ok());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let stays = |stream: &&TcpStream| !tcp::is_closed(stream);
        held.iter().filter(stays).count()
    });
    trial.during();
    world.two_rounds_after(&before);
    trial.end(flood.stop(), "votes held in their middle", 64, 32);
}

/// Sends the beginning of a vote.
fn hold(from: Ipv4Addr, dir: SocketAddr, vote: &str) -> std::io::Result<TcpStream> {
    let mut stream = http::head_only(from, dir, "/tor/post/vote", vote.len())?;
    stream.write_all(&vote.as_bytes()[..HEAD_LEN.min(vote.len() / 2)])?;
    Ok(stream)
}

/// Signatures of nobody, forged ones of all authorities, long ones, over two voting rounds.
pub(crate) fn signatures(world: &World) {
    let (from, dir) = (Sources::claim(), world.node(AUTHORITY).dir.unwrap());
    let consensus = document(dir, "/tor/status-vote/current/consensus").unwrap();
    let mut trial = readers(world, "signatures of strangers");
    let before = world.valid_after();
    let texts = [1, 2].map(|rounds| forged(&upcoming(&consensus, rounds)));
    let long = SIGNATURES_LEN.map(|len| texts[0].clone() + &signature_of(&consensus, len));
    let texts: Vec<_> = texts.into_iter().chain(long).collect();
    let flood = Flood::start(3, move |thread, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let text = &texts[sent % texts.len()];
            let path = "/tor/post/consensus-signature";
            let posted = http::post(from.prefix(thread), dir, path, text.as_bytes());
            sent += usize::from(posted.is_ok());
        }
        sent
    });
    trial.during();
    world.two_rounds_after(&before);
    trial.end(flood.stop(), "documents of signatures", 64, 32);
}

/// A document with an authority's names and a signature that is none of theirs.
fn forged(consensus: &str) -> String {
    let mut text = format!("consensus-digest {}\n", "AB".repeat(20));
    for keyword in ["valid-after ", "fresh-until ", "valid-until "] {
        let line = consensus.lines().find(|line| line.starts_with(keyword));
        text += &format!("{}\n", line.unwrap());
    }
    text + &signature_of(consensus, 0)
}

/// The signatures of a consensus, which are none of another, again and again.
fn signature_of(consensus: &str, len: usize) -> String {
    let (_, all) = consensus.split_once("\ndirectory-signature ").unwrap();
    let all = format!("directory-signature {all}");
    all.repeat(len / all.len() + 1)
}

/// The same document for an interval so many later.
fn upcoming(text: &str, intervals: u32) -> String {
    let time = |keyword: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(keyword));
        timestamp::parse(found.unwrap()).unwrap()
    };
    let interval = time("fresh-until ").duration_since(time("valid-after "));
    let later = interval.unwrap() * intervals;
    let shifted = |line: &str| {
        let keywords = ["valid-after ", "fresh-until ", "valid-until "];
        match keywords.iter().find(|keyword| line.starts_with(**keyword)) {
            Some(keyword) => format!("{keyword}{}\n", timestamp::encode(time(keyword) + later)),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(shifted).collect()
}
