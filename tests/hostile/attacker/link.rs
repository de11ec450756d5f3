//! A link as a client has one (tor-spec 4), which can stop after any step and send any cell.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};

use cepa_crypto::Rng;
use cepa_wire::cell::{self, CellBuf, CellRef, CircId, CircIdLen, Command};
use cepa_wire::netinfo::Netinfo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::tcp;

/// Cells that are sent at once by who sends many.
pub(crate) const BATCH: usize = 64;

/// A cell that came: its circuit, its command and its body.
pub(crate) type Came = (CircId, Command, Vec<u8>);

/// A TLS connection, and the cells in it.
pub(crate) struct Link {
    tls: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
    ids: CircIdLen,
    last_id: u32,
    pub(crate) rng: Rng,
}

impl Link {
    /// A link that is ready for circuits.
    pub(crate) fn open(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<Self> {
        Self::over(tcp::dial(from, to)?)
    }

    /// The same over a connection that is there.
    pub(crate) fn over(stream: TcpStream) -> std::io::Result<Self> {
        let mut link = Self::tls(stream)?;
        link.versions()?;
        link.netinfo()?;
        Ok(link)
    }

    /// TLS alone.
    pub(crate) fn tls(mut stream: TcpStream) -> std::io::Result<Self> {
        let mut tls = begin();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        let port = stream.local_addr()?.port();
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&port.to_be_bytes());
        Ok(Self {
            tls: StreamOwned::new(tls, stream),
            input: Vec::new(),
            ids: CircIdLen::Two,
            last_id: CircId::INITIATOR_BIT,
            rng: Rng::from_seed(seed),
        })
    }

    /// Exchanges VERSIONS.
    pub(crate) fn versions(&mut self) -> std::io::Result<()> {
        self.send(&[0, 0, Command::VERSIONS.0, 0, 4, 0, 4, 0, 5])?;
        while self.receive()?.1 != Command::VERSIONS {}
        self.ids = CircIdLen::Four;
        Ok(())
    }

    /// Waits for the relay's NETINFO and sends ours.
    pub(crate) fn netinfo(&mut self) -> std::io::Result<()> {
        while self.receive()?.1 != Command::NETINFO {}
        let IpAddr::V4(other) = self.tls.sock.peer_addr()?.ip() else {
            return Err(std::io::Error::other("an IPv4 address"));
        };
        let netinfo = Netinfo {
            timestamp: 0,
            other_address: other.into(),
            own_addresses: Vec::new(),
        };
        let mut cell = cell::new_cell(CircId::NONE, Command::NETINFO);
        netinfo.write(cell::payload_mut(&mut cell)).unwrap();
        self.send(&cell)
    }

    /// An id for a circuit of ours.
    pub(crate) fn new_id(&mut self) -> CircId {
        self.last_id += 1;
        CircId(self.last_id)
    }

    /// Sends bytes, whatever they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Sends a fixed cell.
    pub(crate) fn send_cell(
        &mut self,
        id: CircId,
        command: Command,
        body: &[u8],
    ) -> std::io::Result<()> {
        self.send(&fixed(id, command, body))
    }

    /// Sends a variable cell.
    pub(crate) fn send_variable(&mut self, command: Command, body: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        cell::write_variable(&mut bytes, self.ids, command, body).unwrap();
        self.send(&bytes)
    }

    /// The next cell.
    pub(crate) fn receive(&mut self) -> std::io::Result<Came> {
        loop {
            if let Some(came) = self.split() {
                return Ok(came);
            }
            let mut block = [0; 16 << 10];
            let len = self.tls.read(&mut block)?;
            if len == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&block[..len]);
        }
    }

    fn split(&mut self) -> Option<Came> {
        let (found, len) = cell::split_cell(&self.input, self.ids).unwrap()?;
        let came = match found {
            CellRef::Fixed(fixed) => (
                cell::circ_id(fixed),
                cell::command(fixed),
                cell::payload(fixed).to_vec(),
            ),
            CellRef::Variable(variable) => {
                (variable.circ_id, variable.command, variable.body.to_vec())
            }
        };
        self.input.drain(..len);
        Some(came)
    }

    /// Changes our keys so many times, and asks for as many changes of theirs (RFC 8446, 4.6.3).
    pub(crate) fn update_keys(&mut self, times: usize) -> std::io::Result<()> {
        for _ in 0..times {
            let updated = self.tls.conn.refresh_traffic_keys();
            updated.map_err(std::io::Error::other)?;
        }
        self.tls.flush()
    }

    /// Sends bytes beside TLS.
    pub(crate) fn send_in_clear(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tls.sock.write_all(bytes)
    }

    /// Reads and drops what is there, without waiting.
    pub(crate) fn drain(&mut self) -> std::io::Result<()> {
        self.tls.sock.set_nonblocking(true)?;
        let mut block = [0; 16 << 10];
        let end = loop {
            match self.tls.read(&mut block) {
                Ok(0) => break Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.tls.sock.set_nonblocking(false)?;
        end
    }

    /// How long a read may take.
    pub(crate) fn set_timeout(&self, limit: std::time::Duration) {
        self.tls.sock.set_read_timeout(Some(limit)).unwrap();
        self.tls.sock.set_write_timeout(Some(limit)).unwrap();
    }
}

/// What TLS begins with.
pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut tls = begin();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn begin() -> ClientConnection {
    let name = ServerName::try_from("www.stranger.com").unwrap();
    ClientConnection::new(config(), name).unwrap()
}

/// A fixed cell; what is not given of its body is zero.
pub(crate) fn fixed(id: CircId, command: Command, body: &[u8]) -> CellBuf {
    let mut cell = cell::new_cell(id, command);
    let len = body.len().min(cell::PAYLOAD_LEN);
    cell::payload_mut(&mut cell)[..len].copy_from_slice(&body[..len]);
    cell
}

fn config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let schemes = provider.signature_verification_algorithms;
        let schemes = schemes.supported_schemes();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    };
    CONFIG.get_or_init(make).clone()
}

/// An attacker does not mind who it is.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
