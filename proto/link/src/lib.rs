//! A link between two relays, or a client and a relay: handshake and channel (tor-spec 3 to 5).
//!
//! Below is TLS, which the shell owns and shows through [`TlsBinding`]; above are circuits, which
//! this crate knows only as an opaque [`CircuitRef`]. [`Handshake`] turns the first bytes of a
//! connection into an [`Established`] link; [`Channel`] then names its circuits, queues their cells
//! within bounds, and says which goes out next. No I/O, no clock, no randomness of its own.

pub mod channel;
#[cfg(test)]
mod fixture;
pub mod handshake;
pub mod identity;
pub mod peer_certs;

pub use channel::{AcceptError, AllocateError, Channel, ChannelKey, CircuitRef, QueueError};
pub use handshake::{
    Established, Handshake, HandshakeError, LINK_VERSIONS, PeerExpectation, Step, TlsBinding,
};
pub use identity::{LinkIdentity, LinkKeys, LinkTimes, PeerIdentity, TlsKeyAndCert};
