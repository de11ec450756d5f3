//! The tor1 cell cipher: AES-128-CTR in place and a running SHA-1 (tor-spec 5.5, 6.1), and the
//! same of AES-256 and SHA3-256 between the ends of an onion service's circuit (rend-spec-v3 5).
//!
//! The hot path of a relay. A payload is the 509 bytes of a RELAY cell: command 0, recognized
//! 1..3, stream id 3..5, digest 5..9, length 9..11, data. Nothing is allocated. A digest covers
//! each payload that begins or ends at its hop, with the digest field zero, and its state
//! moves only for these. Its first 20 bytes (all of SHA-1) are the tag of an authenticated
//! SENDME (proposal 289). Client and relay name directions as seen from the client.

use core::fmt;

use aes::{Aes128Enc, Aes256Enc};
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use sha1::{Digest, Sha1};
use sha3::Sha3_256;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a relay cell's payload.
pub const PAYLOAD_LEN: usize = 509;

/// Bytes of key material that `Keys` takes.
pub const KEYS_LEN: usize = 72;

/// Bytes of key material that an [`OnionHopCrypt`] takes (rend-spec-v3 4.2.1).
pub const ONION_KEYS_LEN: usize = 128;

/// The first 20 bytes of the digest that authenticates a payload (proposal 289).
pub type Tag = [u8; 20];

/// A relay cell's payload.
pub type Payload = [u8; PAYLOAD_LEN];

/// Digest seeds and cipher keys of one hop (tor-spec 5.2.2), forward and backward.
pub struct Keys {
    /// Seed of the forward digest.
    pub df: [u8; 20],
    /// Seed of the backward digest.
    pub db: [u8; 20],
    /// Forward cipher key.
    pub kf: [u8; 16],
    /// Backward cipher key.
    pub kb: [u8; 16],
}

impl Keys {
    /// Cuts key material into `Df | Db | Kf | Kb`.
    pub fn read(material: &[u8; KEYS_LEN]) -> Keys {
        let mut keys = Keys {
            df: [0; 20],
            db: [0; 20],
            kf: [0; 16],
            kb: [0; 16],
        };
        keys.df.copy_from_slice(&material[..20]);
        keys.db.copy_from_slice(&material[20..40]);
        keys.kf.copy_from_slice(&material[40..56]);
        keys.kb.copy_from_slice(&material[56..]);
        keys
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.df.zeroize();
        self.db.zeroize();
        self.kf.zeroize();
        self.kb.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tor1::Keys")
    }
}

/// One direction of one hop: its key stream and its running digest.
struct Direction<C, D> {
    cipher: C,
    digest: D,
}

impl<C: KeyIvInit + StreamCipher, D: Digest + Clone> Direction<C, D> {
    /// The fresh state of a key, which must have the cipher's length, and a seed.
    fn new(key: &[u8], seed: &[u8]) -> Direction<C, D> {
        Direction {
            cipher: C::new_from_slices(key, &[0; 16]).expect("callers pass whole keys"),
            digest: D::new_with_prefix(seed),
        }
    }

    fn crypt(&mut self, payload: &mut Payload) {
        self.cipher.apply_keystream(payload);
    }

    /// Sets recognized and digest of a payload that begins here, in the clear.
    fn authenticate(&mut self, payload: &mut Payload) -> Tag {
        payload[1..3].fill(0);
        payload[5..9].fill(0);
        self.digest.update(&payload[..]);
        let tag = tag(&self.digest);
        payload[5..9].copy_from_slice(&tag[..4]);
        tag
    }

    /// Whether a decrypted payload ends here. Only then the digest moves; the payload stays.
    fn recognize(&mut self, payload: &mut Payload) -> Option<Tag> {
        if payload[1] != 0 || payload[2] != 0 {
            return None;
        }
        let digest = [payload[5], payload[6], payload[7], payload[8]];
        payload[5..9].fill(0);
        let mut next = self.digest.clone();
        next.update(&payload[..]);
        payload[5..9].copy_from_slice(&digest);
        let tag = tag(&next);
        if tag[..4] != digest {
            return None;
        }
        self.digest = next;
        Some(tag)
    }
}

/// The tag that a digest gives now; it is to go on.
fn tag<D: Digest + Clone>(digest: &D) -> Tag {
    let whole = digest.clone().finalize();
    let (tag, _) = whole.split_first_chunk().expect("SHA-1 is the shortest");
    *tag
}

/// Both directions of a circuit at a relay.
pub struct RelayCrypt {
    forward: Direction<Ctr128BE<Aes128Enc>, Sha1>,
    backward: Direction<Ctr128BE<Aes128Enc>, Sha1>,
}

impl RelayCrypt {
    /// The fresh state of these keys.
    pub fn new(keys: &Keys) -> RelayCrypt {
        RelayCrypt {
            forward: Direction::new(&keys.kf, &keys.df),
            backward: Direction::new(&keys.kb, &keys.db),
        }
    }

    /// Removes this hop's layer of a payload from the client. The tag is returned if the
    /// payload is for this relay; else it is to be passed on, or ends the circuit.
    pub fn decrypt_forward(&mut self, payload: &mut Payload) -> Option<Tag> {
        self.forward.crypt(payload);
        self.forward.recognize(payload)
    }

    /// Adds this hop's layer to a payload on its way to the client.
    pub fn encrypt_backward(&mut self, payload: &mut Payload) {
        self.backward.crypt(payload);
    }

    /// Makes a payload that begins here: sets recognized and digest, adds the layer.
    pub fn originate_backward(&mut self, payload: &mut Payload) -> Tag {
        let tag = self.backward.authenticate(payload);
        self.backward.crypt(payload);
        tag
    }
}

impl fmt::Debug for RelayCrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tor1::RelayCrypt")
    }
}

/// Both directions of one hop at the client.
pub struct HopCrypt<C = Ctr128BE<Aes128Enc>, D = Sha1> {
    forward: Direction<C, D>,
    backward: Direction<C, D>,
}

/// Both directions between the ends of an onion service's circuit, at either end.
pub type OnionHopCrypt = HopCrypt<Ctr128BE<Aes256Enc>, Sha3_256>;

impl HopCrypt {
    /// The fresh state of these keys.
    pub fn new(keys: &Keys) -> HopCrypt {
        HopCrypt {
            forward: Direction::new(&keys.kf, &keys.df),
            backward: Direction::new(&keys.kb, &keys.db),
        }
    }
}

impl OnionHopCrypt {
    /// The client's fresh state of `Df | Db | Kf | Kb`, 32 bytes each.
    pub fn client(material: &Zeroizing<[u8; ONION_KEYS_LEN]>) -> OnionHopCrypt {
        let (digests, keys) = material.split_at(64);
        HopCrypt {
            forward: Direction::new(&keys[..32], &digests[..32]),
            backward: Direction::new(&keys[32..], &digests[32..]),
        }
    }

    /// The service's: it sends what the client has as backward, so its directions are
    /// interchanged (rend-spec-v3 5).
    pub fn service(material: &Zeroizing<[u8; ONION_KEYS_LEN]>) -> OnionHopCrypt {
        let HopCrypt { forward, backward } = OnionHopCrypt::client(material);
        HopCrypt {
            forward: backward,
            backward: forward,
        }
    }
}

impl<C: KeyIvInit + StreamCipher, D: Digest + Clone> HopCrypt<C, D> {
    /// Adds this hop's layer to a payload that is for a later hop.
    pub fn encrypt_forward(&mut self, payload: &mut Payload) {
        self.forward.crypt(payload);
    }

    /// Makes a payload for this hop: sets recognized and digest, adds its layer. The layers of
    /// the earlier hops are added next, from the last to the first.
    pub fn originate_forward(&mut self, payload: &mut Payload) -> Tag {
        let tag = self.forward.authenticate(payload);
        self.forward.crypt(payload);
        tag
    }

    /// Removes this hop's layer of a payload from the circuit. The tag is returned if the
    /// payload began at this hop; else the next hop's layer is to be removed.
    pub fn decrypt_backward(&mut self, payload: &mut Payload) -> Option<Tag> {
        self.backward.crypt(payload);
        self.backward.recognize(payload)
    }
}

impl<C, D> fmt::Debug for HopCrypt<C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tor1::HopCrypt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, digest};
    use hex_literal::hex;
    use proptest::prelude::*;

    fn pair(material: &[u8; KEYS_LEN]) -> (RelayCrypt, HopCrypt) {
        let keys = Keys::read(material);
        (RelayCrypt::new(&keys), HopCrypt::new(&keys))
    }

    /// Made with other programs (OpenSSL's AES, Python's SHA-1) after tor-spec 6.1: keys of the
    /// bytes 0..72, payloads of byte j = j * step + add.
    #[test]
    fn vectors() {
        let (mut relay, mut hop) = pair(&core::array::from_fn(|i| i as u8));
        let payload = |step: usize, add: usize| -> Payload {
            core::array::from_fn(|j| (j * step + add) as u8)
        };
        let mut first = payload(7, 0);
        assert_eq!(
            hop.originate_forward(&mut first),
            hex!("498acf2525a72188a6e24e0d7facb74264e9eb71")
        );
        assert_eq!(first[..16], hex!("732bb88e2cadc99fd342a7a30b49f0fd"));
        assert_eq!(
            digest::sha256(&first),
            hex!("45d9d511625ba0c61b6703aff06c43188a7d912193583cad6b9f8ca66bc875ec")
        );
        let mut second = payload(7, 1);
        let tag = hop.originate_forward(&mut second);
        assert_eq!(tag, hex!("ca47f3f51605d589b7e7e097932771dd7a742f62"));
        assert_eq!(
            digest::sha256(&second),
            hex!("2cbe3e7dcc8d3a550172f8be8cd5624ac36f055ebc7708c347fcbe57217b458c")
        );
        assert!(relay.decrypt_forward(&mut first).is_some());
        assert_eq!(relay.decrypt_forward(&mut second), Some(tag));
        let mut back = payload(5, 0);
        assert_eq!(
            relay.originate_backward(&mut back),
            hex!("b5f44a4be50a9815be3faec630c1c97389c75215")
        );
        assert_eq!(
            digest::sha256(&back),
            hex!("079eff5689f2449e0b25c99a5dc57037856c9426b0b61432c7f17b30cbae7834")
        );
        assert!(hop.decrypt_backward(&mut back).is_some());
    }

    /// Made with other programs, as the vectors above; the keys are those of rend-spec-v3 G.1,
    /// expanded.
    #[test]
    fn vectors_of_an_onion_service() {
        let material = Zeroizing::new(hex!(
            "d02a24dfe70151ba16fc67a623bdb26b9715ec40628d3c06fa285bfc308c4a80"
            "8af14bebae313947d8d3820c85c273ae2cb14e24e796251571db7163bdd992f8"
            "f191044c02bb743cd58e1ea9aa117bca975afe8207b791210ae4ab82a04e556a"
            "6fb0d1b019e7a548ab9eed89dc5762b8e9ee72a4787a51b3534561e0f4c1f343"
        ));
        let mut client = OnionHopCrypt::client(&material);
        let mut service = OnionHopCrypt::service(&material);
        for (add, tag, sha256) in [
            (
                0,
                hex!("63070fbfc1bac9a593c0f2f0dc957c7265dc8112"),
                hex!("0b6ea80f3db30f93375509bb435ea7bb48693086b8749c608cab189b3a868934"),
            ),
            (
                1,
                hex!("cf08ed2436e3d6bd6c1e6e169ba82226d840e8be"),
                hex!("e334299b07acf6099f3dcfea742cb9ac08c1cd24f67a6b9225118cde385fe07b"),
            ),
        ] {
            let mut payload: Payload = core::array::from_fn(|j| (j * 7 + add) as u8);
            assert_eq!(client.originate_forward(&mut payload), tag);
            assert_eq!(digest::sha256(&payload), sha256);
            assert_eq!(service.decrypt_backward(&mut payload), Some(tag));
        }
        let mut back: Payload = core::array::from_fn(|j| (j * 5) as u8);
        let tag = hex!("a287cbeff48739807183fd2dcfc757f56f7dffb0");
        assert_eq!(service.originate_forward(&mut back), tag);
        assert_eq!(
            digest::sha256(&back),
            hex!("1d72cddd88c58c4d40d19d4f4182e6d4dcc0ab9cfb8ab61255b2625e2ca906cb")
        );
        assert_eq!(client.decrypt_backward(&mut back), Some(tag));
    }

    proptest! {
        /// A cell for a later hop, or with recognized zero by chance, moves no digest.
        #[test]
        fn what_is_not_recognised_changes_no_digest(
            seed: [u8; 32],
            strays in prop::collection::vec(any::<bool>(), 1..20),
        ) {
            let mut rng = Rng::from_seed(seed);
            let (mut relay, mut hop) = pair(&rng.array());
            for stray in strays {
                let mut payload: Payload = rng.array();
                if stray {
                    payload[1..3].fill(0);
                    let clear = payload;
                    hop.encrypt_forward(&mut payload);
                    prop_assert_eq!(relay.decrypt_forward(&mut payload), None);
                    prop_assert_eq!(payload, clear);
                    relay.encrypt_backward(&mut payload);
                    prop_assert_eq!(hop.decrypt_backward(&mut payload), None);
                    prop_assert_eq!(payload, clear);
                } else {
                    let tag = hop.originate_forward(&mut payload);
                    prop_assert_eq!(relay.decrypt_forward(&mut payload), Some(tag));
                    let tag = relay.originate_backward(&mut payload);
                    prop_assert_eq!(hop.decrypt_backward(&mut payload), Some(tag));
                }
            }
        }

        #[test]
        fn a_changed_bit_is_not_recognised(seed: [u8; 32], bit in 0..PAYLOAD_LEN * 8) {
            let mut rng = Rng::from_seed(seed);
            let (mut relay, mut hop) = pair(&rng.array());
            let mut payload: Payload = rng.array();
            hop.originate_forward(&mut payload);
            payload[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(relay.decrypt_forward(&mut payload), None);
        }
    }
}
