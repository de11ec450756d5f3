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
//! ones, and so do we. Whoever knows a cookie can join: it is compared as a secret.

use cepa_crypto::Rng;
use cepa_crypto::hs_ntor::SERVICE_LEN;

use crate::intro_plaintext::COOKIE_LEN;
use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

/// Bytes of a RENDEZVOUS1 as we write it.
pub const RENDEZVOUS1_LEN: usize = 168;

/// The body of an ESTABLISH_RENDEZVOUS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendezvous1<'a> {
    /// Of the circuit to be joined.
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

/// The body of a RENDEZVOUS2 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendezvous2 {
    /// For [`cepa_crypto::hs_ntor::ClientState::finish`].
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
