//! A transport that is starting: what it has said so far, and whether that is all
//! (pt-spec 3.3.1 to 3.3.3).
//!
//! ```text
//! VERSION ─▶ [PROXY DONE] ─▶ CMETHOD… or SMETHOD… ─▶ METHODS DONE ─▶ methods
//! ```
//!
//! What a transport says out of turn, or of what it was not asked for, is passed over; what it
//! claims twice counts once. A client's transport must listen on this machine: else traffic would
//! go, in the clear of the transport, to where it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::arguments::Arguments;
use crate::environment::VERSION;
use crate::message::{Message, SocksVersion};
use crate::name::TransportName;

/// Which end a transport serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It connects to bridges.
    Client,
    /// It listens for a bridge.
    Server,
}

/// How a transport serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// A client asks it there, by this version of SOCKS.
    Client(SocksVersion, SocketAddr),
    /// It listens there; clients must be told these arguments.
    Server(SocketAddr, Arguments),
    /// It cannot serve, for this reason.
    Failed(String),
}

/// Why a program is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// It said so itself.
    #[error("it says {0} {1}")]
    Fatal(&'static str, String),
    /// It speaks a version that we do not.
    #[error("it speaks version {0} of the specification, and not {VERSION}")]
    Version(String),
    /// It named methods before its version, or has not heard of its proxy.
    #[error("it said {0} out of turn")]
    OutOfTurn(&'static str),
    /// A line cannot be read.
    #[error("it said what cannot be read: {0}")]
    Malformed(String),
}

/// What a program that is starting has said.
#[derive(Debug)]
pub struct Startup {
    end: End,
    has_version: bool,
    /// It was told a proxy, and has not said that it goes through it.
    awaits_proxy: bool,
    /// What it was asked for.
    methods: BTreeMap<TransportName, Option<Method>>,
}

impl Startup {
    /// Nothing has been said yet by a program that was asked for these transports.
    pub fn new(
        end: End,
        transports: impl IntoIterator<Item = TransportName>,
        has_proxy: bool,
    ) -> Self {
        Startup {
            end,
            has_version: false,
            awaits_proxy: has_proxy,
            methods: transports.into_iter().map(|name| (name, None)).collect(),
        }
    }

    /// Takes a message. True once the program serves, with the methods that [`Startup::methods`]
    /// has by then.
    pub fn handle(&mut self, message: Message) -> Result<bool, StartupError> {
        match message {
            Message::Version(version) if version == VERSION => self.has_version = true,
            Message::Version(version) => return Err(StartupError::Version(version)),
            Message::Fatal(keyword, why) => return Err(StartupError::Fatal(keyword, why)),
            Message::Malformed(line) => return Err(StartupError::Malformed(line)),
            Message::ProxyDone => self.awaits_proxy = false,
            Message::ClientMethod(name, socks, addr) => {
                self.in_turn("CMETHOD")?;
                let method = match addr.ip().is_loopback() {
                    true => Method::Client(socks, addr),
                    false => Method::Failed(format!("it listens at {addr}, not on this machine")),
                };
                self.take(End::Client, &name, method);
            }
            Message::ServerMethod(name, addr, args) => {
                self.in_turn("SMETHOD")?;
                self.take(End::Server, &name, Method::Server(addr, args));
            }
            Message::MethodError(name, why) => {
                self.in_turn("an error of a method")?;
                self.take(self.end, &name, Method::Failed(why));
            }
            Message::MethodsDone => {
                self.in_turn("METHODS DONE")?;
                return Ok(true);
            }
            Message::Log(..) | Message::Status(_) | Message::Unknown => {}
        }
        Ok(false)
    }

    fn in_turn(&self, what: &'static str) -> Result<(), StartupError> {
        match self.has_version && !self.awaits_proxy {
            true => Ok(()),
            false => Err(StartupError::OutOfTurn(what)),
        }
    }

    fn take(&mut self, end: End, name: &TransportName, method: Method) {
        if let Some(asked) = self.methods.get_mut(name).filter(|_| end == self.end) {
            asked.get_or_insert(method);
        }
    }

    /// How each transport serves that was asked for; one that was never named does not.
    #[must_use]
    pub fn methods(self) -> BTreeMap<TransportName, Method> {
        let methods = self.methods.into_iter();
        let unknown = || Method::Failed("the program does not know it".to_owned());
        methods
            .map(|(name, method)| (name, method.unwrap_or_else(unknown)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> TransportName {
        text.parse().unwrap()
    }

    fn run(startup: &mut Startup, lines: &[&str]) -> Result<bool, StartupError> {
        for line in lines {
            if startup.handle(Message::parse(line))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn client(has_proxy: bool) -> Startup {
        Startup::new(End::Client, [name("obfs4"), name("obfs3")], has_proxy)
    }

    #[test]
    fn a_program_serves_when_it_has_said_all() {
        let mut startup = client(false);
        let lines = [
            "STATUS TYPE=version IMPLEMENTATION=\"lyrebird\"",
            "VERSION 1",
            "CMETHOD obfs4 socks5 127.0.0.1:4",
            "CMETHOD obfs4 socks5 127.0.0.1:5",
            "CMETHOD other socks5 127.0.0.1:6",
            "SMETHOD obfs3 127.0.0.1:7",
            "CMETHODS DONE",
        ];
        assert_eq!(run(&mut startup, &lines), Ok(true));
        let methods = startup.methods();
        let addr = "127.0.0.1:4".parse().unwrap();
        let first = Method::Client(SocksVersion::V5, addr);
        assert_eq!(methods.get(&name("obfs4")), Some(&first));
        assert!(matches!(
            methods.get(&name("obfs3")),
            Some(Method::Failed(_))
        ));
        assert_eq!(methods.len(), 2);
    }

    #[test]
    fn lies_are_seen() {
        let early = run(&mut client(false), &["CMETHODS DONE"]);
        assert_eq!(early, Err(StartupError::OutOfTurn("METHODS DONE")));
        let unproxied = ["VERSION 1", "CMETHOD obfs4 socks5 127.0.0.1:4"];
        let unproxied = run(&mut client(true), &unproxied);
        assert_eq!(unproxied, Err(StartupError::OutOfTurn("CMETHOD")));
        let other = run(&mut client(false), &["VERSION 2"]);
        assert_eq!(other, Err(StartupError::Version("2".into())));
        let mut away = client(false);
        let lines = [
            "VERSION 1",
            "CMETHOD obfs4 socks5 192.0.2.1:4",
            "CMETHODS DONE",
        ];
        assert_eq!(run(&mut away, &lines), Ok(true));
        let methods = away.methods();
        assert!(matches!(
            methods.get(&name("obfs4")),
            Some(Method::Failed(_))
        ));
    }

    proptest! {
        #[test]
        fn only_what_was_asked_for_is_told(
            lines in prop::collection::vec(
                prop::sample::select(vec![
                    "VERSION 1", "VERSION 2", "PROXY DONE", "CMETHOD obfs4 socks5 127.0.0.1:1",
                    "CMETHOD a socks4 127.0.0.1:2", "SMETHOD obfs3 127.0.0.1:3",
                    "CMETHOD-ERROR obfs3 no", "CMETHODS DONE", "LOG SEVERITY=x MESSAGE=y", "", "?",
                ]),
                0..12,
            ),
            has_proxy: bool,
        ) {
            let mut startup = client(has_proxy);
            let ended = run(&mut startup, &lines);
            prop_assert!(ended != Ok(true) || lines.contains(&"VERSION 1"));
            let methods = startup.methods();
            prop_assert_eq!(methods.len(), 2);
            let is_server = |one: &Method| matches!(one, Method::Server(..));
            prop_assert!(!methods.values().any(is_server));
        }
    }
}
