//! PADDING_NEGOTIATE and PADDING_NEGOTIATED, the relay messages by which a client and a hop agree
//! on a padding machine for a circuit (padding-spec 3.1). The cell of a channel is
//! [`crate::padding`].
//!
//! ```text
//! PADDING_NEGOTIATE   version 1 (0) | command 1 | machine 1 | unused 1  | counter 4
//! PADDING_NEGOTIATED  version 1 (0) | command 1 | answer 1  | machine 1 | counter 4
//! ```
//!
//! The counter says which machine of the circuit is meant, from 1 on; 0 means any. Peers that know
//! no counter leave it out. Messages of another version, command or answer are to be dropped.

use crate::codes::codes;
use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

const VERSION: u8 = 0;
const STOP: u8 = 1;
const START: u8 = 2;
const OK: u8 = 1;
const ERR: u8 = 2;

codes! {
    /// A pair of machines, one at either end, by `tor`'s numbers. Padding-spec 3.1 has another
    /// one; these are what is sent.
    pub struct MachineType(u8) {
        HIDE_INTRO = 0,
        HIDE_REND = 1,
    }
}

/// What is to become of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineCommand {
    /// The machine ends.
    Stop,
    /// The machine begins.
    Start,
}

/// Why a message about padding machines is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CircuitPaddingError {
    /// The message ends too early.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A version other than 0.
    #[error("a padding message of version {0}")]
    Version(u8),
    /// Neither start nor stop.
    #[error("a padding message with command {0}")]
    Command(u8),
    /// Neither yes nor no.
    #[error("a padding message with answer {0}")]
    Answer(u8),
}

/// A client asks a hop to start or stop a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiateMachine {
    /// Whether the machine is to begin or to end.
    pub command: MachineCommand,
    /// The kind of machine.
    pub machine: MachineType,
    /// Which of the circuit's machines is meant, from 1 on; 0: any.
    pub counter: u32,
}

/// A hop answers that, or says that a machine of its own has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineNegotiated {
    /// The command that was asked for, or that has been done.
    pub command: MachineCommand,
    /// Whether it was done.
    pub is_accepted: bool,
    /// The kind of machine.
    pub machine: MachineType,
    /// Which of the circuit's machines is meant, from 1 on; 0: any.
    pub counter: u32,
}

impl MachineCommand {
    fn read(r: &mut Reader<'_>) -> Result<Self, CircuitPaddingError> {
        match r.u8()? {
            VERSION => {}
            version => return Err(CircuitPaddingError::Version(version)),
        }
        match r.u8()? {
            STOP => Ok(MachineCommand::Stop),
            START => Ok(MachineCommand::Start),
            command => Err(CircuitPaddingError::Command(command)),
        }
    }

    fn code(self) -> u8 {
        match self {
            MachineCommand::Stop => STOP,
            MachineCommand::Start => START,
        }
    }
}

/// The counter; 0 where the message has none.
fn read_counter(r: &mut Reader<'_>) -> Result<u32, Truncated> {
    match r.is_empty() {
        true => Ok(0),
        false => r.u32(),
    }
}

impl NegotiateMachine {
    /// Reads the body of a PADDING_NEGOTIATE message.
    pub fn read(data: &[u8]) -> Result<Self, CircuitPaddingError> {
        let mut r = Reader::new(data);
        let command = MachineCommand::read(&mut r)?;
        let machine = MachineType(r.u8()?);
        // Formerly a wish for an echo, which nobody grants.
        r.u8()?;
        Ok(NegotiateMachine {
            command,
            machine,
            counter: read_counter(&mut r)?,
        })
    }

    /// Appends the body of a PADDING_NEGOTIATE message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.bytes(&[VERSION, self.command.code(), self.machine.0, 0]);
        w.u32(self.counter);
    }
}

impl MachineNegotiated {
    /// Reads the body of a PADDING_NEGOTIATED message.
    pub fn read(data: &[u8]) -> Result<Self, CircuitPaddingError> {
        let mut r = Reader::new(data);
        let command = MachineCommand::read(&mut r)?;
        let is_accepted = match r.u8()? {
            OK => true,
            ERR => false,
            answer => return Err(CircuitPaddingError::Answer(answer)),
        };
        Ok(MachineNegotiated {
            command,
            is_accepted,
            machine: MachineType(r.u8()?),
            counter: read_counter(&mut r)?,
        })
    }

    /// Appends the body of a PADDING_NEGOTIATED message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let answer = if self.is_accepted { OK } else { ERR };
        let mut w = Writer::new(out);
        w.bytes(&[VERSION, self.command.code(), answer, self.machine.0]);
        w.u32(self.counter);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    /// What `tor` 0.4.9 sends on the circuit of a visitor's first introduction, and the answer.
    #[test]
    fn bytes_of_tor() {
        let asked = NegotiateMachine {
            command: MachineCommand::Start,
            machine: MachineType::HIDE_INTRO,
            counter: 1,
        };
        let mut bytes = Vec::new();
        asked.write(&mut bytes);
        assert_eq!(bytes, [0, 2, 0, 0, 0, 0, 0, 1]);
        let answer = MachineNegotiated {
            command: MachineCommand::Stop,
            is_accepted: true,
            machine: MachineType::HIDE_REND,
            counter: 2,
        };
        bytes.clear();
        answer.write(&mut bytes);
        assert_eq!(bytes, [0, 1, 1, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn without_a_counter_any_is_meant() {
        let asked = NegotiateMachine::read(&[0, 1, 1, 1]).unwrap();
        assert_eq!(asked.counter, 0);
        assert_eq!(asked.command, MachineCommand::Stop);
        let answer = MachineNegotiated::read(&[0, 2, 2, 1]).unwrap();
        assert_eq!((answer.counter, answer.is_accepted), (0, false));
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        use CircuitPaddingError::{Answer, Command, Version};
        assert_eq!(NegotiateMachine::read(&[1; 8]), Err(Version(1)));
        assert_eq!(NegotiateMachine::read(&[0; 8]), Err(Command(0)));
        assert_eq!(MachineNegotiated::read(&[0, 3, 1, 0]), Err(Command(3)));
        assert_eq!(MachineNegotiated::read(&[0, 2, 0, 0]), Err(Answer(0)));
    }

    proptest! {
        #[test]
        fn written_is_read(start: bool, is_accepted: bool, machine: u8, counter: u32) {
            let command = if start { MachineCommand::Start } else { MachineCommand::Stop };
            let machine = MachineType(machine);
            let asked = NegotiateMachine { command, machine, counter };
            let mut bytes = Vec::new();
            asked.write(&mut bytes);
            prop_assert_eq!(NegotiateMachine::read(&bytes), Ok(asked));
            let answer = MachineNegotiated { command, is_accepted, machine, counter };
            let mut bytes = Vec::new();
            answer.write(&mut bytes);
            prop_assert_eq!(MachineNegotiated::read(&bytes), Ok(answer));
            for len in 0..bytes.len() {
                let is_whole = len == 4;
                prop_assert!(NegotiateMachine::read(&bytes[..len]).is_ok() == is_whole);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = (NegotiateMachine::read(&bytes), MachineNegotiated::read(&bytes));
        }
    }
}
