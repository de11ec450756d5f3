//! Whole networks of processes, as a user starts them: `cepa testnet up` and the node commands.
//!
//! Each test has ports of its own, so that they run side by side, on loopback addresses only.
//! What cannot be shown without a network that carries traffic is in `traffic`, what goes wrong
//! before in `bad_input`.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod bad_input;
mod network;
mod traffic;
