//! Directories that lie: a consensus signed by keys that nobody has heard of must not keep a
//! relay from asking another directory.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cepa_netdoc::timestamp;

use crate::attacker::{circuit, descriptor, http};
use crate::support::{now, until};
use crate::world::{HONEST, World};

/// How long the forgery claims to hold.
const VALID: Duration = Duration::from_secs(6 * 3600);
/// How long a relay may take to find a directory that does not lie, on a busy machine.
const FOUND_MAX: Duration = Duration::from_secs(40);
const CONSENSUS: &str = "/tor/status-vote/current/consensus";
/// The last bytes of a request's head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Relays that start where two directories of three lie.
pub(crate) fn consensus(world: &World) {
    let dirs = world.dirs();
    let text = std::fs::read_to_string(&world.network.summary.network).unwrap();
    let lie = |number: u8| {
        let dir = dirs[usize::from(number)];
        (dir, lying(Ipv4Addr::new(127, 95, 0, number + 1), dir))
    };
    let lies = [lie(0), lie(1)];
    let replace = |text: String, (dir, liar): &(SocketAddr, SocketAddr)| {
        let (was, is) = (format!("dir = \"{dir}\""), format!("dir = \"{liar}\""));
        assert!(text.contains(&was), "{text}");
        text.replace(&was, &is)
    };
    let text = lies.iter().fold(text, replace);
    let network = world.folder("forged").join("network.toml");
    std::fs::write(&network, text).unwrap();
    let started = now();
    // One may be lucky with its first directory; three are not.
    let port = world.targets["auth1"].or.port();
    let relays = [1, 2, 3].map(|number: u8| {
        let or = SocketAddr::from(([127, 96, number, 1], port));
        world.solo_of(&network, &format!("reader{number}"), or, 1000, "")
    });
    for relay in &relays {
        until(FOUND_MAX, "a relay with a consensus", || {
            let answer = circuit::ask(HONEST, relay.or, CONSENSUS)?;
            (answer.status == 200 && !answer.body.is_empty()).then_some(())
        });
    }
    println!("after {:.1} s", now().duration_since(started).as_secs_f64());
}

/// A directory that answers as `dir` does, but for consensuses.
fn lying(ip: Ipv4Addr, dir: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever goes away early is no loss.
            std::thread::spawn(move || answer(stream, dir));
        }
    });
    addr
}

fn answer(mut near: TcpStream, dir: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut block = [0; 4096];
    while !head.windows(4).any(|four| four == HEAD_END) {
        match near.read(&mut block)? {
            0 => return Ok(()),
            len => head.extend_from_slice(&block[..len]),
        }
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.starts_with(CONSENSUS) {
        let good = http::fetch(HONEST, dir, path.trim_end_matches(".z"))?;
        let body = forge(&String::from_utf8_lossy(&good.body));
        let len = body.len();
        write!(near, "HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n")?;
        return near.write_all(body.as_bytes());
    }
    let mut far = TcpStream::connect(dir)?;
    far.write_all(&head)?;
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    let upload = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut far, &mut near)?;
    near.shutdown(std::net::Shutdown::Both)?;
    drop(upload);
    Ok(())
}

/// The same document, valid for long, with signatures of keys that nobody knows.
fn forge(text: &str) -> String {
    let line = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        let unknown = "AB".repeat(20);
        match words[0] {
            "directory-signature" => {
                words.pop();
                format!("{} {unknown}\n", words.join(" "))
            }
            "valid-until" => {
                let until = timestamp::encode(descriptor::now() + VALID);
                format!("valid-until {until}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}
