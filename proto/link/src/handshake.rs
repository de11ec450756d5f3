//! The handshake of a link, both sides, over TLS that is up already (tor-spec 4).
//!
//! ```text
//! initiator                                responder
//!   VERSIONS ------------------------------>
//!   <------- VERSIONS CERTS AUTH_CHALLENGE NETINFO
//!   [CERTS AUTHENTICATE] NETINFO ---------->          [..]: a relay, not a client
//! ```
//!
//! Each side is a chain of `Expect…` types taken by value; [`Handshake`] cuts bytes into cells,
//! keeps the digests of all that was said, and skips VPADDING, AUTHORIZE and later VERSIONS.
//! Whatever else is out of order closes the link. Bytes after the last cell stay in the input.
//! Link protocols 4 and 5 only. How long a handshake may take is the owner's to limit.

mod authenticate;
mod initiator;
mod responder;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_wire::Now;
use cepa_wire::auth::AuthenticateError;
use cepa_wire::cell::{self, CellError, CellRef, Command};
use cepa_wire::netinfo::NetinfoError;

use crate::identity::{LinkIdentity, PeerIdentity};
use crate::peer_certs::PeerCertsError;
use wire::Wire;

/// The link protocols that we speak (tor-spec 4.1).
pub static LINK_VERSIONS: [u16; 2] = [4, 5];
/// Most bytes that a peer may send before the link is open. An honest one needs under 5000;
/// VPADDING may add to that.
pub const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// What the handshake needs to know of the TLS connection below it.
pub trait TlsBinding {
    /// Fills `out` with keying material of the connection (RFC 5705); false if it has none.
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool;
    /// The certificate that the peer showed, DER; `None` on the responder's side.
    fn peer_cert_der(&self) -> Option<&[u8]>;
}

/// Who must answer; a field that is `None` is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerExpectation {
    /// The RSA identity.
    pub rsa: Option<RsaId>,
    /// The Ed25519 identity.
    pub ed: Option<Ed25519Id>,
}

impl PeerExpectation {
    fn is_met_by(&self, peer: &PeerIdentity) -> bool {
        self.rsa.is_none_or(|rsa| rsa == peer.rsa) && self.ed.is_none_or(|ed| ed == peer.ed)
    }
}

/// An open link: what its handshake found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The link protocol, 4 or 5.
    pub version: u16,
    /// True if we opened the link.
    pub initiator: bool,
    /// The authenticated relay at the other end; `None` for a client.
    pub peer: Option<PeerIdentity>,
    /// The other end of the TCP connection.
    pub peer_addr: SocketAddr,
    /// The peer's addresses by its own account (NETINFO); none of a client.
    pub peer_addrs: Vec<IpAddr>,
    /// Our address as the peer sees it, which it may lie about.
    pub my_addr_seen: IpAddr,
    /// Seconds by which the peer's clock is ahead of ours; `None` if it did not say.
    pub clock_skew_secs: Option<i64>,
    /// The peer lists the very address of this TCP connection (tor-spec 5.3.1).
    pub canonical: bool,
}

/// How far the handshake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Continue,
    /// The link is open.
    Done(Box<Established>),
}

/// Why the handshake failed; the consequence is always to close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// No cell can be made of the bytes.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// More than [`HANDSHAKE_BYTES_MAX`] bytes came.
    #[error("the peer sent too much before the link was open")]
    TooLong,
    /// The VERSIONS cell has an odd length.
    #[error(transparent)]
    VersionsOddLength(#[from] cepa_wire::versions::OddLength),
    /// The peer speaks neither link protocol 4 nor 5.
    #[error("no link protocol in common")]
    NoCommonVersion,
    /// A cell that has no place there.
    #[error("cell command {} came instead of {expected}", .got.0)]
    Unexpected {
        /// The cell that would have been right.
        expected: &'static str,
        /// The command of the cell that came.
        got: Command,
    },
    /// A cell of the handshake that names a circuit.
    #[error("cell command {} came with a circuit id", .0.0)]
    CircuitId(Command),
    /// The CERTS cell does not prove an identity.
    #[error(transparent)]
    Certs(#[from] PeerCertsError),
    /// The peer is authentic, but another than we wanted.
    #[error("identity keys were not as expected: the peer is {got}")]
    IdentityMismatch {
        /// The identities that the peer has proved.
        got: PeerIdentity,
    },
    /// The AUTH_CHALLENGE cell is cut short.
    #[error("AUTH_CHALLENGE: {0}")]
    AuthChallenge(cepa_wire::Truncated),
    /// The responder takes no authentication of type 3.
    #[error("the responder does not take authentication type 3")]
    NoAuthMethod,
    /// The TLS connection gives no keying material, or no certificate of the responder.
    #[error("the TLS connection cannot be bound to")]
    TlsBinding,
    /// The AUTHENTICATE cell cannot be read.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// AUTHENTICATE is of another connection than this.
    #[error("AUTHENTICATE is not bound to this connection")]
    AuthenticateBinding,
    /// AUTHENTICATE is not signed by the key of the type 6 certificate.
    #[error("AUTHENTICATE has a wrong signature")]
    AuthenticateSignature,
    /// The NETINFO cell cannot be read.
    #[error(transparent)]
    Netinfo(#[from] NetinfoError),
    /// The handshake is over, by success or failure.
    #[error("the handshake is over")]
    Over,
}

/// A step's outcome: what is expected next, or the open link.
enum Next {
    Expect(Expect),
    Open(Box<Established>),
}

/// What is expected, on either side.
enum Expect {
    InitiatorVersions(initiator::ExpectVersions),
    InitiatorCerts(initiator::ExpectCerts),
    InitiatorAuthChallenge(initiator::ExpectAuthChallenge),
    InitiatorNetinfo(initiator::ExpectNetinfo),
    ResponderVersions(responder::ExpectVersions),
    ResponderCertsOrNetinfo(responder::ExpectCertsOrNetinfo),
    ResponderAuthenticate(responder::ExpectAuthenticate),
    ResponderNetinfo(responder::ExpectNetinfo),
    Nothing,
}

impl Expect {
    fn handle(self, cell: CellRef<'_>, cx: &mut Context<'_>) -> Result<Next, HandshakeError> {
        match self {
            Expect::InitiatorVersions(expect) => expect.handle(cell, cx),
            Expect::InitiatorCerts(expect) => expect.handle(cell, cx),
            Expect::InitiatorAuthChallenge(expect) => expect.handle(cell, cx),
            Expect::InitiatorNetinfo(expect) => expect.handle(cell, cx),
            Expect::ResponderVersions(expect) => expect.handle(cell, cx),
            Expect::ResponderCertsOrNetinfo(expect) => expect.handle(cell, cx),
            Expect::ResponderAuthenticate(expect) => expect.handle(cell, cx),
            Expect::ResponderNetinfo(expect) => expect.handle(cell, cx),
            Expect::Nothing => Err(HandshakeError::Over),
        }
    }
}

/// What a step may use.
struct Context<'a> {
    wire: &'a mut Wire,
    tls: &'a dyn TlsBinding,
    now: Now,
    rng: &'a mut Rng,
}

/// The handshake of one link.
pub struct Handshake {
    wire: Wire,
    expect: Expect,
}

impl Handshake {
    /// Our side opened the connection. With `identity` we authenticate ourselves as that relay,
    /// without we are a client. The first output is there at once. `versions` is
    /// [`LINK_VERSIONS`] or, in tests, some of them.
    #[must_use]
    pub fn initiator(
        expect: PeerExpectation,
        identity: Option<Arc<LinkIdentity>>,
        peer_addr: SocketAddr,
        versions: &'static [u16],
    ) -> Self {
        let mut wire = Wire::new(peer_addr, versions);
        wire.send_versions();
        let expect = initiator::ExpectVersions { expect, identity };
        Handshake {
            wire,
            expect: Expect::InitiatorVersions(expect),
        }
    }

    /// The peer opened the connection; we are the relay `identity`, of the TLS certificate in use.
    #[must_use]
    pub fn responder(
        identity: Arc<LinkIdentity>,
        peer_addr: SocketAddr,
        versions: &'static [u16],
    ) -> Self {
        let expect = responder::ExpectVersions { identity };
        Handshake {
            wire: Wire::new(peer_addr, versions),
            expect: Expect::ResponderVersions(expect),
        }
    }

    /// Takes whole cells from the front of `input`. After `Done` or an error what is left there is
    /// not the handshake's any more. Output may be there in every case.
    pub fn handle_bytes(
        &mut self,
        input: &mut Vec<u8>,
        tls: &dyn TlsBinding,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Step, HandshakeError> {
        let mut consumed = 0;
        let step = self.handle_cells(input, &mut consumed, tls, now, rng);
        input.drain(..consumed);
        step
    }

    fn handle_cells(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        tls: &dyn TlsBinding,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Step, HandshakeError> {
        if matches!(self.expect, Expect::Nothing) {
            return Err(HandshakeError::Over);
        }
        loop {
            let rest = input.get(*consumed..).unwrap_or_default();
            let Some((cell, len)) = self.split(rest)? else {
                return Ok(Step::Continue);
            };
            *consumed += len;
            let command = command_of(cell);
            self.wire
                .record_received(command, rest.get(..len).unwrap_or_default());
            if self.is_skipped(command) {
                continue;
            }
            let expect = std::mem::replace(&mut self.expect, Expect::Nothing);
            let mut cx = Context {
                wire: &mut self.wire,
                tls,
                now,
                rng,
            };
            match expect.handle(cell, &mut cx)? {
                Next::Expect(expect) => self.expect = expect,
                Next::Open(link) => return Ok(Step::Done(link)),
            }
        }
    }

    /// The first cell of `rest`; enough unread bytes without one are an error as well.
    fn split<'a>(
        &mut self,
        rest: &'a [u8],
    ) -> Result<Option<(CellRef<'a>, usize)>, HandshakeError> {
        let found = cell::split_cell(rest, self.wire.circ_id_len());
        let found = found.inspect_err(|_| self.expect = Expect::Nothing)?;
        let len = found.as_ref().map_or(0, |(_, len)| *len);
        if self.wire.received_bytes() + len > HANDSHAKE_BYTES_MAX {
            self.expect = Expect::Nothing;
            return Err(HandshakeError::TooLong);
        }
        Ok(found)
    }

    /// What may come at any time and says nothing (tor-spec 4, 4.1).
    fn is_skipped(&self, command: Command) -> bool {
        match command {
            Command::VPADDING | Command::AUTHORIZE => true,
            Command::VERSIONS => self.wire.version().is_some(),
            _ => false,
        }
    }

    /// The bytes to send, and forgets them.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        self.wire.take_output()
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("peer_addr", &self.wire.peer_addr())
            .finish_non_exhaustive()
    }
}

fn command_of(cell: CellRef<'_>) -> Command {
    match cell {
        CellRef::Fixed(cell) => cell::command(cell),
        CellRef::Variable(cell) => cell.command,
    }
}

/// The body of a variable cell of this command, which must name no circuit.
fn body_of<'a>(
    cell: CellRef<'a>,
    command: Command,
    expected: &'static str,
) -> Result<&'a [u8], HandshakeError> {
    match cell {
        CellRef::Variable(cell) if cell.command == command => {
            if cell.circ_id == cell::CircId::NONE {
                Ok(cell.body)
            } else {
                Err(HandshakeError::CircuitId(command))
            }
        }
        other => Err(HandshakeError::Unexpected {
            expected,
            got: command_of(other),
        }),
    }
}

#[cfg(test)]
mod tests;
