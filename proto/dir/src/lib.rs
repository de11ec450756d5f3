//! The directory protocol without its sockets (dir-spec 4 to 6).
//!
//! [`request`] is what may be asked and how it stands in HTTP; [`encoding`] how bodies are
//! compressed. No I/O, no clock: the shell carries the bytes, the roles decide.

pub mod encoding;
pub mod request;

pub use request::{DirRequest, Flavour};
