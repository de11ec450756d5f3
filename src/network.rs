//! `network.toml`: the authorities of a network and the relays by which a client enters it.
//!
//! This one file makes a network: who holds it believes a consensus that more than half of these
//! authorities signed (dir-spec 5.1). It can be written out as `torrc` lines and as `arti.toml`
//! (`network::export`), so that a `tor` or Arti client joins as it stands.

pub mod export;

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::DirAuthority;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::config::NetworkSource;
use crate::config::node::is_nickname;
use crate::config::source::{Source, unplaced};
use crate::error::Failure;

/// Authorities of one network, at most.
const AUTHORITIES_MAX: usize = 64;
/// Fallback directories, at most.
const FALLBACKS_MAX: usize = 1000;

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Who signs the consensus; at least one.
    pub authorities: Vec<DirAuthority>,
    /// Relays to fetch the first documents from; the authorities serve them, too.
    pub fallbacks: Vec<Fallback>,
    /// Whether private addresses and intervals below five minutes are fine.
    pub testing: bool,
    /// Whether relays may share a /16 that none of their operators chose, so that paths do not keep
    /// the rule about it (path-spec 2.2).
    pub shared_subnets: bool,
}

/// A relay that serves the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its Ed25519 identity, where it is known.
    pub ed25519: Option<Ed25519Id>,
    /// Its OR port.
    pub or: SocketAddr,
}

/// A configuration that says itself which network it is; its other keys are no matter here.
#[derive(Debug, Deserialize)]
struct InlineTable {
    inline_network: NetworkTable,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    #[serde(default)]
    testing: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared_subnets: bool,
    #[serde(default)]
    authority: Vec<AuthorityTable>,
    #[serde(default)]
    fallback: Vec<FallbackTable>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorityTable {
    nickname: Spanned<String>,
    v3_ident: Spanned<String>,
    rsa: Spanned<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ed25519: Option<Spanned<String>>,
    or: Spanned<SocketAddr>,
    dir: Spanned<SocketAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FallbackTable {
    rsa: Spanned<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ed25519: Option<Spanned<String>>,
    or: Spanned<SocketAddr>,
}

impl Network {
    /// Reads a `network.toml`.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        Self::read(&Source::open(path)?)
    }

    /// The network that a configuration names, or has in itself.
    pub fn of(place: &NetworkSource) -> Result<Self, Failure> {
        match place {
            NetworkSource::File(path) => Self::load(path),
            NetworkSource::Inline(source) => {
                let (table, unread) = source.parse_rest::<InlineTable>()?;
                Failure::or_worse(unread, Self::checked(source, &table.inline_network))
            }
        }
    }

    /// Writes itself as a `network.toml`.
    pub fn encode(&self) -> String {
        let table = NetworkTable {
            testing: self.testing,
            shared_subnets: self.shared_subnets,
            authority: self
                .authorities
                .iter()
                .map(AuthorityTable::from_checked)
                .collect(),
            fallback: self
                .fallbacks
                .iter()
                .map(FallbackTable::from_checked)
                .collect(),
        };
        let body = toml::to_string(&table).unwrap_or_default();
        format!("# The authorities of an onion-routing network, and relays to enter it by.\n{body}")
    }

    fn read(source: &Source) -> Result<Self, Failure> {
        let (table, unread) = source.parse_rest()?;
        Failure::or_worse(unread, Self::checked(source, &table))
    }

    fn checked(source: &Source, table: &NetworkTable) -> Result<Self, Failure> {
        let mut network = Self {
            testing: table.testing,
            shared_subnets: table.shared_subnets,
            ..Self::default()
        };
        let mut known = BTreeSet::new();
        if table.authority.is_empty() {
            return Err(source.lacks("[[authority]]", "one table of that name for each authority"));
        }
        let authorities = Failure::all(table.authority.iter().map(|entry| {
            let authority = entry.checked(source)?;
            let expected = "each authority once";
            source.expect(&entry.v3_ident, "v3_ident", expected, |_| {
                known.insert(authority.v3_identity)
            })?;
            Ok(authority)
        }));
        let fallbacks = Failure::all(table.fallback.iter().map(|entry| entry.checked(source)));
        let many = table.authority.get(AUTHORITIES_MAX);
        let many = many.map(|entry| source.wrong(&entry.nickname, "authority", "at most 64"));
        let more = table.fallback.get(FALLBACKS_MAX);
        let more = more.map(|entry| source.wrong(&entry.rsa, "fallback", "at most 1000"));
        let wrong = [authorities.as_ref().err(), fallbacks.as_ref().err()];
        Failure::none_of(
            wrong
                .map(|one| one.cloned())
                .into_iter()
                .chain([many, more]),
        )?;
        (network.authorities, network.fallbacks) = (authorities?, fallbacks?);
        Ok(network)
    }
}

impl AuthorityTable {
    fn from_checked(authority: &DirAuthority) -> Self {
        Self {
            nickname: unplaced(authority.nickname.clone()),
            v3_ident: unplaced(authority.v3_identity.to_string()),
            rsa: unplaced(authority.rsa_id.to_string()),
            ed25519: authority.ed25519_id.map(|id| unplaced(id.to_string())),
            or: unplaced(authority.or_addr.into()),
            dir: unplaced(authority.dir_addr.into()),
        }
    }

    fn checked(&self, source: &Source) -> Result<DirAuthority, Failure> {
        source.expect(
            &self.nickname,
            "nickname",
            "1 to 19 letters and digits",
            |name| is_nickname(name),
        )?;
        Ok(DirAuthority {
            nickname: self.nickname.get_ref().clone(),
            v3_identity: rsa_id(source, &self.v3_ident, "v3_ident")?,
            rsa_id: rsa_id(source, &self.rsa, "rsa")?,
            ed25519_id: ed25519_id(source, self.ed25519.as_ref())?,
            dir_addr: ipv4_address(source, &self.dir, "dir")?,
            or_addr: ipv4_address(source, &self.or, "or")?,
            or_addr_v6: None,
        })
    }
}

impl FallbackTable {
    fn from_checked(fallback: &Fallback) -> Self {
        Self {
            rsa: unplaced(fallback.rsa.to_string()),
            ed25519: fallback.ed25519.map(|id| unplaced(id.to_string())),
            or: unplaced(fallback.or),
        }
    }

    fn checked(&self, source: &Source) -> Result<Fallback, Failure> {
        Ok(Fallback {
            rsa: rsa_id(source, &self.rsa, "rsa")?,
            ed25519: ed25519_id(source, self.ed25519.as_ref())?,
            or: address(source, &self.or, "or")?,
        })
    }
}

fn rsa_id(source: &Source, text: &Spanned<String>, key: &str) -> Result<RsaId, Failure> {
    let parsed = text.get_ref().parse();
    parsed.map_err(|_| source.wrong(text, key, "40 hexadecimal digits"))
}

fn ed25519_id(
    source: &Source,
    text: Option<&Spanned<String>>,
) -> Result<Option<Ed25519Id>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.get_ref().parse().map(Some);
    parsed.map_err(|_| source.wrong(text, "ed25519", "the base64 of 32 bytes"))
}

fn address(
    source: &Source,
    address: &Spanned<SocketAddr>,
    key: &str,
) -> Result<SocketAddr, Failure> {
    source.expect(
        address,
        key,
        "IP:PORT with a port from 1 to 65535",
        |addr| addr.port() != 0,
    )?;
    Ok(*address.get_ref())
}

/// The address of an authority, which consensuses and torrc lines have as IPv4 alone.
fn ipv4_address(
    source: &Source,
    text: &Spanned<SocketAddr>,
    key: &str,
) -> Result<SocketAddrV4, Failure> {
    match address(source, text, key)? {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(source.wrong(text, key, "an IPv4 address with its port")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A network of three authorities and one fallback directory.
    pub(crate) fn example() -> Network {
        let authority = |n: u8| DirAuthority {
            nickname: format!("auth{n}"),
            v3_identity: RsaId::from_bytes(&[n; 20]).unwrap(),
            rsa_id: RsaId::from_bytes(&[n + 16; 20]).unwrap(),
            ed25519_id: Ed25519Id::from_bytes(&[n; 32]),
            or_addr: format!("127.{n}.0.1:5000").parse().unwrap(),
            dir_addr: format!("127.{n}.0.1:5001").parse().unwrap(),
            or_addr_v6: None,
        };
        let fallback = Fallback {
            rsa: RsaId::from_bytes(&[9; 20]).unwrap(),
            ed25519: None,
            or: "127.9.0.1:5000".parse().unwrap(),
        };
        Network {
            authorities: (1..=3).map(authority).collect(),
            fallbacks: vec![fallback],
            testing: true,
            shared_subnets: false,
        }
    }

    fn read(text: &str) -> Result<Network, Failure> {
        Network::read(&Source::from_text(Path::new("network.toml"), text))
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&example().encode()).unwrap(), example());
    }

    #[test]
    fn wrong_lines_are_named() {
        let text = example().encode();
        let error = read(&text.replace("auth2", "auth 2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("network.toml line ") && error.contains("letters"),
            "{error}"
        );
        let error = read(&text.replace("0202020202", "02"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("40 hexadecimal"), "{error}");
        let twice = text.replace(&"02".repeat(20), &"01".repeat(20));
        assert!(read(&twice).unwrap_err().to_string().contains("once"));
        assert!(
            read("testing = true")
                .unwrap_err()
                .to_string()
                .contains("[[authority]]")
        );
    }
}
