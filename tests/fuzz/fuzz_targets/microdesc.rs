//! Microdescriptors and authority certificates (dir-spec 3.1, 3.3).

#![no_main]

use cepa_netdoc::authcert::{AuthCert, split_certs};
use cepa_netdoc::microdesc::{Microdesc, split_microdescs};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Microdesc::parse(text);
    let _ = split_microdescs(text).count();
    let _ = AuthCert::parse(text);
    let _ = split_certs(text).count();
});
