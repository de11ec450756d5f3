//! ESTABLISH_INTRO and INTRO_ESTABLISHED: a service asks a relay to be one of its introduction
//! points (rend-spec-v3 3.1.1, 3.1.1.1, 3.1.3).
//!
//! ```text
//! ESTABLISH_INTRO:    auth key 35 | extensions | handshake auth 32 | sig length 2 | sig 64
//! INTRO_ESTABLISHED:  extensions
//! ```
//!
//! The handshake authentication is a MAC of all before it under KH of the circuit; the signature
//! by the authentication key covers both. [`EstablishIntro::read`] has checked neither,
//! [`EstablishIntro::verify`] checks both. Trailing bytes are ignored.

use cepa_crypto::digest::{ct_eq, mac_sha3_256};
use cepa_crypto::ed25519::{Keypair, PublicKey, SIGNATURE_LEN};

use crate::auth_key::{self, AuthKeyError};
use crate::extension::{self, Extensions};
use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

const SIGNATURE_PREFIX: &[u8] = b"Tor establish-intro cell v1";
const MAC_LEN: usize = 32;
const EXTENSION_DOS: u8 = 1;
const DOS_RATE: u8 = 1;
const DOS_BURST: u8 = 2;
/// Greatest rate and burst that a point may be asked for (rend-spec-v3 3.1.1.1).
pub const DOS_PARAM_MAX: u32 = i32::MAX as u32;

/// Why an ESTABLISH_INTRO message is refused; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EstablishIntroError {
    /// The message ends too early.
    #[error("ESTABLISH_INTRO: {0}")]
    Truncated(#[from] Truncated),
    /// The key is none that we know.
    #[error("ESTABLISH_INTRO: {0}")]
    AuthKey(#[from] AuthKeyError),
    /// The signature has not 64 bytes.
    #[error("ESTABLISH_INTRO with a signature of {0} bytes")]
    SignatureLength(u16),
    /// The signature is not the key's.
    #[error("ESTABLISH_INTRO with a wrong signature")]
    Signature,
    /// It was made for another circuit.
    #[error("ESTABLISH_INTRO for another circuit")]
    HandshakeAuth,
}

/// How many INTRODUCE2 messages a service wants at most (rend-spec-v3 3.1.1.1), as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DosParams {
    /// Messages a second; 0 for no limit.
    pub rate_per_s: u64,
    /// Messages at once; 0 for no limit.
    pub burst: u64,
}

impl DosParams {
    /// The limit, rate and burst; `None` if the service wants none. Values beyond
    /// [`DOS_PARAM_MAX`] and a burst smaller than the rate mean none to C tor, where the section
    /// would have them ignored in favour of the network's; so here.
    #[must_use]
    pub fn limit(&self) -> Option<(u32, u32)> {
        let value = |value| u32::try_from(value).ok().filter(|v| *v <= DOS_PARAM_MAX);
        let (rate, burst) = (value(self.rate_per_s)?, value(self.burst)?);
        (rate > 0 && burst >= rate).then_some((rate, burst))
    }

    /// An unknown parameter makes the whole extension void, as in C tor.
    fn read(body: &[u8]) -> Option<DosParams> {
        let mut r = Reader::new(body);
        let mut params = DosParams {
            rate_per_s: 0,
            burst: 0,
        };
        let count = r.u8().ok()?;
        for _ in 0..count {
            let (kind, value) = (r.u8().ok()?, r.u64().ok()?);
            match kind {
                DOS_RATE => params.rate_per_s = value,
                DOS_BURST => params.burst = value,
                _ => return None,
            }
        }
        Some(params)
    }

    fn write(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(19);
        let mut w = Writer::new(&mut body);
        w.u8(2);
        for (kind, value) in [(DOS_RATE, self.rate_per_s), (DOS_BURST, self.burst)] {
            w.u8(kind);
            w.u64(value);
        }
        body
    }
}

/// The body of an ESTABLISH_INTRO message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstablishIntro<'a> {
    /// The key that INTRODUCE1 messages will name.
    pub auth_key: PublicKey,
    /// The limits that the service asks for; `None`: those of the network.
    pub dos: Option<DosParams>,
    authenticated: &'a [u8],
    handshake_auth: [u8; MAC_LEN],
    signature: [u8; SIGNATURE_LEN],
}

impl<'a> EstablishIntro<'a> {
    /// Reads the data of an ESTABLISH_INTRO message.
    pub fn read(data: &'a [u8]) -> Result<Self, EstablishIntroError> {
        let mut r = Reader::new(data);
        let auth_key = auth_key::read(&mut r)?;
        let extensions = Extensions::read(&mut r)?;
        let authenticated = Reader::new(data).take(data.len() - r.len())?;
        let handshake_auth = r.array()?;
        let len = r.u16()?;
        if usize::from(len) != SIGNATURE_LEN {
            return Err(EstablishIntroError::SignatureLength(len));
        }
        Ok(EstablishIntro {
            auth_key,
            dos: extensions.find(EXTENSION_DOS).and_then(DosParams::read),
            authenticated,
            handshake_auth,
            signature: r.array()?,
        })
    }

    /// Checks that it was made for the circuit of this KH, and by the key.
    pub fn verify(&self, kh: &[u8; 20]) -> Result<(), EstablishIntroError> {
        let mac = mac_sha3_256(kh, self.authenticated);
        if !ct_eq(&mac, &self.handshake_auth) {
            return Err(EstablishIntroError::HandshakeAuth);
        }
        self.auth_key
            .verify(&signed(self.authenticated, &mac), &self.signature)
            .map_err(|_| EstablishIntroError::Signature)
    }

    /// The data of an ESTABLISH_INTRO message for the circuit of this KH. `dos` goes to points
    /// with `HSIntro=5` only.
    #[must_use]
    pub fn make(auth_key: &Keypair, kh: &[u8; 20], dos: Option<DosParams>) -> Vec<u8> {
        let mut out = Vec::with_capacity(155);
        let mut w = Writer::new(&mut out);
        auth_key::write(&auth_key.public(), &mut w);
        let extensions: Vec<_> = dos
            .iter()
            .map(|params| (EXTENSION_DOS, params.write()))
            .collect();
        extension::write(&extensions, &mut w).expect("one of 19 bytes");
        let mac = mac_sha3_256(kh, &out);
        let signature = auth_key.sign(&signed(&out, &mac));
        out.extend_from_slice(&mac);
        let mut w = Writer::new(&mut out);
        w.u16_prefixed(&signature).expect("64 bytes");
        out
    }
}

/// What the signature covers: prefix, all before the MAC, the MAC.
fn signed(authenticated: &[u8], mac: &[u8; MAC_LEN]) -> Vec<u8> {
    [SIGNATURE_PREFIX, authenticated, mac].concat()
}

/// The body of an INTRO_ESTABLISHED message, which says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntroEstablished;

impl IntroEstablished {
    /// Reads the data of an INTRO_ESTABLISHED message; old relays send none (3.1.3).
    pub fn read(data: &[u8]) -> Result<Self, Truncated> {
        if !data.is_empty() {
            Extensions::read(&mut Reader::new(data))?;
        }
        Ok(IntroEstablished)
    }

    /// Appends the data of an INTRO_ESTABLISHED message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::digest::sha256;
    use hex_literal::hex;
    use proptest::prelude::*;

    const KH: [u8; 20] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    ];

    fn key() -> Keypair {
        Keypair::from_seed(&[5; 32])
    }

    fn dos(rate_per_s: u64, burst: u64) -> DosParams {
        DosParams { rate_per_s, burst }
    }

    /// Computed with Python and OpenSSL after 3.1.1.
    #[test]
    fn vectors() {
        let plain = EstablishIntro::make(&key(), &KH, None);
        assert_eq!(plain.len(), 134);
        assert_eq!(plain[..3], [2, 0, 32]);
        assert_eq!(
            plain[36..68],
            hex!("899bc304c33044da05743bfddf1aefd78aff5534c5a34d40d744d9a21d57c21f")
        );
        assert_eq!(
            sha256(&plain),
            hex!("1ac2ffc9e487d3a0b825b455e45f08ea9196a01b9bec85c83145da78558567df")
        );
        let limited = EstablishIntro::make(&key(), &KH, Some(dos(25, 200)));
        assert_eq!(limited.len(), 155);
        assert_eq!(
            sha256(&limited),
            hex!("d6fa4fdddb983b8cacbf34c43e9133335d246bcb64a802ff8b5551fb7b18ff86")
        );
    }

    #[test]
    fn a_circuit_and_a_key_are_bound() {
        let bytes = EstablishIntro::make(&key(), &KH, Some(dos(25, 200)));
        let message = EstablishIntro::read(&bytes).unwrap();
        assert_eq!(message.verify(&KH), Ok(()));
        assert_eq!(
            message.verify(&[0; 20]),
            Err(EstablishIntroError::HandshakeAuth)
        );
        for len in 0..bytes.len() {
            assert!(EstablishIntro::read(&bytes[..len]).is_err());
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let verified = EstablishIntro::read(&changed).and_then(|message| message.verify(&KH));
            assert!(verified.is_err(), "byte {at}");
        }
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        let message = EstablishIntro::read(&changed).unwrap();
        assert_eq!(message.verify(&KH), Err(EstablishIntroError::Signature));
        // What follows is not covered, as in C tor.
        let longer = [&bytes[..], &[7]].concat();
        let message = EstablishIntro::read(&longer).unwrap();
        assert_eq!(message.verify(&KH), Ok(()));
    }

    #[test]
    fn limits_that_mean_none() {
        let max = u64::from(DOS_PARAM_MAX);
        assert_eq!(dos(25, 200).limit(), Some((25, 200)));
        assert_eq!(dos(max, max).limit(), Some((DOS_PARAM_MAX, DOS_PARAM_MAX)));
        for (rate, burst) in [(0, 9), (9, 0), (9, 8), (1, max + 1), (max + 1, u64::MAX)] {
            assert_eq!(dos(rate, burst).limit(), None);
        }
        let body = dos(25, 200).write();
        for len in 0..body.len() {
            assert_eq!(DosParams::read(&body[..len]), None);
        }
        let mut unknown = body.clone();
        unknown[10] = 3;
        assert_eq!(DosParams::read(&unknown), None);
        assert_eq!(DosParams::read(&[0]), Some(dos(0, 0)));
    }

    #[test]
    fn intro_established() {
        let mut out = Vec::new();
        IntroEstablished.write(&mut out);
        assert_eq!(out, [0]);
        assert_eq!(IntroEstablished::read(&out), Ok(IntroEstablished));
        assert_eq!(IntroEstablished::read(&[]), Ok(IntroEstablished));
        assert_eq!(IntroEstablished::read(&[1, 9, 2, 0]), Err(Truncated));
        assert_eq!(IntroEstablished::read(&[1, 9, 0]), Ok(IntroEstablished));
    }

    proptest! {
        #[test]
        fn made_is_read(
            seed: [u8; 32], kh: [u8; 20], params: Option<(u64, u64)>,
        ) {
            let key = Keypair::from_seed(&seed);
            let params = params.map(|(rate, burst)| dos(rate, burst));
            let bytes = EstablishIntro::make(&key, &kh, params);
            let message = EstablishIntro::read(&bytes).unwrap();
            prop_assert_eq!((message.auth_key, message.dos), (key.public(), params));
            prop_assert_eq!(message.verify(&kh), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = IntroEstablished::read(&bytes);
            let _ = DosParams::read(&bytes);
            let bytes = [&[2, 0, 32], &[1; 32][..], &bytes].concat();
            let _ = EstablishIntro::read(&bytes).map(|message| message.verify(&KH));
        }
    }
}
