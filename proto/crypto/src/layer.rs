//! A hop's layer of encryption, whatever its cipher: what circuits hold.
//!
//! Relays know tor1 (tor-spec 6.1) and counter galois onion (proposal 359); the peer beyond a
//! rendezvous point has tor1's wider sister (rend-spec-v3 5). Counter galois onion mixes the cell's
//! link command into its mask and has tags of 16 bytes, hence the `command` argument (3 RELAY, 9
//! RELAY_EARLY) and the length of a `Tag`. Payloads are changed in place; nothing is allocated.

use core::fmt;

use zeroize::Zeroizing;

use crate::KeyStream;
use crate::cgo;
use crate::tor1::{self, Payload};

/// Longest tag of any cipher, in bytes.
const TAG_LEN_MAX: usize = 20;

/// What an authenticated SENDME returns to acknowledge a cell (proposal 289): the whole SHA-1
/// with tor1, 20 bytes; the tag on the wire with CGO, 16.
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

impl From<cgo::Tag> for Tag {
    fn from(tag: cgo::Tag) -> Tag {
        let mut bytes = [0; TAG_LEN_MAX];
        bytes[..cgo::TAG_LEN].copy_from_slice(&tag);
        Tag { bytes, len: 16 }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::encoding::hex_lower(self.as_bytes()))
    }
}

/// Which cipher a hop of a circuit has, as its handshake said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cipher {
    /// AES-128-CTR and SHA-1.
    #[default]
    Tor1,
    /// Counter galois onion.
    Cgo,
}

/// KH, which binds an ESTABLISH_INTRO to its circuit (rend-spec-v3 3.1.1).
pub type BindingKey = Zeroizing<[u8; 20]>;

/// A relay's layer of one circuit, both directions.
#[derive(Debug)]
pub enum RelayLayer {
    /// The keys of tor1, until a cell needs the layer: many circuits are made and never used, and
    /// the layer is ten times as large.
    Tor1Keys(Box<tor1::Keys>),
    /// AES-128-CTR and SHA-1.
    Tor1(Box<tor1::RelayCrypt>),
    /// Counter galois onion.
    Cgo(Box<cgo::RelayCrypt>),
}

impl RelayLayer {
    /// A fresh tor1 layer.
    pub fn tor1(keys: &tor1::Keys) -> RelayLayer {
        let tor1::Keys { df, db, kf, kb } = *keys;
        RelayLayer::Tor1Keys(Box::new(tor1::Keys { df, db, kf, kb }))
    }

    /// Makes the layer of the keys, for the first cell.
    #[cold]
    fn expand(&mut self) {
        if let RelayLayer::Tor1Keys(keys) = self {
            *self = RelayLayer::Tor1(Box::new(tor1::RelayCrypt::new(keys)));
        }
    }

    /// A fresh CGO layer.
    pub fn cgo(keys: &cgo::Keys) -> RelayLayer {
        RelayLayer::Cgo(Box::new(cgo::RelayCrypt::new(keys)))
    }

    /// The layer that a handshake gave, and its binding key.
    pub fn new(cipher: Cipher, keys: KeyStream) -> (RelayLayer, BindingKey) {
        match cipher {
            Cipher::Tor1 => {
                let (keys, kh) = keys.tor1_with_kh();
                (RelayLayer::tor1(&keys), kh)
            }
            Cipher::Cgo => {
                let (keys, kh) = keys.cgo_with_kh();
                (RelayLayer::cgo(&keys), kh)
            }
        }
    }

    /// Its cipher.
    pub fn cipher(&self) -> Cipher {
        match self {
            RelayLayer::Tor1Keys(_) | RelayLayer::Tor1(_) => Cipher::Tor1,
            RelayLayer::Cgo(_) => Cipher::Cgo,
        }
    }

    /// Removes the layer of a payload from the client; the tag, if it is for this relay.
    pub fn decrypt_forward(&mut self, command: u8, payload: &mut Payload) -> Option<Tag> {
        match self {
            RelayLayer::Tor1Keys(_) => {
                self.expand();
                self.decrypt_forward(command, payload)
            }
            RelayLayer::Tor1(crypt) => crypt.decrypt_forward(payload).map(Tag::from),
            RelayLayer::Cgo(crypt) => crypt.decrypt_forward(command, payload).map(Tag::from),
        }
    }

    /// Adds the layer to a payload on its way to the client.
    pub fn encrypt_backward(&mut self, command: u8, payload: &mut Payload) {
        match self {
            RelayLayer::Tor1Keys(_) => {
                self.expand();
                self.encrypt_backward(command, payload);
            }
            RelayLayer::Tor1(crypt) => crypt.encrypt_backward(payload),
            RelayLayer::Cgo(crypt) => crypt.encrypt_backward(command, payload),
        }
    }

    /// Authenticates a payload that begins at this relay and adds the layer.
    pub fn originate_backward(&mut self, command: u8, payload: &mut Payload) -> Tag {
        match self {
            RelayLayer::Tor1Keys(_) => {
                self.expand();
                self.originate_backward(command, payload)
            }
            RelayLayer::Tor1(crypt) => crypt.originate_backward(payload).into(),
            RelayLayer::Cgo(crypt) => crypt.originate_backward(command, payload).into(),
        }
    }
}

/// A client's layer of one hop, both directions. Boxed: ciphers differ much in size.
#[derive(Debug)]
pub enum HopLayer {
    /// AES-128-CTR and SHA-1.
    Tor1(Box<tor1::HopCrypt>),
    /// Counter galois onion.
    Cgo(Box<cgo::HopCrypt>),
    /// AES-256-CTR and SHA3-256, of the peer beyond a rendezvous point.
    Onion(Box<tor1::OnionHopCrypt>),
}

impl HopLayer {
    /// A fresh tor1 layer.
    pub fn tor1(keys: &tor1::Keys) -> HopLayer {
        HopLayer::Tor1(Box::new(tor1::HopCrypt::new(keys)))
    }

    /// A fresh CGO layer.
    pub fn cgo(keys: &cgo::Keys) -> HopLayer {
        HopLayer::Cgo(Box::new(cgo::HopCrypt::new(keys)))
    }

    /// The layer that a handshake gave, and its binding key.
    pub fn new(cipher: Cipher, keys: KeyStream) -> (HopLayer, BindingKey) {
        match cipher {
            Cipher::Tor1 => {
                let (keys, kh) = keys.tor1_with_kh();
                (HopLayer::tor1(&keys), kh)
            }
            Cipher::Cgo => {
                let (keys, kh) = keys.cgo_with_kh();
                (HopLayer::cgo(&keys), kh)
            }
        }
    }

    /// The cipher of its relay; that of the peer beyond a rendezvous point is tor1 but in size.
    pub fn cipher(&self) -> Cipher {
        match self {
            HopLayer::Tor1(_) | HopLayer::Onion(_) => Cipher::Tor1,
            HopLayer::Cgo(_) => Cipher::Cgo,
        }
    }

    /// Adds the layer to a payload for a later hop.
    pub fn encrypt_forward(&mut self, command: u8, payload: &mut Payload) {
        match self {
            HopLayer::Tor1(crypt) => crypt.encrypt_forward(payload),
            HopLayer::Cgo(crypt) => crypt.encrypt_forward(command, payload),
            HopLayer::Onion(crypt) => crypt.encrypt_forward(payload),
        }
    }

    /// Authenticates a payload for this hop and adds the layer.
    pub fn originate_forward(&mut self, command: u8, payload: &mut Payload) -> Tag {
        match self {
            HopLayer::Tor1(crypt) => crypt.originate_forward(payload).into(),
            HopLayer::Cgo(crypt) => crypt.originate_forward(command, payload).into(),
            HopLayer::Onion(crypt) => crypt.originate_forward(payload).into(),
        }
    }

    /// Removes the layer of a payload from the circuit; the tag, if it began at this hop.
    pub fn decrypt_backward(&mut self, command: u8, payload: &mut Payload) -> Option<Tag> {
        match self {
            HopLayer::Tor1(crypt) => crypt.decrypt_backward(payload).map(Tag::from),
            HopLayer::Cgo(crypt) => crypt.decrypt_backward(command, payload).map(Tag::from),
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

    fn pair(cipher: Cipher, rng: &mut Rng) -> (RelayLayer, HopLayer) {
        let material: [u8; 192] = rng.array();
        let keys = || KeyStream::derive(|m| *m = material);
        let (relay, kh) = RelayLayer::new(cipher, keys());
        let (hop, same) = HopLayer::new(cipher, keys());
        assert_eq!((kh, relay.cipher()), (same, hop.cipher()));
        (relay, hop)
    }

    /// All circuits of three hops, whatever the cipher of each, to and from each of their hops,
    /// the first cell of which is RELAY_EARLY to all of them.
    #[test]
    fn three_hops_both_ways() {
        let mut rng = Rng::from_seed([5; 32]);
        for mix in 0..8 {
            let ciphers = [0, 1, 2].map(|hop| [Cipher::Tor1, Cipher::Cgo][mix >> hop & 1]);
            let (mut relays, mut hops): (Vec<_>, Vec<_>) =
                ciphers.iter().map(|cipher| pair(*cipher, &mut rng)).unzip();
            for round in 0..40 {
                let command = if round == 0 { 9 } else { 3 };
                let target = round % 3;
                let clear: Payload = rng.array();
                let mut payload = clear;
                let sent = originate(&mut hops[..=target], command, &mut payload).unwrap();
                for relay in &mut relays[..target] {
                    assert_eq!(relay.decrypt_forward(command, &mut payload), None);
                }
                let seen = relays[target]
                    .decrypt_forward(command, &mut payload)
                    .unwrap();
                assert_eq!(seen, sent);
                assert!(seen.matches(sent.as_bytes()) && !seen.matches(&[0; 20]));
                assert_eq!(payload[16..], clear[16..]);
                assert_eq!(sent.as_bytes().len(), [20, 16][mix >> target & 1]);

                let sent = relays[target].originate_backward(3, &mut payload);
                for relay in relays[..target].iter_mut().rev() {
                    relay.encrypt_backward(3, &mut payload);
                }
                assert_eq!(peel(&mut hops, 3, &mut payload), Some((target, sent)));
                assert_eq!(payload[16..], clear[16..]);
            }
            assert_eq!(peel(&mut hops, 3, &mut rng.array()), None);
            assert_eq!(originate(&mut [], 3, &mut rng.array()), None);
        }
    }
}
