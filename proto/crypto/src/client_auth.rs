//! Keys of authorized clients as text (rend-spec-v3 G.1.2, G.1.3).
//!
//! ```text
//! authorized_clients/NAME.auth:   descriptor:x25519:<base32 public key>
//! NAME.auth_private:              <address without .onion>:descriptor:x25519:<base32 secret key>
//! ```
//!
//! base32 has 52 characters of any case and no padding. White space around is ignored, as C tor
//! does; errors never show the text, which may be secret.

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::curve25519::{PublicKey, SecretKey};
use crate::encoding;
use crate::onion::{OnionAddress, OnionAddressError};

const AUTH_TYPE: &str = "descriptor";
const KEY_TYPE: &str = "x25519";
const KEY_CHARS: usize = 52;

/// Why a text is no key of an authorized client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAuthError {
    /// Not as many fields as there are.
    #[error("a client key has the form {0}")]
    Fields(&'static str),
    /// Another type than `descriptor`.
    #[error("the type of a client key is \"descriptor\"")]
    AuthType,
    /// Another kind of key than `x25519`.
    #[error("the kind of a client key is \"x25519\"")]
    KeyType,
    /// The key is not base32 of 32 bytes.
    #[error("a client key is 52 characters of base32")]
    Key,
    /// The address of the service.
    #[error("{0}")]
    Address(#[from] OnionAddressError),
}

/// A client that a service lets in: the content of a `.auth` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAuthPublic {
    /// The client's key.
    pub key: PublicKey,
}

impl ClientAuthPublic {
    /// Reads the content of a `.auth` file.
    pub fn parse(text: &str) -> Result<ClientAuthPublic, ClientAuthError> {
        let fields: Vec<&str> = text.trim().splitn(4, ':').collect();
        let [auth_type, key_type, key] = fields[..] else {
            return Err(ClientAuthError::Fields(
                "descriptor:x25519:<base32 public key>",
            ));
        };
        let key = parse_key(auth_type, key_type, key)?;
        Ok(ClientAuthPublic {
            key: PublicKey::from(*key),
        })
    }

    /// The content of a `.auth` file, without a newline.
    pub fn encode(&self) -> String {
        let key = encoding::base32_upper(self.key.as_bytes());
        format!("{AUTH_TYPE}:{KEY_TYPE}:{key}")
    }
}

/// What lets a client in at a service: the content of a `.auth_private` file.
#[derive(Clone)]
pub struct ClientAuthPrivate {
    /// The service.
    pub address: OnionAddress,
    /// The client's key there.
    pub key: SecretKey,
}

impl ClientAuthPrivate {
    /// Reads the content of a `.auth_private` file.
    pub fn parse(text: &str) -> Result<ClientAuthPrivate, ClientAuthError> {
        let fields: Vec<&str> = text.trim().splitn(5, ':').collect();
        let [address, auth_type, key_type, key] = fields[..] else {
            return Err(ClientAuthError::Fields(
                "<address>:descriptor:x25519:<base32 secret key>",
            ));
        };
        let address = address.parse()?;
        let key = parse_key(auth_type, key_type, key)?;
        Ok(ClientAuthPrivate {
            address,
            key: SecretKey::from_bytes(&key),
        })
    }

    /// The content of a `.auth_private` file, without a newline.
    pub fn encode(&self) -> Zeroizing<String> {
        let address = self.address.to_string();
        let address = address.trim_end_matches(".onion");
        let key = Zeroizing::new(encoding::base32_upper(&*self.key.to_bytes()));
        Zeroizing::new(format!("{address}:{AUTH_TYPE}:{KEY_TYPE}:{}", *key))
    }

    /// The public part, which the service's operator is to be given.
    pub fn public(&self) -> ClientAuthPublic {
        ClientAuthPublic {
            key: *self.key.public(),
        }
    }
}

impl fmt::Debug for ClientAuthPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuthPrivate of {}", self.address)
    }
}

fn parse_key(
    auth_type: &str,
    key_type: &str,
    key: &str,
) -> Result<Zeroizing<[u8; 32]>, ClientAuthError> {
    if auth_type != AUTH_TYPE {
        return Err(ClientAuthError::AuthType);
    }
    if key_type != KEY_TYPE {
        return Err(ClientAuthError::KeyType);
    }
    if key.len() != KEY_CHARS {
        return Err(ClientAuthError::Key);
    }
    let mut bytes = encoding::base32_decode(key).ok_or(ClientAuthError::Key)?;
    let array = bytes.as_slice().try_into().map(Zeroizing::new);
    bytes.zeroize();
    array.map_err(|_| ClientAuthError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid";
    /// The example of rend-spec-v3 G.1.2.
    const PUBLIC: &str = "descriptor:x25519:OM7TGIVRYMY6PFX6GAC6ATRTA5U6WW6U7A4ZNHQDI6OVL52XVV2Q";

    #[test]
    fn the_specification_s_example() {
        let public = ClientAuthPublic::parse(&format!(" {PUBLIC}\r\n")).unwrap();
        assert_eq!(public.encode(), PUBLIC);
        let lower = PUBLIC.to_lowercase();
        assert_eq!(ClientAuthPublic::parse(&lower), Ok(public));
    }

    #[test]
    fn each_refusal_has_its_name() {
        let error = |text: &str| ClientAuthPublic::parse(text).unwrap_err();
        assert!(matches!(error(""), ClientAuthError::Fields(_)));
        assert!(matches!(
            error(&format!("{PUBLIC}:")),
            ClientAuthError::Fields(_)
        ));
        assert_eq!(error("intro:x25519:A"), ClientAuthError::AuthType);
        assert_eq!(error("descriptor:rsa:A"), ClientAuthError::KeyType);
        assert_eq!(error(&PUBLIC[..PUBLIC.len() - 1]), ClientAuthError::Key);
        assert_eq!(error(&PUBLIC.replace('O', "1")), ClientAuthError::Key);
        let error = |text: String| ClientAuthPrivate::parse(&text).unwrap_err();
        assert!(matches!(error(PUBLIC.into()), ClientAuthError::Fields(_)));
        assert_eq!(
            error(format!("{}e:{PUBLIC}", &ADDRESS[..55])),
            ClientAuthError::Address(OnionAddressError::Version(4))
        );
    }

    proptest! {
        #[test]
        fn encoded_is_parsed(secret: [u8; 32]) {
            let address: OnionAddress = ADDRESS.parse().unwrap();
            let private = ClientAuthPrivate { address, key: SecretKey::from_bytes(&secret) };
            let text = private.encode();
            prop_assert!(text.starts_with(ADDRESS) && text.len() == 56 + 19 + 52);
            let parsed = ClientAuthPrivate::parse(&text).unwrap();
            prop_assert_eq!(*parsed.key.to_bytes(), secret);
            prop_assert_eq!(parsed.address, address);
            let public = private.public();
            prop_assert_eq!(ClientAuthPublic::parse(&public.encode()), Ok(public));
            let shown = format!("{parsed:?}");
            prop_assert!(!shown.contains(&encoding::base32_upper(&secret)));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "(.*:)*.*") {
            let _ = (ClientAuthPublic::parse(&text), ClientAuthPrivate::parse(&text).is_ok());
        }
    }
}
