//! A stranger that knows the protocol and keeps no rule of it.
//!
//! Built on the crates of the wire, not on those of the roles: what an honest client can't do
//! (stop within a handshake, not read, forge a specifier, sign nonsense) is a plain call here.
//! Everything blocks, with a limit on each read and write; who floods has threads of its own.

pub(crate) mod circuit;
pub(crate) mod descriptor;
pub(crate) mod http;
pub(crate) mod link;
pub(crate) mod tcp;

use std::net::Ipv4Addr;

/// Where the attacker comes from, if it has one address.
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// Where it comes from when it makes no noise: what floods from one address is refused there.
pub(crate) const QUIET: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 2);

/// One of 62,500 addresses of an attacker that has many, all of one /8.
pub(crate) fn one_of_many(number: usize) -> Ipv4Addr {
    let part = |value: usize| u8::try_from(value % 250 + 1).unwrap();
    Ipv4Addr::new(127, 67, part(number / 250), part(number))
}
