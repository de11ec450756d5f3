//! ESTABLISH_RENDEZVOUS, RENDEZVOUS1 and RENDEZVOUS2: how two circuits are joined
//! (rend-spec-v3 4.1, 4.2). RENDEZVOUS_ESTABLISHED has no body.
//!
//! ```text
//! ESTABLISH_RENDEZVOUS:  cookie 20 | ignored
//! RENDEZVOUS1:           cookie 20 | handshake (Y 32 | AUTH 32 | padding)
//! RENDEZVOUS2:           handshake
//! ```
//!
//! The point passes the handshake on as it is. C tor pads RENDEZVOUS1 to 168 bytes with random
//! ones, and so do we. Whoever knows a cookie can join: no `Debug` shows it.

use std::fmt;

use cepa_crypto::Rng;
use cepa_crypto::hs_ntor::SERVICE_LEN;

use crate::intro_plaintext::COOKIE_LEN;
use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

/// Bytes of a RENDEZVOUS1 as we write it.
pub const RENDEZVOUS1_LEN: usize = 168;

/// The body of an ESTABLISH_RENDEZVOUS message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EstablishRendezvous {
    /// What the circuit is to be found by.
    pub cookie: [u8; COOKIE_LEN],
}

impl EstablishRendezvous {
    /// Reads the data of an ESTABLISH_RENDEZVOUS message.
    pub fn read(data: &[u8]) -> Result<Self, Truncated> {
        Ok(EstablishRendezvous {
            cookie: Reader::new(data).array()?,
        })
    }

    /// Appends the data of an ESTABLISH_RENDEZVOUS message.
    pub fn write(&self, out: &mut Vec<u8>) {
        Writer::new(out).bytes(&self.cookie);
    }
}

/// The body of a RENDEZVOUS1 message, as the rendezvous point sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rendezvous1<'a> {
    /// The cookie of the circuit to be joined.
    pub cookie: [u8; COOKIE_LEN],
    /// The data of the RENDEZVOUS2 message.
    pub handshake: &'a [u8],
}

impl<'a> Rendezvous1<'a> {
    /// Reads the data of a RENDEZVOUS1 message.
    pub fn read(data: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(data);
        Ok(Rendezvous1 {
            cookie: r.array()?,
            handshake: r.rest(),
        })
    }

    /// The data of a RENDEZVOUS1 message with the handshake of
    /// [`cepa_crypto::hs_ntor::service_rendezvous`], padded.
    #[must_use]
    pub fn make(
        cookie: &[u8; COOKIE_LEN],
        handshake: &[u8; SERVICE_LEN],
        rng: &mut Rng,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(RENDEZVOUS1_LEN);
        let mut w = Writer::new(&mut out);
        w.bytes(cookie);
        w.bytes(handshake);
        let padding: [u8; RENDEZVOUS1_LEN - COOKIE_LEN - SERVICE_LEN] = rng.array();
        w.bytes(&padding);
        out
    }
}

impl fmt::Debug for EstablishRendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EstablishRendezvous")
    }
}

impl fmt::Debug for Rendezvous1<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rendezvous1 of {} bytes", self.handshake.len())
    }
}

/// The body of a RENDEZVOUS2 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendezvous2 {
    /// The service's handshake, for [`cepa_crypto::hs_ntor::ClientState::finish`].
    pub handshake: [u8; SERVICE_LEN],
}

impl Rendezvous2 {
    /// Reads the data of a RENDEZVOUS2 message. Padding is ignored.
    pub fn read(data: &[u8]) -> Result<Self, Truncated> {
        Ok(Rendezvous2 {
            handshake: Reader::new(data).array()?,
        })
    }

    /// Appends the data of a RENDEZVOUS2 message.
    pub fn write(&self, out: &mut Vec<u8>) {
        Writer::new(out).bytes(&self.handshake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use proptest::prelude::*;

    #[test]
    fn a_handshake_passes_the_point() {
        let mut rng = Rng::from_seed([1; 32]);
        let (cookie, handshake) = ([7; COOKIE_LEN], rng.array());
        let bytes = Rendezvous1::make(&cookie, &handshake, &mut rng);
        assert_eq!(bytes.len(), RENDEZVOUS1_LEN);
        assert_ne!(bytes[84..], [0; 84]);
        let at_the_point = Rendezvous1::read(&bytes).unwrap();
        assert_eq!(at_the_point.cookie, cookie);
        assert_eq!(at_the_point.handshake.len(), 148);
        let at_the_client = Rendezvous2::read(at_the_point.handshake);
        assert_eq!(at_the_client, Ok(Rendezvous2 { handshake }));
    }

    #[test]
    fn too_short() {
        for len in 0..COOKIE_LEN {
            assert_eq!(EstablishRendezvous::read(&[1; 20][..len]), Err(Truncated));
            assert_eq!(Rendezvous1::read(&[1; 20][..len]), Err(Truncated));
        }
        for len in 0..SERVICE_LEN {
            assert_eq!(Rendezvous2::read(&[1; SERVICE_LEN][..len]), Err(Truncated));
        }
        assert_eq!(Rendezvous1::read(&[1; 20]).unwrap().handshake, []);
    }

    proptest! {
        #[test]
        fn written_is_read(cookie: [u8; COOKIE_LEN], more: Vec<u8>) {
            let message = EstablishRendezvous { cookie };
            let mut out = Vec::new();
            message.write(&mut out);
            out.extend_from_slice(&more);
            prop_assert_eq!(EstablishRendezvous::read(&out), Ok(message));
            let message = Rendezvous1 { cookie, handshake: &more };
            prop_assert_eq!(Rendezvous1::read(&out), Ok(message));
            let mut handshake = [9; SERVICE_LEN];
            handshake[..COOKIE_LEN].copy_from_slice(&cookie);
            let mut out = Vec::new();
            Rendezvous2 { handshake }.write(&mut out);
            out.extend_from_slice(&more);
            prop_assert_eq!(Rendezvous2::read(&out), Ok(Rendezvous2 { handshake }));
        }
    }
}
