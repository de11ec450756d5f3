//! The server side of SOCKS 4, 4a and 5 (RFC 1928, RFC 1929, socks-extensions), up to the request.
//!
//! ```text
//!         4: request -------------------------------------> Done
//! Start <                                                    ^
//!         5: methods -> [username and password] -> request --+
//! ```
//!
//! Bytes go in by [`Handshake::handle_bytes`], in pieces of any size. What follows the request is
//! optimistic data and kept for [`Handshake::take_rest`]. All strings are bounded by their length
//! byte or [`STRING_LEN_MAX`]; the answer to a request is made by [`reply()`].

mod reply;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::Host;
use crate::reader::{Reader, Truncated};

pub use reply::{HTTP_REPLY, SocksStatus, reply};

/// Longest NUL-terminated string of SOCKS 4 (user, host name); the protocol sets no bound.
pub const STRING_LEN_MAX: usize = 512;

const METHOD_NONE: u8 = 0x00;
const METHOD_USERNAME: u8 = 0x02;
const METHOD_NO_ACCEPTABLE: u8 = 0xFF;
const VERSION_USERNAME: u8 = 1;

/// Which protocol a request came by, and so which form the reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocksVersion {
    /// SOCKS 4 and 4a.
    V4,
    /// SOCKS 5.
    V5,
}

/// What a SOCKS request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocksCommand {
    /// Open a stream (1).
    Connect,
    /// Look up a name (F0).
    Resolve,
    /// Look up an address; SOCKS 5 only (F1).
    ResolvePtr,
}

/// Where to: `Ip` or `Name`.
pub type SocksAddr = Host;

/// What the client said about itself; streams of different answers share no circuit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocksAuth {
    /// The application has not said who it is.
    None,
    /// User name and password of SOCKS 5, each at most 255 bytes.
    Username(Vec<u8>, Vec<u8>),
    /// User of SOCKS 4, not empty, at most [`STRING_LEN_MAX`] bytes.
    Socks4(Vec<u8>),
}

impl std::fmt::Debug for SocksAuth {
    /// Only the kind: what is in it is the client's secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SocksAuth::None => "None",
            SocksAuth::Username(..) => "Username",
            SocksAuth::Socks4(_) => "Socks4",
        })
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocksRequest {
    /// The protocol, for the reply.
    pub version: SocksVersion,
    /// What the application wants done.
    pub command: SocksCommand,
    /// Where to; for [`SocksCommand::ResolvePtr`] always an address.
    pub address: SocksAddr,
    /// The port; 0 is possible.
    pub port: u16,
    /// Who the application says it is.
    pub auth: SocksAuth,
}

/// What is to be done after some bytes of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Read more bytes.
    NeedMore,
    /// Send these, and call again (with no bytes) before reading more.
    Reply(Vec<u8>),
    /// The request is there.
    Request(SocksRequest),
}

/// Why a handshake fails. [`SocksError::reply`] is to be sent before closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    /// The peer speaks HTTP.
    #[error("an HTTP client on the SOCKS port")]
    Http,
    /// The first byte is no version that we know.
    #[error("SOCKS version {0}")]
    Version(u8),
    /// The client offers no authentication that we take.
    #[error("SOCKS client without an acceptable authentication method")]
    NoMethod,
    /// The user name and password come in an unknown format.
    #[error("SOCKS authentication of version {0}")]
    AuthVersion(u8),
    /// A command that is not supported.
    #[error("SOCKS command {1}")]
    Command(SocksVersion, u8),
    /// An address type that is not known, or not for this command.
    #[error("SOCKS address type")]
    AddressType,
    /// A host name that cannot be one.
    #[error("SOCKS host name")]
    Name(SocksVersion),
    /// A string longer than [`STRING_LEN_MAX`].
    #[error("SOCKS string without an end")]
    StringTooLong,
}

impl SocksError {
    /// What to send before closing; may be nothing.
    #[must_use]
    pub fn reply(&self) -> Vec<u8> {
        use SocksVersion::{V4, V5};
        match self {
            SocksError::Http => HTTP_REPLY.into(),
            SocksError::Version(_) => Vec::new(),
            SocksError::NoMethod => vec![5, METHOD_NO_ACCEPTABLE],
            SocksError::AuthVersion(_) => vec![VERSION_USERNAME, 1],
            SocksError::Command(version, _) => {
                reply(*version, SocksStatus::COMMAND_NOT_SUPPORTED, None)
            }
            SocksError::AddressType => reply(V5, SocksStatus::ADDRESS_TYPE_NOT_SUPPORTED, None),
            SocksError::Name(version) => reply(*version, SocksStatus::GENERAL_FAILURE, None),
            SocksError::StringTooLong => reply(V4, SocksStatus::GENERAL_FAILURE, None),
        }
    }
}

/// Where a handshake stands; see the diagram above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Username,
    Request,
    Done,
}

/// One step's outcome; `Incomplete` leaves the buffer as it was.
enum Step {
    Incomplete,
    Reply(Vec<u8>),
    Request(SocksRequest),
}

/// What stops a step: too few bytes so far, or an error.
enum Stop {
    Incomplete,
    Error(SocksError),
}

impl From<Truncated> for Stop {
    fn from(_: Truncated) -> Self {
        Stop::Incomplete
    }
}

impl From<SocksError> for Stop {
    fn from(error: SocksError) -> Self {
        Stop::Error(error)
    }
}

/// The server side of one SOCKS handshake.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    buffer: Vec<u8>,
    auth: SocksAuth,
}

impl Default for Handshake {
    fn default() -> Self {
        Handshake::new()
    }
}

impl Handshake {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Handshake {
            state: State::Start,
            buffer: Vec::new(),
            auth: SocksAuth::None,
        }
    }

    /// Takes bytes of the client's. After [`Progress::Request`] more bytes only join the rest, and
    /// the answer is [`Progress::NeedMore`]; after an error the connection is to be closed.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Progress, SocksError> {
        self.buffer.extend_from_slice(bytes);
        match self.step()? {
            Step::Incomplete => Ok(Progress::NeedMore),
            Step::Reply(bytes) => Ok(Progress::Reply(bytes)),
            Step::Request(request) => Ok(Progress::Request(request)),
        }
    }

    /// The bytes after the request: optimistic data for the stream.
    #[must_use]
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Tries to take one message off the front of the buffer.
    fn step(&mut self) -> Result<Step, SocksError> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut r = Reader::new(&buffer);
        let outcome = match (self.state, buffer.first()) {
            (State::Done, _) | (_, None) => Err(Stop::Incomplete),
            (State::Start, Some(4)) => self.step_socks4(&mut r),
            (State::Start, Some(5)) => self.step_methods(&mut r),
            (State::Start, Some(b'G' | b'H' | b'P' | b'C')) => Err(SocksError::Http.into()),
            (State::Username, Some(_)) => self.step_username(&mut r),
            // Some clients send the user name although none was asked for (socks-extensions 1.1).
            (State::Request, Some(&VERSION_USERNAME)) => self.step_username(&mut r),
            (State::Request, Some(5)) => self.step_request(&mut r),
            (State::Start | State::Request, Some(version)) => {
                Err(SocksError::Version(*version).into())
            }
        };
        match outcome {
            Ok(step) => {
                self.buffer = r.rest().to_vec();
                Ok(step)
            }
            Err(Stop::Incomplete) => {
                self.buffer = buffer;
                Ok(Step::Incomplete)
            }
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// SOCKS 4: version | command | port 2 | IPv4 4 | user NUL | (4a: host NUL).
    fn step_socks4(&mut self, r: &mut Reader<'_>) -> Result<Step, Stop> {
        r.u8()?;
        let command = match r.u8()? {
            0x01 => SocksCommand::Connect,
            0xF0 => SocksCommand::Resolve,
            other => return Err(SocksError::Command(SocksVersion::V4, other).into()),
        };
        let port = r.u16()?;
        let octets = r.array::<4>()?;
        let user = take_string(r)?.to_vec();
        let address = match octets {
            [0, 0, 0, 1..=u8::MAX] => parse_name(take_string(r)?, SocksVersion::V4)?,
            octets => Host::Ip(Ipv4Addr::from(octets).into()),
        };
        let auth = if user.is_empty() {
            SocksAuth::None
        } else {
            SocksAuth::Socks4(user)
        };
        self.state = State::Done;
        let version = SocksVersion::V4;
        Ok(Step::Request(SocksRequest {
            version,
            command,
            address,
            port,
            auth,
        }))
    }

    /// SOCKS 5: version | count | method (count). A user name is preferred, since it isolates.
    fn step_methods(&mut self, r: &mut Reader<'_>) -> Result<Step, Stop> {
        r.u8()?;
        let count = r.u8()?;
        let methods = r.take(count.into())?;
        let (method, state) = if methods.contains(&METHOD_USERNAME) {
            (METHOD_USERNAME, State::Username)
        } else if methods.contains(&METHOD_NONE) {
            (METHOD_NONE, State::Request)
        } else {
            return Err(SocksError::NoMethod.into());
        };
        self.state = state;
        Ok(Step::Reply(vec![5, method]))
    }

    /// SOCKS 5: version 1 | length | user | length | password. Both may be empty.
    fn step_username(&mut self, r: &mut Reader<'_>) -> Result<Step, Stop> {
        let version = r.u8()?;
        if version != VERSION_USERNAME {
            return Err(SocksError::AuthVersion(version).into());
        }
        let user_len = r.u8()?;
        let user = r.take(user_len.into())?.to_vec();
        let password_len = r.u8()?;
        let password = r.take(password_len.into())?.to_vec();
        self.auth = SocksAuth::Username(user, password);
        self.state = State::Request;
        Ok(Step::Reply(vec![VERSION_USERNAME, 0]))
    }

    /// SOCKS 5: version | command | 0 | address type | address | port 2.
    fn step_request(&mut self, r: &mut Reader<'_>) -> Result<Step, Stop> {
        r.u8()?;
        let command = match r.u8()? {
            0x01 => SocksCommand::Connect,
            0xF0 => SocksCommand::Resolve,
            0xF1 => SocksCommand::ResolvePtr,
            other => return Err(SocksError::Command(SocksVersion::V5, other).into()),
        };
        r.u8()?;
        let address = match r.u8()? {
            1 => Host::Ip(IpAddr::from(Ipv4Addr::from(r.array::<4>()?))),
            3 => {
                let len = r.u8()?;
                parse_name(r.take(len.into())?, SocksVersion::V5)?
            }
            4 => Host::Ip(IpAddr::from(Ipv6Addr::from(r.array::<16>()?))),
            _ => return Err(SocksError::AddressType.into()),
        };
        let port = r.u16()?;
        if command == SocksCommand::ResolvePtr && matches!(address, Host::Name(_)) {
            return Err(SocksError::AddressType.into());
        }
        self.state = State::Done;
        let auth = std::mem::replace(&mut self.auth, SocksAuth::None);
        let version = SocksVersion::V5;
        Ok(Step::Request(SocksRequest {
            version,
            command,
            address,
            port,
            auth,
        }))
    }
}

/// A NUL-terminated string.
fn take_string<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Stop> {
    let len = r.len();
    match r.until_nul() {
        Ok(text) if text.len() <= STRING_LEN_MAX => Ok(text),
        Err(Truncated) if len <= STRING_LEN_MAX => Err(Stop::Incomplete),
        _ => Err(SocksError::StringTooLong.into()),
    }
}

/// A host name (or the text of an address) that is not empty.
fn parse_name(text: &[u8], version: SocksVersion) -> Result<Host, Stop> {
    let host = Host::parse(text).ok().filter(|_| !text.is_empty());
    host.ok_or(Stop::Error(SocksError::Name(version)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces of `piece` bytes; gives all replies and the request.
    fn run(
        handshake: &mut Handshake,
        bytes: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, Option<SocksRequest>), SocksError> {
        let (mut replies, mut request) = (Vec::new(), None);
        for piece in bytes.chunks(piece) {
            let mut progress = handshake.handle_bytes(piece)?;
            loop {
                match progress {
                    Progress::NeedMore => break,
                    Progress::Reply(bytes) => replies.extend(bytes),
                    Progress::Request(got) => request = Some(got),
                }
                progress = handshake.handle_bytes(&[])?;
            }
        }
        Ok((replies, request))
    }

    fn error(bytes: &[u8]) -> SocksError {
        run(&mut Handshake::new(), bytes, 1000).unwrap_err()
    }

    #[test]
    fn socks5_with_user_name_in_any_pieces() {
        let bytes =
            b"\x05\x02\x00\x02\x01\x04user\x02pw\x05\x01\x00\x03\x0bexample.com\x01\xbbGET /";
        for piece in 1..=bytes.len() {
            let mut handshake = Handshake::new();
            let (replies, request) = run(&mut handshake, bytes, piece).unwrap();
            assert_eq!(replies, [5, 2, 1, 0]);
            let request = request.unwrap();
            assert_eq!(request.version, SocksVersion::V5);
            assert_eq!(request.command, SocksCommand::Connect);
            assert_eq!(request.address, SocksAddr::Name("example.com".into()));
            assert_eq!(request.port, 443);
            assert_eq!(
                request.auth,
                SocksAuth::Username(b"user".to_vec(), b"pw".to_vec())
            );
            assert_eq!(format!("{:?}", request.auth), "Username");
            assert_eq!(handshake.take_rest(), b"GET /");
        }
    }

    #[test]
    fn socks5_without_authentication() {
        let mut handshake = Handshake::new();
        let bytes = [5, 1, 0, 5, 0xF1, 0, 1, 1, 2, 3, 4, 0, 0];
        let (replies, request) = run(&mut handshake, &bytes, 1).unwrap();
        let request = request.unwrap();
        assert_eq!(replies, [5, 0]);
        assert_eq!(request.command, SocksCommand::ResolvePtr);
        assert_eq!(request.address, SocksAddr::Ip([1, 2, 3, 4].into()));
        assert_eq!(request.auth, SocksAuth::None);

        let v6 = [&[5, 1, 0, 5, 0xF0, 0, 4][..], &[0; 15], &[1, 0, 80]].concat();
        let (_, request) = run(&mut Handshake::new(), &v6, 3).unwrap();
        assert_eq!(
            request.unwrap().address,
            SocksAddr::Ip("::1".parse().unwrap())
        );
    }

    #[test]
    fn user_name_that_was_not_asked_for() {
        let bytes = [5, 1, 0, 1, 0, 0, 5, 1, 0, 1, 1, 2, 3, 4, 0, 80];
        let (replies, request) = run(&mut Handshake::new(), &bytes, 100).unwrap();
        assert_eq!(replies, [5, 0, 1, 0]);
        assert_eq!(request.unwrap().auth, SocksAuth::Username(vec![], vec![]));
    }

    #[test]
    fn socks4_and_4a() {
        let (replies, request) = run(
            &mut Handshake::new(),
            b"\x04\x01\x00\x50\x01\x02\x03\x04me\0",
            1,
        )
        .unwrap();
        let request = request.unwrap();
        assert_eq!((replies.len(), request.version), (0, SocksVersion::V4));
        assert_eq!(request.address, SocksAddr::Ip([1, 2, 3, 4].into()));
        assert_eq!(request.auth, SocksAuth::Socks4(b"me".to_vec()));

        let mut handshake = Handshake::new();
        let bytes = b"\x04\xF0\x00\x00\x00\x00\x00\x01\0example.onion\0rest";
        let (_, request) = run(&mut handshake, bytes, 5).unwrap();
        let request = request.unwrap();
        assert_eq!(request.command, SocksCommand::Resolve);
        assert_eq!(request.address, SocksAddr::Name("example.onion".into()));
        assert_eq!(request.auth, SocksAuth::None);
        assert_eq!(handshake.take_rest(), b"rest");
    }

    #[test]
    fn errors_and_their_replies() {
        assert_eq!(error(b"GET / HTTP/1.0\r\n"), SocksError::Http);
        assert!(SocksError::Http.reply().starts_with(b"HTTP/1.0 501 "));
        assert_eq!(error(&[3]), SocksError::Version(3));
        assert_eq!(error(&[5, 1, 1]), SocksError::NoMethod);
        assert_eq!(SocksError::NoMethod.reply(), [5, 0xFF]);
        assert_eq!(error(&[5, 1, 2, 5]), SocksError::AuthVersion(5));
        let bind = error(&[5, 1, 0, 5, 2]);
        assert_eq!(bind, SocksError::Command(SocksVersion::V5, 2));
        assert_eq!(bind.reply()[..4], [5, 7, 0, 1]);
        let bind = error(&[4, 2]);
        assert_eq!(bind.reply(), [0, 0x5B, 0, 0, 0, 0, 0, 0]);
        assert_eq!(error(&[5, 1, 0, 5, 1, 0, 9]), SocksError::AddressType);
        assert_eq!(
            error(b"\x05\x01\x00\x05\xF1\x00\x03\x01a\0\0"),
            SocksError::AddressType
        );
        let name = SocksError::Name(SocksVersion::V5);
        assert_eq!(error(b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50"), name);
        assert_eq!(error(b"\x05\x01\x00\x05\x01\x00\x03\x03a\nb\x00\x50"), name);
    }

    #[test]
    fn strings_are_bounded() {
        let start = [4, 1, 0, 80, 1, 2, 3, 4];
        let user = |len| [&start[..], &vec![b'a'; len]].concat();
        let mut handshake = Handshake::new();
        assert_eq!(
            handshake.handle_bytes(&user(STRING_LEN_MAX)),
            Ok(Progress::NeedMore)
        );
        assert_eq!(handshake.handle_bytes(b"a"), Err(SocksError::StringTooLong));
        let whole = [user(STRING_LEN_MAX), vec![0]].concat();
        assert!(
            run(&mut Handshake::new(), &whole, 1000)
                .unwrap()
                .1
                .is_some()
        );
        assert_eq!(
            error(&[user(STRING_LEN_MAX + 1), vec![0]].concat()),
            SocksError::StringTooLong
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(
            start in prop::sample::select(vec![vec![], vec![4], vec![5, 1, 0], vec![5, 1, 2, 1]]),
            tail in prop::collection::vec(any::<u8>(), 0..600),
            piece in 1_usize..600,
        ) {
            let bytes = [start, tail].concat();
            let mut handshake = Handshake::new();
            let in_pieces = run(&mut handshake, &bytes, piece).map(|(_, request)| request);
            let at_once = run(&mut Handshake::new(), &bytes, 1000).map(|(_, request)| request);
            prop_assert_eq!(in_pieces, at_once);
        }
    }
}
