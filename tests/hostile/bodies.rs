//! HTTP at a directory: heads that hold a place, bodies that nobody asked for, questions whose
//! answer is a hundred times as long. The honest ask an authority for its consensus.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cepa_wire::relay::RelayCommand;

use crate::attacker::circuit::Circuit;
use crate::attacker::link::Link;
use crate::attacker::{Sources, http, tcp};
use crate::trial::{FLOOD, Flood, Trial};
use crate::world::{HONEST, World};

/// What a DirPort takes of today's connections, and some.
const HEADS: usize = 1100;
/// As long as any body that is taken.
pub(crate) const BODY_LEN: usize = 16 << 20;
/// The authority under attack, and a plain relay.
pub(crate) const AUTHORITY: &str = "auth1";
const RELAY: &str = "relay2";
/// Cells of a stream that may be on their way.
const WINDOW_CELLS: usize = 500;

/// Heads without a body, at each DirPort, over two voting rounds.
pub(crate) fn heads(world: &World) {
    let name = "heads without a body on DirPorts";
    heads_from(world, name, |from, _| from.one());
}

/// The same of many addresses.
pub(crate) fn heads_of_many(world: &World) {
    let name = "heads without a body, many addresses";
    heads_from(world, name, Sources::host);
}

fn heads_from(world: &World, name: &'static str, from: fn(Sources, usize) -> Ipv4Addr) {
    let (sources, dirs) = (Sources::claim(), world.dirs());
    let mut trial = readers(world, name);
    let before = world.valid_after();
    let all = (0..HEADS).flat_map(|number| dirs.iter().map(move |dir| (number, *dir)));
    let held: Vec<_> = all
        .filter_map(|(number, dir)| {
            let from = from(sources, number);
            http::head_only(from, dir, "/tor/post/vote", 1000).ok()
        })
        .collect();
    trial.during();
    world.two_rounds_after(&before);
    let done = held.len();
    drop(held);
    trial.end(done, "connections", 64, 24);
}

/// Heads that come one byte at a time, of many addresses.
pub(crate) fn slow_heads(world: &World) {
    let (from, dir) = (Sources::claim(), world.node(AUTHORITY).dir.unwrap());
    let mut trial = readers(world, "heads of one byte a second");
    let mut held: Vec<_> = (0..HEADS)
        .filter_map(|number| tcp::dial(from.host(number), dir).ok())
        .collect();
    for byte in b"GET /" {
        held.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
    }
    trial.during();
    let done = held.len();
    drop(held);
    trial.end(done, "connections", 32, 24);
}

/// Bodies of 16 MiB, but for their last byte, for paths that take none and for one that does.
pub(crate) fn bodies(world: &World) {
    let (from, dir) = (Sources::claim(), world.node(AUTHORITY).dir.unwrap());
    let mut trial = readers(world, "bodies of 16 MiB on a DirPort");
    let block = vec![b'a'; 1 << 20];
    let mut sent = 0;
    let held: Vec<_> = (0..24)
        .filter_map(|number| {
            let path = ["/no/such/path", "/tor/", "/tor/post/vote"][number % 3];
            let mut stream = http::head_only(from.host(number), dir, path, BODY_LEN).ok()?;
            stream
                .set_write_timeout(Some(Duration::from_secs(2)))
                .ok()?;
            for part in 0..16 {
                let len = block.len() - usize::from(part == 15);
                // Refused, or not read: the connection stays as it is.
                if stream.write_all(&block[..len]).is_err() {
                    break;
                }
                sent += 1;
            }
            Some(stream)
        })
        .collect();
    trial.during();
    let what = format!("connections, {sent} MiB");
    let done = held.len();
    drop(held);
    trial.end(done, &what, 64, 24);
}

/// The same over BEGIN_DIR streams of a plain relay, which nothing is posted to.
pub(crate) fn tunnelled(world: &World) {
    let mut trial = world.newcomers("bodies over BEGIN_DIR", RELAY);
    let (from, or) = (Sources::claim(), world.target(RELAY).or);
    let threads: Vec<_> = (0..4)
        .map(|number| std::thread::spawn(move || pour(from.prefix(number), or)))
        .collect();
    let poured = threads.into_iter().map(|thread| thread.join().unwrap());
    let (links, sent): (Vec<_>, Vec<_>) = poured.flatten().unzip();
    trial.during();
    let what = format!("circuits, {} KiB", sent.iter().sum::<usize>() >> 10);
    let done = links.len();
    drop(links);
    trial.end(done, &what, 16, 12);
}

/// Sends up to 6 MiB of a body; the link that holds it.
fn pour(from: Ipv4Addr, or: SocketAddr) -> Option<(Link, usize)> {
    const LEN: usize = 6 << 20;
    let mut link = Link::open(from, or).ok()?;
    let mut circuit = Circuit::fast(&mut link).ok()?;
    let begin = RelayCommand::BEGIN_DIR;
    circuit.send(&mut link, begin, 1, &[]).ok()?;
    circuit.wait_for(&mut link, RelayCommand::CONNECTED).ok()?;
    let head = http::head("POST", "/no/such/path", LEN + 1);
    let data = RelayCommand::DATA;
    circuit.send(&mut link, data, 1, head.as_bytes()).ok()?;
    link.set_timeout(Duration::from_secs(2));
    let (mut credit, mut sent) = (WINDOW_CELLS - 1, 0);
    while sent < LEN {
        if credit == 0 {
            match circuit.receive(&mut link) {
                Ok((RelayCommand::SENDME, 1, _)) => credit += 50,
                Ok((RelayCommand::END, ..)) | Err(_) => break,
                Ok(_) => {}
            }
            continue;
        }
        if circuit.send(&mut link, data, 1, &[b'a'; 498]).is_err() {
            break;
        }
        (credit, sent) = (credit - 1, sent + 498);
    }
    Some((link, sent))
}

/// One digest, asked for many times in one question.
pub(crate) fn repeated(world: &World) {
    let (from, dir) = (Sources::claim().one(), world.node(AUTHORITY).dir.unwrap());
    let mut trial = readers(world, "one digest many times in a question");
    let rsa = world.target(AUTHORITY).rsa.to_string();
    let once = http::fetch(from, dir, &format!("/tor/server/fp/{rsa}")).unwrap();
    let path = format!("/tor/server/fp/{}", vec![rsa; 300].join("+"));
    let many = http::fetch(from, dir, &path).unwrap();
    println!(
        "{} bytes for one, {} for 300",
        once.body.len(),
        many.body.len()
    );
    trial.during();
    trial.end(1, "question of 300 digests", 16, 12);
    assert_eq!(once.status, 200);
    assert!(many.body.len() <= 2 * once.body.len());
}

/// Questions for documents, as fast as one address can ask them.
pub(crate) fn questions(world: &World) {
    let (from, dir) = (Sources::claim().one(), world.node(AUTHORITY).dir.unwrap());
    let mut trial = readers(world, "questions without end on a DirPort");
    let flood = Flood::start(4, move |_, goes_on| {
        let mut asked = 0;
        while goes_on() {
            let path = "/tor/status-vote/current/consensus";
            // Not read: only asked.
            let stream = tcp::dial(from, dir);
            let ask = |mut stream: std::net::TcpStream| {
                stream.write_all(http::head("GET", path, 0).as_bytes())
            };
            asked += usize::from(stream.and_then(ask).is_ok());
        }
        asked
    });
    let asked = trial.during_flood(flood, FLOOD);
    trial.end(asked, "questions", 64, 32);
}

/// A trial whose honest people read an authority's consensus.
pub(crate) fn readers<'w>(world: &'w World, name: &'static str) -> Trial<'w> {
    let node = world.node(AUTHORITY);
    let dir = node.dir.unwrap();
    let ask = move || {
        let started = crate::support::now();
        let path = "/tor/status-vote/current/consensus";
        match http::fetch(HONEST, dir, path) {
            Ok(answer) if answer.status == 200 => Ok(crate::support::now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    };
    Trial::begin(name, node.pid.unwrap(), Box::new(ask))
}
