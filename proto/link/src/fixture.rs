//! What the tests of this crate share: two relays with all their keys, and a stand-in for TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use cepa_crypto::{Rng, digest, ed25519, rsa};
use cepa_wire::Now;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use crate::handshake::TlsBinding;
use crate::identity::{LinkIdentity, LinkKeys};

/// A relay's keys, and the identity made of them.
pub(crate) struct Relay {
    pub(crate) rsa: rsa::Keypair,
    pub(crate) id: ed25519::Keypair,
    pub(crate) signing: ed25519::ExpandedKeypair,
    pub(crate) tls_cert: Vec<u8>,
    pub(crate) identity: Arc<LinkIdentity>,
}

/// One reading of the clocks, the same in a whole test run.
pub(crate) fn now() -> Now {
    static MONO: OnceLock<Instant> = OnceLock::new();
    // `Instant` has no fixed value to start from.
    let mono = *MONO.get_or_init(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no other way to an Instant"
        )]
        Instant::now()
    });
    Now {
        mono,
        wall: UNIX_EPOCH + Duration::from_secs(1_790_000_000),
    }
}

pub(crate) fn later(duration: Duration) -> Now {
    now() + duration
}

pub(crate) fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn relay(seed: u8, address: &str) -> Relay {
    let mut rng = rng(seed);
    let rsa = rsa::Keypair::generate(1024, &mut rng).unwrap();
    let id = ed25519::Keypair::generate(&mut rng);
    let signing = ed25519::Keypair::generate(&mut rng).expand();
    let expires = now().wall + Duration::from_secs(30 * 86400);
    let signing_key = signing.public();
    let signing_cert = Cert::make(
        CertType::ID_SIGNING,
        expires,
        CertKeyType::ED25519,
        signing_key.as_bytes(),
        &id,
        true,
    );
    // The handshake takes the certificate for mere bytes: TLS is the shell's.
    let tls_cert = vec![seed; 600];
    let keys = LinkKeys {
        rsa: &rsa,
        ed: id.public().id(),
        signing: &signing,
        signing_cert: &signing_cert,
    };
    let identity =
        LinkIdentity::make(keys, &tls_cert, &[ip(address), ip("::5")], now(), &mut rng).unwrap();
    Relay {
        rsa,
        id,
        signing,
        tls_cert,
        identity: Arc::new(identity),
    }
}

/// The relay at 127.0.0.1.
pub(crate) fn alice() -> &'static Relay {
    static RELAY: OnceLock<Relay> = OnceLock::new();
    RELAY.get_or_init(|| relay(1, "127.0.0.1"))
}

/// The relay at 127.0.0.2.
pub(crate) fn bob() -> &'static Relay {
    static RELAY: OnceLock<Relay> = OnceLock::new();
    RELAY.get_or_init(|| relay(2, "127.0.0.2"))
}

/// One end of a TLS connection.
pub(crate) struct FakeTls {
    pub(crate) secret: u8,
    pub(crate) peer_cert: Option<Vec<u8>>,
}

impl TlsBinding for FakeTls {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool {
        *out = digest::sha256(&[&[self.secret], label, context].concat());
        self.secret != 0
    }

    fn peer_cert_der(&self) -> Option<&[u8]> {
        self.peer_cert.as_deref()
    }
}

/// The TLS connection as the side that opened it sees it.
pub(crate) fn tls_to(responder: &Relay) -> FakeTls {
    FakeTls {
        secret: 7,
        peer_cert: Some(responder.tls_cert.clone()),
    }
}

/// The same connection, as the responder sees it.
pub(crate) fn tls_of_responder() -> FakeTls {
    FakeTls {
        secret: 7,
        peer_cert: None,
    }
}
