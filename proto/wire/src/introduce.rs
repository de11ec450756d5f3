//! INTRODUCE1, INTRODUCE2 and INTRODUCE_ACK: a visitor calls a service through its introduction
//! point (rend-spec-v3 3.2, 3.3.2). What is encrypted is in [`crate::intro_plaintext`].
//!
//! ```text
//! INTRODUCE1, 2:  zero 20 | auth key 35 | extensions | X 32 | ciphertext | MAC 32
//! INTRODUCE_ACK:  status 2 | extensions
//! ```
//!
//! The point reads no further than to the extensions and passes the bytes on as they are. The MAC
//! covers all before it. A service keeps a replay cache of [`Introduce::encrypted`].

use cepa_crypto::curve25519;
use cepa_crypto::digest::ct_eq;
use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::hs_ntor::IntroKeys;
use zeroize::Zeroizing;

use crate::auth_key::{self, AuthKeyError};
use crate::codes::codes;
use crate::extension::Extensions;
use crate::intro_plaintext::IntroPlaintext;
use crate::reader::{Reader, Truncated};
use crate::relay::RELAY_BODY_MAX;
use crate::writer::{TooLong, Writer};

const LEGACY_KEY_ID: [u8; 20] = [0; 20];
const CLIENT_KEY_LEN: usize = 32;
const MAC_LEN: usize = 32;
/// Bytes of an INTRODUCE1 without extensions, before `X`.
const HEAD_LEN: usize = 56;
/// Fewest bytes of header and plaintext together, as C tor pads them
/// (`HS_CELL_INTRODUCE1_MIN_SIZE`).
const PADDED_LEN: usize = 246;

/// Why an INTRODUCE1 or INTRODUCE2 message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// It ends too early, or has nothing encrypted.
    #[error("INTRODUCE: {0}")]
    Truncated(#[from] Truncated),
    /// The message is of version 2, which is gone.
    #[error("INTRODUCE with a legacy key")]
    Legacy,
    /// The key is none that we know.
    #[error("INTRODUCE: {0}")]
    AuthKey(#[from] AuthKeyError),
    /// The keys are not the sender's, or something was changed.
    #[error("INTRODUCE with a wrong MAC")]
    Mac,
}

/// The body of an INTRODUCE1 or INTRODUCE2 message, as the introduction point sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduce<'a> {
    /// Which of its services the point shall pass it to.
    pub auth_key: PublicKey,
    /// What only the service reads; never empty.
    pub encrypted: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Introduce<'a> {
    /// Reads the data of an INTRODUCE1 or INTRODUCE2 message.
    pub fn read(data: &'a [u8]) -> Result<Self, IntroduceError> {
        let mut r = Reader::new(data);
        if r.array()? != LEGACY_KEY_ID {
            return Err(IntroduceError::Legacy);
        }
        let auth_key = auth_key::read(&mut r)?;
        Extensions::read(&mut r)?;
        let encrypted = r.rest();
        if encrypted.is_empty() {
            return Err(Truncated.into());
        }
        Ok(Introduce {
            auth_key,
            encrypted,
            whole: data,
        })
    }

    /// The visitor's key `X`, for [`cepa_crypto::hs_ntor::ServiceIntro`].
    pub fn client_key(&self) -> Result<curve25519::PublicKey, Truncated> {
        let (key, rest) = self.encrypted.split_first_chunk().ok_or(Truncated)?;
        if rest.len() < MAC_LEN {
            return Err(Truncated);
        }
        Ok((*key).into())
    }

    /// Checks the MAC and decrypts: the bytes for [`IntroPlaintext::read`].
    pub fn open(&self, keys: &IntroKeys) -> Result<Zeroizing<Vec<u8>>, IntroduceError> {
        let (authenticated, mac) = self.whole.split_last_chunk::<MAC_LEN>().ok_or(Truncated)?;
        let ciphertext = self
            .encrypted
            .get(CLIENT_KEY_LEN..self.encrypted.len().saturating_sub(MAC_LEN))
            .ok_or(Truncated)?;
        if !ct_eq(&keys.mac(authenticated), mac) {
            return Err(IntroduceError::Mac);
        }
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        keys.crypt(&mut plaintext);
        Ok(plaintext)
    }

    /// The data of an INTRODUCE1 message, padded as C tor does. `client_key` is
    /// [`cepa_crypto::hs_ntor::ClientState::public`]. [`TooLong`] if it does not fit a cell.
    pub fn make(
        auth_key: &PublicKey,
        client_key: &curve25519::PublicKey,
        keys: &IntroKeys,
        plaintext: &IntroPlaintext,
    ) -> Result<Vec<u8>, TooLong> {
        let mut clear = Zeroizing::new(Vec::with_capacity(RELAY_BODY_MAX));
        plaintext.write(&mut clear)?;
        let padded_len = clear.len().max(PADDED_LEN - HEAD_LEN);
        clear.resize(padded_len, 0);
        keys.crypt(&mut clear);
        let mut out = Vec::with_capacity(RELAY_BODY_MAX);
        let mut w = Writer::new(&mut out);
        w.bytes(&LEGACY_KEY_ID);
        auth_key::write(auth_key, &mut w);
        w.u8(0);
        w.bytes(client_key.as_bytes());
        w.bytes(&clear);
        let mac = keys.mac(&out);
        out.extend_from_slice(&mac);
        if out.len() > RELAY_BODY_MAX {
            return Err(TooLong);
        }
        Ok(out)
    }
}

codes! {
    /// What became of an INTRODUCE1 (rend-spec-v3 3.2.2).
    pub struct IntroduceStatus(u16) {
        SUCCESS = 0,
        UNKNOWN_ID = 1,
        BAD_FORMAT = 2,
        CANT_RELAY = 3,
    }
}

/// The body of an INTRODUCE_ACK message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntroduceAck {
    /// Whether the service was told.
    pub status: IntroduceStatus,
}

impl IntroduceAck {
    /// Reads the data of an INTRODUCE_ACK message.
    pub fn read(data: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(data);
        let status = IntroduceStatus(r.u16()?);
        Extensions::read(&mut r)?;
        Ok(IntroduceAck { status })
    }

    /// Appends the data of an INTRODUCE_ACK message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.u16(self.status.0);
        w.u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use cepa_crypto::curve25519::SecretKey;
    use cepa_crypto::hs_ntor::{ClientState, ServiceIntro};
    use hex_literal::hex;
    use proptest::prelude::*;

    /// rend-spec-v3 appendix G.1.
    const AUTH_KEY: [u8; 32] =
        hex!("34E171E4358E501BFF21ED907E96AC6BFEF697C779D040BBAF49ACC30FC5D21F");
    const B_SECRET: [u8; 32] =
        hex!("A0ED5DBF94EEB2EDB3B514E4CF6ABFF6022051CC5F103391F1970A3FCD15296A");
    const X: [u8; 32] = hex!("BF04348B46D09AED726F1D66C618FDEA1DE58E8CB8B89738D7356A0C59111D5D");
    const SUBCREDENTIAL: [u8; 32] =
        hex!("0085D26A9DEBA252263BF0231AEAC59B17CA11BAD8A218238AD6487CBAD68B57");
    const PLAINTEXT: [u8; 190] = hex!(
        "6BD364C12638DD5C3BE23D76ACA05B04E6CE932C0101000100200DE6130E4FCA"
        "C4EDDA24E21220CC3EADAE403EF6B7D11C8273AC71908DE565450300067F0000"
        "0113890214F823C4F8CC085C792E0AEE0283FE00AD7520B37D0320728D5DF39B"
        "7B7077A0118A900FF4456C382F0041300ACF9C58E51C392795EF870000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000"
    );
    const BODY: [u8; 310] = hex!(
        "000000000000000000000000000000000000000002002034E171E4358E501BFF"
        "21ED907E96AC6BFEF697C779D040BBAF49ACC30FC5D21F00BF04348B46D09AED"
        "726F1D66C618FDEA1DE58E8CB8B89738D7356A0C59111D5DADBECCCB38E37830"
        "4DCC179D3D9E437B452AF5702CED2CCFEC085BC02C4C175FA446525C1B9D5530"
        "563C362FDFFB802DAB8CD9EBC7A5EE17DA62E37DEEB0EB187FBB48C63298B0E8"
        "3F391B7566F42ADC97C46BA7588278273A44CE96BC68FFDAE31EF5F0913B9A9C"
        "7E0F173DBC0BDDCD4ACB4C4600980A7DDD9EAEC6E7F3FA3FC37CD95E5B8BFB3E"
        "35717012B78B4930569F895CB349A07538E42309C993223AEA77EF8AEA64F25D"
        "DEE97DA623F1AEC0A47F150002150455845C385E5606E41A9A199E7111D54EF2"
        "D1A51B7554D8B3692D85AC587FB9E69DF990EFB776D8"
    );

    fn keys() -> IntroKeys {
        let b = SecretKey::from_bytes(&B_SECRET);
        ServiceIntro::new(&b, &X.into(), &AUTH_KEY.into())
            .unwrap()
            .keys(&SUBCREDENTIAL)
    }

    #[test]
    fn vector_of_the_specification() {
        let message = Introduce::read(&BODY).unwrap();
        assert_eq!(*message.auth_key.as_bytes(), AUTH_KEY);
        assert_eq!(message.client_key(), Ok(X.into()));
        assert_eq!(message.encrypted.len(), 254);
        assert_eq!(message.open(&keys()).unwrap()[..], PLAINTEXT);
        let plaintext = IntroPlaintext::read(&PLAINTEXT).unwrap();
        // Type 1 in the list of one: congestion control.
        assert!(plaintext.cc_request && plaintext.pow.is_none());
        assert_eq!(plaintext.link_specifiers.0.len(), 3);
        let made = Introduce::make(&AUTH_KEY.into(), &X.into(), &keys(), &plaintext);
        assert_eq!(made.unwrap(), BODY);
    }

    #[test]
    fn what_was_changed_is_not_opened() {
        for at in 0..BODY.len() {
            let mut changed = BODY;
            changed[at] ^= 1;
            let opened = Introduce::read(&changed).and_then(|message| message.open(&keys()));
            assert!(opened.is_err(), "byte {at}");
        }
        for len in 0..BODY.len() {
            let opened = Introduce::read(&BODY[..len]).and_then(|m| m.open(&keys()));
            assert!(opened.is_err());
        }
        // The point passes on what no service will read.
        let short = Introduce::read(&BODY[..57]).unwrap();
        assert_eq!(short.client_key(), Err(Truncated));
        assert_eq!(Introduce::read(&BODY[..56]), Err(Truncated.into()));
        let short = Introduce::read(&BODY[..56 + 63]).unwrap();
        assert_eq!(short.client_key(), Err(Truncated));
        assert_eq!(short.open(&keys()), Err(Truncated.into()));
        let mut legacy = BODY;
        legacy[19] = 1;
        assert_eq!(Introduce::read(&legacy), Err(IntroduceError::Legacy));
        legacy[19] = 0;
        legacy[20] = 1;
        assert_eq!(Introduce::read(&legacy), Err(AuthKeyError::Type(1).into()));
    }

    #[test]
    fn a_plaintext_longer_than_a_cell_is_not_made() {
        let mut plaintext = IntroPlaintext::read(&PLAINTEXT).unwrap();
        let one = plaintext.link_specifiers.0.clone();
        while plaintext.link_specifiers.0.len() < 24 {
            plaintext.link_specifiers.0.extend(one.iter().cloned());
        }
        let made = Introduce::make(&AUTH_KEY.into(), &X.into(), &keys(), &plaintext);
        assert_eq!(made, Err(TooLong));
    }

    #[test]
    fn acknowledgements() {
        for status in [
            IntroduceStatus::SUCCESS,
            IntroduceStatus::UNKNOWN_ID,
            IntroduceStatus(0xABCD),
        ] {
            let mut out = Vec::new();
            IntroduceAck { status }.write(&mut out);
            assert_eq!(IntroduceAck::read(&out), Ok(IntroduceAck { status }));
            for len in 0..out.len() {
                assert_eq!(IntroduceAck::read(&out[..len]), Err(Truncated));
            }
        }
        assert_eq!(IntroduceStatus::BAD_FORMAT.to_string(), "BAD_FORMAT");
    }

    proptest! {
        #[test]
        fn a_visitor_reaches_a_service(seed: [u8; 32], cookie: [u8; 20], cc_request: bool) {
            let mut rng = Rng::from_seed(seed);
            let (b, auth_key) = (SecretKey::generate(&mut rng), AUTH_KEY.into());
            let (state, keys) =
                ClientState::begin(&mut rng, b.public(), &auth_key, &seed).unwrap();
            let plaintext = IntroPlaintext {
                cookie,
                cc_request,
                ..IntroPlaintext::read(&PLAINTEXT).unwrap()
            };
            let body = Introduce::make(&auth_key, state.public(), &keys, &plaintext).unwrap();
            prop_assert_eq!(body.len(), BODY.len());
            let message = Introduce::read(&body).unwrap();
            let x = message.client_key().unwrap();
            let keys = ServiceIntro::new(&b, &x, &message.auth_key).unwrap().keys(&seed);
            let opened = message.open(&keys).unwrap();
            prop_assert_eq!(IntroPlaintext::read(&opened), Ok(plaintext));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = IntroduceAck::read(&bytes);
            let bytes = [&BODY[..55], &bytes].concat();
            if let Ok(message) = Introduce::read(&bytes) {
                let _ = (message.client_key(), message.open(&keys()).is_ok());
            }
        }
    }
}
