//! base64, base32 and hexadecimal as directory documents have them (dir-spec 1.2, rend-spec-v3).
//!
//! Writing is canonical. Reading base64 is tolerant as C tor is: padding may be absent, white
//! space may stand anywhere (objects are wrapped at 64 columns), bits past the last byte are not
//! looked at. Lengths are the caller's to bound: no reader allocates more than its input is long.

use data_encoding::{
    BASE32_NOPAD, BASE64, BASE64_NOPAD, Encoding, HEXLOWER, HEXUPPER, HEXUPPER_PERMISSIVE,
    Specification,
};
use std::sync::LazyLock;

/// Characters on a line of a wrapped object (dir-spec 1.2).
pub const WRAP_COLUMNS: usize = 64;

static BASE64_TOLERANT: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = BASE64_NOPAD.specification();
    spec.check_trailing_bits = false;
    spec.ignore.push_str(" \t\r\n");
    valid(&spec)
});

static BASE32_TOLERANT: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = BASE32_NOPAD.specification();
    spec.check_trailing_bits = false;
    spec.translate.from.push_str("abcdefghijklmnopqrstuvwxyz");
    spec.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    valid(&spec)
});

fn valid(spec: &Specification) -> Encoding {
    spec.encoding()
        .expect("the specification is a constant of this file")
}

/// base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// base64 without padding.
pub fn base64_unpadded(bytes: &[u8]) -> String {
    BASE64_NOPAD.encode(bytes)
}

/// base64 with padding, in lines of 64 characters, each ended by a newline.
pub fn base64_wrapped(bytes: &[u8]) -> String {
    let text = BASE64.encode(bytes);
    let mut wrapped = String::with_capacity(text.len() + text.len() / WRAP_COLUMNS + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WRAP_COLUMNS));
        wrapped.push_str(line);
        wrapped.push('\n');
        rest = after;
    }
    wrapped
}

/// The bytes of a base64 text, padded or not, wrapped or not; `None` if it is none.
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 {
        return None;
    }
    BASE64_TOLERANT.decode(bare.as_bytes()).ok()
}

/// The bytes of a base64 text that must be exactly `N` long.
pub fn base64_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    base64_decode(text)?.try_into().ok()
}

/// base32 in lower case without padding (onion addresses).
pub fn base32_lower(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// base32 in upper case without padding.
pub fn base32_upper(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes)
}

/// The bytes of a base32 text of either case, padded or not; `None` if it is none.
pub fn base32_decode(text: &str) -> Option<Vec<u8>> {
    BASE32_TOLERANT
        .decode(text.trim_end_matches('=').as_bytes())
        .ok()
}

/// Hexadecimal in upper case (fingerprints, digests in votes).
pub fn hex_upper(bytes: &[u8]) -> String {
    HEXUPPER.encode(bytes)
}

/// Hexadecimal in lower case.
pub fn hex_lower(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes of a hexadecimal text of either case; `None` if it is none.
pub fn hex_decode(text: &str) -> Option<Vec<u8>> {
    HEXUPPER_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// The bytes of a hexadecimal text that must be exactly `N` long.
pub fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    hex_decode(text)?.try_into().ok()
}

/// The first object of this keyword in a PEM-like text: the bytes between
/// `-----BEGIN keyword-----` and `-----END keyword-----` (dir-spec 1.2).
pub fn pem_decode(text: &str, keyword: &str) -> Option<Vec<u8>> {
    let (_, after) = text.split_once(&format!("-----BEGIN {keyword}-----"))?;
    let (body, _) = after.split_once(&format!("-----END {keyword}-----"))?;
    base64_decode(body)
}

/// The object of dir-spec 1.2: a BEGIN line, wrapped base64, an END line, each with a newline.
pub fn pem_encode(keyword: &str, bytes: &[u8]) -> String {
    let body = base64_wrapped(bytes);
    format!("-----BEGIN {keyword}-----\n{body}-----END {keyword}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors() {
        // RFC 4648 section 10.
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b"fooba"), "Zm9vYmE=");
        assert_eq!(base64_unpadded(b"foob"), "Zm9vYg");
        assert_eq!(base32_upper(b"foob"), "MZXW6YQ");
        assert_eq!(base32_lower(b"fooba"), "mzxw6ytb");
        assert_eq!(hex_upper(b"foo\xff"), "666F6FFF");
        assert_eq!(hex_lower(b"foo\xff"), "666f6fff");
    }

    #[test]
    fn decoding_is_tolerant() {
        assert_eq!(base64_decode("Zm9v\nYg==\n").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64_decode("Zm9vYh").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64_decode("").as_deref(), Some(&b""[..]));
        assert_eq!(base64_decode("Zm9v==="), None);
        assert_eq!(base64_decode("Zm9vY"), None);
        assert_eq!(base64_decode("Z=9v"), None);
        assert_eq!(hex_decode("abC"), None);
        assert_eq!(hex_array::<2>("aBcD"), Some([0xab, 0xcd]));
    }

    proptest! {
        #[test]
        fn each_comes_back(bytes: Vec<u8>) {
            prop_assert_eq!(base64_decode(&base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(&base64_unpadded(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(&base64_wrapped(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base32_decode(&base32_lower(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base32_decode(&base32_upper(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(hex_decode(&hex_lower(&bytes)), Some(bytes.clone()));
            prop_assert!(base64_wrapped(&bytes).lines().all(|line| line.len() <= 64));
            prop_assert_eq!(pem_decode(&pem_encode("X Y", &bytes), "X Y"), Some(bytes));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = (base64_decode(&text), base32_decode(&text), hex_decode(&text));
            let _ = pem_decode(&text, "X");
        }
    }
}
