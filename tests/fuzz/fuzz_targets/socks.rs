//! The bytes of an application at the SOCKS port (socks-extensions).

#![no_main]

use cepa_wire::socks::{Handshake, Progress};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says how the rest is cut into reads.
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let mut handshake = Handshake::new();
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        match handshake.handle_bytes(piece) {
            Ok(Progress::Request(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let _ = handshake.take_rest();
});
