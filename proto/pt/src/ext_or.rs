//! What a transport says to the relay that started it before it hands a client on: the Extended
//! ORPort (ext-orport-spec).
//!
//! ```text
//! relay                                transport
//!   which ways there are to prove it ─▶
//!                                     ◀─ SAFE_COOKIE, a nonce
//!   a hash of the cookie, a nonce    ─▶
//!                                     ◀─ another hash of it
//!   that it is right                 ─▶
//!                                     ◀─ USERADDR, TRANSPORT, DONE
//!   OKAY, or DENY                    ─▶   then all is the client's
//! ```
//!
//! Whoever reads asks [`Conversation::needs`] for how many bytes come next, so that none of the
//! client's are read too early.

use std::net::SocketAddr;

use cepa_crypto::Rng;
use cepa_crypto::digest::{ct_eq, hmac_sha256};
use zeroize::Zeroizing;

use crate::name::TransportName;

/// What stands in the cookie's file before the cookie (section 3.1.1).
const FILE_HEADER: &[u8; 32] = b"! Extended ORPort Auth Cookie !\n";
/// Bytes of a cookie, of a nonce and of a hash.
const LEN: usize = 32;
const SERVER_TEXT: &[u8] = b"ExtORPort authentication server-to-client hash";
const CLIENT_TEXT: &[u8] = b"ExtORPort authentication client-to-server hash";

/// The only way to prove who one is, and the end of their list.
const SAFE_COOKIE: u8 = 1;
const WAYS: [u8; 2] = [SAFE_COOKIE, 0];
/// Whether the proof was right.
const RIGHT: u8 = 1;
const WRONG: u8 = 0;

const DONE: u16 = 0x0000;
const USERADDR: u16 = 0x0001;
const TRANSPORT: u16 = 0x0002;

/// The client is let in: what comes from here on is his.
pub const OKAY: [u8; 4] = [0x10, 0x00, 0, 0];
/// He is not.
pub const DENY: [u8; 4] = [0x10, 0x01, 0, 0];

/// Messages before DONE, at most; there are two of any meaning.
const MESSAGES_MAX: usize = 32;
/// The longest address or name of a transport, in bytes.
const WORD_LEN_MAX: usize = 128;

/// What both the relay and its transports know.
pub struct ExtOrCookie(Zeroizing<[u8; LEN]>);

impl ExtOrCookie {
    /// A fresh one.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Self {
        ExtOrCookie(Zeroizing::new(rng.array()))
    }

    /// What is written to its file.
    #[must_use]
    pub fn file(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LEN));
        bytes.extend_from_slice(FILE_HEADER);
        bytes.extend_from_slice(self.0.as_slice());
        bytes
    }

    fn hash(&self, text: &[u8], client: &[u8], server: &[u8]) -> [u8; LEN] {
        let message = [text, client, server].concat();
        hmac_sha256(self.0.as_slice(), &message)
    }
}

impl std::fmt::Debug for ExtOrCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExtOrCookie")
    }
}

/// Whom a transport hands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtOrClient {
    /// Where he comes from, if the transport says it.
    pub addr: Option<SocketAddr>,
    /// By which transport.
    pub transport: Option<TransportName>,
}

/// Why a conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtOrError {
    /// It chose a way that was not offered.
    #[error("it proves who it is in a way that was not offered")]
    UnknownWay,
    /// What it said of its client is no address.
    #[error("what it says of the client is no address")]
    BadAddress,
    /// What it said of itself is no name.
    #[error("what it says of itself is no name of a transport")]
    BadTransport,
    /// It said too much before DONE.
    #[error("it says too much")]
    TooMany,
}

/// What becomes of what was read.
#[derive(Debug, PartialEq, Eq)]
pub enum ExtOrStep {
    /// This is answered, if it is anything, and more is read.
    Reply(Vec<u8>),
    /// It does not know the cookie: this is answered, and that is the end.
    Refused([u8; 1]),
    /// It hands on a client: [`OKAY`] or [`DENY`] is answered.
    Done(ExtOrClient),
}

enum State {
    Way,
    Nonce,
    Proof(Zeroizing<[u8; LEN]>),
    Head,
    Body(u16, usize),
}

/// A conversation with one transport about one client.
pub struct Conversation {
    state: State,
    client: ExtOrClient,
    messages: usize,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Conversation {
    /// A new one, and what is said first.
    #[must_use]
    pub fn begin() -> (Self, [u8; 2]) {
        let conversation = Conversation {
            state: State::Way,
            client: ExtOrClient::default(),
            messages: 0,
        };
        (conversation, WAYS)
    }

    /// How many bytes are to be read next; never more than a message may have.
    #[must_use]
    pub fn needs(&self) -> usize {
        match self.state {
            State::Way => 1,
            State::Nonce | State::Proof(_) => LEN,
            State::Head => 4,
            State::Body(_, len) => len,
        }
    }

    /// Takes these bytes, as many as [`Conversation::needs`] says.
    ///
    /// # Errors
    /// Why the connection is to be closed without a word.
    pub fn handle(
        &mut self,
        bytes: &[u8],
        cookie: &ExtOrCookie,
        rng: &mut Rng,
    ) -> Result<ExtOrStep, ExtOrError> {
        let nothing = ExtOrStep::Reply(Vec::new());
        match std::mem::replace(&mut self.state, State::Head) {
            State::Way if bytes == [SAFE_COOKIE] => self.state = State::Nonce,
            State::Way => return Err(ExtOrError::UnknownWay),
            State::Nonce => {
                let nonce: [u8; LEN] = rng.array();
                let mut reply = cookie.hash(SERVER_TEXT, bytes, &nonce).to_vec();
                reply.extend_from_slice(&nonce);
                let proof = cookie.hash(CLIENT_TEXT, bytes, &nonce);
                self.state = State::Proof(Zeroizing::new(proof));
                return Ok(ExtOrStep::Reply(reply));
            }
            State::Proof(proof) if ct_eq(proof.as_slice(), bytes) => {
                return Ok(ExtOrStep::Reply(vec![RIGHT]));
            }
            State::Proof(_) => return Ok(ExtOrStep::Refused([WRONG])),
            State::Head => {
                let (command, len) = match *bytes {
                    [a, b, c, d] => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
                    _ => return Ok(nothing),
                };
                self.messages += 1;
                match (command, len) {
                    (DONE, 0) => return Ok(ExtOrStep::Done(std::mem::take(&mut self.client))),
                    _ if self.messages > MESSAGES_MAX => return Err(ExtOrError::TooMany),
                    (_, 0) => self.take(command, &[])?,
                    (_, len) => self.state = State::Body(command, len.into()),
                }
            }
            State::Body(DONE, _) => {
                return Ok(ExtOrStep::Done(std::mem::take(&mut self.client)));
            }
            State::Body(command, _) => self.take(command, bytes)?,
        }
        Ok(nothing)
    }

    /// Takes a message; those that are not known say nothing.
    fn take(&mut self, command: u16, body: &[u8]) -> Result<(), ExtOrError> {
        let word = std::str::from_utf8(body).ok();
        let word = word.filter(|word| word.len() <= WORD_LEN_MAX);
        match command {
            USERADDR => {
                let addr = word.and_then(|word| word.parse().ok());
                self.client.addr = Some(addr.ok_or(ExtOrError::BadAddress)?);
            }
            TRANSPORT => {
                let name = word.and_then(|word| word.parse().ok());
                self.client.transport = Some(name.ok_or(ExtOrError::BadTransport)?);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::Rng;
    use proptest::prelude::*;

    use super::*;

    fn rng() -> Rng {
        Rng::from_seed([7; 32])
    }

    fn message(command: u16, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap();
        [&command.to_be_bytes()[..], &len.to_be_bytes(), body].concat()
    }

    /// Says all of it, as much at a time as is asked for; gives all replies, and the end.
    fn say(
        conversation: &mut Conversation,
        cookie: &ExtOrCookie,
        mut bytes: &[u8],
    ) -> (Vec<u8>, Option<Result<ExtOrStep, ExtOrError>>) {
        let (mut replies, mut rng) = (Vec::new(), rng());
        while let Some((next, rest)) = bytes.split_at_checked(conversation.needs()) {
            bytes = rest;
            match conversation.handle(next, cookie, &mut rng) {
                Ok(ExtOrStep::Reply(reply)) => replies.extend(reply),
                end => return (replies, Some(end)),
            }
        }
        (replies, None)
    }

    /// A conversation whose transport has proved that it knows the cookie.
    fn proved(cookie: &ExtOrCookie) -> Conversation {
        let (mut conversation, ways) = Conversation::begin();
        assert_eq!(ways, [1, 0]);
        let nonce = [3; 32];
        let (reply, _) = say(&mut conversation, cookie, &[&[1][..], &nonce].concat());
        let (hash, server) = reply.split_at(32);
        assert_eq!(hash, cookie.hash(SERVER_TEXT, &nonce, server));
        let proof = cookie.hash(CLIENT_TEXT, &nonce, server);
        assert_eq!(say(&mut conversation, cookie, &proof), (vec![1], None));
        conversation
    }

    #[test]
    fn a_transport_says_whom_it_hands_on() {
        let cookie = ExtOrCookie::generate(&mut rng());
        assert_eq!(cookie.file().len(), 64);
        assert!(
            cookie
                .file()
                .starts_with(b"! Extended ORPort Auth Cookie !\n")
        );
        let mut conversation = proved(&cookie);
        let said = [
            message(USERADDR, b"[2001:db8::7]:4000"),
            message(0x77, &[0; 300]),
            message(TRANSPORT, b"obfs4"),
            message(DONE, b""),
        ];
        let (replies, end) = say(&mut conversation, &cookie, &said.concat());
        let client = ExtOrClient {
            addr: Some("[2001:db8::7]:4000".parse().unwrap()),
            transport: Some("obfs4".parse().unwrap()),
        };
        assert_eq!((replies, end), (vec![], Some(Ok(ExtOrStep::Done(client)))));
    }

    #[test]
    fn who_does_not_know_the_cookie_is_refused() {
        let cookie = ExtOrCookie::generate(&mut rng());
        let (mut conversation, _) = Conversation::begin();
        let bytes = [&[1][..], &[3; 64]].concat();
        let (_, end) = say(&mut conversation, &cookie, &bytes);
        assert_eq!(end, Some(Ok(ExtOrStep::Refused([0]))));
        let (mut conversation, _) = Conversation::begin();
        let (_, end) = say(&mut conversation, &cookie, &[0]);
        assert_eq!(end, Some(Err(ExtOrError::UnknownWay)));
    }

    #[test]
    fn what_is_wrong_ends_it() {
        let cookie = ExtOrCookie::generate(&mut rng());
        for (said, error) in [
            (message(USERADDR, b"localhost:1"), ExtOrError::BadAddress),
            (message(USERADDR, b""), ExtOrError::BadAddress),
            (message(TRANSPORT, b"a b"), ExtOrError::BadTransport),
            (message(0x99, b"").repeat(40), ExtOrError::TooMany),
        ] {
            let (_, end) = say(&mut proved(&cookie), &cookie, &said);
            assert_eq!(end, Some(Err(error)));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_makes_it_fail_otherwise(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            is_proved in any::<bool>(),
        ) {
            let cookie = ExtOrCookie::generate(&mut rng());
            let mut conversation = match is_proved {
                true => proved(&cookie),
                false => Conversation::begin().0,
            };
            let _ = say(&mut conversation, &cookie, &bytes);
            prop_assert!(conversation.needs() <= usize::from(u16::MAX));
        }
    }
}
