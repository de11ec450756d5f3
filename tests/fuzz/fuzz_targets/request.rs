//! What a stranger asks of a directory, and the bodies of replies (dir-spec 4 to 6).

#![no_main]

use cepa_dir::DirRequest;
use cepa_dir::encoding::Encoding;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = DirRequest::parse("GET", text, Some(text));
        let _ = DirRequest::parse("POST", text, None);
        let _ = Encoding::choose(Some(text), true);
    }
    for encoding in [
        Encoding::Deflate,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Lzma,
    ] {
        let _ = encoding.decode(data, 1 << 20);
    }
});
