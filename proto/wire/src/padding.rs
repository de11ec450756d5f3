//! PADDING_NEGOTIATE: a client tells its guard whether to pad the channel (padding-spec 2.2).
//!
//! ```text
//! version 1 (0) | command 1 (1 stop, 2 start) | low 2 | high 2
//! ```
//!
//! Cells of another version or command are ignored by relays. Out-of-range times are the
//! receiver's to clamp, since the range is in the consensus.

use crate::cell::Payload;
use crate::create::fill;
use crate::reader::{Reader, Truncated};

const VERSION: u8 = 0;
const STOP: u8 = 1;
const START: u8 = 2;

/// Why a PADDING_NEGOTIATE cell is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaddingError {
    /// The cell ends too early.
    #[error("PADDING_NEGOTIATE: {0}")]
    Truncated(#[from] Truncated),
    /// A version other than 0.
    #[error("PADDING_NEGOTIATE of version {0}")]
    Version(u8),
    /// Neither start nor stop.
    #[error("PADDING_NEGOTIATE with command {0}")]
    Command(u8),
}

/// The payload of a PADDING_NEGOTIATE cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingNegotiate {
    /// Send no padding.
    Stop,
    /// Pad after a random idle time within these bounds, in milliseconds.
    Start {
        /// The lower bound (ito_low_ms).
        low_ms: u16,
        /// The upper bound (ito_high_ms).
        high_ms: u16,
    },
}

impl PaddingNegotiate {
    /// Reads the payload of a PADDING_NEGOTIATE cell.
    pub fn read(payload: &Payload) -> Result<Self, PaddingError> {
        let mut r = Reader::new(payload);
        let version = r.u8()?;
        if version != VERSION {
            return Err(PaddingError::Version(version));
        }
        match r.u8()? {
            STOP => Ok(PaddingNegotiate::Stop),
            START => Ok(PaddingNegotiate::Start {
                low_ms: r.u16()?,
                high_ms: r.u16()?,
            }),
            command => Err(PaddingError::Command(command)),
        }
    }

    /// Fills the payload of a PADDING_NEGOTIATE cell.
    pub fn write(&self, payload: &mut Payload) {
        let (command, low_ms, high_ms) = match *self {
            PaddingNegotiate::Stop => (STOP, 0, 0),
            PaddingNegotiate::Start { low_ms, high_ms } => (START, low_ms, high_ms),
        };
        fill(
            payload,
            &[
                &[VERSION, command],
                &low_ms.to_be_bytes(),
                &high_ms.to_be_bytes(),
            ],
        )
        .expect("six bytes fit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::PAYLOAD_LEN;

    #[test]
    fn written_is_read() {
        let start = PaddingNegotiate::Start {
            low_ms: 256,
            high_ms: 512,
        };
        let mut payload = [9; PAYLOAD_LEN];
        start.write(&mut payload);
        assert_eq!(payload[..7], [0, 2, 1, 0, 2, 0, 0]);
        assert_eq!(PaddingNegotiate::read(&payload), Ok(start));
        PaddingNegotiate::Stop.write(&mut payload);
        assert_eq!(PaddingNegotiate::read(&payload), Ok(PaddingNegotiate::Stop));
        payload[1] = 3;
        assert_eq!(
            PaddingNegotiate::read(&payload),
            Err(PaddingError::Command(3))
        );
        payload[0] = 0x90;
        assert_eq!(
            PaddingNegotiate::read(&payload),
            Err(PaddingError::Version(0x90))
        );
    }
}
