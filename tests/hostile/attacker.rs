//! A stranger that knows the protocol and keeps no rule of it.
//!
//! Built on the crates of the wire, not on those of the roles: what an honest client can't do
//! (stop within a handshake, not read, forge a specifier, sign nonsense) is a plain call here.
//! Everything blocks, with a limit on each read and write; who floods has threads of its own.

pub(crate) mod circuit;
pub(crate) mod descriptor;
pub(crate) mod http;
pub(crate) mod introduction;
pub(crate) mod liar;
pub(crate) mod link;
mod sources;
pub(crate) mod tcp;

pub(crate) use sources::Sources;
