//! A name server for one zone, over UDP: `page.example` is 127.0.0.1 and ::1, and
//! 192.0.2.7 is `page.example`. Everything else does not exist.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// The one name.
pub(crate) const NAME: &str = "page.example";

/// The one address that has a name: for documentation, so that no hosts file knows it.
pub(crate) const NAMED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
/// A reply to a question that could be read; bit 3 of the last byte and below: no such name.
const FLAGS_FOUND: [u8; 2] = [0x84, 0x00];
const FLAGS_MISSING: [u8; 2] = [0x84, 0x03];

/// Starts it on a port that is free; it lives as long as the test.
pub(crate) fn start() -> SocketAddr {
    start_at("127.0.0.1:0")
}

/// The same at an address.
pub(crate) fn start_at(addr: &str) -> SocketAddr {
    let socket = UdpSocket::bind(addr).unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            if let Some(reply) = reply(&packet[..len]) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    addr
}

/// RFC 1035, section 4: the header, the question again, and at most one answer.
fn reply(packet: &[u8]) -> Option<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), 12);
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        name.push(String::from_utf8(packet.get(at..at + len)?.to_vec()).ok()?);
        at += len;
    }
    let name = name.join(".").to_ascii_lowercase();
    let question = packet.get(12..at + 4)?;
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    let data = match (name.as_str(), kind) {
        (NAME, TYPE_A) => Some(vec![127, 0, 0, 1]),
        (NAME, TYPE_AAAA) => Some([&[0; 15][..], &[1]].concat()),
        ("7.2.0.192.in-addr.arpa", TYPE_PTR) => {
            let labels = NAME.split('.').flat_map(|label| {
                let len = u8::try_from(label.len()).unwrap();
                std::iter::once(len).chain(label.bytes())
            });
            Some(labels.chain([0]).collect())
        }
        _ => None,
    };
    let is_known = data.is_some() || name == NAME;
    let flags = if is_known { FLAGS_FOUND } else { FLAGS_MISSING };
    let mut reply = packet.get(..2)?.to_vec();
    reply.extend_from_slice(&flags);
    reply.extend_from_slice(&[0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    reply.extend_from_slice(question);
    if let Some(data) = data {
        // The name is the question's; class IN, a minute.
        reply.extend_from_slice(&[0xC0, 12]);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        reply.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend_from_slice(&data);
    }
    Some(reply)
}
