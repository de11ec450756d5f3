//! Which streams may share a circuit (path-spec 2, `SocksPort` flags of tor(1)).
//!
//! As `tor` by default, streams of different listeners, client addresses, SOCKS protocols, or SOCKS
//! credentials never share a circuit. A circuit is bound by its first stream, and for good.

use std::net::{IpAddr, SocketAddr};

use cepa_wire::socks::{SocksAuth, SocksVersion};

/// All that must be equal for two streams to share a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Where the request came in.
    pub listener: SocketAddr,
    /// The application's address.
    pub client: IpAddr,
    /// The protocol that it speaks.
    pub version: SocksVersion,
    /// What it said about itself.
    pub auth: SocksAuth,
    /// Counts the user's wishes for a new identity.
    pub session: u64,
}

impl Isolation {
    /// Of a request that came to `listener` from `client`.
    #[must_use]
    pub fn new(
        listener: SocketAddr,
        client: IpAddr,
        version: SocksVersion,
        auth: SocksAuth,
    ) -> Self {
        Isolation {
            listener,
            client,
            version,
            auth,
            session: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_isolates() {
        let auth = |user: &str| SocksAuth::Username(user.into(), b"x".to_vec());
        let listener = "127.0.0.1:9050".parse().unwrap();
        let client = IpAddr::from([127, 0, 0, 1]);
        let one = Isolation::new(listener, client, SocksVersion::V5, auth("a"));
        assert_eq!(one, one.clone());
        let other_user = Isolation::new(listener, client, SocksVersion::V5, auth("b"));
        let nobody = Isolation::new(listener, client, SocksVersion::V5, SocksAuth::None);
        let other_version = Isolation::new(listener, client, SocksVersion::V4, auth("a"));
        let other_client =
            Isolation::new(listener, [127, 0, 0, 2].into(), SocksVersion::V5, auth("a"));
        let other_port = "127.0.0.1:9150".parse().unwrap();
        let other_listener = Isolation::new(other_port, client, SocksVersion::V5, auth("a"));
        let mut other_session = one.clone();
        other_session.session = 1;
        for other in [
            other_user,
            nobody,
            other_version,
            other_client,
            other_listener,
            other_session,
        ] {
            assert_ne!(one, other);
        }
    }
}
