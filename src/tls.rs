//! TLS as links use it (tor-spec section 2; PROTOCOL-NOTES section 1, "TLS").
//!
//! A link's certificate proves nothing by itself: the CERTS cell ties it to the relay's identity.
//! So the client side checks the handshake's signature against the key in the certificate, and
//! nothing else; `tor`'s certificates have no extensions, which a web verifier would refuse.
//! TLS 1.2 and 1.3, no session resumption, no ALPN, no client certificates.

use std::sync::Arc;

use cepa_crypto::x509;
use cepa_link::TlsBinding;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig,
    ServerConnection, SignatureScheme,
};

/// The side of a link that connects.
#[derive(Clone)]
pub(crate) struct Connector(Arc<ClientConfig>);

/// The side of a link that listens, with one certificate.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<ServerConfig>);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Connector {
    /// Settings for outgoing links.
    pub(crate) fn new() -> Result<Self, Error> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyHolder { algorithms }))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Connector(Arc::new(config)))
    }

    /// A session for one link; `name` (`www.….com`) only looks like one of the web.
    pub(crate) fn session(&self, name: &str) -> Result<rustls::Connection, Error> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::General("not a host name".to_owned()))?;
        Ok(ClientConnection::new(Arc::clone(&self.0), name)?.into())
    }
}

impl Acceptor {
    /// Settings for incoming links. `key_pkcs8` is the key of the certificate.
    pub(crate) fn new(cert_der: &[u8], key_pkcs8: &[u8]) -> Result<Self, Error> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(cert_der.to_vec())], key)?;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Acceptor(Arc::new(config)))
    }

    /// A session for one link.
    pub(crate) fn session(&self) -> Result<rustls::Connection, Error> {
        Ok(ServerConnection::new(Arc::clone(&self.0))?.into())
    }
}

/// What the link handshake asks of a TLS session after its own handshake.
pub(crate) struct Binding<'a>(pub(crate) &'a rustls::Connection);

impl TlsBinding for Binding<'_> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool {
        self.0
            .export_keying_material(out, label, Some(context))
            .is_ok()
    }

    fn peer_cert_der(&self) -> Option<&[u8]> {
        self.0.peer_certificates()?.first().map(AsRef::as_ref)
    }
}

/// Accepts any certificate whose key signed the handshake.
#[derive(Debug)]
struct KeyHolder {
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyHolder {
    fn spki<'a>(cert: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
        let spki = x509::spki_der(cert.as_ref())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(SubjectPublicKeyInfoDer::from(spki))
    }
}

impl ServerCertVerifier for KeyHolder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::spki(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = Self::spki(cert)?;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
