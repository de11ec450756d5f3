//! The relay cell of version 1, which hops with the CGO cipher have (proposals 340 and 359).
//!
//! ```text
//! tag 16 | command 1 | length 2 | [stream id 2] | data (length) | padding
//! ```
//!
//! The stream id is there for messages about streams only, and is never 0. One message fills a
//! cell: packing several, or spreading one over several, is not deployed. An unknown command, a
//! missing stream id and a length beyond the cell are errors whose consequence is to close the
//! circuit. A stream-level SENDME cannot be said: CGO comes with congestion control only.

use cepa_crypto::Rng;
use cepa_crypto::cgo::TAG_LEN;

use crate::cell::{PAYLOAD_LEN, Payload};
use crate::reader::{Reader, Truncated};
use crate::relay::{LengthError, RelayCellError, RelayCommand, RelayMessage, StreamId, pad};
use crate::writer::TooLong;

/// Bytes before the data, or the stream id.
const HEADER_LEN: usize = TAG_LEN + 3;
/// Most bytes of data in a message about no stream.
pub const DATA_MAX: usize = PAYLOAD_LEN - HEADER_LEN;
/// Most bytes of data in a message about a stream.
pub const STREAM_DATA_MAX: usize = DATA_MAX - 2;

/// Whether such a message is about a stream, and says about which.
#[must_use]
pub fn has_stream(command: RelayCommand) -> bool {
    matches!(
        command,
        RelayCommand::BEGIN
            | RelayCommand::DATA
            | RelayCommand::END
            | RelayCommand::CONNECTED
            | RelayCommand::RESOLVE
            | RelayCommand::RESOLVED
            | RelayCommand::BEGIN_DIR
            | RelayCommand::XOFF
            | RelayCommand::XON
    )
}

/// Most bytes of data in such a message.
#[must_use]
pub fn data_max(command: RelayCommand) -> usize {
    if has_stream(command) {
        STREAM_DATA_MAX
    } else {
        DATA_MAX
    }
}

/// Reads a decrypted cell.
pub fn read(payload: &Payload) -> Result<RelayMessage<'_>, RelayCellError> {
    let mut r = Reader::new(payload);
    let ended = |_: Truncated| LengthError(0);
    r.take(TAG_LEN).map_err(ended)?;
    let command = RelayCommand(r.u8().map_err(ended)?);
    if !command.is_known() {
        return Err(RelayCellError::Command(command));
    }
    let len = r.u16().map_err(ended)?;
    let stream_id = if has_stream(command) {
        StreamId(r.u16().map_err(ended)?)
    } else {
        StreamId::NONE
    };
    if has_stream(command) && stream_id == StreamId::NONE {
        return Err(RelayCellError::NoStream(command));
    }
    let data = r.take(len.into()).map_err(|_| LengthError(len))?;
    Ok(RelayMessage {
        command,
        stream_id,
        data,
    })
}

/// Fills `payload` with a message: header with a tag of zeros (the layer that encrypts it puts it
/// in), data, four zeros and random bytes. A stream id that the message has no place for is left
/// out. [`TooLong`] beyond [`data_max`]; then `payload` is unchanged.
pub fn write(
    payload: &mut Payload,
    command: RelayCommand,
    stream_id: StreamId,
    data: &[u8],
    rng: &mut Rng,
) -> Result<(), TooLong> {
    let len = u16::try_from(data.len()).map_err(|_| TooLong)?;
    if data.len() > data_max(command) {
        return Err(TooLong);
    }
    let data_at = PAYLOAD_LEN - data_max(command);
    let (header, body) = payload.split_at_mut(data_at);
    let (tag, fields) = header.split_at_mut(TAG_LEN);
    tag.fill(0);
    let [len_high, len_low] = len.to_be_bytes();
    let [stream_high, stream_low] = stream_id.0.to_be_bytes();
    let written = [command.0, len_high, len_low, stream_high, stream_low];
    let (written, _) = written.split_at(fields.len());
    fields.copy_from_slice(written);
    let (data_out, padding) = body.split_at_mut(data.len());
    data_out.copy_from_slice(data);
    pad(padding, rng);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use proptest::prelude::*;

    const ABOUT_STREAMS: [u8; 9] = [1, 2, 3, 4, 11, 12, 13, 43, 44];

    fn filled(command: u8, stream: u16, data: &[u8]) -> Payload {
        let mut payload = [0xee; PAYLOAD_LEN];
        let mut rng = Rng::from_seed([1; 32]);
        write(
            &mut payload,
            RelayCommand(command),
            StreamId(stream),
            data,
            &mut rng,
        )
        .unwrap();
        payload
    }

    #[test]
    fn layout() {
        let data = filled(2, 0x0102, b"abc");
        assert_eq!(data[..16], [0; 16]);
        assert_eq!(data[16..28], *b"\x02\x00\x03\x01\x02abc\0\0\0\0");
        assert!(data[28..].iter().any(|byte| *byte != 0));
        let sendme = filled(5, 7, b"abc");
        assert_eq!(sendme[16..26], *b"\x05\x00\x03abc\0\0\0\0");
        assert_eq!((DATA_MAX, STREAM_DATA_MAX), (490, 488));
    }

    #[test]
    fn every_command() {
        for number in 0..=255 {
            let command = RelayCommand(number);
            let mut payload = [0; PAYLOAD_LEN];
            payload[16] = number;
            let about_stream = ABOUT_STREAMS.contains(&number);
            assert_eq!(has_stream(command), about_stream);
            let expected = match () {
                () if !command.is_known() => Err(RelayCellError::Command(command)),
                () if about_stream => Err(RelayCellError::NoStream(command)),
                () => Ok(&[][..]),
            };
            assert_eq!(read(&payload).map(|message| message.data), expected);
            for len in [487_u16, 488, 489, 490, 491, u16::MAX] {
                payload[17..19].copy_from_slice(&len.to_be_bytes());
                payload[19] = 1;
                let data_len = read(&payload).map(|message| message.data.len());
                if command.is_known() && usize::from(len) <= data_max(command) {
                    assert_eq!(data_len, Ok(len.into()));
                } else if command.is_known() {
                    assert_eq!(data_len, Err(LengthError(len).into()));
                } else {
                    assert_eq!(data_len, Err(RelayCellError::Command(command)));
                }
            }
        }
        assert_eq!(
            (0..=255).filter(|n| RelayCommand(*n).is_known()).count(),
            32
        );
    }

    #[test]
    fn too_much_data_leaves_the_payload() {
        let mut rng = Rng::from_seed([1; 32]);
        for (command, len) in [(RelayCommand::DATA, 489), (RelayCommand::EXTEND2, 491)] {
            let mut payload = [7; PAYLOAD_LEN];
            let result = write(&mut payload, command, StreamId(1), &vec![0; len], &mut rng);
            assert_eq!((result, payload), (Err(TooLong), [7; PAYLOAD_LEN]));
        }
    }

    proptest! {
        #[test]
        fn written_is_read(
            about_stream: bool,
            at in 0..9_usize,
            stream in 1..=u16::MAX,
            body in prop::collection::vec(any::<u8>(), 0..=488),
        ) {
            let other = [5, 6, 8, 10, 14, 15, 32, 34, 41][at];
            let command = if about_stream { ABOUT_STREAMS[at] } else { other };
            let payload = filled(command, stream, &body);
            let stream_id = if about_stream { StreamId(stream) } else { StreamId::NONE };
            let command = RelayCommand(command);
            let expected = RelayMessage { command, stream_id, data: &body };
            prop_assert_eq!(read(&payload), Ok(expected));
            let end = PAYLOAD_LEN - data_max(command) + body.len();
            let gap = &payload[end..PAYLOAD_LEN.min(end + 4)];
            prop_assert!(gap.iter().all(|byte| *byte == 0));
        }

        #[test]
        fn any_payload_is_read_without_panic(seed: [u8; 32], head: [u8; 5]) {
            let mut payload: Payload = Rng::from_seed(seed).array();
            payload[16..21].copy_from_slice(&head);
            if let Ok(message) = read(&payload) {
                prop_assert!(message.data.len() <= data_max(message.command));
            }
        }
    }
}
