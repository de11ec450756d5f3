//! Descriptors of onion services (rend-spec-v3 2.4, 2.5). A first byte of 1 or 2 makes the rest
//! the text of the middle or the inner layer, which the encryption would else keep out of reach.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::ed25519::{Keypair, PublicKey};
use cepa_crypto::onion::{TimePeriod, blind, subcredential};
use cepa_crypto::{Rng, curve25519, hs_layer};
use cepa_netdoc::hs_descriptor::{HsDescriptor, HsPlaintext};
use cepa_netdoc::pem;

const PERIOD: TimePeriod = TimePeriod {
    number: 4_986_785,
    length_minutes: 6,
};
/// The signing key of tests/vectors/hs/tor-plain.txt, whose inner layer is a seed.
const SIGNING: [u8; 32] = [
    0xa8, 0xb9, 0x89, 0xe7, 0x94, 0x90, 0x0b, 0x5c, 0xcd, 0x94, 0x90, 0x6e, 0x23, 0x4c, 0x4d, 0x3e,
    0xe9, 0xdf, 0xec, 0xdb, 0xf9, 0x2e, 0x06, 0x2e, 0x26, 0xb8, 0x92, 0x80, 0x71, 0x93, 0x3d, 0xc0,
];

/// When that descriptor was fetched.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_243_015)
}

struct Service {
    identity: PublicKey,
    blinded: PublicKey,
    subcredential: [u8; 32],
    client: curve25519::SecretKey,
}

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let identity = Keypair::from_seed(&[1; 32]).public();
    let blinded = blind(&identity, PERIOD).expect("an honest key");
    Service {
        identity,
        blinded,
        subcredential: subcredential(&identity, &blinded),
        client: curve25519::SecretKey::from_bytes(&[2; 32]),
    }
});

fn encrypt(constant: &[u8], text: &str) -> Vec<u8> {
    let Service {
        blinded,
        subcredential,
        ..
    } = &*SERVICE;
    let rng = &mut Rng::from_seed([3; 32]);
    let bytes = text.as_bytes();
    hs_layer::encrypt(blinded.as_bytes(), subcredential, 0, constant, bytes, rng)
}

fn decrypt(middle: &str) -> Option<HsPlaintext> {
    let descriptor = HsDescriptor {
        lifetime_minutes: 180,
        blinded_key: SERVICE.blinded,
        signing_key: PublicKey::from(SIGNING),
        expires: now(),
        revision: 0,
        superencrypted: encrypt(hs_layer::SUPERENCRYPTED, middle),
    };
    let read = |key| descriptor.decrypt(&SERVICE.identity, PERIOD, key, now());
    read(Some(&SERVICE.client)).ok().or_else(|| read(None).ok())
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (layer, rest) = text.split_at_checked(1).unwrap_or_default();
    match layer {
        "\u{1}" => {
            decrypt(rest);
        }
        "\u{2}" => {
            let inner = pem::encode("MESSAGE", &encrypt(hs_layer::ENCRYPTED, rest));
            let key = "A".repeat(43);
            let plaintext = decrypt(&format!(
                "desc-auth-type x25519\ndesc-auth-ephemeral-key {key}\nencrypted\n{inner}"
            ));
            assert!(plaintext.is_none_or(|plaintext| plaintext.intro_points.len() <= 20));
        }
        _ => {
            let _ = HsDescriptor::parse(text, now());
        }
    }
});
