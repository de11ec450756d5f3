//! The commands of a controller as types (control-spec 3): all 33 of `tor` 0.4.9.
//!
//! [`Command::parse`] reads what [`crate::LineReader`] cut, and is as lenient as `tor`: keywords
//! in any case, superfluous words where `tor` takes them, spaces at the end. [`Command::encode`]
//! writes what a controller sends; what it writes is read back as the same command.

mod arguments;
mod circuits;
mod encode;
mod onions;
mod parse;

use cepa_crypto::onion::OnionAddress;
use zeroize::Zeroizing;

use crate::event::EventKind;
use crate::keyword::keywords;
use crate::signal::Signal;

pub use circuits::{
    AttachStream, CloseCircuit, CloseStream, ExtendCircuit, PostDescriptor, RedirectStream,
    Resolve, ServerSpec, SetCircuitPurpose,
};
pub use onions::{
    AddOnion, ClientAuthAdd, HsFetch, HsPost, MAX_STREAMS_UNLIMITED, ONION_CLIENTS_MAX,
    ONION_PORTS_MAX, OnionKey, OnionPort, OnionTarget,
};

keywords! {
    /// What USEFEATURE can turn on (control-spec 3.19); both are always on.
    pub enum Feature {
        VerboseNames = "VERBOSE_NAMES",
        ExtendedEvents = "EXTENDED_EVENTS",
    }
}

keywords! {
    /// The name of a command.
    pub enum CommandName {
        SetConf = "SETCONF",
        ResetConf = "RESETCONF",
        GetConf = "GETCONF",
        LoadConf = "+LOADCONF",
        SetEvents = "SETEVENTS",
        Authenticate = "AUTHENTICATE",
        SaveConf = "SAVECONF",
        Signal = "SIGNAL",
        TakeOwnership = "TAKEOWNERSHIP",
        DropOwnership = "DROPOWNERSHIP",
        MapAddress = "MAPADDRESS",
        GetInfo = "GETINFO",
        ExtendCircuit = "EXTENDCIRCUIT",
        SetCircuitPurpose = "SETCIRCUITPURPOSE",
        AttachStream = "ATTACHSTREAM",
        PostDescriptor = "+POSTDESCRIPTOR",
        RedirectStream = "REDIRECTSTREAM",
        CloseStream = "CLOSESTREAM",
        CloseCircuit = "CLOSECIRCUIT",
        UseFeature = "USEFEATURE",
        Resolve = "RESOLVE",
        ProtocolInfo = "PROTOCOLINFO",
        AuthChallenge = "AUTHCHALLENGE",
        DropGuards = "DROPGUARDS",
        DropTimeouts = "DROPTIMEOUTS",
        HsFetch = "HSFETCH",
        HsPost = "+HSPOST",
        AddOnion = "ADD_ONION",
        DelOnion = "DEL_ONION",
        OnionClientAuthAdd = "ONION_CLIENT_AUTH_ADD",
        OnionClientAuthRemove = "ONION_CLIENT_AUTH_REMOVE",
        OnionClientAuthView = "ONION_CLIENT_AUTH_VIEW",
        Quit = "QUIT",
    }
}

/// An option with its value, as SETCONF gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's name as it was written.
    pub key: String,
    /// Its value; empty asks for the option's zero (SETCONF) or default (RESETCONF).
    pub value: String,
}

/// A mapping that MAPADDRESS asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The address that applications ask for; `0.0.0.0`, `::0` or `.` asks for a made-up one.
    pub from: String,
    /// The address that they get.
    pub to: String,
}

/// A secret that AUTHENTICATE gives, as it was written.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// None.
    Empty,
    /// In quotes: a password.
    Quoted(Zeroizing<Vec<u8>>),
    /// In hexadecimal.
    Hex(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Proof {
    /// Only the kind: it is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Proof::Empty => "Empty",
            Proof::Quoted(_) => "Quoted",
            Proof::Hex(_) => "Hex",
        })
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Set options; those given are set together or not at all.
    SetConf(Vec<Setting>),
    /// Set options back to their defaults, or to the value given.
    ResetConf(Vec<Setting>),
    /// Tell the values of options.
    GetConf(Vec<String>),
    /// Take this text as the configuration file.
    LoadConf(String),
    /// Tell these events, and no others.
    SetEvents(Vec<EventKind>),
    /// Prove who you are.
    Authenticate(Proof),
    /// Write the configuration file, with `true` even over one that includes others.
    SaveConf(bool),
    /// Act as on a signal.
    Signal(Signal),
    /// Exit when this connection closes.
    TakeOwnership,
    /// Do not exit when this connection closes.
    DropOwnership,
    /// Map addresses; those that cannot be are refused one by one.
    MapAddress(Vec<Mapping>),
    /// Tell these keys.
    GetInfo(Vec<String>),
    /// Build or extend a circuit.
    ExtendCircuit(ExtendCircuit),
    /// Change the purpose of a circuit.
    SetCircuitPurpose(SetCircuitPurpose),
    /// Put a stream on a circuit.
    AttachStream(AttachStream),
    /// Take this descriptor.
    PostDescriptor(PostDescriptor),
    /// Change where a stream goes.
    RedirectStream(RedirectStream),
    /// Close a stream.
    CloseStream(CloseStream),
    /// Close a circuit.
    CloseCircuit(CloseCircuit),
    /// Turn features on.
    UseFeature(Vec<Feature>),
    /// Look names or addresses up; the answers come as events.
    Resolve(Resolve),
    /// Tell the methods of authentication.
    ProtocolInfo,
    /// Begin SAFECOOKIE with this nonce of the controller.
    AuthChallenge(Vec<u8>),
    /// Forget all guards.
    DropGuards,
    /// Forget all circuit build times.
    DropTimeouts,
    /// Fetch the descriptor of an onion service; the outcome comes as events.
    HsFetch(HsFetch),
    /// Upload the descriptor of an onion service; the outcome comes as events.
    HsPost(HsPost),
    /// Start an onion service.
    AddOnion(Box<AddOnion>),
    /// Stop the onion service of this address.
    DelOnion(OnionAddress),
    /// Keep a key to an onion service with client authorization.
    OnionClientAuthAdd(ClientAuthAdd),
    /// Forget the key to the onion service of this address.
    OnionClientAuthRemove(OnionAddress),
    /// Tell the keys, all or that of one address.
    OnionClientAuthView(Option<OnionAddress>),
    /// Close the connection.
    Quit,
}

impl Command {
    /// Which command it is.
    #[must_use]
    pub fn name(&self) -> CommandName {
        match self {
            Command::SetConf(_) => CommandName::SetConf,
            Command::ResetConf(_) => CommandName::ResetConf,
            Command::GetConf(_) => CommandName::GetConf,
            Command::LoadConf(_) => CommandName::LoadConf,
            Command::SetEvents(_) => CommandName::SetEvents,
            Command::Authenticate(_) => CommandName::Authenticate,
            Command::SaveConf(_) => CommandName::SaveConf,
            Command::Signal(_) => CommandName::Signal,
            Command::TakeOwnership => CommandName::TakeOwnership,
            Command::DropOwnership => CommandName::DropOwnership,
            Command::MapAddress(_) => CommandName::MapAddress,
            Command::GetInfo(_) => CommandName::GetInfo,
            Command::ExtendCircuit(_) => CommandName::ExtendCircuit,
            Command::SetCircuitPurpose(_) => CommandName::SetCircuitPurpose,
            Command::AttachStream(_) => CommandName::AttachStream,
            Command::PostDescriptor(_) => CommandName::PostDescriptor,
            Command::RedirectStream(_) => CommandName::RedirectStream,
            Command::CloseStream(_) => CommandName::CloseStream,
            Command::CloseCircuit(_) => CommandName::CloseCircuit,
            Command::UseFeature(_) => CommandName::UseFeature,
            Command::Resolve(_) => CommandName::Resolve,
            Command::ProtocolInfo => CommandName::ProtocolInfo,
            Command::AuthChallenge(_) => CommandName::AuthChallenge,
            Command::DropGuards => CommandName::DropGuards,
            Command::DropTimeouts => CommandName::DropTimeouts,
            Command::HsFetch(_) => CommandName::HsFetch,
            Command::HsPost(_) => CommandName::HsPost,
            Command::AddOnion(_) => CommandName::AddOnion,
            Command::DelOnion(_) => CommandName::DelOnion,
            Command::OnionClientAuthAdd(_) => CommandName::OnionClientAuthAdd,
            Command::OnionClientAuthRemove(_) => CommandName::OnionClientAuthRemove,
            Command::OnionClientAuthView(_) => CommandName::OnionClientAuthView,
            Command::Quit => CommandName::Quit,
        }
    }
}

#[cfg(test)]
mod tests;
