//! The cookie, a file that only the user's programs can read, and SAFECOOKIE (control-spec 3.24).
//!
//! In SAFECOOKIE both sides prove that they know the cookie without sending it: each side's nonce
//! goes into an HMAC keyed by a constant of its direction.

use cepa_crypto::Rng;
use cepa_crypto::digest::{ct_eq, hmac_sha256};
use zeroize::Zeroizing;

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 32;
/// Bytes of the server's nonce.
pub const NONCE_LEN: usize = 32;

const SERVER_KEY: &[u8] = b"Tor safe cookie authentication server-to-controller hash";
const CLIENT_KEY: &[u8] = b"Tor safe cookie authentication controller-to-server hash";

/// What lies in the cookie's file.
#[derive(Clone)]
pub struct Cookie(Zeroizing<[u8; COOKIE_LEN]>);

impl Cookie {
    /// A fresh one.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Cookie {
        Cookie(Zeroizing::new(rng.array()))
    }

    /// The one of these bytes; `None` if it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Cookie> {
        Some(Cookie(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// What is written to the file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; COOKIE_LEN] {
        &self.0
    }

    /// Whether these bytes are the cookie, in constant time.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        ct_eq(self.0.as_slice(), bytes)
    }
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie")
    }
}

/// What both sides compute for one AUTHCHALLENGE.
pub struct Challenge {
    /// What proves that the server knows the cookie.
    pub server_hash: [u8; 32],
    /// What proves that the controller knows it: secret until it was sent.
    pub client_hash: Zeroizing<[u8; 32]>,
}

impl Challenge {
    /// Of a cookie, the controller's nonce of any length and the server's.
    #[must_use]
    pub fn new(cookie: &Cookie, client_nonce: &[u8], server_nonce: &[u8; NONCE_LEN]) -> Challenge {
        let len = COOKIE_LEN + client_nonce.len() + NONCE_LEN;
        let mut message = Zeroizing::new(Vec::with_capacity(len));
        message.extend_from_slice(cookie.as_bytes());
        message.extend_from_slice(client_nonce);
        message.extend_from_slice(server_nonce);
        Challenge {
            server_hash: hmac_sha256(SERVER_KEY, &message),
            client_hash: Zeroizing::new(hmac_sha256(CLIENT_KEY, &message)),
        }
    }
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Challenge")
    }
}
