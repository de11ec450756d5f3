//! Link specifiers: how to reach a relay and who it must be (tor-spec 5.1.2, rend-spec-v3).
//!
//! ```text
//! count 1 | (type 1 | length 1 | body (length)) (count)
//! ```
//!
//! Unknown types are kept verbatim. A known type of a wrong length is an error. Which duplicates
//! are allowed is a rule of EXTEND2: several addresses are, several identities of a type are not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use cepa_crypto::{Ed25519Id, RsaId};

use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

const TYPE_IPV4: u8 = 0;
const TYPE_IPV6: u8 = 1;
const TYPE_RSA: u8 = 2;
const TYPE_ED25519: u8 = 3;
/// Most specifiers in a list: all that the count can say.
pub const SPECIFIERS_MAX: usize = u8::MAX as usize;

/// One way to reach a relay, or one identity that it must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LinkSpecifier {
    /// TLS over TCP to an IPv4 address.
    Ipv4(SocketAddrV4),
    /// TLS over TCP to an IPv6 address. Flow info and scope are 0.
    Ipv6(SocketAddrV6),
    /// The RSA identity ("legacy").
    Rsa(RsaId),
    /// The Ed25519 identity.
    Ed25519(Ed25519Id),
    /// Another type: number and body, at most 255 bytes.
    Unknown(u8, Vec<u8>),
}

impl From<SocketAddr> for LinkSpecifier {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => LinkSpecifier::Ipv4(v4),
            SocketAddr::V6(v6) => LinkSpecifier::Ipv6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
        }
    }
}

/// Why a list of link specifiers is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkSpecifierError {
    /// The list ends within a specifier.
    #[error("link specifiers: {0}")]
    Truncated(#[from] Truncated),
    /// A known type whose body is not as long as that type is.
    #[error("link specifier of type {0} and a wrong length")]
    Length(u8),
    /// Two RSA or two Ed25519 identities ([`LinkSpecifiers::check_identities`]).
    #[error("two link specifiers for one kind of identity")]
    DuplicateIdentity,
}

/// A list of link specifiers in the order of the message; at most [`SPECIFIERS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LinkSpecifiers(pub Vec<LinkSpecifier>);

impl LinkSpecifiers {
    /// The list that clients send for a relay, in the order of tor-spec 5.1.2: IPv4, RSA,
    /// Ed25519, IPv6.
    #[must_use]
    pub fn new(
        ipv4: Option<SocketAddrV4>,
        rsa: RsaId,
        ed25519: Option<Ed25519Id>,
        ipv6: Option<SocketAddrV6>,
    ) -> Self {
        let mut list = Vec::with_capacity(4);
        list.extend(ipv4.map(LinkSpecifier::Ipv4));
        list.push(LinkSpecifier::Rsa(rsa));
        list.extend(ed25519.map(LinkSpecifier::Ed25519));
        list.extend(ipv6.map(|address| SocketAddr::V6(address).into()));
        LinkSpecifiers(list)
    }

    /// Takes a list from the front of a message.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, LinkSpecifierError> {
        (0..r.u8()?)
            .map(|_| read_one(r))
            .collect::<Result<_, _>>()
            .map(LinkSpecifiers)
    }

    /// Appends the list. [`TooLong`] for more than [`SPECIFIERS_MAX`] or an unknown one of more
    /// than 255 bytes; `out` is then as before.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let start = out.len();
        out.push(u8::try_from(self.0.len()).map_err(|_| TooLong)?);
        let written = self
            .0
            .iter()
            .try_for_each(|specifier| write_one(specifier, out));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Refuses two RSA or two Ed25519 identities, equal ones included (tor-spec 5.1.2).
    pub fn check_identities(&self) -> Result<(), LinkSpecifierError> {
        let count = |kind: fn(&LinkSpecifier) -> bool| self.0.iter().filter(|s| kind(s)).count();
        if count(|s| matches!(s, LinkSpecifier::Rsa(_))) > 1
            || count(|s| matches!(s, LinkSpecifier::Ed25519(_))) > 1
        {
            return Err(LinkSpecifierError::DuplicateIdentity);
        }
        Ok(())
    }

    /// The first RSA identity.
    #[must_use]
    pub fn rsa_id(&self) -> Option<RsaId> {
        self.0.iter().find_map(|specifier| match specifier {
            LinkSpecifier::Rsa(id) => Some(*id),
            _ => None,
        })
    }

    /// The first Ed25519 identity.
    #[must_use]
    pub fn ed25519_id(&self) -> Option<Ed25519Id> {
        self.0.iter().find_map(|specifier| match specifier {
            LinkSpecifier::Ed25519(id) => Some(*id),
            _ => None,
        })
    }

    /// The first IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Option<SocketAddrV4> {
        self.0.iter().find_map(|specifier| match specifier {
            LinkSpecifier::Ipv4(address) => Some(*address),
            _ => None,
        })
    }

    /// The first IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<SocketAddrV6> {
        self.0.iter().find_map(|specifier| match specifier {
            LinkSpecifier::Ipv6(address) => Some(*address),
            _ => None,
        })
    }
}

fn read_one(r: &mut Reader<'_>) -> Result<LinkSpecifier, LinkSpecifierError> {
    let kind = r.u8()?;
    let len = r.u8()?;
    let bytes = r.take(len.into())?;
    let mut body = Reader::new(bytes);
    let specifier = read_body(kind, &mut body).map_err(|_| LinkSpecifierError::Length(kind))?;
    if body.is_empty() {
        Ok(specifier)
    } else {
        Err(LinkSpecifierError::Length(kind))
    }
}

fn read_body(kind: u8, body: &mut Reader<'_>) -> Result<LinkSpecifier, Truncated> {
    Ok(match kind {
        TYPE_IPV4 => {
            let ip = Ipv4Addr::from(body.array::<4>()?);
            LinkSpecifier::Ipv4(SocketAddrV4::new(ip, body.u16()?))
        }
        TYPE_IPV6 => {
            let ip = Ipv6Addr::from(body.array::<16>()?);
            LinkSpecifier::Ipv6(SocketAddrV6::new(ip, body.u16()?, 0, 0))
        }
        TYPE_RSA => LinkSpecifier::Rsa(RsaId::from(body.array::<20>()?)),
        TYPE_ED25519 => LinkSpecifier::Ed25519(Ed25519Id::from(body.array::<32>()?)),
        _ => LinkSpecifier::Unknown(kind, body.rest().to_vec()),
    })
}

fn write_one(specifier: &LinkSpecifier, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut w = Writer::new(out);
    match specifier {
        LinkSpecifier::Ipv4(address) => {
            w.bytes(&[TYPE_IPV4, 6]);
            w.bytes(&address.ip().octets());
            w.u16(address.port());
        }
        LinkSpecifier::Ipv6(address) => {
            w.bytes(&[TYPE_IPV6, 18]);
            w.bytes(&address.ip().octets());
            w.u16(address.port());
        }
        LinkSpecifier::Rsa(id) => {
            w.bytes(&[TYPE_RSA, 20]);
            w.bytes(id.as_bytes());
        }
        LinkSpecifier::Ed25519(id) => {
            w.bytes(&[TYPE_ED25519, 32]);
            w.bytes(id.as_bytes());
        }
        LinkSpecifier::Unknown(kind, body) => {
            w.u8(*kind);
            w.u8_prefixed(body)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(list: &LinkSpecifiers) -> Vec<u8> {
        let mut out = Vec::new();
        list.write(&mut out).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<LinkSpecifiers, LinkSpecifierError> {
        LinkSpecifiers::read(&mut Reader::new(bytes))
    }

    fn any_specifier() -> impl Strategy<Value = LinkSpecifier> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)).into()),
            any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)).into()),
            any::<[u8; 20]>().prop_map(|id| LinkSpecifier::Rsa(id.into())),
            any::<[u8; 32]>().prop_map(|id| LinkSpecifier::Ed25519(id.into())),
            (4_u8.., prop::collection::vec(any::<u8>(), 0..=255))
                .prop_map(|(kind, body)| LinkSpecifier::Unknown(kind, body)),
        ]
    }

    #[test]
    fn order_of_a_new_list() {
        let ipv4 = "1.2.3.4:5".parse().unwrap();
        let ipv6 = "[::1]:6".parse().unwrap();
        let list =
            LinkSpecifiers::new(Some(ipv4), [2; 20].into(), Some([3; 32].into()), Some(ipv6));
        let bytes = written(&list);
        assert_eq!(bytes[..9], [4, 0, 6, 1, 2, 3, 4, 0, 5]);
        assert_eq!((bytes[9], bytes[31], bytes[65]), (2, 3, 1));
        assert_eq!((list.ipv4(), list.ipv6()), (Some(ipv4), Some(ipv6)));
        assert_eq!(list.rsa_id(), Some([2; 20].into()));
        assert_eq!(list.ed25519_id(), Some([3; 32].into()));
        assert_eq!(list.check_identities(), Ok(()));
    }

    #[test]
    fn lengths_and_duplicates() {
        assert_eq!(
            read(&[1, 0, 5, 1, 2, 3, 4, 0]),
            Err(LinkSpecifierError::Length(0))
        );
        assert_eq!(
            read(&[1, 0, 7, 1, 2, 3, 4, 0, 5, 6]),
            Err(LinkSpecifierError::Length(0))
        );
        assert_eq!(read(&[2, 9, 0]), Err(Truncated.into()));
        let rsa = LinkSpecifier::Rsa([1; 20].into());
        let twice = LinkSpecifiers(vec![rsa.clone(), rsa]);
        assert_eq!(
            twice.check_identities(),
            Err(LinkSpecifierError::DuplicateIdentity)
        );
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer() {
        let unknown = |len| LinkSpecifier::Unknown(9, vec![0; len]);
        for list in [vec![unknown(0); 256], vec![unknown(0), unknown(256)]] {
            let mut out = vec![1];
            assert_eq!(
                (LinkSpecifiers(list).write(&mut out), out),
                (Err(TooLong), vec![1])
            );
        }
    }

    proptest! {
        #[test]
        fn written_is_read(list in prop::collection::vec(any_specifier(), 0..6)) {
            let list = LinkSpecifiers(list);
            let bytes = written(&list);
            prop_assert_eq!(read(&bytes), Ok(list));
            for len in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..len]), Err(Truncated.into()));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
