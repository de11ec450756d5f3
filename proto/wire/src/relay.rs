//! The relay cell: what the payload of a RELAY or RELAY_EARLY cell is once decrypted
//! (tor-spec 6.1; version 0, which all but CGO circuits use).
//!
//! ```text
//! command 1 | recognized 2 | stream id 2 | digest 4 | length 2 | data (length) | padding
//! ```
//!
//! Looked at and filled in place. A length beyond [`RELAY_DATA_MAX`] is an error whose consequence
//! is to close the circuit; the padding is never read. Version 1 is in [`v1`], and
//! [`RelayFormat`] is either. Message bodies have a file each.

pub mod v1;

use cepa_crypto::Rng;
use cepa_crypto::layer::Cipher;

use crate::cell::{PAYLOAD_LEN, Payload};
use crate::codes::codes;
use crate::writer::TooLong;

/// Bytes before the data.
pub const RELAY_HEADER_LEN: usize = 11;
/// Most bytes of data in a version 0 relay cell (tor-spec 6.1).
pub const RELAY_DATA_MAX: usize = PAYLOAD_LEN - RELAY_HEADER_LEN;
/// Most bytes of a message's body that fit a relay cell of either version: what bounds the bodies
/// that we write, but for DATA.
pub const RELAY_BODY_MAX: usize = v1::STREAM_DATA_MAX;
/// Zero bytes between data and random padding, as room allows (tor-spec 6.1, proposal 289).
const PADDING_GAP_LEN: usize = 4;

codes! {
    /// What a relay cell says (tor-spec 6.1, rend-spec-v3 1.2, proposals 324 and 329).
    pub struct RelayCommand(u8) {
        BEGIN = 1,
        DATA = 2,
        END = 3,
        CONNECTED = 4,
        SENDME = 5,
        EXTEND = 6,
        EXTENDED = 7,
        TRUNCATE = 8,
        TRUNCATED = 9,
        DROP = 10,
        RESOLVE = 11,
        RESOLVED = 12,
        BEGIN_DIR = 13,
        EXTEND2 = 14,
        EXTENDED2 = 15,
        CONFLUX_LINK = 19,
        CONFLUX_LINKED = 20,
        CONFLUX_LINKED_ACK = 21,
        CONFLUX_SWITCH = 22,
        ESTABLISH_INTRO = 32,
        ESTABLISH_RENDEZVOUS = 33,
        INTRODUCE1 = 34,
        INTRODUCE2 = 35,
        RENDEZVOUS1 = 36,
        RENDEZVOUS2 = 37,
        INTRO_ESTABLISHED = 38,
        RENDEZVOUS_ESTABLISHED = 39,
        INTRODUCE_ACK = 40,
        PADDING_NEGOTIATE = 41,
        PADDING_NEGOTIATED = 42,
        XOFF = 43,
        XON = 44,
    }
}

/// Names a stream on one circuit; 0 is the circuit itself (tor-spec 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId(pub u16);

impl StreamId {
    /// The stream id of messages about the whole circuit: 0.
    pub const NONE: StreamId = StreamId(0);
}

/// The length field claims more than the cell holds; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("relay cell claims {0} bytes of data")]
pub struct LengthError(pub u16);

/// What a decrypted relay cell does against its format; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayCellError {
    /// More is claimed than the cell holds.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// Version 1: a command that has no name, so that what follows cannot be told.
    #[error("relay command {0} is unknown")]
    Command(RelayCommand),
    /// Version 1: a message about a stream, about none.
    #[error("{0} without a stream id")]
    NoStream(RelayCommand),
}

/// A message in a relay cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayMessage<'c> {
    /// The command of the message.
    pub command: RelayCommand,
    /// The stream that the message is about.
    pub stream_id: StreamId,
    /// Its body.
    pub data: &'c [u8],
}

/// How messages lie in the relay cells of a hop: as its cipher wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayFormat {
    /// This file's, under tor1 and between the ends of an onion service's circuit.
    V0,
    /// That of [`v1`], under CGO.
    V1,
}

impl From<Cipher> for RelayFormat {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::Tor1 => RelayFormat::V0,
            Cipher::Cgo => RelayFormat::V1,
        }
    }
}

impl RelayFormat {
    /// Most bytes in the body of such a message.
    #[must_use]
    pub fn data_max(self, command: RelayCommand) -> usize {
        match self {
            RelayFormat::V0 => RELAY_DATA_MAX,
            RelayFormat::V1 => v1::data_max(command),
        }
    }

    /// Reads a decrypted cell.
    pub fn read(self, payload: &Payload) -> Result<RelayMessage<'_>, RelayCellError> {
        match self {
            RelayFormat::V0 => Ok(RelayMessage {
                command: command(payload),
                stream_id: stream_id(payload),
                data: data(payload)?,
            }),
            RelayFormat::V1 => v1::read(payload),
        }
    }

    /// Fills `payload` with a message, whose layer puts the digest or tag in. [`TooLong`] if it
    /// does not fit; then `payload` is unchanged.
    pub fn write(
        self,
        payload: &mut Payload,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        rng: &mut Rng,
    ) -> Result<(), TooLong> {
        match self {
            RelayFormat::V0 => write(payload, command, stream_id, data, rng),
            RelayFormat::V1 => v1::write(payload, command, stream_id, data, rng),
        }
    }
}

/// The command of the message in a payload.
#[must_use]
pub fn command(payload: &Payload) -> RelayCommand {
    RelayCommand(payload[0])
}

/// The field that is 0 in every decrypted cell.
#[must_use]
pub fn recognized(payload: &Payload) -> u16 {
    u16::from_be_bytes([payload[1], payload[2]])
}

/// The stream that the message is about.
#[must_use]
pub fn stream_id(payload: &Payload) -> StreamId {
    StreamId(u16::from_be_bytes([payload[3], payload[4]]))
}

/// The first four bytes of the running digest.
#[must_use]
pub fn digest(payload: &Payload) -> [u8; 4] {
    [payload[5], payload[6], payload[7], payload[8]]
}

/// The bytes of data that the header claims.
#[must_use]
pub fn data_len(payload: &Payload) -> u16 {
    u16::from_be_bytes([payload[9], payload[10]])
}

/// The data of the message.
pub fn data(payload: &Payload) -> Result<&[u8], LengthError> {
    let len = data_len(payload);
    let end = RELAY_HEADER_LEN + usize::from(len);
    payload.get(RELAY_HEADER_LEN..end).ok_or(LengthError(len))
}

/// Fills `payload` with a message: header with `recognized` and digest 0 (the layer that encrypts
/// it puts the digest in), data, four zeros and random bytes.
///
/// The randomness is there because authenticated SENDMEs prove that one has seen the cell's bytes
/// (proposal 289); it costs nothing where it would matter, as a full DATA cell has no padding.
/// [`TooLong`] beyond [`RELAY_DATA_MAX`]; then `payload` is unchanged.
pub fn write(
    payload: &mut Payload,
    command: RelayCommand,
    stream_id: StreamId,
    data: &[u8],
    rng: &mut Rng,
) -> Result<(), TooLong> {
    let len = u16::try_from(data.len()).map_err(|_| TooLong)?;
    let (header, body) = payload.split_at_mut(RELAY_HEADER_LEN);
    let (data_out, padding) = body.split_at_mut_checked(data.len()).ok_or(TooLong)?;
    let [stream_high, stream_low] = stream_id.0.to_be_bytes();
    let [len_high, len_low] = len.to_be_bytes();
    let fields = [
        command.0,
        0,
        0,
        stream_high,
        stream_low,
        0,
        0,
        0,
        0,
        len_high,
        len_low,
    ];
    header.copy_from_slice(&fields);
    data_out.copy_from_slice(data);
    pad(padding, rng);
    Ok(())
}

/// Fills what a message leaves of its cell.
pub(crate) fn pad(padding: &mut [u8], rng: &mut Rng) {
    let (gap, random) = padding.split_at_mut(padding.len().min(PADDING_GAP_LEN));
    gap.fill(0);
    rng.fill(random);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use proptest::prelude::*;

    #[test]
    fn layout() {
        let mut payload = [0xEE; PAYLOAD_LEN];
        let mut rng = Rng::from_seed([1; 32]);
        write(
            &mut payload,
            RelayCommand::DATA,
            StreamId(0x0102),
            b"abc",
            &mut rng,
        )
        .unwrap();
        assert_eq!(payload[..11], [2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 3]);
        assert_eq!(payload[11..18], *b"abc\0\0\0\0");
        assert!(payload[18..].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_lying_length_is_an_error() {
        let mut payload = [0; PAYLOAD_LEN];
        payload[9..11].copy_from_slice(&499_u16.to_be_bytes());
        assert_eq!(data(&payload), Err(LengthError(499)));
        payload[9..11].copy_from_slice(&498_u16.to_be_bytes());
        assert_eq!(data(&payload).map(<[u8]>::len), Ok(498));
    }

    #[test]
    fn too_much_data_leaves_the_payload() {
        let mut payload = [7; PAYLOAD_LEN];
        let mut rng = Rng::from_seed([1; 32]);
        let long = vec![0; RELAY_DATA_MAX + 1];
        let result = write(
            &mut payload,
            RelayCommand::DATA,
            StreamId(1),
            &long,
            &mut rng,
        );
        assert_eq!((result, payload), (Err(TooLong), [7; PAYLOAD_LEN]));
    }

    proptest! {
        #[test]
        fn written_is_read(
            command: u8, stream: u16, body in prop::collection::vec(any::<u8>(), 0..=498),
        ) {
            let mut payload = [0xEE; PAYLOAD_LEN];
            let mut rng = Rng::from_seed([1; 32]);
            let command = RelayCommand(command);
            write(&mut payload, command, StreamId(stream), &body, &mut rng).unwrap();
            prop_assert_eq!(super::command(&payload), command);
            prop_assert_eq!(stream_id(&payload), StreamId(stream));
            prop_assert_eq!((recognized(&payload), digest(&payload)), (0, [0; 4]));
            prop_assert_eq!(data(&payload), Ok(&body[..]));
            let gap = &payload[11 + body.len()..PAYLOAD_LEN.min(15 + body.len())];
            prop_assert!(gap.iter().all(|byte| *byte == 0));
        }
    }
}
