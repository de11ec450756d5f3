//! What is no SOCKS at a SOCKS port: requests of browsers, SOCKS behind HTTP, TLS, nonsense. No web
//! page opens a stream, and whoever speaks SOCKS is served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use cepa_crypto::Rng;

use crate::attacker::link::hello;
use crate::attacker::{Sources, tcp};
use crate::trial::{FLOOD, Flood};
use crate::world::World;

/// All of it, again and again.
pub(crate) fn garbage(world: &World) {
    let (from, socks) = (Sources::claim(), world.user());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_be_bytes();
    let request = [&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat();
    let http = |head: &str| format!("{head} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let behind = http("POST /") + &format!("Content-Length: {}\r\n\r\n", request.len());
    let texts = [
        http("GET /").into_bytes(),
        http("OPTIONS *").into_bytes(),
        [behind.as_bytes(), &request].concat(),
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &request[..]].concat(),
        hello(),
        [&[5, 255], &[0x55; 255][..], &request].concat(),
        [&[5, 0], &request[..]].concat(),
        [&[4, 1], &port[..], &[127, 0, 0, 1], &[b'u'; 70_000]].concat(),
    ];
    let mut trial = world.users("no SOCKS on a SOCKS port");
    let flood = Flood::start(3, move |thread, goes_on| {
        let mut rng = Rng::from_seed([u8::try_from(thread).unwrap(); 32]);
        let mut asked = 0;
        while goes_on() {
            let mut noise: [u8; 300] = rng.array();
            // No version of SOCKS.
            noise[0] |= 0x80;
            let text = texts.get(asked % (texts.len() + 1));
            let text = text.map_or(&noise[..], Vec::as_slice);
            let mut stream = tcp::dial(from.host(asked), socks).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            // Refused at the first byte, or at the last.
            let _ = stream.write_all(text);
            let mut reply = [0; 16];
            let len = stream.read(&mut reply).unwrap_or(0);
            let (reply, granted) = (&reply[..len], [&[5, 0][..], &[0, 90]]);
            assert!(!granted.iter().any(|it| reply.starts_with(it)), "{text:?}");
            asked += 1;
        }
        asked
    });
    let asked = trial.during_flood(flood, FLOOD);
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "somebody was let through");
    trial.end(asked, "connections", 32, 16);
}
