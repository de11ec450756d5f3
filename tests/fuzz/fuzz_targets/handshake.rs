//! What a stranger may send before a link is open, on both sides (tor-spec 4).

#![no_main]

mod script;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use cepa_crypto::{Rng, ed25519, rsa};
use cepa_link::{
    Handshake, LINK_VERSIONS, LinkIdentity, LinkKeys, PeerExpectation, Step, TlsBinding,
};
use cepa_wire::cert::{Cert, CertKeyType, CertType};
use script::now;

/// What TLS shows for a certificate.
const TLS_CERT: &[u8] = b"certificate";

struct Tls;

impl TlsBinding for Tls {
    fn export(&self, _: &[u8], _: &[u8], out: &mut [u8; 32]) -> bool {
        out.fill(7);
        true
    }
    fn peer_cert_der(&self) -> Option<&[u8]> {
        Some(TLS_CERT)
    }
}

/// The identity of the relay that answers; made once, as its keys take long.
fn identity() -> Arc<LinkIdentity> {
    static IDENTITY: OnceLock<Arc<LinkIdentity>> = OnceLock::new();
    let make = || {
        let mut rng = Rng::from_seed([3; 32]);
        let rsa = rsa::Keypair::generate(1024, &mut rng).expect("a key");
        let id = ed25519::Keypair::generate(&mut rng);
        let signing = ed25519::Keypair::generate(&mut rng).expand();
        let expires = UNIX_EPOCH + Duration::from_secs(86_400);
        let (kind, public) = (CertType::ID_SIGNING, signing.public());
        let key_type = CertKeyType::ED25519;
        let signing_cert = Cert::make(kind, expires, key_type, public.as_bytes(), &id, true);
        let ed = id.public().id();
        let keys = LinkKeys {
            rsa: &rsa,
            ed,
            signing: &signing,
            signing_cert: &signing_cert,
        };
        let addresses = [[127, 0, 0, 1].into()];
        let made = LinkIdentity::make(keys, TLS_CERT, &addresses, now(), &mut rng);
        Arc::new(made.expect("1024 bits"))
    };
    IDENTITY.get_or_init(make).clone()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says which side we are; a relay that initiates authenticates.
    let Some((side, data)) = data.split_first() else {
        return;
    };
    let (now, mut rng) = (now(), Rng::from_seed([1; 32]));
    let addr = SocketAddr::from(([127, 0, 0, 1], 9001));
    let mut handshake = match side % 3 {
        0 => Handshake::responder(identity(), addr, &LINK_VERSIONS),
        1 => Handshake::initiator(PeerExpectation::default(), None, addr, &LINK_VERSIONS),
        _ => {
            let (anyone, us) = (PeerExpectation::default(), Some(identity()));
            Handshake::initiator(anyone, us, addr, &LINK_VERSIONS)
        }
    };
    let mut input = Vec::new();
    for piece in data.chunks(700) {
        input.extend_from_slice(piece);
        match handshake.handle_bytes(&mut input, &Tls, now, &mut rng) {
            Ok(Step::Continue) => {}
            Ok(Step::Done(_)) | Err(_) => break,
        }
    }
    let _ = handshake.take_output();
});
