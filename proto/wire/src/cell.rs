//! Cells, the unit of a channel (tor-spec 3).
//!
//! ```text
//! fixed:    circuit id 4 | command 1 | payload 509                 = 514 bytes
//! variable: circuit id 4 | command 1 | length 2 | body (length)
//! ```
//!
//! Link protocols below 4 are not spoken, so a circuit id has four bytes; only before the VERSIONS
//! cells have crossed it has two, and then only variable cells may come. Fixed cells stay arrays
//! and are read and changed in place; cells are found in a byte buffer without a copy.

use crate::codes::codes;
use crate::writer::{TooLong, Writer};

/// Bytes of a fixed cell.
pub const CELL_LEN: usize = 514;
/// Bytes before the payload of a fixed cell.
pub const CELL_HEADER_LEN: usize = 5;
/// Bytes of the payload of a fixed cell.
pub const PAYLOAD_LEN: usize = 509;
/// Longest body of a variable cell: all that its length field can say (tor-spec 3). Peers set no
/// tighter bound, so a channel's read buffer must hold this and a header.
pub const VARIABLE_BODY_LEN_MAX: usize = u16::MAX as usize;
/// Most bytes that [`split_cell`] can ask for before it finds a cell.
pub const ANY_CELL_LEN_MAX: usize = VARIABLE_BODY_LEN_MAX + 7;

/// A fixed cell as it is on the wire.
pub type CellBuf = [u8; CELL_LEN];
/// The payload of a fixed cell.
pub type Payload = [u8; PAYLOAD_LEN];

/// Names a circuit on one channel; 0 is the channel itself (tor-spec 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CircId(pub u32);

impl CircId {
    /// The id in cells that belong to no circuit: 0.
    pub const NONE: CircId = CircId(0);
    /// The bit that is set in the ids chosen by the side that opened the channel (tor-spec 5.1.1).
    pub const INITIATOR_BIT: u32 = 0x8000_0000;

    /// True if the side that opened the channel chose this id.
    #[must_use]
    pub fn is_of_initiator(self) -> bool {
        self.0 & Self::INITIATOR_BIT != 0
    }
}

codes! {
    /// The command of a cell (tor-spec 3).
    pub struct Command(u8) {
        PADDING = 0,
        CREATE = 1,
        CREATED = 2,
        RELAY = 3,
        DESTROY = 4,
        CREATE_FAST = 5,
        CREATED_FAST = 6,
        VERSIONS = 7,
        NETINFO = 8,
        RELAY_EARLY = 9,
        CREATE2 = 10,
        CREATED2 = 11,
        PADDING_NEGOTIATE = 12,
        VPADDING = 128,
        CERTS = 129,
        AUTH_CHALLENGE = 130,
        AUTHENTICATE = 131,
        AUTHORIZE = 132,
    }
}

impl Command {
    /// True for commands of variable cells: VERSIONS and all from 128 on.
    #[must_use]
    pub fn is_variable(self) -> bool {
        self == Command::VERSIONS || self.0 >= 128
    }

    /// True for what may come before the VERSIONS cell has (tor-spec 4).
    #[must_use]
    pub fn is_before_versions(self) -> bool {
        matches!(
            self,
            Command::VERSIONS | Command::VPADDING | Command::AUTHORIZE
        )
    }
}

/// The circuit id of a fixed cell.
#[must_use]
pub fn circ_id(cell: &CellBuf) -> CircId {
    let [a, b, c, d, ..] = *cell;
    CircId(u32::from_be_bytes([a, b, c, d]))
}

/// The command of a fixed cell.
#[must_use]
pub fn command(cell: &CellBuf) -> Command {
    Command(cell[4])
}

/// The payload of a fixed cell.
#[must_use]
pub fn payload(cell: &CellBuf) -> &Payload {
    cell.last_chunk()
        .expect("a cell is longer than its payload")
}

/// The payload of a fixed cell, to be changed in place.
#[must_use]
pub fn payload_mut(cell: &mut CellBuf) -> &mut Payload {
    cell.last_chunk_mut()
        .expect("a cell is longer than its payload")
}

/// Sets the circuit id and the command of a fixed cell.
pub fn set_header(cell: &mut CellBuf, circ_id: CircId, command: Command) {
    let [a, b, c, d] = circ_id.0.to_be_bytes();
    cell[..CELL_HEADER_LEN].copy_from_slice(&[a, b, c, d, command.0]);
}

/// A fixed cell with this header and a payload of zeros.
#[must_use]
pub fn new_cell(circ_id: CircId, command: Command) -> CellBuf {
    let mut cell = [0; CELL_LEN];
    set_header(&mut cell, circ_id, command);
    cell
}

/// Bytes of a circuit id: two before VERSIONS, four after (tor-spec 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircIdLen {
    /// Up to and including the first VERSIONS cell of a direction.
    Two,
    /// Four bytes, once VERSIONS have crossed.
    Four,
}

impl CircIdLen {
    fn bytes(self) -> usize {
        match self {
            CircIdLen::Two => 2,
            CircIdLen::Four => 4,
        }
    }
}

/// Why no cell can be found; the consequence is to close the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// Only VERSIONS, VPADDING and AUTHORIZE may come first (tor-spec 4).
    #[error("cell {0} came before VERSIONS")]
    BeforeVersions(Command),
}

/// A variable cell, borrowed from the bytes that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VariableCell<'a> {
    /// The circuit id; 0 in every variable cell that is defined so far.
    pub circ_id: CircId,
    /// The command of the cell.
    pub command: Command,
    /// The body; at most [`VARIABLE_BODY_LEN_MAX`] bytes.
    pub body: &'a [u8],
}

/// A cell, borrowed from the bytes that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellRef<'a> {
    /// A fixed cell.
    Fixed(&'a CellBuf),
    /// A variable cell.
    Variable(VariableCell<'a>),
}

/// As [`CellRef`], for decryption in place.
#[derive(Debug, PartialEq, Eq)]
pub enum CellMut<'a> {
    /// A fixed cell.
    Fixed(&'a mut CellBuf),
    /// A variable cell.
    Variable(VariableCell<'a>),
}

/// What the first bytes of a buffer say about the cell there.
enum Extent {
    Fixed,
    Variable {
        circ_id: CircId,
        command: Command,
        header_len: usize,
        len: usize,
    },
}

/// Reads the header at the front of `buf`; `None` if there is not enough of it yet.
fn extent(buf: &[u8], circ_id_len: CircIdLen) -> Result<Option<Extent>, CellError> {
    let id_len = circ_id_len.bytes();
    let Some((id, rest)) = buf.split_at_checked(id_len) else {
        return Ok(None);
    };
    let Some((command, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let command = Command(*command);
    if circ_id_len == CircIdLen::Two && !command.is_before_versions() {
        return Err(CellError::BeforeVersions(command));
    }
    if !command.is_variable() {
        return Ok(Some(Extent::Fixed));
    }
    let Some((len, _)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let circ_id = CircId(id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte)));
    let header_len = id_len + 3;
    let len = header_len + usize::from(u16::from_be_bytes(*len));
    Ok(Some(Extent::Variable {
        circ_id,
        command,
        header_len,
        len,
    }))
}

/// Finds the cell at the front of `buf`, and says how many bytes it takes. `None`: more bytes are
/// needed (never more than [`ANY_CELL_LEN_MAX`]).
pub fn split_cell(
    buf: &[u8],
    circ_id_len: CircIdLen,
) -> Result<Option<(CellRef<'_>, usize)>, CellError> {
    Ok(match extent(buf, circ_id_len)? {
        None => None,
        Some(Extent::Fixed) => buf
            .first_chunk()
            .map(|cell| (CellRef::Fixed(cell), CELL_LEN)),
        Some(Extent::Variable {
            circ_id,
            command,
            header_len,
            len,
        }) => {
            let body = buf.get(header_len..len);
            body.map(|body| {
                (
                    CellRef::Variable(VariableCell {
                        circ_id,
                        command,
                        body,
                    }),
                    len,
                )
            })
        }
    })
}

/// As [`split_cell`], with the cell open to change in place. Only for after VERSIONS.
pub fn split_cell_mut(buf: &mut [u8]) -> Option<(CellMut<'_>, usize)> {
    // Before VERSIONS is the only case that errs.
    match extent(buf, CircIdLen::Four).ok()?? {
        Extent::Fixed => buf
            .first_chunk_mut()
            .map(|cell| (CellMut::Fixed(cell), CELL_LEN)),
        Extent::Variable {
            circ_id,
            command,
            header_len,
            len,
        } => {
            let body = buf.get(header_len..len);
            body.map(|body| {
                (
                    CellMut::Variable(VariableCell {
                        circ_id,
                        command,
                        body,
                    }),
                    len,
                )
            })
        }
    }
}

/// Appends a variable cell. [`TooLong`] beyond [`VARIABLE_BODY_LEN_MAX`]; then nothing is added.
pub fn write_variable(
    out: &mut Vec<u8>,
    circ_id_len: CircIdLen,
    command: Command,
    body: &[u8],
) -> Result<(), TooLong> {
    debug_assert!(command.is_variable(), "not a variable command");
    if body.len() > VARIABLE_BODY_LEN_MAX {
        return Err(TooLong);
    }
    let mut w = Writer::new(out);
    w.bytes(&[0; 4][..circ_id_len.bytes()]);
    w.u8(command.0);
    w.u16_prefixed(body)
}

/// Walks the whole cells at the front of a buffer, without a copy.
#[derive(Debug, Clone)]
pub struct CellReader<'a> {
    rest: &'a [u8],
    consumed: usize,
}

impl<'a> CellReader<'a> {
    /// Starts at the front of `buf`.
    #[must_use]
    pub fn new(buf: &'a [u8]) -> Self {
        CellReader {
            rest: buf,
            consumed: 0,
        }
    }

    /// The next whole cell; `None` when what is left is no whole cell. The length of the circuit id
    /// is asked each time, since it changes after the first VERSIONS cell.
    pub fn next_cell(&mut self, circ_id_len: CircIdLen) -> Result<Option<CellRef<'a>>, CellError> {
        let Some((cell, len)) = split_cell(self.rest, circ_id_len)? else {
            return Ok(None);
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        self.consumed += len;
        Ok(Some(cell))
    }

    /// Bytes of the cells given out so far: what may be dropped from the front of the buffer.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_in_place() {
        let mut cell = new_cell(CircId(0x8000_0102), Command::RELAY);
        payload_mut(&mut cell)[0] = 7;
        assert_eq!(cell[..6], [0x80, 0, 1, 2, 3, 7]);
        assert_eq!(circ_id(&cell), CircId(0x8000_0102));
        assert!(circ_id(&cell).is_of_initiator());
        assert_eq!(command(&cell), Command::RELAY);
        assert_eq!(payload(&cell)[0], 7);
        assert_eq!(Command::RELAY_EARLY.to_string(), "RELAY_EARLY");
        assert_eq!(Command(99).to_string(), "99");
    }

    #[test]
    fn a_handshake_in_one_buffer() {
        let mut buf = Vec::new();
        let versions = [0, 4, 0, 5];
        write_variable(&mut buf, CircIdLen::Two, Command::VERSIONS, &versions).unwrap();
        assert_eq!(buf, [0, 0, 7, 0, 4, 0, 4, 0, 5]);
        write_variable(&mut buf, CircIdLen::Four, Command::CERTS, &[0]).unwrap();
        buf.extend(new_cell(CircId(0), Command::NETINFO));
        buf.push(0);

        let mut cells = CellReader::new(&buf);
        let Some(CellRef::Variable(cell)) = cells.next_cell(CircIdLen::Two).unwrap() else {
            panic!("VERSIONS is a variable cell");
        };
        assert_eq!(
            (cell.command, cell.body),
            (Command::VERSIONS, &versions[..])
        );
        let Some(CellRef::Variable(cell)) = cells.next_cell(CircIdLen::Four).unwrap() else {
            panic!("CERTS is a variable cell");
        };
        assert_eq!((cell.command, cell.body), (Command::CERTS, &[0][..]));
        let Some(CellRef::Fixed(cell)) = cells.next_cell(CircIdLen::Four).unwrap() else {
            panic!("NETINFO is a fixed cell");
        };
        assert_eq!(command(cell), Command::NETINFO);
        assert_eq!(cells.next_cell(CircIdLen::Four), Ok(None));
        assert_eq!(cells.consumed(), buf.len() - 1);
    }

    #[test]
    fn fixed_cells_before_versions_are_refused() {
        let error = Err(CellError::BeforeVersions(Command::NETINFO));
        assert_eq!(split_cell(&[0, 0, 8], CircIdLen::Two), error);
        assert_eq!(split_cell(&[0, 0], CircIdLen::Two), Ok(None));
        assert_eq!(split_cell(&[0, 0, 128, 0, 1], CircIdLen::Two), Ok(None));
    }

    #[test]
    fn variable_bodies_are_bounded_by_their_length_field() {
        let mut out = Vec::new();
        let body = vec![0; VARIABLE_BODY_LEN_MAX + 1];
        let result = write_variable(&mut out, CircIdLen::Four, Command::VPADDING, &body);
        assert_eq!((result, out.len()), (Err(TooLong), 0));
        let body = &body[..VARIABLE_BODY_LEN_MAX];
        write_variable(&mut out, CircIdLen::Four, Command::VPADDING, body).unwrap();
        assert_eq!(out.len(), ANY_CELL_LEN_MAX);
        assert!(split_cell(&out, CircIdLen::Four).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn both_splits_agree_and_wait_for_whole_cells(
            id: u32, command: u8, body in prop::collection::vec(any::<u8>(), 0..700), cut: usize,
        ) {
            let command = Command(command);
            let mut buf = id.to_be_bytes().to_vec();
            buf.push(command.0);
            if command.is_variable() {
                buf.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            }
            buf.extend(&body);
            if !command.is_variable() {
                buf.resize(CELL_LEN, 0);
            }
            let (cell, len) = split_cell(&buf, CircIdLen::Four).unwrap().unwrap();
            prop_assert_eq!(len, buf.len());
            match cell {
                CellRef::Fixed(cell) => prop_assert_eq!(super::command(cell), command),
                CellRef::Variable(cell) => prop_assert_eq!(cell.body, &body[..]),
            }
            let mut copy = buf.clone();
            let (_, len) = split_cell_mut(&mut copy).unwrap();
            prop_assert_eq!(len, buf.len());
            let cut = cut % buf.len();
            prop_assert_eq!(split_cell(&buf[..cut], CircIdLen::Four), Ok(None));
            prop_assert_eq!(split_cell_mut(&mut copy[..cut]), None);
        }
    }
}
