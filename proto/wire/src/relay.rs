//! The relay cell: what the payload of a RELAY or RELAY_EARLY cell is once decrypted
//! (tor-spec 6.1; version 0, which all but CGO circuits use).
//!
//! ```text
//! command 1 | recognized 2 | stream id 2 | digest 4 | length 2 | data (length) | padding
//! ```
//!
//! Looked at and filled in place. A length beyond [`RELAY_DATA_MAX`] is an error whose consequence
//! is to close the circuit; the padding is never read. Message bodies have a file each.

use cepa_crypto::Rng;

use crate::cell::{PAYLOAD_LEN, Payload};
use crate::codes::codes;
use crate::writer::TooLong;

/// Bytes before the data.
pub const RELAY_HEADER_LEN: usize = 11;
/// Most bytes of data in a version 0 relay cell (tor-spec 6.1).
pub const RELAY_DATA_MAX: usize = PAYLOAD_LEN - RELAY_HEADER_LEN;
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
    /// Of messages about the whole circuit.
    pub const NONE: StreamId = StreamId(0);
}

/// The length field claims more than the cell holds; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("relay cell claims {0} bytes of data")]
pub struct LengthError(pub u16);

/// What the message is.
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
    let (gap, random) = padding.split_at_mut(padding.len().min(PADDING_GAP_LEN));
    gap.fill(0);
    rng.fill(random);
    Ok(())
}
