//! Commands on circuits, streams, names and descriptors (control-spec 3.10 to 3.17 and 3.20).

use cepa_crypto::RsaId;

use super::arguments::{Arguments, Keywords, PLAIN, Syntax, WORDS};
use crate::event::CircuitPurpose;
use crate::refusal::Refusal;

/// How a controller names a relay (control-spec 2.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerSpec {
    /// By the digest of its identity, with the nickname that it must have, if one is given.
    Fingerprint(RsaId, Option<String>),
    /// By its nickname, which is not unique.
    Nickname(String),
}

impl ServerSpec {
    /// Reads `$FINGERPRINT`, `$FINGERPRINT~nickname`, `$FINGERPRINT=nickname`, a fingerprint
    /// without `$`, or a nickname of 1 to 19 letters and digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<ServerSpec> {
        let is_nickname = |name: &str| {
            (1..=19).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let (id, nickname) = match text.split_once(['~', '=']) {
            Some((id, nickname)) if is_nickname(nickname) => (id, Some(nickname.to_owned())),
            Some(_) => return None,
            None => (text, None),
        };
        let digits = id.strip_prefix('$').unwrap_or(id);
        if let Ok(id) = digits.parse() {
            return Some(ServerSpec::Fingerprint(id, nickname));
        }
        (nickname.is_none() && is_nickname(text)).then(|| ServerSpec::Nickname(text.to_owned()))
    }
}

impl std::fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServerSpec::Fingerprint(id, Some(nickname)) => write!(f, "${id}~{nickname}"),
            ServerSpec::Fingerprint(id, None) => write!(f, "${id}"),
            ServerSpec::Nickname(nickname) => f.write_str(nickname),
        }
    }
}

/// EXTENDCIRCUIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendCircuit {
    /// The circuit as it was named; `0` asks for a new one.
    pub circuit: String,
    /// Its relays as they were named; empty where the program is to choose.
    pub path: Vec<String>,
    /// The purpose, if one is given.
    pub purpose: Option<CircuitPurpose>,
}

impl ExtendCircuit {
    pub(super) fn parse(body: &[u8]) -> Result<ExtendCircuit, Refusal> {
        let mut arguments = Arguments::parse(
            body,
            Syntax {
                command: "EXTENDCIRCUIT",
                needed: 1,
                accepted: 1,
                keywords: Keywords::Any(WORDS),
            },
        )?;
        // The path is the first word behind the circuit if it has no value, whatever it is called;
        // what follows it is read for a purpose.
        let path = arguments
            .pairs
            .first()
            .filter(|(_, value)| value.is_empty());
        let path = path.map(|(path, _)| path.split(',').map(str::to_owned).collect());
        if path.is_some() {
            arguments.pairs.remove(0);
        }
        let path: Vec<String> = path.unwrap_or_default();
        let purpose = arguments.value("purpose").map(purpose).transpose()?;
        Ok(ExtendCircuit {
            circuit: arguments.word(0).to_owned(),
            path,
            purpose,
        })
    }

    /// The relays, read. A circuit that is not known is refused before a relay that is not.
    pub fn servers(&self) -> Result<Vec<ServerSpec>, Refusal> {
        if self.circuit != "0" && self.path.is_empty() {
            return Err(Refusal::Syntax("syntax error: not enough arguments."));
        }
        let server =
            |name: &String| ServerSpec::parse(name).ok_or_else(|| Refusal::Router(name.clone()));
        self.path.iter().map(server).collect()
    }
}

/// The purposes that a controller may give to a circuit.
fn purpose(text: &str) -> Result<CircuitPurpose, Refusal> {
    match CircuitPurpose::from_name(text) {
        Some(known @ (CircuitPurpose::General | CircuitPurpose::Controller)) => Ok(known),
        _ => Err(Refusal::Purpose(text.to_owned())),
    }
}

/// SETCIRCUITPURPOSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCircuitPurpose {
    /// The circuit as it was named.
    pub circuit: String,
    /// What it is for from now on; `None` if it was not said in a word that is known.
    pub purpose: Result<CircuitPurpose, String>,
}

impl SetCircuitPurpose {
    pub(super) fn parse(body: &[u8]) -> Result<SetCircuitPurpose, Refusal> {
        // `tor` 0.4.9.11 aborts without an argument; here it is a mistake as everywhere.
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "SETCIRCUITPURPOSE",
                needed: 1,
                accepted: 1,
                keywords: Keywords::Any(PLAIN),
            },
        )?;
        let text = arguments.value("purpose").unwrap_or_default();
        // An unknown circuit is refused before an unknown purpose, so both are handed on.
        let purpose = purpose(text).map_err(|_| text.to_owned());
        Ok(SetCircuitPurpose {
            circuit: arguments.word(0).to_owned(),
            purpose,
        })
    }
}

/// ATTACHSTREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachStream {
    /// The stream as it was named.
    pub stream: String,
    /// The circuit as it was named; `0` gives the choice back.
    pub circuit: String,
    /// The hop at which the stream is to leave, counted from 1, as it was written.
    pub hop: Option<String>,
}

impl AttachStream {
    pub(super) fn parse(body: &[u8]) -> Result<AttachStream, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "ATTACHSTREAM",
                needed: 2,
                accepted: 2,
                keywords: Keywords::Only(&["HOP"]),
            },
        )?;
        Ok(AttachStream {
            stream: arguments.word(0).to_owned(),
            circuit: arguments.word(1).to_owned(),
            hop: arguments.value("HOP").map(str::to_owned),
        })
    }

    /// The hop as a number, counted from 1.
    pub fn hop_number(&self) -> Result<Option<u8>, Refusal> {
        let number = |hop: &String| {
            let number = hop.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| Refusal::Hop(hop.clone()))
        };
        self.hop.as_ref().map(number).transpose()
    }
}

/// REDIRECTSTREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectStream {
    /// The stream as it was named.
    pub stream: String,
    /// Where it goes from now on.
    pub address: String,
    /// Its port from now on, as it was written.
    pub port: Option<String>,
}

impl RedirectStream {
    pub(super) fn parse(body: &[u8]) -> Result<RedirectStream, Refusal> {
        let arguments = at_least_two("REDIRECTSTREAM", body)?;
        Ok(RedirectStream {
            stream: arguments.word(0).to_owned(),
            address: arguments.word(1).to_owned(),
            port: arguments.words.get(2).cloned(),
        })
    }

    /// The port as a number above zero.
    pub fn port_number(&self) -> Result<Option<u16>, Refusal> {
        let number = |port: &String| {
            let number = port.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| Refusal::Port(port.clone()))
        };
        self.port.as_ref().map(number).transpose()
    }
}

fn at_least_two(command: &'static str, body: &[u8]) -> Result<Arguments, Refusal> {
    let words = Arguments::words(command, body)?;
    if words.len() < 2 {
        return Err(Refusal::TooFewArguments { command, needed: 2 });
    }
    let pairs = Vec::new();
    Ok(Arguments { words, pairs })
}

/// CLOSESTREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseStream {
    /// The stream as it was named.
    pub stream: String,
    /// The reason of tor-spec's RELAY_END, as it was written.
    pub reason: String,
}

impl CloseStream {
    pub(super) fn parse(body: &[u8]) -> Result<CloseStream, Refusal> {
        let arguments = at_least_two("CLOSESTREAM", body)?;
        Ok(CloseStream {
            stream: arguments.word(0).to_owned(),
            reason: arguments.word(1).to_owned(),
        })
    }

    /// The reason as a number.
    pub fn reason_number(&self) -> Result<u8, Refusal> {
        let number = self.reason.parse();
        number.map_err(|_| Refusal::Reason(self.reason.clone()))
    }
}

/// CLOSECIRCUIT; flags that are not known are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseCircuit {
    /// The circuit as it was named.
    pub circuit: String,
    /// Only if no stream is on it.
    pub if_unused: bool,
}

impl CloseCircuit {
    pub(super) fn parse(body: &[u8]) -> Result<CloseCircuit, Refusal> {
        let mut words = Arguments::words("CLOSECIRCUIT", body)?.into_iter();
        let circuit = words.next().ok_or(Refusal::TooFewArguments {
            command: "CLOSECIRCUIT",
            needed: 1,
        })?;
        let if_unused = words.any(|flag| flag.eq_ignore_ascii_case("IfUnused"));
        Ok(CloseCircuit { circuit, if_unused })
    }
}

/// RESOLVE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Look up the names of addresses, not the addresses of names.
    pub is_reverse: bool,
    /// What to look up, each for itself.
    pub names: Vec<String>,
}

impl Resolve {
    pub(super) fn parse(body: &[u8]) -> Result<Resolve, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "RESOLVE",
                needed: 0,
                accepted: 0,
                keywords: Keywords::Any(WORDS),
            },
        )?;
        let mode = arguments.value("mode");
        let names = arguments.pairs.iter().filter(|(_, value)| value.is_empty());
        Ok(Resolve {
            is_reverse: mode.is_some_and(|mode| mode.eq_ignore_ascii_case("reverse")),
            names: names.map(|(name, _)| name.clone()).collect(),
        })
    }
}

/// +POSTDESCRIPTOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostDescriptor {
    /// What the relay is for: `general`, `controller` or `bridge`, as it was written.
    pub purpose: Option<String>,
    /// Whether to keep it, where that was said.
    pub cache: Option<bool>,
    /// The descriptor.
    pub descriptor: String,
}

impl PostDescriptor {
    pub(super) fn parse(body: &[u8], data: &[u8]) -> Result<PostDescriptor, Refusal> {
        let arguments = Arguments::parse(
            body,
            Syntax {
                command: "+POSTDESCRIPTOR",
                needed: 0,
                accepted: 0,
                keywords: Keywords::Only(&["cache", "purpose"]),
            },
        )?;
        let purpose = arguments.value("purpose").map(str::to_owned);
        let is_known = |purpose: &String| {
            ["general", "controller", "bridge"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(purpose))
        };
        if let Some(unknown) = purpose.as_ref().filter(|purpose| !is_known(purpose)) {
            return Err(Refusal::Purpose(unknown.clone()));
        }
        let cache = match arguments.value("cache") {
            None => None,
            Some(word) if word.eq_ignore_ascii_case("yes") => Some(true),
            Some(word) if word.eq_ignore_ascii_case("no") => Some(false),
            Some(word) => return Err(Refusal::Cache(word.to_owned())),
        };
        let descriptor = String::from_utf8(data.to_vec())
            .map_err(|_| Refusal::Descriptor("Couldn't parse router descriptor."))?;
        Ok(PostDescriptor {
            purpose,
            cache,
            descriptor,
        })
    }
}
