//! The threads of a command, and of a node.

use crate::error::Failure;

/// The runtime of the control side: the workers that carry cells have threads of their own.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start threads", "this process", error))
}
