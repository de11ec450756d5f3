//! A relay that lies: an exit as the network lists it, which connects to nothing and answers what
//! the name that it is asked for says.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cepa_circuit::{OnionKeys, OnionskinJob};
use cepa_crypto::Rng;
use cepa_crypto::layer::RelayLayer;
use cepa_link::{
    Handshake, LINK_VERSIONS, LinkIdentity, LinkKeys, Step, TlsBinding, TlsKeyAndCert,
};
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::cell::{self, CellRef, CircIdLen, Command};
use cepa_wire::connected::Connected;
use cepa_wire::create::{Create2, Created2};
use cepa_wire::host::Host;
use cepa_wire::relay::{RelayCommand, RelayFormat, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolved};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::descriptor::{self, Forger};
use crate::support::now;

/// What a page has that the liar does not lie about.
pub(crate) const PAGE_LEN: usize = 20_000;
/// Messages of one kind that are sent at once.
const TOO_MANY: usize = 3000;
/// DATA messages that no socket takes beside what windows let through, if nobody reads.
const FLOOD: usize = 40_000;
/// The private address that it tells of.
pub(crate) const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

/// See the head of this file; it listens until the test ends.
pub(crate) struct Liar {
    /// Circuits that were destroyed.
    destroyed: Arc<AtomicUsize>,
    /// Messages that were sent and are lies.
    lies: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    or: SocketAddr,
}

/// What all its links share.
struct Shared {
    keys: OnionKeys,
    identity: Arc<LinkIdentity>,
    tls: Arc<ServerConfig>,
    destroyed: Arc<AtomicUsize>,
    lies: Arc<AtomicUsize>,
}

impl Liar {
    /// Listens with the keys of a forger, who describes it.
    pub(crate) fn listen(or: SocketAddr, forger: &Forger) -> Self {
        let mut rng = Rng::from_seed([77; 32]);
        let tls = TlsKeyAndCert::make(&forger.identity, time(), &mut rng).unwrap();
        let keys = LinkKeys {
            rsa: &forger.identity,
            ed: forger.ed,
            signing: &forger.signing,
            signing_cert: &forger.signing_cert,
        };
        let identity = LinkIdentity::make(keys, &tls.cert_der, &[or.ip()], time(), &mut rng);
        let shared = Shared {
            keys: OnionKeys {
                rsa: forger.identity.public().id(),
                ed: forger.ed,
                ntor: vec![forger.ntor.clone()],
            },
            identity: Arc::new(identity.unwrap()),
            tls: server_config(&tls),
            destroyed: Arc::default(),
            lies: Arc::default(),
        };
        let liar = Self {
            destroyed: Arc::clone(&shared.destroyed),
            lies: Arc::clone(&shared.lies),
            is_over: Arc::default(),
            or,
        };
        let (listener, shared) = (TcpListener::bind(or).unwrap(), Arc::new(shared));
        let is_over = Arc::clone(&liar.is_over);
        std::thread::spawn(move || {
            for (number, stream) in (0_u8..).zip(listener.incoming().flatten()) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A link that ends is no loss.
                std::thread::spawn(move || serve(&shared, stream, number));
            }
        });
        liar
    }

    /// Circuits that others have destroyed so far.
    pub(crate) fn destroyed(&self) -> usize {
        self.destroyed.load(Ordering::Relaxed)
    }

    /// Lies that were told so far.
    pub(crate) fn lies(&self) -> usize {
        self.lies.load(Ordering::Relaxed)
    }
}

/// Its port is free for the next one.
impl Drop for Liar {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // The listener wakes up by a last connection.
        drop(std::net::TcpStream::connect(self.or));
    }
}

fn time() -> Now {
    Now {
        mono: now(),
        wall: descriptor::now(),
    }
}

fn server_config(tls: &TlsKeyAndCert) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(tls.key.to_pkcs8_der().to_vec());
    let key = provider
        .key_provider
        .load_private_key(PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let chain = vec![CertificateDer::from(tls.cert_der.clone())];
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// What AUTHENTICATE is bound to.
struct Binding<'a>(&'a ServerConnection);

impl TlsBinding for Binding<'_> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool {
        self.0
            .export_keying_material(out, label, Some(context))
            .is_ok()
    }

    fn peer_cert_der(&self) -> Option<&[u8]> {
        None
    }
}

fn serve(shared: &Shared, stream: TcpStream, number: u8) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    let tls = ServerConnection::new(Arc::clone(&shared.tls)).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(tls, stream);
    let identity = Arc::clone(&shared.identity);
    let mut handshake = Handshake::responder(identity, peer, &LINK_VERSIONS);
    let (mut input, mut rng) = (Vec::new(), Rng::from_seed([number; 32]));
    loop {
        let binding = Binding(&tls.conn);
        let step = handshake.handle_bytes(&mut input, &binding, time(), &mut rng);
        tls.write_all(&handshake.take_output())?;
        tls.flush()?;
        if let Step::Done(_) = step.map_err(std::io::Error::other)? {
            break;
        }
        read(&mut tls, &mut input)?;
    }
    let mut circuits = BTreeMap::new();
    loop {
        let split = cell::split_cell(&input, CircIdLen::Four).map_err(std::io::Error::other)?;
        let Some((found, len)) = split else {
            read(&mut tls, &mut input)?;
            continue;
        };
        let output = match found {
            CellRef::Fixed(cell) => handle(shared, &mut circuits, cell, &mut rng),
            CellRef::Variable(_) => Vec::new(),
        };
        input.drain(..len);
        tls.write_all(&output)?;
        tls.flush()?;
    }
}

fn read(tls: &mut Tls, input: &mut Vec<u8>) -> std::io::Result<()> {
    let mut block = [0; 16 << 10];
    match tls.read(&mut block)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        len => {
            input.extend_from_slice(&block[..len]);
            Ok(())
        }
    }
}

/// What follows from a cell.
fn handle(
    shared: &Shared,
    circuits: &mut BTreeMap<u32, RelayLayer>,
    cell: &cell::CellBuf,
    rng: &mut Rng,
) -> Vec<u8> {
    let (id, mut payload) = (cell::circ_id(cell), *cell::payload(cell));
    match cell::command(cell) {
        Command::CREATE2 => {
            let create = Create2::read(&payload).unwrap();
            let reply = OnionskinJob::new(&create)
                .unwrap()
                .run(&shared.keys, rng)
                .unwrap();
            let mut created = cell::new_cell(id, Command::CREATED2);
            let data = Created2 { data: &reply.data };
            data.write(cell::payload_mut(&mut created)).unwrap();
            circuits.insert(id.0, RelayLayer::new(reply.cipher, reply.keys).0);
            created.to_vec()
        }
        Command::DESTROY => {
            shared.destroyed.fetch_add(1, Ordering::Relaxed);
            circuits.remove(&id.0);
            Vec::new()
        }
        command @ (Command::RELAY | Command::RELAY_EARLY) => {
            let Some(layer) = circuits.get_mut(&id.0) else {
                return Vec::new();
            };
            if layer.decrypt_forward(command.0, &mut payload).is_none() {
                return Vec::new();
            }
            let message = RelayFormat::V0.read(&payload).unwrap();
            let stream = message.stream_id;
            let mut output = Vec::new();
            for (command, stream, data) in answer(message.command, stream, message.data) {
                let mut cell = cell::new_cell(id, Command::RELAY);
                let payload = cell::payload_mut(&mut cell);
                RelayFormat::V0
                    .write(payload, command, stream, &data, rng)
                    .unwrap();
                layer.originate_backward(Command::RELAY.0, payload);
                output.extend_from_slice(&cell);
            }
            let is_lie = output.len() > cell::CELL_LEN;
            shared
                .lies
                .fetch_add(usize::from(is_lie), Ordering::Relaxed);
            output
        }
        _ => Vec::new(),
    }
}

type Message = (RelayCommand, StreamId, Vec<u8>);

/// What is answered: the name that is asked for says what.
fn answer(command: RelayCommand, stream: StreamId, data: &[u8]) -> Vec<Message> {
    let connected = |address: Option<IpAddr>| {
        let mut body = Vec::new();
        let address = address.map(|ip| (ip, 60));
        Connected { address }.write(&mut body);
        (RelayCommand::CONNECTED, stream, body)
    };
    match command {
        RelayCommand::BEGIN => {
            let begin = Begin::read(data).unwrap();
            let name = match &begin.host {
                Host::Name(name) => name.as_str(),
                Host::Ip(_) => "",
            };
            let end = || (RelayCommand::END, stream, vec![6]);
            let more = || (RelayCommand::DATA, stream, vec![b'x'; 498]);
            match name.split('.').next().unwrap_or_default() {
                "page" => vec![connected(Some([192, 0, 2, 7].into()))],
                "private" => vec![connected(Some(PRIVATE.into())), more()],
                "twice" => [vec![connected(None); TOO_MANY], vec![end()]].concat(),
                "ends" => [vec![connected(None)], vec![end(); TOO_MANY]].concat(),
                "long" => [vec![connected(None)], vec![more(); TOO_MANY], vec![end()]].concat(),
                "beyond" => [vec![connected(None)], vec![more(); FLOOD]].concat(),
                "before" => [vec![more(); TOO_MANY], vec![end()]].concat(),
                "strange" => {
                    let of = |id: usize| StreamId(u16::try_from(id).unwrap());
                    let ends = (1..=TOO_MANY).map(|id| (RelayCommand::END, of(id + 2), vec![1]));
                    ends.chain([end()]).collect()
                }
                _ => vec![end()],
            }
        }
        RelayCommand::RESOLVE => {
            let value = AnswerValue::Ip(PRIVATE.into());
            let answers = vec![Answer { value, ttl: 60 }];
            let mut body = Vec::new();
            Resolved { answers }.write(&mut body).unwrap();
            vec![(RelayCommand::RESOLVED, stream, body)]
        }
        // A request for the page.
        RelayCommand::DATA => {
            let page = [b"HTTP/1.0 200 OK\r\n\r\n", &[b'p'; PAGE_LEN][..]].concat();
            let part = |part: &[u8]| (RelayCommand::DATA, stream, part.to_vec());
            let parts = page.chunks(498).map(part);
            parts
                .chain([(RelayCommand::END, stream, vec![6])])
                .collect()
        }
        _ => Vec::new(),
    }
}
