//! A hop's layer of encryption, whatever its cipher: what circuits hold.
//!
//! Relays know tor1 (tor-spec 6.1); the peer beyond a rendezvous point has its wider sister
//! (rend-spec-v3 5). Counter galois onion will be another variant:
//! it mixes the cell's link command into its mask and has tags of 16 bytes, hence the `command`
//! argument (3 RELAY, 9 RELAY_EARLY) and the length of a `Tag`. Payloads are changed in place;
//! nothing is allocated.

use core::fmt;

use crate::tor1::{self, Payload};

/// Longest tag of any cipher, in bytes.
const TAG_LEN_MAX: usize = 20;

/// What an authenticated SENDME returns to acknowledge a cell (proposal 289): the whole SHA-1
/// with tor1, 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    bytes: [u8; TAG_LEN_MAX],
    len: u8,
}

impl Tag {
    /// Its bytes, as many as the cipher's tags have.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether these are its bytes, in constant time.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        crate::digest::ct_eq(self.as_bytes(), bytes)
    }
}

impl From<tor1::Tag> for Tag {
    fn from(bytes: tor1::Tag) -> Tag {
        Tag { bytes, len: 20 }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::encoding::hex_lower(self.as_bytes()))
    }
}

/// A relay's layer of one circuit, both directions.
#[derive(Debug)]
pub enum RelayLayer {
    /// AES-128-CTR and SHA-1.
    Tor1(tor1::RelayCrypt),
}

impl RelayLayer {
    /// A fresh tor1 layer.
    pub fn tor1(keys: &tor1::Keys) -> RelayLayer {
        RelayLayer::Tor1(tor1::RelayCrypt::new(keys))
    }

    /// Removes the layer of a payload from the client; the tag, if it is for this relay.
    pub fn decrypt_forward(&mut self, _command: u8, payload: &mut Payload) -> Option<Tag> {
        match self {
            RelayLayer::Tor1(crypt) => crypt.decrypt_forward(payload).map(Tag::from),
        }
    }

    /// Adds the layer to a payload on its way to the client.
    pub fn encrypt_backward(&mut self, _command: u8, payload: &mut Payload) {
        match self {
            RelayLayer::Tor1(crypt) => crypt.encrypt_backward(payload),
        }
    }

    /// Authenticates a payload that begins at this relay and adds the layer.
    pub fn originate_backward(&mut self, _command: u8, payload: &mut Payload) -> Tag {
        match self {
            RelayLayer::Tor1(crypt) => crypt.originate_backward(payload).into(),
        }
    }
}

/// A client's layer of one hop, both directions. Boxed: ciphers differ much in size.
#[derive(Debug)]
pub enum HopLayer {
    /// AES-128-CTR and SHA-1.
    Tor1(Box<tor1::HopCrypt>),
    /// AES-256-CTR and SHA3-256, of the peer beyond a rendezvous point.
    Onion(Box<tor1::OnionHopCrypt>),
}

impl HopLayer {
    /// A fresh tor1 layer.
    pub fn tor1(keys: &tor1::Keys) -> HopLayer {
        HopLayer::Tor1(Box::new(tor1::HopCrypt::new(keys)))
    }

    /// Adds the layer to a payload for a later hop.
    pub fn encrypt_forward(&mut self, _command: u8, payload: &mut Payload) {
        match self {
            HopLayer::Tor1(crypt) => crypt.encrypt_forward(payload),
            HopLayer::Onion(crypt) => crypt.encrypt_forward(payload),
        }
    }

    /// Authenticates a payload for this hop and adds the layer.
    pub fn originate_forward(&mut self, _command: u8, payload: &mut Payload) -> Tag {
        match self {
            HopLayer::Tor1(crypt) => crypt.originate_forward(payload).into(),
            HopLayer::Onion(crypt) => crypt.originate_forward(payload).into(),
        }
    }

    /// Removes the layer of a payload from the circuit; the tag, if it began at this hop.
    pub fn decrypt_backward(&mut self, _command: u8, payload: &mut Payload) -> Option<Tag> {
        match self {
            HopLayer::Tor1(crypt) => crypt.decrypt_backward(payload).map(Tag::from),
            HopLayer::Onion(crypt) => crypt.decrypt_backward(payload).map(Tag::from),
        }
    }
}

/// Makes a payload for the last of `hops`, with the layers of all of them, the first hop's
/// outermost. Pass `&mut hops[..=target]` for a hop in the middle. `None` without any hop.
pub fn originate(hops: &mut [HopLayer], command: u8, payload: &mut Payload) -> Option<Tag> {
    let (target, earlier) = hops.split_last_mut()?;
    let tag = target.originate_forward(command, payload);
    for hop in earlier.iter_mut().rev() {
        hop.encrypt_forward(command, payload);
    }
    Some(tag)
}

/// Removes the layers of a payload from the circuit, the first hop's first, until the hop is
/// found where it began: its index and the tag. `None` if none recognises it.
pub fn peel(hops: &mut [HopLayer], command: u8, payload: &mut Payload) -> Option<(usize, Tag)> {
    hops.iter_mut()
        .enumerate()
        .find_map(|(index, hop)| Some((index, hop.decrypt_backward(command, payload)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn pair(rng: &mut Rng) -> (RelayLayer, HopLayer) {
        let keys = tor1::Keys::read(&rng.array());
        (RelayLayer::tor1(&keys), HopLayer::tor1(&keys))
    }

    #[test]
    fn three_hops_both_ways() {
        let mut rng = Rng::from_seed([5; 32]);
        let (mut relays, mut hops): (Vec<_>, Vec<_>) = (0..3).map(|_| pair(&mut rng)).unzip();
        for round in 0..40 {
            let target = round % 3;
            let mut clear: Payload = rng.array();
            let mut payload = clear;
            let sent = originate(&mut hops[..=target], 3, &mut payload).unwrap();
            for relay in &mut relays[..target] {
                assert_eq!(relay.decrypt_forward(3, &mut payload), None);
            }
            let seen = relays[target].decrypt_forward(3, &mut payload).unwrap();
            assert_eq!(seen, sent);
            assert!(seen.matches(sent.as_bytes()) && !seen.matches(&[0; 20]));
            clear[1..3].fill(0);
            clear[5..9].copy_from_slice(&sent.as_bytes()[..4]);
            assert_eq!(payload, clear);

            let sent = relays[target].originate_backward(3, &mut payload);
            for relay in relays[..target].iter_mut().rev() {
                relay.encrypt_backward(3, &mut payload);
            }
            assert_eq!(peel(&mut hops, 3, &mut payload), Some((target, sent)));
        }
        assert_eq!(peel(&mut hops, 3, &mut rng.array()), None);
        assert_eq!(originate(&mut [], 3, &mut rng.array()), None);
    }
}
