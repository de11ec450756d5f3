//! A TLS connection over TCP that is read and written in batches (tor-spec section 2).
//!
//! One socket read takes up to 64 KiB of records, one socket write carries as many records as
//! were queued. rustls does the cryptography on buffers that this file owns; nothing here waits
//! while it holds plaintext that a caller could already use.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes taken from the socket by one read: four full TLS records.
const READ_BYTES: usize = 64 * 1024;

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
    tls: rustls::Connection,
    cipher_in: Box<[u8]>,
    cipher_out: Vec<u8>,
    sent: usize,
}

impl TlsStream {
    /// Wraps a connected socket; the TLS handshake has not begun.
    pub(crate) fn new(tcp: TcpStream, tls: rustls::Connection) -> Self {
        // A cell must not wait for the next one: batches are made here, not by the kernel.
        let _ = tcp.set_nodelay(true);
        Self {
            tcp,
            tls,
            cipher_in: vec![0; READ_BYTES].into_boxed_slice(),
            cipher_out: Vec::with_capacity(READ_BYTES),
            sent: 0,
        }
    }

    /// The TLS session, for its exporter and the peer's certificate.
    pub(crate) fn session(&self) -> &rustls::Connection {
        &self.tls
    }

    /// The address at the other end of the socket.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Completes the TLS handshake. Application bytes that came with it stay in the session and
    /// are given by the next [`TlsStream::try_read`].
    pub(crate) async fn handshake(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            if self.try_flush()? && self.tls.wants_read() && self.tls.is_handshaking() {
                self.tcp.readable().await?;
                if self.feed_once()? == ReadStep::Eof {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            } else if self.has_unsent() {
                self.tcp.writable().await?;
            }
        }
        while !self.try_flush()? {
            self.tcp.writable().await?;
        }
        Ok(())
    }

    /// Waits until the socket can be read, or written when `write` is set.
    pub(crate) async fn ready(&self, write: bool) -> io::Result<()> {
        let interest =
            if write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.tcp.ready(interest).await.map(|_| ())
    }

    /// Waits until the socket can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// One socket read; appends the plaintext that it completed to `plain`.
    pub(crate) fn try_read(&mut self, plain: &mut Vec<u8>) -> io::Result<ReadStep> {
        self.drain_plaintext(plain)?;
        let read = match self.tcp.try_read(&mut self.cipher_in) {
            Ok(0) => return Ok(ReadStep::Eof),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(ReadStep::Blocked),
            Err(e) => return Err(e),
        };
        let mut from = 0;
        while from < read {
            let mut slice = self.cipher_in.get(from..read).unwrap_or_default();
            let taken = self.tls.read_tls(&mut slice)?;
            from += taken;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            self.drain_plaintext(plain)?;
        }
        Ok(ReadStep::Read)
    }

    /// Encrypts `plain` (at most one record) behind what already waits to be sent.
    pub(crate) fn queue(&mut self, plain: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plain)?;
        self.collect_records()
    }

    /// Writes what waits; `true` once nothing is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        self.collect_records()?;
        while self.sent < self.cipher_out.len() {
            match self.tcp.try_write(self.cipher_out.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        self.cipher_out.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Whether encrypted bytes wait for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.cipher_out.len()
    }

    /// Bytes encrypted and not yet taken by the socket.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.cipher_out.len() - self.sent
    }

    /// Says goodbye in TLS; errors no longer matter.
    pub(crate) fn close(&mut self) {
        self.tls.send_close_notify();
        let _ = self.try_flush();
    }

    fn feed_once(&mut self) -> io::Result<ReadStep> {
        match self.tcp.try_read(&mut self.cipher_in) {
            Ok(0) => Ok(ReadStep::Eof),
            Ok(read) => {
                let mut slice = self.cipher_in.get(..read).unwrap_or_default();
                while !slice.is_empty() {
                    self.tls.read_tls(&mut slice)?;
                    if let Err(e) = self.tls.process_new_packets() {
                        // The alert that says why is worth sending.
                        let _ = self.try_flush();
                        return Err(io::Error::other(e));
                    }
                }
                Ok(ReadStep::Read)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(ReadStep::Blocked),
            Err(e) => Err(e),
        }
    }

    fn drain_plaintext(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let mut reader = self.tls.reader();
        loop {
            let taken = match reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(chunk) => {
                    plain.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            };
            reader.consume(taken);
        }
    }

    fn collect_records(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.cipher_out)?;
        }
        Ok(())
    }
}
