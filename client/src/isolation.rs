//! Which streams may share a circuit (path-spec 2; the flags of `SocksPort` in tor(1)).
//!
//! Each listener has [`IsolationRules`]; what they do not look at is left out of an [`Isolation`],
//! so that two streams may share a circuit exactly if theirs are equal. A circuit is bound by its
//! first stream, and for good. By default streams of different listeners, client addresses or
//! credentials share none.

use std::net::{IpAddr, SocketAddr};

use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksRequest, SocksVersion};
use serde::Serializer;

/// The protocol in which an application speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS, of a version.
    Socks(SocksVersion),
    /// The application asked by HTTP CONNECT.
    HttpConnect,
    /// The application speaks no protocol of ours: the firewall led its connection here.
    Transparent,
    /// The application asked a question of the DNS.
    Dns,
}

/// Whose request a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSource {
    /// The application's address.
    pub addr: SocketAddr,
    /// How the application speaks to us.
    pub protocol: Protocol,
}

/// What a listener's streams are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsolationRules {
    /// Applications of different addresses share no circuit (`IsolateClientAddr`).
    pub client_addr: bool,
    /// Different credentials share no circuit (`IsolateSOCKSAuth`).
    pub auth: bool,
    /// Different protocols of applications share no circuit (`IsolateClientProtocol`).
    pub protocol: bool,
    /// Different names or addresses of destinations share no circuit (`IsolateDestAddr`).
    pub dest_addr: bool,
    /// Different ports of destinations share no circuit (`IsolateDestPort`).
    pub dest_port: bool,
    /// Circuits with credentials live for as long as they are used (`KeepAliveIsolateSOCKSAuth`).
    pub keeps_alive: bool,
    /// Streams of all listeners of one group may share a circuit (`SessionGroup`); else each
    /// listener is a group of its own.
    pub session_group: Option<u32>,
}

impl Default for IsolationRules {
    fn default() -> Self {
        IsolationRules {
            client_addr: true,
            auth: true,
            protocol: false,
            dest_addr: false,
            dest_port: false,
            keeps_alive: false,
            session_group: None,
        }
    }
}

/// A word that is no flag of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an isolation flag")]
pub struct UnknownFlag;

impl IsolationRules {
    /// Adds a flag as `tor` names it, in any case of letters; `No` before it takes it back.
    pub fn add_flag(&mut self, flag: &str) -> Result<(), UnknownFlag> {
        let flag = flag.to_ascii_lowercase();
        if let Some(number) = flag.strip_prefix("sessiongroup=") {
            self.session_group = Some(number.parse().map_err(|_| UnknownFlag)?);
            return Ok(());
        }
        let (name, is_on) = match flag.strip_prefix("no") {
            Some(name) => (name, false),
            None => (flag.as_str(), true),
        };
        *match name {
            "isolateclientaddr" => &mut self.client_addr,
            "isolatesocksauth" => &mut self.auth,
            "isolateclientprotocol" => &mut self.protocol,
            "isolatedestaddr" => &mut self.dest_addr,
            "isolatedestport" => &mut self.dest_port,
            "keepaliveisolatesocksauth" => &mut self.keeps_alive,
            _ => return Err(UnknownFlag),
        } = is_on;
        Ok(())
    }
}

/// Listeners whose streams may share circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// One only.
    Listener(SocketAddr),
    /// All those of this number (`SessionGroup`).
    Session(u32),
}

/// All that must be equal for two streams to share a circuit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Isolation {
    /// The listener.
    pub group: Group,
    /// The application's address.
    pub client: Option<IpAddr>,
    /// The application's credentials; as JSON, its name only.
    #[serde(serialize_with = "user_of")]
    pub auth: Option<SocksAuth>,
    /// The application's protocol.
    #[serde(skip)]
    pub protocol: Option<Protocol>,
    /// The destination's name or address.
    #[serde(serialize_with = "host")]
    pub dest_addr: Option<Host>,
    /// The destination's port.
    pub dest_port: Option<u16>,
    /// Circuits live for as long as such streams come.
    pub keeps_alive: bool,
    /// Counts the user's wishes for a new identity.
    pub session: u64,
}

impl Isolation {
    /// The isolation of a request that came to `listener` from `source`.
    #[must_use]
    pub fn new(
        rules: &IsolationRules,
        listener: SocketAddr,
        source: StreamSource,
        request: &SocksRequest,
    ) -> Self {
        let address = match &request.address {
            Host::Name(name) => Host::Name(name.trim_end_matches('.').to_ascii_lowercase()),
            address => address.clone(),
        };
        let auth = rules.auth.then(|| request.auth.clone());
        let has_auth = auth.as_ref().is_some_and(|auth| *auth != SocksAuth::None);
        Isolation {
            group: match rules.session_group {
                Some(group) => Group::Session(group),
                None => Group::Listener(listener),
            },
            client: rules.client_addr.then_some(source.addr.ip()),
            auth,
            protocol: rules.protocol.then_some(source.protocol),
            dest_addr: rules.dest_addr.then_some(address),
            dest_port: rules.dest_port.then_some(request.port),
            keeps_alive: rules.keeps_alive && has_auth,
            session: 0,
        }
    }

    /// The isolation of streams that come from no application.
    #[must_use]
    pub fn internal(session: u64) -> Self {
        Isolation {
            group: Group::Listener(SocketAddr::from(([0, 0, 0, 0], 0))),
            client: None,
            auth: None,
            protocol: None,
            dest_addr: None,
            dest_port: None,
            keeps_alive: false,
            session,
        }
    }
}

/// The name only: a password is nobody else's.
pub(crate) fn user<S: Serializer>(auth: &SocksAuth, serializer: S) -> Result<S::Ok, S::Error> {
    match auth {
        SocksAuth::None => serializer.serialize_none(),
        SocksAuth::Username(name, _) | SocksAuth::Socks4(name) => {
            serializer.serialize_some(&String::from_utf8_lossy(name))
        }
    }
}

fn user_of<S: Serializer>(auth: &Option<SocksAuth>, serializer: S) -> Result<S::Ok, S::Error> {
    match auth {
        None => serializer.serialize_none(),
        Some(auth) => user(auth, serializer),
    }
}

fn host<S: Serializer>(host: &Option<Host>, serializer: S) -> Result<S::Ok, S::Error> {
    match host {
        None => serializer.serialize_none(),
        Some(host) => serializer.collect_str(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_wire::socks::SocksCommand;

    const V5: Protocol = Protocol::Socks(SocksVersion::V5);

    fn request(user: &str, host: &str, port: u16) -> SocksRequest {
        SocksRequest {
            version: SocksVersion::V5,
            command: SocksCommand::Connect,
            address: Host::parse(host.as_bytes()).unwrap(),
            port,
            auth: match user {
                "" => SocksAuth::None,
                user => SocksAuth::Username(user.into(), b"x".to_vec()),
            },
        }
    }

    fn rules(flags: &str) -> IsolationRules {
        let mut rules = IsolationRules::default();
        for flag in flags.split_whitespace() {
            rules.add_flag(flag).unwrap();
        }
        rules
    }

    /// One stream, and others that differ from it in one thing each; whether they share with it:
    /// listener, client, protocol, user, destination's name, destination's port.
    fn shared(flags: &str) -> [bool; 6] {
        let rules = rules(flags);
        let listener = "127.0.0.1:9050".parse().unwrap();
        let other_listener = "127.0.0.1:9150".parse().unwrap();
        let client = [127, 0, 0, 1];
        let wanted = request("a", "Example.net", 80);
        let of = |listener, client: [u8; 4], protocol, request: &SocksRequest| {
            let addr = (client, 1).into();
            Isolation::new(&rules, listener, StreamSource { addr, protocol }, request)
        };
        let one = of(listener, client, V5, &wanted);
        let same = of(listener, client, V5, &request("a", "example.net.", 80));
        assert_eq!(one, same);
        let other_session = Isolation { session: 1, ..same };
        assert_ne!(one, other_session);
        [
            of(other_listener, client, V5, &wanted),
            of(listener, [127, 0, 0, 2], V5, &wanted),
            of(listener, client, Protocol::HttpConnect, &wanted),
            of(listener, client, V5, &request("b", "example.net", 80)),
            of(listener, client, V5, &request("a", "example.org", 80)),
            of(listener, client, V5, &request("a", "example.net", 81)),
        ]
        .map(|other| other == one)
    }

    #[test]
    fn each_flag_isolates_by_its_own() {
        let by_default = [false, false, true, false, true, true];
        assert_eq!(shared(""), by_default);
        for (flag, place, is_shared) in [
            ("SessionGroup=3", 0, true),
            ("NoIsolateClientAddr", 1, true),
            ("IsolateClientProtocol", 2, false),
            ("NoIsolateSOCKSAuth", 3, true),
            ("IsolateDestAddr", 4, false),
            ("isolatedestport", 5, false),
        ] {
            let mut expected = by_default;
            expected[place] = is_shared;
            assert_eq!(shared(flag), expected, "{flag}");
        }
        for flag in ["IsolateAll", "SessionGroup=", "SessionGroup=-1", "No", ""] {
            let refused = IsolationRules::default().add_flag(flag);
            assert_eq!(refused, Err(UnknownFlag), "{flag}");
        }
    }

    #[test]
    fn only_credentials_keep_a_circuit_alive() {
        let listener = "127.0.0.1:9050".parse().unwrap();
        let of = |flags: &str, user: &str| {
            let request = request(user, "example.net", 80);
            let (addr, protocol) = (listener, V5);
            let source = StreamSource { addr, protocol };
            Isolation::new(&rules(flags), listener, source, &request).keeps_alive
        };
        assert!(of("KeepAliveIsolateSOCKSAuth", "a"));
        assert!(!of("KeepAliveIsolateSOCKSAuth", ""));
        assert!(!of("KeepAliveIsolateSOCKSAuth NoIsolateSOCKSAuth", "a"));
        assert!(!of("", "a"));
    }
}
