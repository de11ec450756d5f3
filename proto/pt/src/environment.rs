//! What the environment tells a transport that is started (pt-spec 3.2).

use std::net::SocketAddr;

use crate::arguments::Arguments;
use crate::name::TransportName;

/// The version of pt-spec that is spoken.
pub const VERSION: &str = "1";

/// What a transport of a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEnvironment<'a> {
    /// The folder in which it may keep something; an absolute path.
    pub state: &'a str,
    /// The transports that it is to serve.
    pub transports: &'a [TransportName],
    /// The proxy through which it is to connect, as a URL.
    pub proxy: Option<&'a str>,
}

/// A transport of a server, and how it is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTransport {
    /// The name of the transport.
    pub name: TransportName,
    /// Where it is to listen; none: wherever it likes.
    pub listen: Option<SocketAddr>,
    /// What it is told by its operator.
    pub options: Arguments,
}

/// What a transport of a server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEnvironment<'a> {
    /// The folder in which it may keep something; an absolute path.
    pub state: &'a str,
    /// The transports that it is to serve.
    pub transports: &'a [ServerTransport],
    /// The port of the relay, to which clients are passed on.
    pub or_port: SocketAddr,
    /// The Extended ORPort, and the path of its cookie.
    pub extended: Option<(SocketAddr, &'a str)>,
}

/// Variables and their values.
pub type Variables = Vec<(&'static str, String)>;

fn common(state: &str) -> Variables {
    vec![
        ("TOR_PT_MANAGED_TRANSPORT_VER", VERSION.to_owned()),
        ("TOR_PT_STATE_LOCATION", state.to_owned()),
        ("TOR_PT_EXIT_ON_STDIN_CLOSE", "1".to_owned()),
    ]
}

impl ClientEnvironment<'_> {
    /// The variables.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let names = self.transports.iter().map(TransportName::as_str);
        let mut variables = common(self.state);
        let names = names.collect::<Vec<_>>().join(",");
        variables.push(("TOR_PT_CLIENT_TRANSPORTS", names));
        let proxy = self.proxy.map(|proxy| ("TOR_PT_PROXY", proxy.to_owned()));
        variables.extend(proxy);
        variables
    }
}

impl ServerEnvironment<'_> {
    /// The variables.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let transports = self.transports;
        let names: Vec<&str> = transports.iter().map(|one| one.name.as_str()).collect();
        let listens = transports
            .iter()
            .filter_map(|one| Some(format!("{}-{}", one.name, one.listen?)));
        let listens = listens.collect::<Vec<_>>().join(",");
        let options = transports.iter().filter(|one| !one.options.is_empty());
        let options = options.map(|one| one.options.server_options(one.name.as_str()));
        let options = options.collect::<Vec<_>>().join(";");
        let mut variables = common(self.state);
        variables.push(("TOR_PT_SERVER_TRANSPORTS", names.join(",")));
        if !listens.is_empty() {
            variables.push(("TOR_PT_SERVER_BINDADDR", listens));
        }
        if !options.is_empty() {
            variables.push(("TOR_PT_SERVER_TRANSPORT_OPTIONS", options));
        }
        variables.push(("TOR_PT_ORPORT", self.or_port.to_string()));
        match self.extended {
            Some((addr, cookie)) => {
                variables.push(("TOR_PT_EXTENDED_SERVER_PORT", addr.to_string()));
                variables.push(("TOR_PT_AUTH_COOKIE_FILE", cookie.to_owned()));
            }
            None => variables.push(("TOR_PT_EXTENDED_SERVER_PORT", String::new())),
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_where_to_listen() {
        let mut options = Arguments::default();
        options.push("iat-mode", "1").unwrap();
        let one = |name: &str, listen: Option<&str>, options| ServerTransport {
            name: name.parse().unwrap(),
            listen: listen.map(|addr| addr.parse().unwrap()),
            options,
        };
        let transports = [
            one("obfs3", None, Arguments::default()),
            one("obfs4", Some("[::1]:4"), options),
        ];
        let told = ServerEnvironment {
            state: "/s",
            transports: &transports,
            or_port: "127.0.0.1:9001".parse().unwrap(),
            extended: None,
        };
        let told = told.variables();
        let value = |name| {
            let found = told.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("TOR_PT_SERVER_TRANSPORTS"), Some("obfs3,obfs4"));
        assert_eq!(value("TOR_PT_SERVER_BINDADDR"), Some("obfs4-[::1]:4"));
        let options = value("TOR_PT_SERVER_TRANSPORT_OPTIONS");
        assert_eq!(options, Some("obfs4:iat-mode=1"));
        assert_eq!(value("TOR_PT_EXTENDED_SERVER_PORT"), Some(""));
        assert_eq!(value("TOR_PT_AUTH_COOKIE_FILE"), None);
    }
}
