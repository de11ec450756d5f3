//! Commands on onion services (control-spec 3.26 to 3.32): version 3 only, as in `tor`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use cepa_crypto::onion::{ADDRESS_LEN, OnionAddress};
use cepa_crypto::{curve25519, encoding};
use zeroize::Zeroizing;

use super::arguments::{Arguments, Keywords, PLAIN, Syntax};
use super::circuits::ServerSpec;
use crate::refusal::Refusal;

/// Ports of one service, at most; `tor` sets no bound but that of the line.
pub const ONION_PORTS_MAX: usize = 256;
/// Clients that one service lets in, at most: as many as fit into its descriptor (rend-spec-v3
/// 2.5.1.2, at 50,000 bytes).
pub const ONION_CLIENTS_MAX: usize = 320;
/// `MaxStreams` where there is no bound.
pub const MAX_STREAMS_UNLIMITED: u16 = 0;

/// Bytes of a client's name, at most, beyond which `tor` complains.
const CLIENT_NAME_LEN_MAX: usize = 16;

/// Where the key of a new service comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum OnionKey {
    /// The program draws it.
    New,
    /// The controller gives it: an ed25519 secret scalar and the secret of its nonces.
    Ed25519V3(Zeroizing<[u8; 64]>),
}

impl std::fmt::Debug for OnionKey {
    /// Only the kind: it is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OnionKey::New => "New",
            OnionKey::Ed25519V3(_) => "Ed25519V3",
        })
    }
}

/// Where the streams to a port of a service go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnionTarget {
    /// To this address.
    Tcp(SocketAddr),
    /// To this socket of the file system.
    Unix(PathBuf),
}

/// A port of a service, as `HiddenServicePort` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnionPort {
    /// The port that clients ask for; not zero.
    pub virtual_port: u16,
    /// Where it goes.
    pub target: OnionTarget,
}

impl OnionPort {
    /// Reads `VIRTPORT` or `VIRTPORT,TARGET`: a target is a port of 127.0.0.1, an address, an
    /// address with its port, or `unix:` and a path. Of host names only `localhost` is known:
    /// `tor` would ask the system's resolver, and nothing here asks a network.
    #[must_use]
    pub fn parse(text: &str) -> Option<OnionPort> {
        let port = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|port: &u16| is_number && *port > 0)
        };
        let (virtual_port, target) = text.split_once(',').unwrap_or((text, ""));
        let virtual_port = port(virtual_port)?;
        let tcp = |ip: IpAddr, port: u16| OnionTarget::Tcp(SocketAddr::new(ip, port));
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = |text: &str| -> Option<IpAddr> {
            match text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'))
            {
                Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                None if text.eq_ignore_ascii_case("localhost") => Some(localhost),
                None => text.parse().ok(),
            }
        };
        let target = if let Some(path) = target.strip_prefix("unix:") {
            OnionTarget::Unix((!path.is_empty()).then(|| PathBuf::from(path))?)
        } else if target.is_empty() {
            tcp(localhost, virtual_port)
        } else if target.bytes().all(|byte| byte.is_ascii_digit()) {
            tcp(localhost, port(target)?)
        } else if let Some(ip) = address(target) {
            tcp(ip, virtual_port)
        } else {
            let (ip, target_port) = target.rsplit_once(':')?;
            // An IPv6 address with a port stands in brackets.
            let ip = address(ip).filter(|ip_read| ip_read.is_ipv4() || ip.starts_with('['))?;
            tcp(ip, port(target_port)?)
        };
        Some(OnionPort {
            virtual_port,
            target,
        })
    }
}

impl std::fmt::Display for OnionPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            OnionTarget::Tcp(address) => write!(f, "{},{address}", self.virtual_port),
            OnionTarget::Unix(path) => write!(f, "{},unix:{}", self.virtual_port, path.display()),
        }
    }
}

/// ADD_ONION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddOnion {
    /// Its key.
    pub key: OnionKey,
    /// Do not tell the key that was drawn.
    pub discard_key: bool,
    /// It outlives the connection.
    pub detach: bool,
    /// It is one hop away from its clients and not anonymous.
    pub non_anonymous: bool,
    /// Streams on one rendezvous circuit, at most; [`MAX_STREAMS_UNLIMITED`] for no bound.
    pub max_streams: u16,
    /// Close a circuit with more streams than that; else only refuse them.
    pub max_streams_close_circuit: bool,
    /// Its ports, at least one; two of the same virtual port share its streams.
    pub ports: Vec<OnionPort>,
    /// The clients that it lets in; empty for all.
    pub clients: Vec<curve25519::PublicKey>,
    /// Ask clients for proofs of work when it is busy.
    pub pow_defenses: bool,
    /// Introductions answered in a second, where that was said.
    pub pow_queue_rate: Option<u32>,
    /// Introductions answered at once, where that was said.
    pub pow_queue_burst: Option<u32>,
}

impl Default for AddOnion {
    /// Without ports: one is to be added.
    fn default() -> AddOnion {
        AddOnion {
            key: OnionKey::New,
            discard_key: false,
            detach: false,
            non_anonymous: false,
            max_streams: MAX_STREAMS_UNLIMITED,
            max_streams_close_circuit: false,
            ports: Vec::new(),
            clients: Vec::new(),
            pow_defenses: false,
            pow_queue_rate: None,
            pow_queue_burst: None,
        }
    }
}

impl AddOnion {
    pub(super) fn parse(body: &[u8]) -> Result<AddOnion, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "ADD_ONION",
                needed: 1,
                accepted: 1,
                keywords: Keywords::Only(&[
                    "Port",
                    "Flags",
                    "MaxStreams",
                    "ClientAuth",
                    "ClientAuthV3",
                    "PoWDefensesEnabled",
                    "PoWQueueRate",
                    "PoWQueueBurst",
                ]),
            },
        )?;
        let mut onion = AddOnion::default();
        let mut asks_for_clients = false;
        for (key, value) in &arguments.pairs {
            onion.set(&key.to_ascii_lowercase(), value, &mut asks_for_clients)?;
        }
        if onion.ports.is_empty() {
            return Err(Refusal::Syntax("Missing 'Port' argument"));
        }
        match (asks_for_clients, onion.clients.is_empty()) {
            (true, true) => return Err(Refusal::Syntax("No auth clients specified")),
            (false, false) => return Err(Refusal::Syntax("No auth type specified")),
            _ => {}
        }
        onion.key = onion_key(arguments.word(0))?;
        Ok(onion)
    }

    /// Takes one keyword argument; its key is in lower case.
    fn set(&mut self, key: &str, value: &str, asks_for_clients: &mut bool) -> Result<(), Refusal> {
        let number = |mistake| value.parse().map_err(|_| Refusal::Syntax(mistake));
        match key {
            "port" => {
                if self.ports.len() == ONION_PORTS_MAX {
                    return Err(Refusal::Syntax("Too many 'Port' arguments"));
                }
                let port = OnionPort::parse(value);
                self.ports
                    .push(port.ok_or(Refusal::Syntax("Invalid VIRTPORT/TARGET"))?);
            }
            "maxstreams" => {
                let streams = value.parse();
                self.max_streams = streams.map_err(|_| Refusal::Syntax("Invalid MaxStreams"))?;
            }
            "powdefensesenabled" => match value {
                "0" => self.pow_defenses = false,
                "1" => self.pow_defenses = true,
                _ => return Err(Refusal::Syntax("Invalid PoWDefensesEnabled")),
            },
            "powqueuerate" => self.pow_queue_rate = Some(number("Invalid PoWQueueRate")?),
            "powqueueburst" => self.pow_queue_burst = Some(number("Invalid PoWQueueBurst")?),
            "flags" => self.set_flags(value, asks_for_clients)?,
            "clientauthv3" => {
                if self.clients.len() == ONION_CLIENTS_MAX {
                    return Err(Refusal::Syntax("Too many 'ClientAuthV3' arguments"));
                }
                let bytes = encoding::base32_decode(value);
                let client = bytes.and_then(|bytes| curve25519::PublicKey::from_bytes(&bytes));
                let client = client.ok_or(Refusal::Syntax("Cannot decode v3 client auth key"))?;
                self.clients.push(client);
            }
            // `tor` takes the keyword of version 2 and answers nothing at all.
            _ => {
                return Err(Refusal::Syntax(
                    "ClientAuth is of version 2; use ClientAuthV3",
                ));
            }
        }
        Ok(())
    }

    fn set_flags(&mut self, flags: &str, asks_for_clients: &mut bool) -> Result<(), Refusal> {
        let mut flags = flags.split(',').filter(|flag| !flag.is_empty()).peekable();
        if flags.peek().is_none() {
            return Err(Refusal::Syntax("Invalid 'Flags' argument"));
        }
        for flag in flags {
            match flag.to_ascii_lowercase().as_str() {
                "discardpk" => self.discard_key = true,
                "detach" => self.detach = true,
                "nonanonymous" => self.non_anonymous = true,
                "maxstreamsclosecircuit" => self.max_streams_close_circuit = true,
                "v3auth" => *asks_for_clients = true,
                _ => return Err(Refusal::Flag(flag.to_owned())),
            }
        }
        Ok(())
    }
}

fn onion_key(text: &str) -> Result<OnionKey, Refusal> {
    let (kind, blob) = text.split_once(':').unwrap_or((text, ""));
    if kind.is_empty() || blob.is_empty() {
        return Err(Refusal::Syntax("Invalid key type/blob"));
    }
    let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
    if is(kind, "NEW") && (is(blob, "BEST") || is(blob, "ED25519-V3")) {
        return Ok(OnionKey::New);
    }
    if !is(kind, "ED25519-V3") {
        return Err(Refusal::OnionKeyType);
    }
    let bytes = encoding::base64_decode(blob).map(Zeroizing::new);
    let key = bytes.and_then(|bytes| Some(Zeroizing::new(bytes.as_slice().try_into().ok()?)));
    let key = key.ok_or(Refusal::Syntax("Failed to decode ED25519-V3 key"))?;
    Ok(OnionKey::Ed25519V3(key))
}

/// An onion address as commands have it: without `.onion`.
fn address(text: &str) -> Option<OnionAddress> {
    text.parse().ok().filter(|_| text.len() == ADDRESS_LEN)
}

/// HSFETCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsFetch {
    /// The service's address.
    pub address: OnionAddress,
    /// Where to fetch, as it was named; empty for the responsible ones.
    pub servers: Vec<String>,
}

impl HsFetch {
    pub(super) fn parse(body: &[u8]) -> Result<HsFetch, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "HSFETCH",
                needed: 1,
                accepted: 1,
                keywords: Keywords::Only(&["SERVER"]),
            },
        )?;
        let text = arguments.word(0);
        let address = address(text).ok_or_else(|| Refusal::Argument(text.to_owned()))?;
        let servers = servers(&arguments)?;
        Ok(HsFetch { address, servers })
    }
}

fn servers(arguments: &Arguments) -> Result<Vec<String>, Refusal> {
    let server = |name: &str| match ServerSpec::parse(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(Refusal::Server(name.to_owned())),
    };
    arguments.values("SERVER").map(server).collect()
}

/// +HSPOST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsPost {
    /// Where to upload, as it was named; empty for the responsible ones.
    pub servers: Vec<String>,
    /// The service's address.
    pub address: OnionAddress,
    /// The descriptor.
    pub descriptor: String,
}

impl HsPost {
    pub(super) fn parse(body: &[u8], data: &[u8]) -> Result<HsPost, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "+HSPOST",
                needed: 0,
                accepted: 0,
                keywords: Keywords::Only(&["SERVER", "HSADDRESS"]),
            },
        )?;
        let servers = servers(&arguments)?;
        // Without an address it was of version 2; `tor` then answers nothing at all.
        let address = arguments.value("HSADDRESS").and_then(address);
        let address = address.ok_or(Refusal::Syntax("Malformed onion address"))?;
        let descriptor = String::from_utf8(data.to_vec())
            .map_err(|_| Refusal::Descriptor("Invalid descriptor"))?;
        Ok(HsPost {
            servers,
            address,
            descriptor,
        })
    }
}

/// DEL_ONION: the address of a service.
pub(super) fn service(body: &[u8]) -> Result<OnionAddress, Refusal> {
    let arguments = Arguments::parse(
        body,
        Syntax {
            command: "DEL_ONION",
            needed: 1,
            accepted: 1,
            keywords: Keywords::None,
        },
    )?;
    address(arguments.word(0)).ok_or(Refusal::Syntax("Malformed Onion Service id"))
}

/// ONION_CLIENT_AUTH_ADD.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientAuthAdd {
    /// The service's address.
    pub address: OnionAddress,
    /// The client's x25519 secret key.
    pub key: Zeroizing<[u8; 32]>,
    /// The client's name, if it has one.
    pub client_name: Option<String>,
    /// Keep it in a file, not only in memory.
    pub is_permanent: bool,
}

impl std::fmt::Debug for ClientAuthAdd {
    /// Without the key: it is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuthAdd")
            .field("is_permanent", &self.is_permanent)
            .finish_non_exhaustive()
    }
}

impl ClientAuthAdd {
    pub(super) fn parse(body: &[u8]) -> Result<ClientAuthAdd, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "ONION_CLIENT_AUTH_ADD",
                needed: 0,
                accepted: 2,
                keywords: Keywords::Any(PLAIN),
            },
        )?;
        if arguments.words.len() < 2 {
            return Err(Refusal::Syntax("Incomplete ONION_CLIENT_AUTH_ADD command"));
        }
        let address = onion_address(arguments.word(0))?;
        let (kind, blob) = arguments.word(1).split_once(':').unwrap_or_default();
        if kind.is_empty() || blob.is_empty() {
            return Err(Refusal::Syntax("Invalid key type/blob"));
        }
        if !kind.eq_ignore_ascii_case("x25519") {
            return Err(Refusal::ClientKeyType(kind.to_owned()));
        }
        let bytes = encoding::base64_decode(blob).map(Zeroizing::new);
        let key = bytes.and_then(|bytes| Some(Zeroizing::new(bytes.as_slice().try_into().ok()?)));
        let key = key.ok_or(Refusal::Syntax("Failed to decode x25519 private key"))?;
        let client_name = arguments.value("ClientName").map(str::to_owned);
        // `tor` complains of a long name and takes it; one reply to one command is given here.
        if client_name
            .as_ref()
            .is_some_and(|name| name.len() > CLIENT_NAME_LEN_MAX)
        {
            return Err(Refusal::Syntax("ClientName longer than 16 chars"));
        }
        let mut is_permanent = false;
        let flags = arguments.value("Flags").unwrap_or_default();
        for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
            if !flag.eq_ignore_ascii_case("Permanent") {
                return Err(Refusal::Flag(flag.to_owned()));
            }
            is_permanent = true;
        }
        Ok(ClientAuthAdd {
            address,
            key,
            client_name: client_name.filter(|name| !name.is_empty()),
            is_permanent,
        })
    }
}

fn onion_address(text: &str) -> Result<OnionAddress, Refusal> {
    address(text).ok_or_else(|| Refusal::OnionAddress(text.to_owned()))
}

/// ONION_CLIENT_AUTH_REMOVE and ONION_CLIENT_AUTH_VIEW: the address, if it is there.
pub(super) fn client_address(
    command: &'static str,
    body: &[u8],
) -> Result<Option<OnionAddress>, Refusal> {
    let arguments = Arguments::parse(
        body,
        Syntax {
            command,
            needed: 0,
            accepted: 1,
            keywords: Keywords::Any(PLAIN),
        },
    )?;
    arguments
        .words
        .first()
        .map(|text| onion_address(text))
        .transpose()
}
