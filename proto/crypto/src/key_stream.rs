//! The key material that a circuit handshake agrees upon (tor-spec 5.2).
//!
//! Each handshake has a derivation of its own; what comes out is cut in order into the keys of
//! a cell cipher. `MATERIAL_LEN` bytes are derived at once: enough for the longest use, two
//! directions of counter galois onion (160) and the binding key KH (20).

use core::fmt;

use zeroize::Zeroizing;

use crate::{cgo, tor1};

/// Bytes of key material.
pub const MATERIAL_LEN: usize = 192;

/// Fresh key material, used once and from the beginning.
pub struct KeyStream {
    material: Zeroizing<[u8; MATERIAL_LEN]>,
    /// KH, where the handshake sends it instead of deriving it after the keys.
    kh: Option<Zeroizing<[u8; 20]>>,
}

impl KeyStream {
    /// The material that a derivation writes.
    pub(crate) fn derive(write: impl FnOnce(&mut [u8; MATERIAL_LEN])) -> KeyStream {
        let mut material = Zeroizing::new([0; MATERIAL_LEN]);
        write(&mut material);
        KeyStream { material, kh: None }
    }

    /// The same with the KH of CREATE_FAST (tor-spec 5.2.1).
    pub(crate) fn with_kh(mut self, kh: &[u8; 20]) -> KeyStream {
        self.kh = Some(Zeroizing::new(*kh));
        self
    }

    /// The keys of the tor1 cell cipher.
    pub fn tor1(self) -> tor1::Keys {
        self.tor1_with_kh().0
    }

    /// The keys of the tor1 cell cipher, and KH, which binds an ESTABLISH_INTRO to its circuit
    /// (rend-spec-v3 3.1.1): the 20 bytes after the keys, or the KH of CREATE_FAST.
    pub fn tor1_with_kh(self) -> (tor1::Keys, Zeroizing<[u8; 20]>) {
        let (keys, rest) = self.material.split_first_chunk().expect("72 of 192");
        (tor1::Keys::read(keys), self.kh(rest))
    }

    /// The keys of a circuit with the CGO cell cipher, and its binding key KH.
    pub fn cgo_with_kh(self) -> (cgo::Keys, Zeroizing<[u8; 20]>) {
        let (keys, rest) = self.material.split_first_chunk().expect("160 of 192");
        (cgo::Keys::read(keys), self.kh(rest))
    }

    fn kh(&self, rest: &[u8]) -> Zeroizing<[u8; 20]> {
        let mut kh = Zeroizing::new([0; 20]);
        kh.copy_from_slice(match &self.kh {
            Some(kh) => &**kh,
            None => &rest[..20],
        });
        kh
    }

    /// The first bytes of the material.
    pub fn prefix(&self) -> &[u8; MATERIAL_LEN] {
        &self.material
    }
}

impl fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_in_order() {
        let stream = || KeyStream::derive(|m| *m = core::array::from_fn(|i| i as u8));
        let (keys, kh) = stream().tor1_with_kh();
        assert_eq!(
            (keys.df[0], keys.db[0], keys.kf[0], keys.kb[0], kh[0]),
            (0, 20, 40, 56, 72)
        );
        assert_eq!((keys.kb[15], kh[19]), (71, 91));
        assert_eq!(*stream().with_kh(&[7; 20]).tor1_with_kh().1, [7; 20]);
        assert_eq!(stream().cgo_with_kh().1[0], 160);
        assert_eq!(stream().tor1().kf, keys.kf);
        assert_eq!(format!("{:?} {keys:?}", stream()), "KeyStream tor1::Keys");
    }
}
