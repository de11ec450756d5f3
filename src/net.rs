//! Sockets of the data plane: TLS over TCP for channels, plain sockets and in-memory pipes for
//! streams, and one task for each that moves *batches* between it and a [`plane::Plane`].
//!
//! A worker is one thread with a single-threaded runtime. All that it owns is reached without a
//! lock; what another worker owns is reached by a message that carries many cells.

mod buffers;
pub(crate) mod channel;
pub(crate) mod edge;
pub(crate) mod keep_alive;
pub(crate) mod link;
pub(crate) mod pace;
pub(crate) mod plane;
pub(crate) mod tls_stream;
pub(crate) mod worker;
pub(crate) mod writer;
