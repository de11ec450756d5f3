//! Directory requests over streams: as much of HTTP as both ends here need (dir-spec 4).

use std::fmt::Write as _;

use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_dir::request::DIFF_HEADER;

const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH: &str = "Content-Length: ";

/// A request that was read.
pub(super) struct Request {
    pub(super) request: DirRequest,
    pub(super) body: Vec<u8>,
}

/// The bytes of a request.
pub(super) fn request(request: &DirRequest, body: &[u8]) -> Vec<u8> {
    let method = if request.is_post() { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/1.0\r\n", request.path());
    for (name, value) in request.headers() {
        // Writing to a string does not fail.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    message(text, body)
}

/// The bytes of a reply.
pub(super) fn reply(status: u16, body: &[u8]) -> Vec<u8> {
    message(format!("HTTP/1.0 {status} said\r\n"), body)
}

fn message(head: String, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{head}{LENGTH}{}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Head and body, once all is there.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes
        .windows(HEAD_END.len())
        .position(|window| window == HEAD_END)?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let len = head.lines().find_map(|line| line.strip_prefix(LENGTH))?;
    let start = end + HEAD_END.len();
    let body = bytes.get(start..start + len.parse::<usize>().ok()?)?;
    Some((head, body))
}

/// Reads a request; nothing while it is not whole, or if it is none.
pub(super) fn read_request(bytes: &[u8]) -> Option<Request> {
    let (head, body) = split(bytes)?;
    let mut words = head.lines().next()?.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let prefix = format!("{DIFF_HEADER}: ");
    let diff = head.lines().find_map(|line| line.strip_prefix(&prefix));
    let (request, _) = DirRequest::parse(method, path, diff).ok()?;
    Some(Request {
        request,
        body: body.to_vec(),
    })
}

/// Reads a reply; nothing while it is not whole.
pub(super) fn read_reply(bytes: &[u8]) -> Option<Reply> {
    let (head, body) = split(bytes)?;
    let status = head.lines().next()?.split(' ').nth(1)?;
    Some(Reply {
        status: status.parse().ok()?,
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let asked = DirRequest::HsDescriptor([7; 32]);
        let bytes = request(&asked, b"");
        assert_eq!(read_request(&bytes).map(|read| read.request), Some(asked));
        assert!(read_request(&bytes[..bytes.len() - 1]).is_none());
        let bytes = reply(404, b"nothing");
        let read = read_reply(&bytes).expect("it is whole");
        assert_eq!((read.status, &read.body[..]), (404, &b"nothing"[..]));
    }
}
