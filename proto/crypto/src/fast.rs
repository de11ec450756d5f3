//! CREATE_FAST: keys for a first hop that TLS has authenticated already (tor-spec 5.1.5).
//!
//! Client and server each send 20 random bytes X and Y; KDF-TOR (tor-spec 5.2.1) of `X | Y`
//! gives KH, which the server returns to show that it knows X, and then the cell keys.

use zeroize::Zeroizing;

use crate::{KeyStream, Rng, digest};

/// Why a CREATED_FAST cell was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FastError {
    /// KH is not the one that X and Y give.
    #[error("CREATED_FAST has a wrong derivative key")]
    WrongKeyHash,
}

/// What a client keeps between CREATE_FAST and CREATED_FAST.
pub struct ClientState {
    x: Zeroizing<[u8; 20]>,
}

/// Draws X; returns it for the CREATE_FAST cell.
pub fn client_start(rng: &mut Rng) -> (ClientState, [u8; 20]) {
    let x = rng.array();
    (
        ClientState {
            x: Zeroizing::new(x),
        },
        x,
    )
}

impl ClientState {
    /// Takes Y and KH of a CREATED_FAST cell.
    pub fn finish(self, y: &[u8; 20], kh: &[u8; 20]) -> Result<KeyStream, FastError> {
        let (expected, keys) = derive(&self.x, y);
        if digest::ct_eq(&expected, kh) {
            Ok(keys)
        } else {
            Err(FastError::WrongKeyHash)
        }
    }
}

/// Answers the X of a CREATE_FAST: Y and KH of the CREATED_FAST cell, and the keys.
pub fn server(rng: &mut Rng, x: &[u8; 20]) -> ([u8; 20], [u8; 20], KeyStream) {
    let y = rng.array();
    let (kh, keys) = derive(x, &y);
    (y, kh, keys)
}

/// KDF-TOR of `X | Y`: KH, then the key material.
fn derive(x: &[u8; 20], y: &[u8; 20]) -> ([u8; 20], KeyStream) {
    let mut input = Zeroizing::new([0; 41]);
    input[..20].copy_from_slice(x);
    input[20..40].copy_from_slice(y);
    let kh = digest::sha1(&*input);
    let keys = KeyStream::derive(|material| {
        for (counter, chunk) in (1..).zip(material.chunks_mut(20)) {
            input[40] = counter;
            let block = Zeroizing::new(digest::sha1(&*input));
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    });
    (kh, keys.with_kh(&kh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn kdf_tor_vector() {
        // Computed with another program after tor-spec 5.2.1, for X = 0..20 and Y = 20..40.
        let x = core::array::from_fn(|i| i as u8);
        let y = core::array::from_fn(|i| i as u8 + 20);
        let kh = hex!("ee4290b7cadc050642954479851159fd567f8cf3");
        let state = ClientState {
            x: Zeroizing::new(x),
        };
        let keys = state.finish(&y, &kh).unwrap();
        assert_eq!(
            keys.prefix()[..72],
            hex!(
                "9e917161fbf90a6e0016f447e7b0c384fea2312acdb67f371199aade028288f642c19330"
                "0a48d9e169024d75bc21fa80d52349328e7d0ce219337e74a980c2672535f15661c9aa31"
            )
        );
        let (keys, bound) = keys.tor1_with_kh();
        assert_eq!((&keys.df[..4], *bound), (&hex!("9e917161")[..], kh));
    }

    #[test]
    fn both_sides_agree_and_a_wrong_hash_is_refused() {
        let mut rng = Rng::from_seed([4; 32]);
        let (state, x) = client_start(&mut rng);
        let (y, kh, keys) = server(&mut rng, &x);
        assert_eq!(state.finish(&y, &kh).unwrap().prefix(), keys.prefix());
        let (state, x) = client_start(&mut rng);
        let (y, mut kh, _) = server(&mut rng, &x);
        kh[19] ^= 1;
        assert_eq!(state.finish(&y, &kh).unwrap_err(), FastError::WrongKeyHash);
    }
}
