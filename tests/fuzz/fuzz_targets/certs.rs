//! Certificates of cert-spec, and X.509 ones of links.

#![no_main]

use std::time::UNIX_EPOCH;

use cepa_crypto::x509;
use cepa_wire::cert::UnverifiedCert;
use cepa_wire::cross_cert::UnverifiedCrossCert;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(cert) = UnverifiedCert::parse(data) {
        let _ = cert.check(UNIX_EPOCH, None);
    }
    let _ = UnverifiedCrossCert::parse(data);
    let _ = x509::spki_der(data);
    let _ = x509::rsa_public_key(data);
    let _ = x509::validity(data);
    let _ = x509::verify_self_signed(data);
});
