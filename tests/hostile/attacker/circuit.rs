//! Circuits over a link of the attacker's: any handshake, any message, any extension.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cepa_circuit::extensions;
use cepa_crypto::curve25519::PublicKey;
use cepa_crypto::layer::{self, Cipher, HopLayer};
use cepa_crypto::{Ed25519Id, KeyStream, RsaId, fast, ntor, ntor_v3};
use cepa_wire::cell::{self, CircId, Command, Payload};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast, HandshakeType};
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};
use cepa_wire::relay::{RelayCommand, RelayFormat, StreamId};

use super::http;
use super::link::{Link, fixed};
use crate::support::now;

/// What the attacker knows of a relay: all that its descriptor says.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) or: SocketAddr,
    pub(crate) rsa: RsaId,
    pub(crate) ed: Ed25519Id,
    pub(crate) ntor: PublicKey,
}

/// A message that came: command, stream, data.
pub(crate) type Message = (RelayCommand, u16, Vec<u8>);

/// Why there is no circuit any more.
#[derive(Debug)]
#[expect(dead_code, reason = "what is in it is for whoever reads of a failure")]
pub(crate) enum Ended {
    /// The link is gone.
    Link(std::io::Error),
    /// DESTROY or TRUNCATED, with its reason.
    Destroyed(u8),
    /// The handshake does not add up.
    Handshake,
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Link(error)
    }
}

/// A circuit; it borrows no link, so that one link can have many.
pub(crate) struct Circuit {
    pub(crate) id: CircId,
    hops: Vec<HopLayer>,
    /// Of the last hop: the binding key, for ESTABLISH_INTRO.
    pub(crate) kh: [u8; 20],
}

impl Circuit {
    /// One hop by CREATE_FAST.
    pub(crate) fn fast(link: &mut Link) -> Result<Self, Ended> {
        let id = link.new_id();
        let (state, x) = fast::client_start(&mut link.rng);
        let mut cell = cell::new_cell(id, Command::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(&mut cell));
        link.send(&cell)?;
        let body = wait(link, id, Command::CREATED_FAST)?;
        let created = CreatedFast::read(&payload(&body)).unwrap();
        let keys = state.finish(&created.y, &created.derivative);
        Ok(Self::of(id, keys.map_err(|_| Ended::Handshake)?))
    }

    /// One hop by CREATE2 with ntor.
    pub(crate) fn ntor(link: &mut Link, to: &Target) -> Result<Self, Ended> {
        let id = link.new_id();
        let (state, skin) = ntor::client_start(&mut link.rng, &to.rsa, &to.ntor);
        link.send(&create2(id, &skin))?;
        let body = wait(link, id, Command::CREATED2)?;
        let created = payload(&body);
        let created = Created2::read(&created).unwrap();
        let keys = state.finish(created.data).map_err(|_| Ended::Handshake)?;
        Ok(Self::of(id, keys))
    }

    fn of(id: CircId, keys: KeyStream) -> Self {
        let mut circuit = Self {
            id,
            hops: Vec::new(),
            kh: [0; 20],
        };
        circuit.add_hop(keys);
        circuit
    }

    /// A cell with a message for the last hop.
    pub(crate) fn cell(
        &mut self,
        link: &mut Link,
        outer: Command,
        command: RelayCommand,
        stream: u16,
        data: &[u8],
    ) -> cell::CellBuf {
        let mut cell = cell::new_cell(self.id, outer);
        let payload = cell::payload_mut(&mut cell);
        let stream = StreamId(stream);
        RelayFormat::V0
            .write(payload, command, stream, data, &mut link.rng)
            .unwrap();
        layer::originate(&mut self.hops, outer.0, payload);
        cell
    }

    /// Sends a message to the last hop.
    pub(crate) fn send(
        &mut self,
        link: &mut Link,
        command: RelayCommand,
        stream: u16,
        data: &[u8],
    ) -> Result<(), Ended> {
        let cell = self.cell(link, Command::RELAY, command, stream, data);
        Ok(link.send(&cell)?)
    }

    /// The next message of any hop.
    pub(crate) fn receive(&mut self, link: &mut Link) -> Result<Message, Ended> {
        loop {
            let body = wait(link, self.id, Command::RELAY)?;
            let mut payload = payload(&body);
            if layer::peel(&mut self.hops, Command::RELAY.0, &mut payload).is_none() {
                continue;
            }
            let message = RelayFormat::V0.read(&payload).unwrap();
            let (command, stream) = (message.command, message.stream_id.0);
            if command == RelayCommand::TRUNCATED {
                let reason = message.data.first().copied();
                return Err(Ended::Destroyed(reason.unwrap_or(0)));
            }
            return Ok((command, stream, message.data.to_vec()));
        }
    }

    /// The next message with that command; others are dropped.
    pub(crate) fn wait_for(
        &mut self,
        link: &mut Link,
        wanted: RelayCommand,
    ) -> Result<Message, Ended> {
        loop {
            let message = self.receive(link)?;
            if message.0 == wanted {
                return Ok(message);
            }
        }
    }

    /// Extends as an honest client does.
    pub(crate) fn extend(&mut self, link: &mut Link, to: &Target) -> Result<(), Ended> {
        let pending = self.ask_to_extend(link, to, &specifiers(to, to.or, true))?;
        self.extended(link, pending)
    }

    /// The same with congestion control (proposal 324).
    pub(crate) fn extend_congested(&mut self, link: &mut Link, to: &Target) -> Result<(), Ended> {
        let message = extensions::Request::message(Some(Cipher::Tor1));
        let verification = ntor_v3::CIRCUIT_VERIFICATION;
        let begun = ntor_v3::client_start(&mut link.rng, &to.ed, &to.ntor, message, verification);
        let (state, skin) = begun.unwrap();
        let list = specifiers(to, to.or, true);
        self.send_extend(link, HandshakeType::NTOR_V3, &skin, &list)?;
        let data = self.wait_extended(link)?;
        let (_, keys) = state.finish(&data).map_err(|_| Ended::Handshake)?;
        self.add_hop(keys);
        Ok(())
    }

    /// Asks for an extension with specifiers of our choice, and does not wait.
    pub(crate) fn ask_to_extend(
        &mut self,
        link: &mut Link,
        to: &Target,
        specifiers: &[LinkSpecifier],
    ) -> Result<ntor::ClientState, Ended> {
        let (state, skin) = ntor::client_start(&mut link.rng, &to.rsa, &to.ntor);
        self.send_extend(link, HandshakeType::NTOR, &skin, specifiers)?;
        Ok(state)
    }

    /// Waits for the answer.
    pub(crate) fn extended(
        &mut self,
        link: &mut Link,
        pending: ntor::ClientState,
    ) -> Result<(), Ended> {
        let data = self.wait_extended(link)?;
        let keys = pending.finish(&data).map_err(|_| Ended::Handshake)?;
        self.add_hop(keys);
        Ok(())
    }

    fn send_extend(
        &mut self,
        link: &mut Link,
        handshake_type: HandshakeType,
        skin: &[u8],
        specifiers: &[LinkSpecifier],
    ) -> Result<(), Ended> {
        let extend = Extend2 {
            link_specifiers: LinkSpecifiers(specifiers.to_vec()),
            handshake_type,
            data: skin,
        };
        let mut data = Vec::new();
        extend.write(&mut data).unwrap();
        let early = Command::RELAY_EARLY;
        let cell = self.cell(link, early, RelayCommand::EXTEND2, 0, &data);
        Ok(link.send(&cell)?)
    }

    fn wait_extended(&mut self, link: &mut Link) -> Result<Vec<u8>, Ended> {
        let (_, _, data) = self.wait_for(link, RelayCommand::EXTENDED2)?;
        let extended = Extended2::read(&data).map_err(|_| Ended::Handshake)?;
        Ok(extended.data.to_vec())
    }

    fn add_hop(&mut self, keys: KeyStream) {
        let (layer, kh) = HopLayer::new(Cipher::Tor1, keys);
        self.hops.push(layer);
        self.kh = *kh;
    }

    /// A request over a directory stream, without waiting for anything.
    pub(crate) fn send_request(
        &mut self,
        link: &mut Link,
        stream: u16,
        request: &str,
    ) -> Result<(), Ended> {
        self.send(link, RelayCommand::BEGIN_DIR, stream, &[])?;
        for part in request.as_bytes().chunks(498) {
            self.send(link, RelayCommand::DATA, stream, part)?;
        }
        Ok(())
    }

    /// A request over a directory stream, and its answer; streams of other ids are dropped.
    pub(crate) fn request(
        &mut self,
        link: &mut Link,
        stream: u16,
        request: &str,
    ) -> Result<http::Answer, Ended> {
        self.send_request(link, stream, request)?;
        let mut all = Vec::new();
        loop {
            match self.receive(link)? {
                (RelayCommand::DATA, of, data) if of == stream => all.extend_from_slice(&data),
                (RelayCommand::END, of, _) if of == stream => break,
                _ => {}
            }
        }
        Ok(http::split(&all)?)
    }

    /// BEGIN to `HOST:PORT`.
    pub(crate) fn begin(&mut self, link: &mut Link, stream: u16, to: &str) -> Result<(), Ended> {
        let data = [to.as_bytes(), &[0; 5]].concat();
        self.send(link, RelayCommand::BEGIN, stream, &data)
    }

    /// Ends it.
    pub(crate) fn destroy(&self, link: &mut Link) -> std::io::Result<()> {
        link.send_cell(self.id, Command::DESTROY, &[0])
    }
}

/// What a relay answers over BEGIN_DIR.
pub(crate) fn ask(from: Ipv4Addr, or: SocketAddr, path: &str) -> Option<http::Answer> {
    let mut link = Link::open(from, or).ok()?;
    let mut circuit = Circuit::fast(&mut link).ok()?;
    circuit
        .request(&mut link, 1, &http::head("GET", path, 0))
        .ok()
}

/// How a relay is named in EXTEND2; at an address of our choice, with its Ed25519 identity or not.
pub(crate) fn specifiers(to: &Target, at: SocketAddr, has_ed: bool) -> Vec<LinkSpecifier> {
    let mut list = vec![LinkSpecifier::from(at), LinkSpecifier::Rsa(to.rsa)];
    list.extend(has_ed.then_some(LinkSpecifier::Ed25519(to.ed)));
    list
}

/// A CREATE2 cell with an ntor onionskin.
pub(crate) fn create2(id: CircId, skin: &[u8]) -> cell::CellBuf {
    let mut cell = cell::new_cell(id, Command::CREATE2);
    let create = Create2 {
        handshake_type: HandshakeType::NTOR,
        data: skin,
    };
    create.write(cell::payload_mut(&mut cell)).unwrap();
    cell
}

/// `count` CREATE_FAST cells for new circuits.
pub(crate) fn many_fast(link: &mut Link, count: usize) -> Vec<u8> {
    let mut cells = Vec::with_capacity(count * cell::CELL_LEN);
    for _ in 0..count {
        let id = link.new_id();
        cells.extend_from_slice(&fixed(id, Command::CREATE_FAST, &[9; 20]));
    }
    cells
}

/// Padding may come as long as nothing else does: reads alone would never be over.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn wait(link: &mut Link, id: CircId, wanted: Command) -> Result<Vec<u8>, Ended> {
    let started = now();
    loop {
        if now().duration_since(started) > WAIT_MAX {
            return Err(Ended::Link(std::io::ErrorKind::TimedOut.into()));
        }
        let (of, command, body) = link.receive()?;
        if of != id {
            continue;
        }
        if command == Command::DESTROY {
            return Err(Ended::Destroyed(body[0]));
        }
        if command == wanted {
            return Ok(body);
        }
    }
}

fn payload(body: &[u8]) -> Payload {
    body.try_into().unwrap()
}
