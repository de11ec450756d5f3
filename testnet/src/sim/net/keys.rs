//! The keys of a world, made once a process: a key of 1024 bits takes longer than an hour of a
//! small network. They are the same for all seeds; what a seed changes is what happens.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cepa_authority::{Config, Keys};
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_crypto::{RsaId, curve25519, rsa};
use cepa_dir::DirAuthority;
use cepa_link::TlsKeyAndCert;
use cepa_netdoc::authcert::AuthCert;
use cepa_relay::{KeyFile, RelayKeys as NodeKeys};
use cepa_wire::Now;

use super::{START, rng_of};

/// Bits of all RSA keys: what relays' identities have, and enough to sign the digests.
const BITS: usize = 1024;
/// Seeds of the keys, apart from those of worlds.
const KEYS_SEED: u64 = 0x6B65_7973_0000_0000;
/// How long certificates hold, around the start.
const CERT_LIFE: Duration = Duration::from_secs(400 * 86_400);

/// A relay's keys.
pub(super) struct RelayKeys {
    pub(super) identity: rsa::Keypair,
    pub(super) ntor: curve25519::SecretKey,
    pub(super) master: Keypair,
    pub(super) signing: ExpandedKeypair,
}

/// An authority's keys, as a PEM so that each world has its own.
pub(super) struct AuthorityKeys {
    pub(super) cert: AuthCert,
    signing: String,
}

type Made<T> = LazyLock<Mutex<Vec<Arc<T>>>>;

static RELAYS: Made<RelayKeys> = LazyLock::new(Mutex::default);
static AUTHORITIES: Made<AuthorityKeys> = LazyLock::new(Mutex::default);

static NODES: Made<Vec<KeyFile>> = LazyLock::new(Mutex::default);
static TLS: Made<(String, Vec<u8>)> = LazyLock::new(Mutex::default);

/// The files of the keys of so many relays that run.
pub(super) fn nodes(count: usize, now: Now) -> Vec<Arc<Vec<KeyFile>>> {
    take(&NODES, count, |number| {
        let keys = NodeKeys::generate(now, &mut rng_of(KEYS_SEED + 100_000 + number));
        keys.expect("the sizes are fine").files("simulated")
    })
}

/// The TLS key of all relays: under virtual TLS it proves nothing, and a certificate of each would
/// take a second to make.
pub(super) fn tls(now: Now) -> TlsKeyAndCert {
    let made = take(&TLS, 1, |_| {
        let mut rng = rng_of(KEYS_SEED + 200_000);
        let tls = TlsKeyAndCert::make(&rsa_key(&mut rng), now, &mut rng);
        let tls = tls.expect("the size is fine");
        (tls.key.to_pem().to_string(), tls.cert_der)
    });
    let (pem, cert_der) = made
        .first()
        .map(|one| one.as_ref().clone())
        .unwrap_or_default();
    TlsKeyAndCert {
        key: rsa::Keypair::from_pem(&pem).expect("a key of ours is read"),
        cert_der,
    }
}

/// The keys of so many relays.
pub(super) fn relays(count: usize) -> Vec<Arc<RelayKeys>> {
    take(&RELAYS, count, |number| {
        let mut rng = rng_of(KEYS_SEED + 1000 + number);
        RelayKeys {
            identity: rsa_key(&mut rng),
            ntor: curve25519::SecretKey::generate(&mut rng),
            master: Keypair::generate(&mut rng),
            signing: Keypair::generate(&mut rng).expand(),
        }
    })
}

/// The keys of so many authorities.
pub(super) fn authorities(count: usize) -> Vec<Arc<AuthorityKeys>> {
    take(&AUTHORITIES, count, |number| {
        let mut rng = rng_of(KEYS_SEED + number);
        let (identity, signing) = (rsa_key(&mut rng), rsa_key(&mut rng));
        let start = SystemTime::UNIX_EPOCH + START;
        let (from, to) = (start - CERT_LIFE, start + CERT_LIFE);
        let text = AuthCert::build(&identity, &signing, None, from, to);
        AuthorityKeys {
            cert: AuthCert::parse(&text).expect("a certificate of ours is read"),
            signing: signing.to_pem().to_string(),
        }
    })
}

fn rsa_key(rng: &mut cepa_crypto::Rng) -> rsa::Keypair {
    rsa::Keypair::generate(BITS, rng).expect("the size is fine")
}

fn take<T>(made: &Made<T>, count: usize, make: impl Fn(u64) -> T) -> Vec<Arc<T>> {
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    while made.len() < count {
        let next = make(made.len() as u64);
        made.push(Arc::new(next));
    }
    made.iter().take(count).cloned().collect()
}

impl AuthorityKeys {
    /// The keys as the core takes them.
    pub(super) fn of_core(&self) -> Keys {
        Keys {
            legacy: None,
            cert: self.cert.clone(),
            signing: self.signing(),
        }
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> rsa::Keypair {
        rsa::Keypair::from_pem(&self.signing).expect("a key of ours is read")
    }

    /// Its v3 identity.
    pub(super) fn id(&self) -> RsaId {
        self.cert.identity
    }
}

/// What each authority is told: the public network's way, hourly. The DirPort says which one it is.
pub(super) fn config(keys: &[Arc<AuthorityKeys>]) -> Config {
    let ip = |index: u8| Ipv4Addr::new(171, 25, index + 1, 1);
    let known = (0u8..).zip(keys).map(|(index, keys)| DirAuthority {
        nickname: format!("auth{index}"),
        v3_identity: keys.id(),
        rsa_id: RsaId::from([index + 1; 20]),
        ed25519_id: None,
        dir_addr: SocketAddrV4::new(ip(index), u16::from(index) + 1),
        or_addr: SocketAddrV4::new(ip(index), 9001),
        or_addr_v6: None,
    });
    let config = Config::new(known.collect(), "simulated".to_owned());
    Config {
        // The model counts hours.
        initial_interval_secs: config.timing.interval_secs,
        ..config
    }
}
