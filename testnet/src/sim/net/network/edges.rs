//! What stands at the ends of streams: servers, applications, directories.
//!
//! An application asks a server for so many bytes (sixteen bytes: a number, a size) and gets a
//! pattern that only this number has, so that each byte that is lost, doubled or swapped tells.

use std::time::Duration;

use cepa_client::FetchId;

/// Bytes of a request of an application.
pub(super) const ASK_LEN: usize = 16;
/// Bytes that a server puts into a stream at a time.
pub(super) const CHUNK: usize = 16 * 1024;

/// What an application asks with.
pub(super) fn ask(number: u64, size: u64) -> Vec<u8> {
    [number.to_be_bytes(), size.to_be_bytes()].concat()
}

/// A byte of what it gets.
fn pattern(number: u64, at: u64) -> u8 {
    let mixed = (number ^ (at << 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_be_bytes().first().copied().unwrap_or(0)
}

/// The end of a stream.
pub(super) enum Edge {
    Server(Server),
    App(App),
    /// A directory that is asked over BEGIN_DIR; whether whoever asks is behind a circuit.
    Directory(Exchange, bool),
    /// A client that asks one.
    Fetch(FetchId, Exchange),
}

/// A server, which answers what it is asked.
#[derive(Default)]
pub(super) struct Server {
    input: Vec<u8>,
    sent: u64,
}

impl Server {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let missing = ASK_LEN.saturating_sub(self.input.len());
        self.input.extend(bytes.iter().take(missing));
    }

    fn asked(&self) -> Option<(u64, u64)> {
        let number = self.input.get(..8)?.try_into().ok()?;
        let size = self.input.get(8..ASK_LEN)?.try_into().ok()?;
        Some((u64::from_be_bytes(number), u64::from_be_bytes(size)))
    }

    /// What it says next, at most so much.
    pub(super) fn say(&mut self, room: usize) -> Vec<u8> {
        let Some((number, size)) = self.asked() else {
            return Vec::new();
        };
        let until = size.min(self.sent + room.min(CHUNK) as u64);
        let bytes = (self.sent..until).map(|at| pattern(number, at)).collect();
        self.sent = until;
        bytes
    }

    /// Whether it has said all.
    pub(super) fn is_done(&self) -> bool {
        self.asked().is_some_and(|(_, size)| self.sent >= size)
    }
}

/// An application.
pub(super) struct App {
    pub(super) number: u64,
    pub(super) size: u64,
    pub(super) asked: Duration,
    pub(super) first: Option<Duration>,
    pub(super) got: u64,
    pub(super) is_onion: bool,
}

impl App {
    /// Takes bytes; says whether they are those that must come next.
    #[must_use]
    pub(super) fn take(&mut self, bytes: &[u8], at: Duration) -> bool {
        if !bytes.is_empty() {
            self.first.get_or_insert(at);
        }
        let from = self.got;
        self.got += bytes.len() as u64;
        let expected = (from..).map(|at| pattern(self.number, at));
        self.got <= self.size && bytes.iter().copied().eq(expected.take(bytes.len()))
    }
}

/// A request and its reply over a stream.
pub(super) struct Exchange {
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) sent: usize,
}

impl Exchange {
    pub(super) fn new(output: Vec<u8>) -> Self {
        Exchange {
            input: Vec::new(),
            output,
            sent: 0,
        }
    }

    /// What goes out next, at most so much.
    pub(super) fn say(&mut self, room: usize) -> Vec<u8> {
        let rest = self.output.get(self.sent..).unwrap_or_default();
        let now = rest
            .get(..room.min(rest.len()))
            .unwrap_or_default()
            .to_vec();
        self.sent += now.len();
        now
    }

    pub(super) fn is_sent(&self) -> bool {
        !self.output.is_empty() && self.sent >= self.output.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_tells_every_wrong_byte() {
        let app = || App {
            number: 7,
            size: 1000,
            asked: Duration::ZERO,
            first: None,
            got: 0,
            is_onion: false,
        };
        let mut server = Server::default();
        server.take(&ask(7, 1000));
        let bytes = server.say(5000);
        assert!(bytes.len() == 1000 && server.is_done());
        assert!(app().take(&bytes, Duration::ZERO));
        assert!(!app().take(&bytes[1..], Duration::ZERO));
        assert!(!app().take(&[&bytes[..500], &bytes[501..]].concat(), Duration::ZERO));
        assert!(!app().take(&[&bytes[..], &[0]].concat(), Duration::ZERO));
    }
}
