//! The end of a stream where its application is, as bytes are written to it.

use std::time::Duration;

use tokio::io::{AsyncWrite, WriteHalf};
use tokio::net::{tcp, unix};

/// The application's end of a stream.
pub(crate) trait Writer: AsyncWrite + Unpin {
    /// Makes the end of the connection a reset, so that nothing waits in the kernel either.
    fn abort(&self) {}
}

impl Writer for tcp::OwnedWriteHalf {
    fn abort(&self) {
        // A connection that is gone by itself needs no end.
        let _ = socket2::SockRef::from(self.as_ref()).set_linger(Some(Duration::ZERO));
    }
}

impl Writer for unix::OwnedWriteHalf {}

impl<T: AsyncWrite + Unpin> Writer for WriteHalf<T> {}
