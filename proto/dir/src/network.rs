//! The authorities of a network: what `network.toml` says (dir-spec 1.1, 2; the manual's
//! `DirAuthority`).
//!
//! Plain values: the file itself is read elsewhere. More than half of the v3 identities here must
//! have signed a consensus before it is believed.

use std::net::{SocketAddr, SocketAddrV4};

use cepa_crypto::{Ed25519Id, RsaId};

/// A directory authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirAuthority {
    /// Its nickname.
    pub nickname: String,
    /// The digest of its long-term authority key: `v3ident`.
    pub v3_identity: RsaId,
    /// Its identity as a relay.
    pub rsa_id: RsaId,
    /// Its Ed25519 identity as a relay, if it is known.
    pub ed25519_id: Option<Ed25519Id>,
    /// Its DirPort.
    pub dir_addr: SocketAddrV4,
    /// Its ORPort.
    pub or_addr: SocketAddrV4,
    /// Its ORPort over IPv6.
    pub or_addr_v6: Option<SocketAddr>,
}

/// A network: its authorities and whether its rules are those of testing networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFile {
    /// The authorities.
    pub authorities: Vec<DirAuthority>,
    /// `TestingTorNetwork`: short intervals are allowed, downloads are hurried.
    pub is_testing: bool,
}

impl DirAuthority {
    /// The line of a torrc.
    pub fn torrc_line(&self) -> String {
        let Self {
            nickname,
            v3_identity,
            rsa_id,
            dir_addr,
            or_addr,
            ..
        } = self;
        let port = or_addr.port();
        let v6 = self
            .or_addr_v6
            .map(|address| format!(" ipv6={address}"))
            .unwrap_or_default();
        let orport = format!("orport={port} no-v2 v3ident={v3_identity}{v6}");
        format!("DirAuthority {nickname} {orport} {dir_addr} {rsa_id}")
    }
}

impl NetworkFile {
    /// The v3 identities, whose majority decides.
    pub fn v3_identities(&self) -> Vec<RsaId> {
        self.authorities
            .iter()
            .map(|authority| authority.v3_identity)
            .collect()
    }

    /// The authority of a v3 identity.
    pub fn by_v3_identity(&self, id: &RsaId) -> Option<&DirAuthority> {
        self.authorities
            .iter()
            .find(|authority| authority.v3_identity == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_torrc() {
        let authority = DirAuthority {
            nickname: "auth0".to_owned(),
            v3_identity: RsaId::from([0xA5; 20]),
            rsa_id: RsaId::from([0x62; 20]),
            ed25519_id: None,
            dir_addr: "127.0.0.1:22001".parse().unwrap(),
            or_addr: "127.0.0.1:22000".parse().unwrap(),
            or_addr_v6: None,
        };
        let line = format!(
            "DirAuthority auth0 orport=22000 no-v2 v3ident={} 127.0.0.1:22001 {}",
            "A5".repeat(20),
            "62".repeat(20)
        );
        assert_eq!(authority.torrc_line(), line);
        let network = NetworkFile {
            authorities: vec![authority],
            is_testing: true,
        };
        assert!(
            network
                .by_v3_identity(&network.v3_identities()[0])
                .is_some()
        );
    }
}
