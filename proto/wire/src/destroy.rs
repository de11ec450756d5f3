//! Why a circuit ends: DESTROY cells and RELAY_TRUNCATED messages (tor-spec 5.4).
//!
//! Both carry one byte, the reason. An empty one counts as NONE, and unknown numbers are kept.

use crate::cell::Payload;
use crate::codes::codes;

codes! {
    /// Why a circuit, or the rest of it, was closed (tor-spec 5.4).
    pub struct DestroyReason(u8) {
        NONE = 0,
        PROTOCOL = 1,
        INTERNAL = 2,
        REQUESTED = 3,
        HIBERNATING = 4,
        RESOURCELIMIT = 5,
        CONNECTFAILED = 6,
        OR_IDENTITY = 7,
        CHANNEL_CLOSED = 8,
        FINISHED = 9,
        TIMEOUT = 10,
        DESTROYED = 11,
        NOSUCHSERVICE = 12,
    }
}

impl DestroyReason {
    /// Reads the payload of a DESTROY cell or the data of a TRUNCATED message.
    #[must_use]
    pub fn read(data: &[u8]) -> Self {
        data.first()
            .map_or(DestroyReason::NONE, |reason| DestroyReason(*reason))
    }

    /// Fills the payload of a DESTROY cell.
    pub fn write(self, payload: &mut Payload) {
        payload.fill(0);
        payload[0] = self.0;
    }

    /// The data of a TRUNCATED message.
    #[must_use]
    pub fn truncated_data(self) -> [u8; 1] {
        [self.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_or_none() {
        let mut payload = [9; crate::cell::PAYLOAD_LEN];
        DestroyReason::TIMEOUT.write(&mut payload);
        assert_eq!(DestroyReason::read(&payload), DestroyReason::TIMEOUT);
        assert!(payload[1..].iter().all(|byte| *byte == 0));
        assert_eq!(DestroyReason::read(&[]), DestroyReason::NONE);
        assert_eq!(
            DestroyReason::read(&DestroyReason(200).truncated_data()).0,
            200
        );
        assert_eq!(DestroyReason::CHANNEL_CLOSED.to_string(), "CHANNEL_CLOSED");
    }
}
