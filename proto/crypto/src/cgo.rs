//! Counter galois onion, the cell cipher of Relay=6 (proposal 359; `tor`'s relay_crypto_cgo.c).
//!
//! A payload is `tag 16 | rest 493`. Both are permuted as one wide block whose tweak is the tag
//! before it and the link command (3 RELAY, 9 RELAY_EARLY), so a bit changed anywhere makes noise
//! of this cell and of all later ones. Relays encrypt in both directions, clients decrypt. What
//! begins or ends at a hop has the hop's nonce as tag; then the hop's keys move on, and the old
//! ones are gone. The tag that a SENDME repeats is the one seen on the wire at that layer.
//!
//! ```text
//! mask  = POLYVAL(KU; previous tag | command | rest)    tag  <- AES(KB, tag ^ mask) ^ mask
//! prf t = AES-CTR(K, POLYVAL(B; tag) with its last byte at t)    rest <- rest ^ prf 0
//! ```
//!
//! In place; nothing is allocated but the keys.

use core::fmt;

use aes::{Aes128Dec, Aes128Enc};
use cipher::array::{Array, typenum::Unsigned};
use cipher::consts::U16;
use cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockSizeUser, KeyInit, ParBlocks,
};
use polyval::Polyval;
use polyval::universal_hash::{Reset, UniversalHash};
use zeroize::{Zeroize, Zeroizing};

use crate::digest::ct_eq;
use crate::tor1::Payload;

/// Bytes of a tag, which are the first of a payload.
pub const TAG_LEN: usize = 16;

/// Bytes of key material that `Keys` takes.
pub const KEYS_LEN: usize = 2 * DIRECTION_LEN;

/// Key bytes of a direction: KB, KU, K, B and the nonce.
const DIRECTION_LEN: usize = 80;

/// What the mask hashes, in bytes: the tag before, the command, the rest of a payload, and two
/// zeros.
const MASKED_LEN: usize = 32 * 16;

/// Where the key stream that makes new keys begins: behind those of a payload.
const UPDATE_BLOCK: u8 = 31;

/// What a SENDME returns to acknowledge a payload.
pub type Tag = [u8; TAG_LEN];

/// The keys of one hop, forward and backward.
pub struct Keys(Zeroizing<[u8; KEYS_LEN]>);

impl Keys {
    /// Takes key material: the 80 bytes of the forward direction, then those of the backward one.
    pub fn read(material: &[u8; KEYS_LEN]) -> Keys {
        Keys(Zeroizing::new(*material))
    }

    fn directions<C: KeyInit>(&self) -> (Direction<C>, Direction<C>) {
        let (directions, _) = self.0.as_chunks();
        let [forward, backward] = [0, 1].map(|place| Direction::new(&directions[place]));
        (forward, backward)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cgo::Keys")
    }
}

/// A key of POLYVAL, wiped when it goes. To wipe each copy that a hash takes as well (the feature
/// `zeroize` of the crate) takes as long as the hash.
struct HashKey(Polyval);

impl HashKey {
    fn new(key: &[u8; 16]) -> HashKey {
        HashKey(Polyval::new(&(*key).into()))
    }

    /// Becomes another key, in the place of this one.
    fn set(&mut self, key: &[u8; 16]) {
        self.0 = Polyval::new(&(*key).into());
    }

    /// The hash of these blocks. Of the copy that ends a hash only the result is ever made.
    fn hash(&mut self, blocks: &[polyval::Block]) -> polyval::Tag {
        self.0.update(blocks);
        let hash = self.0.clone().finalize();
        self.0.reset();
        hash
    }
}

impl Drop for HashKey {
    fn drop(&mut self) {
        self.0 = Polyval::new(&polyval::Key::default());
        // Whoever may look at it keeps the line above from being left out.
        core::hint::black_box(&mut self.0);
    }
}

/// Bytes to which a key stream is to be added: blocks of a counter, encrypted as many at a time as
/// the processor does side by side.
struct Stream<'a> {
    counter: u128,
    bytes: &'a mut [u8],
}

impl BlockSizeUser for Stream<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Stream<'_> {
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let side_by_side = B::ParBlocksSize::USIZE;
        let mut counter = self.counter;
        let mut next = || {
            let block = cipher::Block::<B>::from(counter.to_be_bytes());
            counter = counter.wrapping_add(1);
            block
        };
        let mut batches = self.bytes.chunks_exact_mut(16 * side_by_side);
        for bytes in &mut batches {
            let mut blocks = ParBlocks::<B>::default();
            blocks.iter_mut().for_each(|block| *block = next());
            backend.encrypt_par_blocks((&mut blocks).into());
            add(bytes, Array::slice_as_flattened(&blocks));
        }
        // Where the processor does more of them at once than a payload has, one by one is quicker.
        for bytes in batches.into_remainder().chunks_mut(16) {
            let mut block = next();
            backend.encrypt_block((&mut block).into());
            add(bytes, &block);
        }
    }
}

fn add(bytes: &mut [u8], stream: &[u8]) {
    let pairs = bytes.iter_mut().zip(stream);
    pairs.for_each(|(byte, pad)| *byte ^= *pad);
}

/// `KB`, `KU`, `K`, `B` and a nonce.
fn parts(keys: &[u8; DIRECTION_LEN]) -> [&[u8; 16]; 5] {
    let (parts, _) = keys.as_chunks();
    [0, 1, 2, 3, 4].map(|part| &parts[part])
}

/// One direction of one hop; `C` is the way in which its block goes, out of `KB`.
struct Direction<C> {
    block: C,
    mask: HashKey,
    stream: Aes128Enc,
    stream_start: HashKey,
    nonce: Tag,
    previous: Tag,
}

impl<C: KeyInit> Direction<C> {
    /// The state of `KB | KU | K | B | nonce`.
    fn new(keys: &[u8; DIRECTION_LEN]) -> Direction<C> {
        let [block, mask, stream, start, nonce] = parts(keys);
        Direction {
            block: C::new_from_slice(block).expect("16 bytes"),
            mask: HashKey::new(mask),
            stream: Aes128Enc::new_from_slice(stream).expect("16 bytes"),
            stream_start: HashKey::new(start),
            nonce: *nonce,
            previous: [0; TAG_LEN],
        }
    }

    /// The mask of the tag of a payload whose rest is in its wide, encrypted or clear, form. All is
    /// hashed by one call, several blocks at a time.
    fn mask(&mut self, command: u8, rest: &[u8]) -> u128 {
        let mut bytes = [0; MASKED_LEN];
        bytes[..TAG_LEN].copy_from_slice(&self.previous);
        bytes[TAG_LEN] = command;
        bytes[TAG_LEN + 1..][..rest.len()].copy_from_slice(rest);
        let (blocks, _) = polyval::Block::slice_as_chunks(&bytes);
        u128::from_ne_bytes(self.mask.hash(blocks).into())
    }

    /// Adds the key stream of a tag, from a block of it on.
    fn add_stream(&mut self, tag: &Tag, block: u8, bytes: &mut [u8]) {
        let mut counter = self.stream_start.hash(&[(*tag).into()]);
        counter[15] = (counter[15] & 0xc0) + block;
        let counter = u128::from_be_bytes(counter.into());
        self.stream.encrypt_with_backend(Stream { counter, bytes });
    }

    /// The next keys and nonce, which the present nonce gives. They are written over the old ones.
    fn update(&mut self) {
        let mut keys = Zeroizing::new([0; DIRECTION_LEN]);
        self.add_stream(&{ self.nonce }, UPDATE_BLOCK, &mut *keys);
        let [block, mask, stream, start, nonce] = parts(&keys);
        self.block = C::new_from_slice(block).expect("16 bytes");
        self.mask.set(mask);
        self.stream = Aes128Enc::new_from_slice(stream).expect("16 bytes");
        self.stream_start.set(start);
        self.nonce = *nonce;
    }

    /// Whether a permuted payload ends here.
    fn is_for_us(&self, payload: &Payload) -> bool {
        ct_eq(&payload[..TAG_LEN], &self.nonce)
    }
}

impl<C> Drop for Direction<C> {
    fn drop(&mut self) {
        self.nonce.zeroize();
    }
}

impl Direction<Aes128Enc> {
    fn encrypt(&mut self, command: u8, payload: &mut Payload) {
        let (tag, rest) = split(payload);
        let mask = self.mask(command, rest);
        xor(tag, mask);
        self.block.encrypt_block(tag.into());
        xor(tag, mask);
        self.add_stream(tag, 0, rest);
        self.previous = *tag;
    }
}

impl Direction<Aes128Dec> {
    fn decrypt(&mut self, command: u8, payload: &mut Payload) {
        let (tag, rest) = split(payload);
        let encrypted = *tag;
        self.add_stream(tag, 0, rest);
        let mask = self.mask(command, rest);
        xor(tag, mask);
        self.block.decrypt_block(tag.into());
        xor(tag, mask);
        self.previous = encrypted;
    }
}

fn split(payload: &mut Payload) -> (&mut Tag, &mut [u8]) {
    let (tag, rest) = payload
        .split_first_chunk_mut()
        .expect("a payload is longer");
    (tag, rest)
}

fn tag(payload: &Payload) -> Tag {
    *payload.first_chunk().expect("a payload is longer")
}

fn xor(tag: &mut Tag, mask: u128) {
    *tag = (u128::from_ne_bytes(*tag) ^ mask).to_ne_bytes();
}

/// Both directions of a circuit at a relay.
pub struct RelayCrypt {
    forward: Direction<Aes128Enc>,
    backward: Direction<Aes128Enc>,
}

impl RelayCrypt {
    /// The fresh state of these keys.
    pub fn new(keys: &Keys) -> RelayCrypt {
        let (forward, backward) = keys.directions();
        RelayCrypt { forward, backward }
    }

    /// Removes this hop's layer of a payload from the client. The tag that it came with is
    /// returned if it is for this relay; else it is to be passed on, or ends the circuit.
    pub fn decrypt_forward(&mut self, command: u8, payload: &mut Payload) -> Option<Tag> {
        let received = tag(payload);
        self.forward.encrypt(command, payload);
        self.forward.is_for_us(payload).then(|| {
            self.forward.update();
            received
        })
    }

    /// Adds this hop's layer to a payload on its way to the client.
    pub fn encrypt_backward(&mut self, command: u8, payload: &mut Payload) {
        self.backward.encrypt(command, payload);
    }

    /// Makes a payload that begins here: sets its tag, adds the layer.
    pub fn originate_backward(&mut self, command: u8, payload: &mut Payload) -> Tag {
        payload[..TAG_LEN].copy_from_slice(&self.backward.nonce);
        self.backward.encrypt(command, payload);
        let sent = tag(payload);
        self.backward.nonce = sent;
        self.backward.update();
        sent
    }
}

impl fmt::Debug for RelayCrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cgo::RelayCrypt")
    }
}

/// Both directions of one hop at the client.
pub struct HopCrypt {
    forward: Direction<Aes128Dec>,
    backward: Direction<Aes128Dec>,
}

impl HopCrypt {
    /// The fresh state of these keys.
    pub fn new(keys: &Keys) -> HopCrypt {
        let (forward, backward) = keys.directions();
        HopCrypt { forward, backward }
    }

    /// Adds this hop's layer to a payload that is for a later hop.
    pub fn encrypt_forward(&mut self, command: u8, payload: &mut Payload) {
        self.forward.decrypt(command, payload);
    }

    /// Makes a payload for this hop: sets its tag, adds its layer. The layers of the earlier hops
    /// are added next, from the last to the first.
    pub fn originate_forward(&mut self, command: u8, payload: &mut Payload) -> Tag {
        payload[..TAG_LEN].copy_from_slice(&self.forward.nonce);
        self.forward.decrypt(command, payload);
        self.forward.update();
        tag(payload)
    }

    /// Removes this hop's layer of a payload from the circuit. The tag that this layer had is
    /// returned if the payload began at this hop; else the next hop's layer is to be removed.
    pub fn decrypt_backward(&mut self, command: u8, payload: &mut Payload) -> Option<Tag> {
        let received = tag(payload);
        self.backward.decrypt(command, payload);
        self.backward.is_for_us(payload).then(|| {
            self.backward.nonce = received;
            self.backward.update();
            received
        })
    }
}

impl fmt::Debug for HopCrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cgo::HopCrypt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, encoding};
    use proptest::prelude::*;

    /// Made by the reference program of proposal 359, which C tor and Arti test against. A line:
    /// what is done, where, the command, the states before, the payload, the states after, the
    /// payload after. A state is the 64 key bytes, the nonce and the previous tag; for a hop of a
    /// client there are three. What begins here has no tag yet.
    const VECTORS: &str = include_str!("../testdata/cgo_vectors.txt");

    fn unhex(text: &str) -> Vec<u8> {
        encoding::hex_decode(text).expect("the vectors are hex")
    }

    fn state<C: KeyInit>(text: &str) -> Direction<C> {
        let bytes = unhex(text);
        let mut direction = Direction::new(bytes.first_chunk().unwrap());
        direction.previous = bytes[DIRECTION_LEN..].try_into().unwrap();
        direction
    }

    fn payload(text: &str) -> Payload {
        let bytes = unhex(text);
        let mut payload = [0xee; 509];
        payload[509 - bytes.len()..].copy_from_slice(&bytes);
        payload
    }

    /// States are equal if they make the same of the next payloads.
    fn assert_same<C: KeyInit>(ours: &mut Direction<C>, expected: &str) {
        let mut theirs = state::<C>(expected);
        assert_eq!((ours.nonce, ours.previous), (theirs.nonce, theirs.previous));
        let rest: [u8; 493] = core::array::from_fn(|n| n as u8);
        assert_eq!(ours.mask(3, &rest), theirs.mask(3, &rest));
        let (mut a, mut b) = ([0; 64], [0; 64]);
        ours.add_stream(&[1; 16], 0, &mut a);
        theirs.add_stream(&[1; 16], 0, &mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn vectors() {
        for line in VECTORS.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [what, place, command, before, input, after, output] = fields[..] else {
                panic!("seven fields");
            };
            let command = unhex(command)[0];
            let mut payload = payload(input);
            if what == "client" {
                client_vector(place.parse().unwrap(), command, before, &mut payload, after);
            } else {
                let idle = || Direction::new(&[0; DIRECTION_LEN]);
                let mut relay = match place {
                    "forward" => RelayCrypt {
                        forward: state(before),
                        backward: idle(),
                    },
                    _ => RelayCrypt {
                        forward: idle(),
                        backward: state(before),
                    },
                };
                match (what, place) {
                    ("relay", "forward") => {
                        relay.decrypt_forward(command, &mut payload);
                        assert_same(&mut relay.forward, after);
                    }
                    ("relay", _) => {
                        relay.encrypt_backward(command, &mut payload);
                        assert_same(&mut relay.backward, after);
                    }
                    _ => {
                        let tag = relay.originate_backward(command, &mut payload);
                        assert_eq!(tag, payload[..16]);
                        assert_same(&mut relay.backward, after);
                    }
                }
            }
            assert_eq!(payload[..], unhex(output)[..]);
        }
        assert_eq!(VECTORS.lines().count(), 24);
    }

    fn client_vector(hop: usize, command: u8, before: &str, payload: &mut Payload, after: &str) {
        let mut hops: Vec<HopCrypt> = before
            .split(',')
            .map(|hop| HopCrypt {
                forward: state(hop),
                backward: Direction::new(&[0; DIRECTION_LEN]),
            })
            .collect();
        hops[hop - 1].originate_forward(command, payload);
        for earlier in hops[..hop - 1].iter_mut().rev() {
            earlier.encrypt_forward(command, payload);
        }
        for (hop, after) in hops.iter_mut().zip(after.split(',')) {
            assert_same(&mut hop.forward, after);
        }
    }

    fn pair(rng: &mut Rng) -> (RelayCrypt, HopCrypt) {
        let keys = Keys::read(&rng.array());
        (RelayCrypt::new(&keys), HopCrypt::new(&keys))
    }

    proptest! {
        #[test]
        fn cells_come_through(seed: [u8; 32], kinds in prop::collection::vec(0..4, 1..20)) {
            let mut rng = Rng::from_seed(seed);
            let (mut relay, mut hop) = pair(&mut rng);
            for kind in kinds {
                let mut payload: Payload = rng.array();
                let clear = payload;
                let command = if rng.below(2) == 0 { 3 } else { 9 };
                match kind {
                    0 => {
                        hop.encrypt_forward(command, &mut payload);
                        prop_assert_eq!(relay.decrypt_forward(command, &mut payload), None);
                        prop_assert_eq!(payload, clear);
                    }
                    1 => {
                        relay.encrypt_backward(command, &mut payload);
                        prop_assert_eq!(hop.decrypt_backward(command, &mut payload), None);
                        prop_assert_eq!(payload, clear);
                    }
                    2 => {
                        let tag = hop.originate_forward(command, &mut payload);
                        let seen = relay.decrypt_forward(command, &mut payload);
                        prop_assert_eq!(seen, Some(tag));
                        prop_assert_eq!(&payload[16..], &clear[16..]);
                    }
                    _ => {
                        let tag = relay.originate_backward(command, &mut payload);
                        let seen = hop.decrypt_backward(command, &mut payload);
                        prop_assert_eq!(seen, Some(tag));
                        prop_assert_eq!(&payload[16..], &clear[16..]);
                    }
                }
            }
        }

        /// The cell with the changed bit, or the changed command, is noise, and so are all later.
        #[test]
        fn a_changed_bit_is_the_end(seed: [u8; 32], bit in 0..509 * 8_usize + 1) {
            let mut rng = Rng::from_seed(seed);
            let (mut relay, mut hop) = pair(&mut rng);
            for n in 0..3 {
                let mut payload: Payload = rng.array();
                let clear = payload;
                hop.originate_forward(3, &mut payload);
                let command = if n == 0 && bit == 509 * 8 { 9 } else { 3 };
                if let (0, Some(byte)) = (n, payload.get_mut(bit / 8)) {
                    *byte ^= 1 << (bit % 8);
                }
                prop_assert_eq!(relay.decrypt_forward(command, &mut payload), None);
                let same = payload.iter().zip(&clear).filter(|(a, b)| a == b).count();
                prop_assert!(same < 30);
            }
        }
    }
}
