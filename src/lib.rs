//! The shell of `cepa`: the only crate with sockets, clocks, files and threads
//! (docs/architecture.md, "The house").
//!
//! The roles and protocols are libraries without any of these; here they are given the world.
//! It is a library beside its command so that whole-network tests can use its pieces.
//! What is plain request and reply (HTTP, DNS, a key file) is a plain function in a file of its
//! own; the wiring of the roles is in `roles`, that of channels and streams in `net`.

mod archive;
pub mod args;
pub mod clock;
pub mod commands;
pub mod config;
mod control;
pub mod dns;
pub mod doctor;
pub mod doors;
pub mod error;
pub mod folder;
pub mod http;
pub mod keep;
pub mod keyfiles;
pub mod launched;
pub mod listen;
pub mod logs;
mod net;
pub mod network;
pub mod page;
pub mod ports;
pub mod proxy;
pub mod reload;
pub mod roles;
pub mod runtime;
mod sandbox;
pub mod service;
pub mod status;
pub mod store;
pub mod terminal;
mod tls;
mod torrc;
mod transports;
