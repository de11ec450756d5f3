//! The control port of a `tor` (control-spec): asked in lines, and the circuits that it tells of.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::until;

/// How long an answer, or the port itself, may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection to the control port of a `tor` that asks for no password.
pub(crate) struct Control {
    stream: BufReader<TcpStream>,
    /// Events that came while an answer was waited for.
    events: VecDeque<String>,
}

impl Control {
    /// Connects.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = until(ANSWER_MAX, "a control port", || {
            TcpStream::connect(addr).ok()
        });
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        let mut control = Self {
            stream: BufReader::new(stream),
            events: VecDeque::new(),
        };
        control.ask("AUTHENTICATE");
        control
    }

    /// Asks for something that must be granted; gives the lines of the answer.
    pub(crate) fn ask(&mut self, question: &str) -> Vec<String> {
        let (lines, is_granted) = self.try_ask(question);
        assert!(is_granted, "{question}: {lines:?}");
        lines
    }

    fn try_ask(&mut self, question: &str) -> (Vec<String>, bool) {
        let stream = self.stream.get_mut();
        stream
            .write_all(format!("{question}\r\n").as_bytes())
            .unwrap();
        let mut lines = Vec::new();
        let mut is_data = false;
        loop {
            let mut line = String::new();
            let len = self.stream.read_line(&mut line).unwrap();
            assert!(len > 0, "the control port has closed");
            let line = line.trim_end().to_owned();
            if is_data {
                is_data = line != ".";
                lines.push(line);
            } else if line.starts_with("650") {
                self.events.push_back(line);
            } else {
                is_data = line.get(3..4) == Some("+");
                let is_last = line.get(3..4) == Some(" ");
                let is_granted = line.starts_with("250");
                lines.push(line);
                if is_last {
                    return (lines, is_granted);
                }
            }
        }
    }

    /// Closes all circuits, and forgets what was told of them.
    pub(crate) fn close_circuits(&mut self) {
        for line in self.ask("GETINFO circuit-status") {
            let line = line.trim_start_matches("250-circuit-status=");
            let id = line.split(' ').next().unwrap_or_default();
            if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
                // It may be gone by now.
                self.try_ask(&format!("CLOSECIRCUIT {id}"));
            }
        }
        self.events.clear();
    }

    /// The circuits to exits that were built since this was last asked, by nicknames.
    pub(crate) fn built(&mut self) -> Vec<Vec<String>> {
        // Events come before the answer to what is asked after them.
        self.ask("GETINFO version");
        let events = self.events.drain(..);
        events.filter_map(|event| built(&event)).collect()
    }
}

/// The hops of `650 CIRC ID BUILT $ID~NICKNAME,... KEY=VALUE ...`, if it is a circuit to an exit.
fn built(event: &str) -> Option<Vec<String>> {
    let mut words = event.strip_prefix("650 CIRC ")?.split(' ').skip(1);
    let (status, path) = (words.next()?, words.next()?);
    let rest: Vec<&str> = words.collect();
    let is_general = rest.contains(&"PURPOSE=GENERAL");
    let is_other = rest.iter().any(|word| {
        let flags = word.strip_prefix("BUILD_FLAGS=");
        flags.is_some_and(|flags| {
            let mut flags = flags.split(',');
            flags.any(|flag| matches!(flag, "IS_INTERNAL" | "ONEHOP_TUNNEL"))
        })
    });
    (status == "BUILT" && is_general && !is_other).then(|| {
        let hops = path.split(',');
        hops.filter_map(|hop| hop.split('~').nth(1).map(str::to_owned))
            .collect()
    })
}
