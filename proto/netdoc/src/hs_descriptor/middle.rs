//! The middle layer: who may read the inner one (rend-spec-v3 2.5.1.2 to 2.5.1.4).
//!
//! A service without client authorization writes the same lines with random values, and
//! encrypts the inner layer without a cookie. The number of clients is always a multiple of
//! [`AUTH_CLIENTS_MULTIPLE`], their order random, so that neither can be read from the text.

use std::fmt::Write as _;

use cepa_crypto::encoding::{self, base64_array, base64_unpadded};
use cepa_crypto::hs_layer::{self, CLIENT_ID_LEN, COOKIE_LEN, ClientKeys};
use cepa_crypto::{Rng, curve25519};
use zeroize::Zeroizing;

use super::{
    AUTH_CLIENTS_MULTIPLE, HS_DESCRIPTOR_LEN_MAX, HsDecryptError, LIMITS, MESSAGE, layer_text,
};
use crate::item::{Item, ItemError, Section};
use crate::pem;

const AUTH_TYPE: &str = "x25519";

/// What both layers are encrypted with, beside their own constant and cookie.
#[derive(Clone, Copy)]
pub(super) struct LayerKeys<'a> {
    pub(super) blinded: &'a [u8; 32],
    pub(super) subcredential: &'a [u8; 32],
    pub(super) revision: u64,
}

/// The decrypted middle layer.
pub(super) struct Middle {
    ephemeral: curve25519::PublicKey,
    clients: Vec<AuthClient>,
    encrypted: Vec<u8>,
}

/// An `auth-client` line: the cookie, encrypted to one client; or random bytes.
struct AuthClient {
    id: [u8; CLIENT_ID_LEN],
    iv: [u8; 16],
    encrypted_cookie: [u8; COOKIE_LEN],
}

impl Middle {
    pub(super) fn parse(text: &str) -> Result<Self, HsDecryptError> {
        let section = Section::parse(text, LIMITS)?;
        if section.required_at(0, "desc-auth-type")?.arg(0)? != AUTH_TYPE {
            return Err(HsDecryptError::Unknown("desc-auth-type"));
        }
        let ephemeral = section.required("desc-auth-ephemeral-key")?;
        Ok(Self {
            ephemeral: curve25519::PublicKey::from(array(ephemeral, 0)?),
            clients: section
                .all("auth-client")
                .map(AuthClient::parse)
                .collect::<Result<_, _>>()?,
            encrypted: section
                .required("encrypted")?
                .object_bytes(MESSAGE, HS_DESCRIPTOR_LEN_MAX)?,
        })
    }

    /// The text of the inner layer. A key that none of the clients has is taken for one that
    /// is not needed, as long as the layer decrypts without a cookie.
    pub(super) fn decrypt(
        &self,
        keys: LayerKeys<'_>,
        client_key: Option<&curve25519::SecretKey>,
    ) -> Result<String, HsDecryptError> {
        let cookie = client_key.and_then(|key| self.cookie(key, keys.subcredential));
        let cookie = cookie.as_ref().map_or(&[][..], |cookie| &cookie[..]);
        let inner = hs_layer::decrypt(
            &secret_data(keys.blinded, cookie),
            keys.subcredential,
            keys.revision,
            hs_layer::ENCRYPTED,
            &self.encrypted,
        );
        inner.and_then(layer_text).ok_or(match client_key {
            Some(_) => HsDecryptError::ClientAuthWrong,
            None => HsDecryptError::ClientAuthNeeded,
        })
    }
}

impl Middle {
    /// The descriptor cookie, if one of the lines is for this client (2.5.1.3).
    fn cookie(
        &self,
        key: &curve25519::SecretKey,
        subcredential: &[u8; 32],
    ) -> Option<Zeroizing<[u8; COOKIE_LEN]>> {
        let keys = ClientKeys::derive(subcredential, key, &self.ephemeral)?;
        let client = self
            .clients
            .iter()
            .find(|one| one.id == *keys.client_id())?;
        let mut cookie = Zeroizing::new(client.encrypted_cookie);
        keys.crypt_cookie(&client.iv, &mut cookie);
        Some(cookie)
    }
}

impl AuthClient {
    fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        Ok(Self {
            id: array(item, 0)?,
            iv: array(item, 1)?,
            encrypted_cookie: array(item, 2)?,
        })
    }

    /// The cookie for a client; random bytes for a key of small order, which nobody has.
    fn new(
        cookie: &[u8; COOKIE_LEN],
        subcredential: &[u8; 32],
        ephemeral: &curve25519::SecretKey,
        client: &curve25519::PublicKey,
        rng: &mut Rng,
    ) -> Self {
        let mut line = Self::random(rng);
        if let Some(keys) = ClientKeys::derive(subcredential, ephemeral, client) {
            line.id = *keys.client_id();
            line.encrypted_cookie = *cookie;
            keys.crypt_cookie(&line.iv, &mut line.encrypted_cookie);
        }
        line
    }

    /// One that nobody can use.
    fn random(rng: &mut Rng) -> Self {
        Self {
            id: rng.array(),
            iv: rng.array(),
            encrypted_cookie: rng.array(),
        }
    }
}

fn array<const N: usize>(item: &Item<'_>, index: usize) -> Result<[u8; N], ItemError> {
    base64_array(item.arg(index)?).ok_or_else(|| item.bad_argument(index))
}

/// `SECRET_DATA` of the inner layer (2.5.2.1).
fn secret_data(blinded: &[u8; 32], cookie: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&blinded[..], cookie].concat())
}

/// Encrypts the inner layer to the clients, or to everybody if there is none, and writes the
/// layer around it; it has no newline at its end.
pub(super) fn encode(
    inner: &str,
    keys: LayerKeys<'_>,
    clients: &[curve25519::PublicKey],
    rng: &mut Rng,
) -> String {
    let cookie = Zeroizing::new(rng.array::<COOKIE_LEN>());
    let ephemeral = curve25519::SecretKey::generate(rng);
    let mut lines: Vec<AuthClient> = clients
        .iter()
        .map(|client| AuthClient::new(&cookie, keys.subcredential, &ephemeral, client, rng))
        .collect();
    let count = clients.len().max(1).next_multiple_of(AUTH_CLIENTS_MULTIPLE);
    lines.resize_with(count, || AuthClient::random(rng));
    shuffle(&mut lines, rng);

    let cookie = if clients.is_empty() {
        &[][..]
    } else {
        &cookie[..]
    };
    let encrypted = hs_layer::encrypt(
        &secret_data(keys.blinded, cookie),
        keys.subcredential,
        keys.revision,
        hs_layer::ENCRYPTED,
        inner.as_bytes(),
        rng,
    );
    let mut out = format!(
        "desc-auth-type {AUTH_TYPE}\ndesc-auth-ephemeral-key {}\n",
        encoding::base64(ephemeral.public().as_bytes())
    );
    for AuthClient {
        id,
        iv,
        encrypted_cookie,
    } in &lines
    {
        let [id, iv] = [base64_unpadded(id), base64_unpadded(iv)];
        let cookie = base64_unpadded(encrypted_cookie);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "auth-client {id} {iv} {cookie}");
    }
    out.push_str("encrypted\n");
    out.push_str(pem::encode(MESSAGE, &encrypted).trim_end());
    out
}

/// Fisher and Yates'.
fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        let at = usize::try_from(rng.below(bound)).unwrap_or_default();
        items.swap(last, at);
    }
}
