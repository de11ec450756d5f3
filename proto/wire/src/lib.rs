//! Bytes of every Tor wire: cells, relay messages, certificates, SOCKS (tor-spec, cert-spec).
//!
//! One file a message, each with `read` (hostile bytes to a type, total, bounded) and `write`.
//! Nothing here does I/O, keeps time or draws randomness by itself: [`Now`] and the generator are
//! arguments. Fixed cells and relay cells are never copied into structs; they stay arrays
//! ([`cell::CellBuf`], [`cell::Payload`]) and are looked at in place by small functions.

pub mod auth;
pub mod auth_key;
pub mod begin;
pub mod cell;
pub mod cert;
pub mod certs;
pub mod circuit_padding;
mod codes;
pub mod connected;
pub mod create;
pub mod cross_cert;
pub mod destroy;
pub mod end;
pub mod establish_intro;
pub mod extend;
mod extension;
pub mod host;
pub mod intro_plaintext;
pub mod introduce;
pub mod linkspec;
pub mod netinfo;
pub mod padding;
pub mod reader;
pub mod relay;
pub mod rendezvous;
pub mod repeats;
pub mod resolve;
pub mod sendme;
pub mod socks;
pub mod time;
pub mod versions;
pub mod writer;
pub mod xon;

pub use reader::{Reader, Truncated};
pub use repeats::Repeats;
pub use time::Now;
pub use writer::{TooLong, Writer};
