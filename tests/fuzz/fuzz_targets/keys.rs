//! Keys and onion-key handshakes of strangers (tor-spec 0.3, 5.1; proposal 332).

#![no_main]

use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, key_file, ntor, ntor_v3, rsa};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rng = Rng::from_seed([1; 32]);
    let keys = [curve25519::SecretKey::generate(&mut rng)];
    let _ = ntor::server(&mut rng, data, &RsaId::from([0; 20]), &keys);
    let ed = Ed25519Id::from([0; 32]);
    let _ = ntor_v3::server(data, &ed, &keys, ntor_v3::CIRCUIT_VERIFICATION);
    let _ = rsa::PublicKey::from_der(data);
    let _ = key_file::read_onion_key(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = rsa::PublicKey::from_pem(text);
    }
});
