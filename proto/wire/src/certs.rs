//! CERTS: the certificates of one side of a channel (tor-spec 4.2).
//!
//! ```text
//! count 1 | (type 1 | length 2 | certificate (length)) (count) | ignored
//! ```
//!
//! At most one certificate a type. Types above 7 are skipped, duplicates among them included, as C
//! tor does. The certificates are only cut out here; what they say is for `cert`, `cross_cert` and
//! the X.509 code to check.

use crate::codes::codes;
use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

codes! {
    /// What a certificate in a CERTS cell is for (tor-spec 4.2).
    pub struct CertsType(u8) {
        RSA_LINK = 1,
        RSA_ID = 2,
        RSA_AUTH = 3,
        ED25519_ID_SIGNING = 4,
        ED25519_SIGNING_TLS = 5,
        ED25519_SIGNING_AUTH = 6,
        RSA_ED25519_CROSS = 7,
    }
}

/// The highest type that is known, and so the most certificates that are kept.
const TYPES_MAX: usize = 7;

/// Why a CERTS cell is refused; the channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertsError {
    /// The cell ends within a certificate.
    #[error("CERTS: {0}")]
    Truncated(#[from] Truncated),
    /// Two certificates of one type.
    #[error("CERTS: two certificates of type {0}")]
    Duplicate(CertsType),
}

/// The certificates of a CERTS cell, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Certs<'a> {
    /// By type; the first slot (type 0) stays empty.
    by_type: [Option<&'a [u8]>; TYPES_MAX + 1],
}

impl<'a> Certs<'a> {
    /// Reads the body of a CERTS cell.
    pub fn read(body: &'a [u8]) -> Result<Self, CertsError> {
        let mut r = Reader::new(body);
        let mut certs = Certs::default();
        for _ in 0..r.u8()? {
            let kind = r.u8()?;
            let len = r.u16()?;
            let cert = r.take(len.into())?;
            if kind == 0 {
                continue;
            }
            let Some(slot) = certs.by_type.get_mut(usize::from(kind)) else {
                continue;
            };
            if slot.replace(cert).is_some() {
                return Err(CertsError::Duplicate(CertsType(kind)));
            }
        }
        Ok(certs)
    }

    /// The certificate of this type.
    #[must_use]
    pub fn find(&self, kind: CertsType) -> Option<&'a [u8]> {
        self.by_type.get(usize::from(kind.0)).copied().flatten()
    }
}

/// Appends the body of a CERTS cell. [`TooLong`] for more than 255 certificates or one that is
/// longer than 65535 bytes; `out` is then as before.
pub fn write(certs: &[(CertsType, &[u8])], out: &mut Vec<u8>) -> Result<(), TooLong> {
    let start = out.len();
    let mut w = Writer::new(out);
    w.u8(u8::try_from(certs.len()).map_err(|_| TooLong)?);
    for (kind, cert) in certs {
        w.u8(kind.0);
        if w.u16_prefixed(cert).is_err() {
            out.truncate(start);
            return Err(TooLong);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_types_by_name_and_others_skipped() {
        let body = [
            5, 4, 0, 2, 1, 2, 9, 0, 1, 9, 9, 0, 0, 0, 0, 1, 7, 7, 0, 0, 99,
        ];
        let certs = Certs::read(&body).unwrap();
        assert_eq!(certs.find(CertsType::ED25519_ID_SIGNING), Some(&[1, 2][..]));
        assert_eq!(certs.find(CertsType::RSA_ED25519_CROSS), Some(&[][..]));
        assert_eq!(certs.find(CertsType::RSA_ID), None);
        assert_eq!(certs.find(CertsType(0)), None);
        assert_eq!(certs.find(CertsType(9)), None);
        for len in 0..body.len() - 1 {
            assert_eq!(Certs::read(&body[..len]), Err(Truncated.into()));
        }
    }

    #[test]
    fn duplicates_are_refused() {
        let body = [2, 4, 0, 0, 4, 0, 0];
        let error = CertsError::Duplicate(CertsType::ED25519_ID_SIGNING);
        assert_eq!(Certs::read(&body), Err(error));
    }

    #[test]
    fn a_cert_too_long_leaves_the_buffer() {
        let mut out = vec![1];
        let long = vec![0; 65536];
        let result = write(
            &[(CertsType::RSA_ID, &[]), (CertsType::RSA_LINK, &long)],
            &mut out,
        );
        assert_eq!((result, out), (Err(TooLong), vec![1]));
    }

    proptest! {
        #[test]
        fn written_is_read(bodies in prop::collection::btree_map(
            1_u8..=7, prop::collection::vec(any::<u8>(), 0..40), 0..7,
        )) {
            let list: Vec<_> = bodies.iter().map(|(k, v)| (CertsType(*k), v.as_slice())).collect();
            let mut out = Vec::new();
            write(&list, &mut out).unwrap();
            let certs = Certs::read(&out).unwrap();
            for kind in 0..=255 {
                let expected = bodies.get(&kind).map(Vec::as_slice);
                prop_assert_eq!(certs.find(CertsType(kind)), expected);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certs::read(&body);
        }
    }
}
