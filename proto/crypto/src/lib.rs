//! Cryptography of the onion-routing protocol: keys, digests, handshakes and relay-cell ciphers.
//!
//! Primitives come from their crates; what the specification builds out of them is here, a file
//! for each noun. No clock, no operating system: randomness is the argument `&mut Rng`. Secrets
//! are zeroized on drop, compared in constant time, and shown by no `Debug`. What comes from
//! outside is hostile: each reader is total and names what was wrong.

pub mod cgo;
pub mod client_auth;
pub mod curve25519;
mod der;
pub mod digest;
pub mod ed25519;
pub mod encoding;
pub mod fast;
pub mod hs_layer;
pub mod hs_ntor;
pub mod ids;
pub mod key_file;
pub mod key_stream;
pub mod layer;
pub mod ntor;
pub mod ntor_v3;
pub mod onion;
pub mod ope;
pub mod rng;
pub mod rsa;
pub mod tor1;
pub mod x509;

pub use ids::{Ed25519Id, RsaId};
pub use key_stream::KeyStream;
pub use rng::Rng;
