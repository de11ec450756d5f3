//! A TLS connection over TCP that is read and written in batches (tor-spec section 2).
//!
//! One socket read takes up to 64 KiB of records, one socket write carries as many records as
//! were queued. Records are decrypted in place in the buffer that the socket filled. Nothing here
//! waits while it holds plaintext that a caller could already use. Buffers are those that all links
//! of a thread share: a connection that is idle holds none.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffers;
use super::keep_alive::keep_alive;
use crate::tls::session::{TlsError, TlsSession, TlsState};

/// What one attempt to read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadStep {
    /// Bytes came in; the plaintext that they completed was appended (it may be empty).
    Read,
    /// Nothing to read now.
    Blocked,
    /// The peer closed the connection.
    Eof,
}

/// A TCP connection with TLS on top, before and after the TLS handshake.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    tls: Box<TlsSession>,
    /// Wire bytes that came in and are not decrypted.
    wire_in: Vec<u8>,
    /// Plaintext that came with the last flight of the handshake.
    early: Vec<u8>,
    wire_out: Vec<u8>,
    sent: usize,
    read_bytes: usize,
    written_bytes: usize,
}

impl TlsStream {
    /// Wraps a connected socket; the TLS handshake has not begun.
    pub(crate) fn new(tcp: TcpStream, tls: TlsSession) -> Self {
        // A cell must not wait for the next one: batches are made here, not by the kernel.
        let _ = tcp.set_nodelay(true);
        keep_alive(&tcp);
        Self {
            tcp,
            tls: Box::new(tls),
            wire_in: Vec::new(),
            early: Vec::new(),
            wire_out: Vec::new(),
            sent: 0,
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    /// The TLS session, for what the link handshake is bound to.
    pub(crate) fn session(&self) -> &TlsSession {
        &self.tls
    }

    /// Completes the TLS handshake. Application bytes that came with it are given by the next
    /// [`TlsStream::try_read`].
    pub(crate) async fn handshake(&mut self) -> io::Result<()> {
        let mut early = std::mem::take(&mut self.early);
        let done = loop {
            let decrypted = self.decrypt(&mut early);
            buffers::settle(&mut self.wire_in);
            // An alert that says what was wrong is worth sending.
            let flushed = self.try_flush()?;
            decrypted?;
            match self.tls.state() {
                TlsState::Handshaking => {}
                TlsState::Open if flushed => break Ok(()),
                TlsState::Open => {
                    self.tcp.writable().await?;
                    continue;
                }
                TlsState::PeerClosed => break Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.ready(true, !flushed).await?;
            if self.fill()? == ReadStep::Eof {
                break Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        self.early = early;
        done
    }

    /// Waits until the socket can be read or written, as is asked for; for ever without either.
    pub(crate) async fn ready(&self, read: bool, write: bool) -> io::Result<()> {
        let interest = match (read, write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        self.tcp.ready(interest).await.map(|_| ())
    }

    /// One socket read; appends the plaintext that it completed to `plain`.
    pub(crate) fn try_read(&mut self, plain: &mut Vec<u8>) -> io::Result<ReadStep> {
        if !self.early.is_empty() {
            plain.append(&mut std::mem::take(&mut self.early));
        }
        let step = self.fill()?;
        if step == ReadStep::Read {
            self.decrypt(plain)?;
            if self.tls.state() == TlsState::PeerClosed {
                return Ok(ReadStep::Eof);
            }
        }
        Ok(step)
    }

    /// Encrypts `plain` behind what already waits to be sent.
    pub(crate) fn queue(&mut self, plain: &[u8]) -> io::Result<()> {
        buffers::fill(&mut self.wire_out);
        self.tls
            .send(plain, &mut self.wire_out)
            .map_err(io::Error::other)
    }

    /// Writes what waits; `true` once nothing is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        while self.sent < self.wire_out.len() {
            match self
                .tcp
                .try_write(self.wire_out.get(self.sent..).unwrap_or_default())
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written;
                    self.written_bytes += written;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        if self.wire_out.capacity() > 0 {
            buffers::put(std::mem::take(&mut self.wire_out));
        }
        self.sent = 0;
        Ok(true)
    }

    /// Memory of what waits in either direction.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.wire_in.capacity() + self.wire_out.capacity() + self.early.capacity()
    }

    /// Whether encrypted bytes wait for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.wire_out.len()
    }

    /// Bytes encrypted and not yet taken by the socket.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.wire_out.len() - self.sent
    }

    /// Bytes read from and written to the socket since last asked.
    pub(crate) fn take_counts(&mut self) -> (usize, usize) {
        (
            std::mem::take(&mut self.read_bytes),
            std::mem::take(&mut self.written_bytes),
        )
    }

    /// Reads the socket once into the room behind what is there.
    fn fill(&mut self) -> io::Result<ReadStep> {
        // A record is shorter than the buffer, so that there is always room.
        buffers::fill(&mut self.wire_in);
        match self.tcp.try_read_buf(&mut self.wire_in) {
            Ok(0) => Ok(ReadStep::Eof),
            Ok(read) => {
                self.read_bytes += read;
                Ok(ReadStep::Read)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                buffers::settle(&mut self.wire_in);
                Ok(ReadStep::Blocked)
            }
            Err(e) => Err(e),
        }
    }

    /// Decrypts whole records in place and moves what is left of one to the front.
    fn decrypt(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let taken = self
            .tls
            .handle_wire(&mut self.wire_in, plain, &mut self.wire_out)
            .map_err(|error: TlsError| io::Error::other(error))?;
        self.wire_in.drain(..taken);
        Ok(())
    }
}
