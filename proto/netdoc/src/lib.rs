//! Directory documents as types: parse, write, sign and verify (dir-spec.txt).
//!
//! Every parser here is total: a hostile document gives a named error, never a panic, and every
//! document and list has a bound. Nothing here reads a clock, a file or a socket: times and
//! keys are arguments. Texts are borrowed where a document is only walked ([`item`]) and owned
//! where a document becomes a typed value ([`descriptor::ServerDescriptor`]).
#![forbid(unsafe_code)]

pub mod authcert;
pub mod consensus;
pub mod descriptor;
pub mod detached;
pub mod diff;
pub mod extrainfo;
pub mod family;
pub mod hs_descriptor;
pub mod item;
pub mod microdesc;
mod number;
pub mod params;
pub mod pem;
pub mod policy;
pub mod protover;
pub mod routerstatus;
pub mod timestamp;
pub mod vote;
