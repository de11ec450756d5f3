//! From what was cut off the connection to a command with its arguments.

use zeroize::Zeroizing;

use super::arguments::{Arguments, Keywords, PLAIN, SETTINGS, Syntax};
use super::{
    AddOnion, AttachStream, ClientAuthAdd, CloseCircuit, CloseStream, Command, CommandName,
    ExtendCircuit, Feature, HsFetch, HsPost, Mapping, PostDescriptor, Proof, RedirectStream,
    Resolve, SetCircuitPurpose, Setting, onions,
};
use crate::event::EventKind;
use crate::line::RawCommand;
use crate::refusal::Refusal;
use crate::signal::Signal;
use crate::text::{self, Quotes, Style};

/// An event of old that `tor` still takes and never sends.
const RETIRED_EVENT: &str = "AUTHDIR_NEWDESCS";

/// What AUTHENTICATE and AUTHCHALLENGE take: words, quoted or not.
const SECRETS: Style = Style {
    may_omit_keys: true,
    may_omit_values: false,
    quotes: Quotes::Plain,
};

impl Command {
    /// Reads a command; the refusal is what `tor` answers.
    pub fn parse(raw: &RawCommand) -> Result<Command, Refusal> {
        let body = raw.arguments.as_slice();
        let data = raw.data.as_deref().map(Vec::as_slice).unwrap_or_default();
        let name = name(&raw.keyword)?;
        Ok(match name {
            CommandName::SetConf => Command::SetConf(settings("SETCONF", body)?),
            CommandName::ResetConf => Command::ResetConf(settings("RESETCONF", body)?),
            CommandName::GetConf => Command::GetConf(Arguments::words("GETCONF", body)?),
            CommandName::LoadConf => load_conf(body, data)?,
            CommandName::SetEvents => Command::SetEvents(events(body)?),
            CommandName::Authenticate => Command::Authenticate(proof(body)?),
            CommandName::SaveConf => {
                let mut words = Arguments::words("SAVECONF", body)?.into_iter();
                Command::SaveConf(words.any(|word| word.eq_ignore_ascii_case("FORCE")))
            }
            CommandName::Signal => Command::Signal(signal(body)?),
            CommandName::TakeOwnership => Command::TakeOwnership,
            CommandName::DropOwnership => Command::DropOwnership,
            CommandName::MapAddress => Command::MapAddress(mappings(body)?),
            CommandName::GetInfo => Command::GetInfo(Arguments::words("GETINFO", body)?),
            CommandName::ExtendCircuit => Command::ExtendCircuit(ExtendCircuit::parse(body)?),
            CommandName::SetCircuitPurpose => {
                Command::SetCircuitPurpose(SetCircuitPurpose::parse(body)?)
            }
            CommandName::AttachStream => Command::AttachStream(AttachStream::parse(body)?),
            CommandName::PostDescriptor => {
                Command::PostDescriptor(PostDescriptor::parse(body, data)?)
            }
            CommandName::RedirectStream => Command::RedirectStream(RedirectStream::parse(body)?),
            CommandName::CloseStream => Command::CloseStream(CloseStream::parse(body)?),
            CommandName::CloseCircuit => Command::CloseCircuit(CloseCircuit::parse(body)?),
            CommandName::UseFeature => Command::UseFeature(features(body)?),
            CommandName::Resolve => Command::Resolve(Resolve::parse(body)?),
            CommandName::ProtocolInfo => protocol_info(body)?,
            CommandName::AuthChallenge => Command::AuthChallenge(challenge(body)?),
            CommandName::DropGuards => nothing("DROPGUARDS", body, Command::DropGuards)?,
            CommandName::DropTimeouts => nothing("DROPTIMEOUTS", body, Command::DropTimeouts)?,
            CommandName::HsFetch => Command::HsFetch(HsFetch::parse(body)?),
            CommandName::HsPost => Command::HsPost(HsPost::parse(body, data)?),
            CommandName::AddOnion => Command::AddOnion(Box::new(AddOnion::parse(body)?)),
            CommandName::DelOnion => Command::DelOnion(onions::service(body)?),
            CommandName::OnionClientAuthAdd => {
                Command::OnionClientAuthAdd(ClientAuthAdd::parse(body)?)
            }
            CommandName::OnionClientAuthRemove => {
                let address = onions::client_address("ONION_CLIENT_AUTH_REMOVE", body)?;
                let mistake = "Incomplete ONION_CLIENT_AUTH_REMOVE command";
                Command::OnionClientAuthRemove(address.ok_or(Refusal::Syntax(mistake))?)
            }
            CommandName::OnionClientAuthView => {
                let address = onions::client_address("ONION_CLIENT_AUTH_VIEW", body)?;
                Command::OnionClientAuthView(address)
            }
            CommandName::Quit => Command::Quit,
        })
    }
}

fn name(keyword: &str) -> Result<CommandName, Refusal> {
    if keyword.eq_ignore_ascii_case("SETROUTERPURPOSE") {
        return Err(Refusal::Obsolete("SETROUTERPURPOSE"));
    }
    CommandName::from_name(keyword).ok_or_else(|| Refusal::Command(keyword.to_owned()))
}

fn nothing(command: &'static str, body: &[u8], is: Command) -> Result<Command, Refusal> {
    let syntax = Syntax {
        command,
        needed: 0,
        accepted: 0,
        keywords: Keywords::None,
    };
    Arguments::parse(body, syntax).map(|_| is)
}

fn settings(command: &'static str, body: &[u8]) -> Result<Vec<Setting>, Refusal> {
    let syntax = Syntax {
        command,
        needed: 0,
        accepted: 0,
        keywords: Keywords::Any(SETTINGS),
    };
    let pairs = Arguments::parse(body, syntax)?.pairs.into_iter();
    Ok(pairs.map(|(key, value)| Setting { key, value }).collect())
}

fn load_conf(body: &[u8], data: &[u8]) -> Result<Command, Refusal> {
    nothing("+LOADCONF", body, Command::Quit)?;
    let text = String::from_utf8(data.to_vec());
    let text = text.map_err(|_| Refusal::Unrecognized("Invalid config file: not UTF-8".into()))?;
    Ok(Command::LoadConf(text))
}

fn events(body: &[u8]) -> Result<Vec<EventKind>, Refusal> {
    let mut events = Vec::new();
    for word in Arguments::words("SETEVENTS", body)? {
        match EventKind::from_name(&word) {
            Some(kind) => events.push(kind),
            None if word.eq_ignore_ascii_case("EXTENDED") => {}
            None if word.eq_ignore_ascii_case(RETIRED_EVENT) => {}
            None => return Err(Refusal::Event(word)),
        }
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn signal(body: &[u8]) -> Result<Signal, Refusal> {
    let arguments = Arguments::parse(
        body,
        Syntax {
            command: "SIGNAL",
            needed: 1,
            accepted: 1,
            keywords: Keywords::None,
        },
    )?;
    let word = arguments.word(0);
    Signal::from_name(word).ok_or_else(|| Refusal::Signal(word.to_owned()))
}

fn mappings(body: &[u8]) -> Result<Vec<Mapping>, Refusal> {
    let pairs = Arguments::parse(
        body,
        Syntax {
            command: "MAPADDRESS",
            needed: 0,
            accepted: 0,
            keywords: Keywords::Any(PLAIN),
        },
    )?
    .pairs;
    if pairs.is_empty() {
        let mistake = "syntax error: not enough arguments to mapaddress.";
        return Err(Refusal::Syntax(mistake));
    }
    let mapping = |(from, to)| Mapping { from, to };
    Ok(pairs.into_iter().map(mapping).collect())
}

fn features(body: &[u8]) -> Result<Vec<Feature>, Refusal> {
    let words = Arguments::words("USEFEATURE", body)?.into_iter();
    words
        .map(|word| Feature::from_name(&word).ok_or(Refusal::Feature(word)))
        .collect()
}

fn protocol_info(body: &[u8]) -> Result<Command, Refusal> {
    for word in Arguments::words("PROTOCOLINFO", body)? {
        if word.parse::<u64>().is_err() {
            return Err(Refusal::Version(word));
        }
    }
    Ok(Command::ProtocolInfo)
}

fn proof(body: &[u8]) -> Result<Proof, Refusal> {
    let pairs = text::read_pairs(body, SECRETS).ok_or(Refusal::Keywords("AUTHENTICATE"))?;
    let mut pairs = pairs.into_iter();
    let Some(pair) = pairs.next() else {
        return Ok(Proof::Empty);
    };
    if pairs.next().is_some() {
        return Err(Refusal::Syntax("Too many arguments to AUTHENTICATE."));
    }
    if !pair.key.is_empty() {
        let mistake = "AUTHENTICATE does not accept keyword arguments.";
        return Err(Refusal::Syntax(mistake));
    }
    if pair.is_quoted {
        return Ok(Proof::Quoted(pair.value));
    }
    hex(&pair.value).map(Proof::Hex).ok_or(Refusal::Hexadecimal)
}

fn hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    cepa_crypto::encoding::hex_decode(text).map(Zeroizing::new)
}

fn challenge(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let body = body.trim_ascii();
    let word_len = body.iter().position(|byte| *byte == b' ');
    let (method, rest) = body.split_at(word_len.unwrap_or(body.len()));
    if method.is_empty() {
        return Err(Refusal::TooFewArguments {
            command: "AUTHCHALLENGE",
            needed: 1,
        });
    }
    let pairs = text::read_pairs(rest, SECRETS).ok_or(Refusal::Keywords("AUTHCHALLENGE"))?;
    if !method.eq_ignore_ascii_case(b"SAFECOOKIE") {
        let mistake = "AUTHCHALLENGE only supports SAFECOOKIE authentication";
        return Err(Refusal::Challenge(mistake));
    }
    let mut pairs = pairs.into_iter();
    let (Some(nonce), None) = (pairs.next(), pairs.next()) else {
        let mistake = "Wrong number of arguments for AUTHCHALLENGE";
        return Err(Refusal::Syntax(mistake));
    };
    if !nonce.key.is_empty() {
        let mistake = "AUTHCHALLENGE does not accept keyword arguments.";
        return Err(Refusal::Syntax(mistake));
    }
    if nonce.is_quoted {
        return Ok(nonce.value.to_vec());
    }
    let bytes = hex(&nonce.value).ok_or(Refusal::Challenge("Invalid base16 client nonce"))?;
    Ok(bytes.to_vec())
}
