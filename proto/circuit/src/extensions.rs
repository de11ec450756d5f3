//! The extensions inside an ntor-v3 handshake: a client asks, a relay grants (proposals 324, 332).
//!
//! ```text
//! list:     count u8 | (type u8 | length u8 | body (length)) (count)
//! request:  1: congestion control, no body       3: subprotocols demanded, pairs: CGO is 02 06
//! reply:    2: congestion control, sendme_inc u8
//! ```
//!
//! Unknown extensions, duplicates, any order and bytes behind the list are ignored, as `tor` does;
//! we ourselves write ascending types, and each but once, as Arti demands.

use cepa_crypto::layer::Cipher;
use cepa_wire::{Reader, Truncated};

/// A client asks for congestion control.
const CC_REQUEST: u8 = 1;
/// A relay grants it.
const CC_GRANT: u8 = 2;
/// A client demands subprotocols of this circuit.
const SUBPROTOCOLS: u8 = 3;

/// Number of the protocol Relay and the version of it that is CGO (proposal 346, 359).
const RELAY_CGO: &[u8; 2] = &[2, 6];

/// The list that demands CGO, and what belongs to it.
const CGO_DEMAND: &[u8] = &[
    2,
    CC_REQUEST,
    0,
    SUBPROTOCOLS,
    2,
    RELAY_CGO[0],
    RELAY_CGO[1],
];

/// A list of no extensions. An empty message would be refused.
const NONE: &[u8] = &[0];

/// The extensions by which a client asks something of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// Congestion control is to be used.
    pub congestion: bool,
    /// Counter galois onion is demanded: version 6 of Relay.
    pub cgo: bool,
    /// Other subprotocols are demanded, of which there are none.
    pub others: bool,
}

impl Request {
    /// Reads a client's message.
    pub fn read(message: &[u8]) -> Result<Self, Truncated> {
        let mut request = Request::default();
        for_each(message, |kind, body| match kind {
            CC_REQUEST => request.congestion = true,
            SUBPROTOCOLS => {
                for pair in body.chunks(2) {
                    let is_cgo = pair == RELAY_CGO;
                    request.cgo |= is_cgo;
                    request.others |= !is_cgo;
                }
            }
            _ => {}
        })?;
        Ok(request)
    }

    /// The message that asks for nothing, or for congestion control, with CGO or without.
    #[must_use]
    pub fn message(asked: Option<Cipher>) -> &'static [u8] {
        match asked {
            None => NONE,
            Some(Cipher::Tor1) => &[1, CC_REQUEST, 0],
            Some(Cipher::Cgo) => CGO_DEMAND,
        }
    }
}

/// The extensions by which a relay grants what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// DATA cells that one SENDME acknowledges, if congestion control is used; not checked.
    pub sendme_inc_cells: Option<u8>,
}

impl Grant {
    /// Reads a relay's message. Of several grants, the first counts.
    pub fn read(message: &[u8]) -> Result<Self, Truncated> {
        let mut grants = Ok(Grant::default());
        for_each(message, |kind, body| {
            if let (CC_GRANT, Ok(grant)) = (kind, &mut grants)
                && grant.sendme_inc_cells.is_none()
            {
                match Reader::new(body).u8() {
                    Ok(cells) => grant.sendme_inc_cells = Some(cells),
                    Err(error) => grants = Err(error),
                }
            }
        })?;
        grants
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.sendme_inc_cells {
            Some(cells) => out.extend_from_slice(&[1, CC_GRANT, 1, cells]),
            None => out.extend_from_slice(NONE),
        }
    }
}

fn for_each(message: &[u8], mut found: impl FnMut(u8, &[u8])) -> Result<(), Truncated> {
    let mut r = Reader::new(message);
    for _ in 0..r.u8()? {
        let kind = r.u8()?;
        let len = r.u8()?;
        found(kind, r.take(len.into())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn requests() {
        let asks = |congestion, cgo, others| {
            Ok(Request {
                congestion,
                cgo,
                others,
            })
        };
        assert_eq!(Request::read(&[0]), asks(false, false, false));
        assert_eq!(
            Request::read(Request::message(Some(Cipher::Tor1))),
            asks(true, false, false)
        );
        assert_eq!(
            Request::read(Request::message(None)),
            asks(false, false, false)
        );
        assert_eq!(
            Request::read(&[2, 3, 2, 2, 6, 1, 0, 9]),
            asks(true, true, false)
        );
        assert_eq!(Request::read(&[2, 1, 1, 5, 1, 0]), asks(true, false, false));
        assert_eq!(Request::read(&[1, 3, 0]), asks(false, false, false));
        let cgo = Request::message(Some(Cipher::Cgo));
        assert_eq!(cgo, [2, 1, 0, 3, 2, 2, 6]);
        assert_eq!(Request::read(cgo), asks(true, true, false));
        assert_eq!(
            Request::read(&[1, 3, 4, 2, 6, 2, 6]),
            asks(false, true, false)
        );
        assert_eq!(
            Request::read(&[1, 3, 4, 2, 6, 2, 5]),
            asks(false, true, true)
        );
        assert_eq!(Request::read(&[1, 3, 3, 2, 6, 2]), asks(false, true, true));
        assert_eq!(Request::read(&[2, 3, 1, 6, 1, 0]), asks(true, false, true));
        assert_eq!(Request::read(&[2, 1, 0]), Err(Truncated));
        assert_eq!(Request::read(&[]), Err(Truncated));
    }

    #[test]
    fn grants() {
        let of = |sendme_inc_cells| Ok(Grant { sendme_inc_cells });
        assert_eq!(Grant::read(&[0]), of(None));
        assert_eq!(Grant::read(&[1, 2, 1, 31]), of(Some(31)));
        assert_eq!(Grant::read(&[3, 9, 0, 2, 2, 31, 7, 2, 1, 30]), of(Some(31)));
        assert_eq!(Grant::read(&[1, 2, 0]), Err(Truncated));
        assert_eq!(Grant::read(&[1, 2, 1]), Err(Truncated));
    }

    proptest! {
        #[test]
        fn written_is_read(cells in any::<Option<u8>>(), junk in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            let grant = Grant { sendme_inc_cells: cells };
            grant.write(&mut out);
            prop_assert_eq!(Grant::read(&out), Ok(grant));
            let _ = (Grant::read(&junk), Request::read(&junk));
        }
    }
}
