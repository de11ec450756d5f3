//! TLS of links (tor-spec 2): what to offer, and why no certificate authority has a say in it.
//!
//! Identities are proved inside TLS, by the CERTS cells. Of a peer's certificate only its key
//! matters, by which the handshake is signed, and its SHA-256, which CERTS names. So the verifier
//! checks the handshake's signature and nothing else. Neither side resumes sessions, sends tickets
//! or names a protocol (ALPN); nobody asks for client certificates. Clients send a random server
//! name, as `tor` does. TLS 1.3 only, which every peer of today speaks.

mod hybrid;
pub(crate) mod session;

use std::sync::Arc;

use cepa_crypto::{Rng, x509};
use cepa_link::TlsKeyAndCert;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, PeerIncompatible,
    ServerConfig, SignatureScheme,
};

/// The suites that `tor` offers, in its order.
const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
];

/// Our choice of the primitives that rustls has.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    let suite = |wanted| all.iter().find(|suite| suite.suite() == wanted).copied();
    provider.cipher_suites = SUITES.into_iter().filter_map(suite).collect();
    provider.kx_groups.insert(0, &hybrid::X25519MlKem768);
    Arc::new(provider)
}

/// The configuration of links that we open; one serves the whole process.
pub(crate) fn client_config(
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = LinkVerifier {
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The configuration of links that come in, for one TLS certificate of the relay.
pub(crate) fn server_config(
    provider: Arc<CryptoProvider>,
    identity: &TlsKeyAndCert,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let key = PrivatePkcs8KeyDer::from(identity.key.to_pkcs8_der().to_vec());
    let key = provider
        .key_provider
        .load_private_key(PrivateKeyDer::Pkcs8(key))?;
    let chain = vec![CertificateDer::from(identity.cert_der.clone())];
    // Not `with_single_cert`: it wants a certificate that a certificate authority might have made.
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A server name that means nothing: `www.<random>.com`.
pub(crate) fn server_name(rng: &mut Rng) -> ServerName<'static> {
    let name = x509::Names::generate(rng).identity;
    ServerName::try_from(name).expect("letters and digits make a name")
}

/// Takes every certificate with a key that can sign a handshake.
#[derive(Debug)]
struct LinkVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for LinkVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Not reached: only TLS 1.3 is offered.
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let spki = x509::spki_der(cert).map_err(|_| CertificateError::BadEncoding)?;
        let spki = SubjectPublicKeyInfoDer::from(spki);
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &spki,
            signed,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
