//! One TLS 1.3 connection of a link, without I/O: wire bytes in and out, plain bytes in and out.
//!
//! Built on rustls' unbuffered connections, which decrypt in the caller's buffer: more than twice
//! as fast as its buffered ones for the bulk of a relay's traffic. Those lack the exporter that
//! AUTHENTICATE is bound to, so each connection has a key log of its own, which takes the exporter
//! secret and nothing else; the exporter itself is RFC 8446 section 7.5 over rustls' own HKDF.
//! TLS 1.2 is not spoken here: every peer of today speaks 1.3.

use std::fmt;
use std::sync::{Arc, OnceLock};

use cepa_crypto::Rng;
use cepa_link::TlsBinding;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, CommonState, KeyLog, NamedGroup, ServerConfig, SupportedCipherSuite};
use zeroize::Zeroizing;

/// Most plain bytes of a TLS record.
const RECORD_LEN_MAX: usize = 16_384;
/// What a record adds at most to its plain bytes: header 5, content type 1, tag 16.
const RECORD_OVERHEAD: usize = 22;
/// Room that is offered to a handshake flight before its size is known.
const FLIGHT_LEN: usize = 4096;

/// Why a connection is over. The output may hold an alert that is still to be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The peer broke the protocol, or the handshake failed.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// A record of ours could not be made.
    #[error("TLS: {0}")]
    Encrypt(EncryptError),
    /// A flight of ours could not be made.
    #[error("TLS: {0}")]
    Encode(EncodeError),
    /// Bytes were to be sent before the handshake was done, or after the end.
    #[error("TLS connection is not open")]
    NotOpen,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsState {
    /// Handshaking: nothing can be sent yet.
    Handshaking,
    /// Open both ways.
    Open,
    /// The peer will send no more.
    PeerClosed,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// One TLS connection.
pub(crate) struct TlsSession {
    side: Side,
    state: TlsState,
    exporter: Arc<ExporterSecret>,
}

impl TlsSession {
    /// The side that opened the connection.
    pub(crate) fn client(config: &ClientConfig, rng: &mut Rng) -> Result<Self, TlsError> {
        let exporter = Arc::new(ExporterSecret::default());
        let mut config = config.clone();
        config.key_log = exporter.clone();
        let name = crate::tls::server_name(rng);
        let side = Side::Client(UnbufferedClientConnection::new(Arc::new(config), name)?);
        Ok(TlsSession {
            side,
            state: TlsState::Handshaking,
            exporter,
        })
    }

    /// The side that was connected to.
    pub(crate) fn server(config: &ServerConfig) -> Result<Self, TlsError> {
        let exporter = Arc::new(ExporterSecret::default());
        let mut config = config.clone();
        config.key_log = exporter.clone();
        let side = Side::Server(UnbufferedServerConnection::new(Arc::new(config))?);
        Ok(TlsSession {
            side,
            state: TlsState::Handshaking,
            exporter,
        })
    }

    /// The group of the key exchange, once it is agreed.
    pub(crate) fn key_exchange(&self) -> Option<NamedGroup> {
        let group = match &self.side {
            Side::Client(side) => side.negotiated_key_exchange_group(),
            Side::Server(side) => side.negotiated_key_exchange_group(),
        };
        group.map(|group| group.name())
    }

    /// How far it is.
    pub(crate) fn state(&self) -> TlsState {
        self.state
    }

    /// Takes whole records from the front of `wire`, decrypting them in place; appends their plain
    /// bytes to `plain`, and what TLS itself has to send to `out`. Returns the bytes to drop from
    /// the front of `wire`. A client calls it once with nothing, to begin.
    pub(crate) fn handle_wire(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let rest = wire.get_mut(taken..).unwrap_or_default();
            let (discard, progress) = match &mut self.side {
                Side::Client(side) => step(side.process_tls_records(rest), plain, out)?,
                Side::Server(side) => step(side.process_tls_records(rest), plain, out)?,
            };
            taken += discard;
            match progress {
                Progress::Again => {}
                Progress::Blocked => return Ok(taken),
                Progress::State(state) => {
                    self.state = state;
                    return Ok(taken);
                }
            }
        }
    }

    /// Encrypts `plain` in records of [`RECORD_LEN_MAX`]; appends them to `out`.
    pub(crate) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.side {
            Side::Client(side) => send(side.process_tls_records(&mut []), plain, out),
            Side::Server(side) => send(side.process_tls_records(&mut []), plain, out),
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(side) => side,
            Side::Server(side) => side,
        }
    }
}

impl TlsBinding for TlsSession {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool {
        let suite = self.common().negotiated_cipher_suite();
        let Some(SupportedCipherSuite::Tls13(suite)) = suite else {
            return false;
        };
        let Some(secret) = self.exporter.0.get() else {
            return false;
        };
        let hash = suite.common.hash_provider;
        let secret = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
        let nothing = hash.hash(&[]);
        let Some(info) = label_info(hash.output_len(), label, nothing.as_ref()) else {
            return false;
        };
        let derived = suite
            .hkdf_provider
            .expander_for_okm(&secret.expand_block(&[&info]));
        let context = hash.hash(context);
        let Some(info) = label_info(out.len(), b"exporter", context.as_ref()) else {
            return false;
        };
        derived.expand_slice(&[&info], out).is_ok()
    }

    fn peer_cert_der(&self) -> Option<&[u8]> {
        self.common()
            .peer_certificates()?
            .first()
            .map(CertificateDer::as_ref)
    }
}

/// The info of HKDF-Expand-Label (RFC 8446 section 7.1); `None` if something is too long for it.
fn label_info(len: usize, label: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    const PREFIX: &[u8] = b"tls13 ";
    let mut info = u16::try_from(len).ok()?.to_be_bytes().to_vec();
    info.push(u8::try_from(PREFIX.len() + label.len()).ok()?);
    info.extend_from_slice(PREFIX);
    info.extend_from_slice(label);
    info.push(u8::try_from(context.len()).ok()?);
    info.extend_from_slice(context);
    Some(info)
}

enum Progress {
    /// There may be more to do.
    Again,
    /// More bytes are needed.
    Blocked,
    /// More bytes are needed, and the connection is in this state.
    State(TlsState),
}

/// One state of rustls' machine; how many bytes are done with, and how to go on.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(usize, Progress), TlsError> {
    let UnbufferedStatus {
        mut discard, state, ..
    } = status;
    let progress = match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let AppDataRecord {
                    discard: record_len,
                    payload,
                    ..
                } = record?;
                discard += record_len;
                plain.extend_from_slice(payload);
            }
            Progress::Again
        }
        ConnectionState::EncodeTlsData(flight) => {
            encode(flight, out)?;
            Progress::Again
        }
        ConnectionState::TransmitTlsData(flight) => {
            flight.done();
            Progress::Again
        }
        ConnectionState::WriteTraffic(_) => Progress::State(TlsState::Open),
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            Progress::State(TlsState::PeerClosed)
        }
        // Early data is never offered, and other states are none of today's.
        _ => Progress::Blocked,
    };
    Ok((discard, progress))
}

fn encode<Data>(mut flight: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = out.len();
    let mut room = FLIGHT_LEN;
    loop {
        out.resize(start + room, 0);
        match flight.encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(len) => {
                out.truncate(start + len);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => {
                out.truncate(start);
                return Err(TlsError::Encode(error));
            }
        }
    }
}

fn send<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let mut traffic: WriteTraffic<'_, Data> = match status.state? {
        ConnectionState::WriteTraffic(traffic) => traffic,
        _ => return Err(TlsError::NotOpen),
    };
    for record in plain.chunks(RECORD_LEN_MAX) {
        let start = out.len();
        out.resize(start + record.len() + RECORD_OVERHEAD, 0);
        let sent = traffic.encrypt(record, out.get_mut(start..).unwrap_or_default());
        out.truncate(start + sent.as_ref().map_or(0, |len| *len));
        sent.map_err(TlsError::Encrypt)?;
    }
    Ok(())
}

/// A key log that keeps one secret of one connection, for [`TlsBinding::export`].
#[derive(Default)]
struct ExporterSecret(OnceLock<Zeroizing<Vec<u8>>>);

impl ExporterSecret {
    const LABEL: &str = "EXPORTER_SECRET";
}

impl KeyLog for ExporterSecret {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == Self::LABEL {
            // A connection has one such secret; another would be no reason to fail.
            let _ = self.0.set(Zeroizing::new(secret.to_vec()));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == Self::LABEL
    }
}

impl fmt::Debug for ExporterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExporterSecret")
    }
}
