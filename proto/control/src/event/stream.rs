//! STREAM (control-spec 4.1.2).

use std::net::SocketAddr;

use super::push_field;
use crate::keyword::keywords;
use crate::text::c_quote;

keywords! {
    /// How far a stream is.
    pub enum StreamStatus {
        New = "NEW",
        NewResolve = "NEWRESOLVE",
        Remap = "REMAP",
        SentConnect = "SENTCONNECT",
        SentResolve = "SENTRESOLVE",
        Succeeded = "SUCCEEDED",
        Failed = "FAILED",
        Closed = "CLOSED",
        Detached = "DETACHED",
        ControllerWait = "CONTROLLER_WAIT",
        XoffSent = "XOFF_SENT",
        XoffReceived = "XOFF_RECV",
        XonSent = "XON_SENT",
        XonReceived = "XON_RECV",
    }
}

keywords! {
    /// Why a stream ended: the reasons of RELAY_END (tor-spec 6.3) and those of our own.
    pub enum StreamReason {
        Misc = "MISC",
        ResolveFailed = "RESOLVEFAILED",
        ConnectRefused = "CONNECTREFUSED",
        ExitPolicy = "EXITPOLICY",
        Destroy = "DESTROY",
        Done = "DONE",
        Timeout = "TIMEOUT",
        NoRoute = "NOROUTE",
        Hibernating = "HIBERNATING",
        Internal = "INTERNAL",
        ResourceLimit = "RESOURCELIMIT",
        ConnReset = "CONNRESET",
        TorProtocol = "TORPROTOCOL",
        NotDirectory = "NOTDIRECTORY",
        End = "END",
        PrivateAddr = "PRIVATE_ADDR",
        NetUnreachable = "NET_UNREACHABLE",
        CantAttach = "CANT_ATTACH",
    }
}

keywords! {
    /// From where a stream got another address.
    pub enum RemapSource {
        Cache = "CACHE",
        Exit = "EXIT",
    }
}

keywords! {
    /// What a stream is for.
    pub enum StreamPurpose {
        DirFetch = "DIR_FETCH",
        DirUpload = "DIR_UPLOAD",
        DirPortTest = "DIRPORT_TEST",
        DnsRequest = "DNS_REQUEST",
        User = "USER",
    }
}

keywords! {
    /// By which protocol a stream came.
    pub enum ClientProtocol {
        Socks4 = "SOCKS4",
        Socks5 = "SOCKS5",
        Trans = "TRANS",
        Natd = "NATD",
        Dns = "DNS",
        HttpConnect = "HTTPCONNECT",
        Metrics = "METRICS",
        Unknown = "UNKNOWN",
    }
}

keywords! {
    /// What keeps the streams of a listener apart.
    pub enum IsoField {
        ClientPort = "CLIENTPORT",
        ClientAddr = "CLIENTADDR",
        DestPort = "DESTPORT",
        DestAddr = "DESTADDR",
        SocksUsername = "SOCKS_USERNAME",
        SocksPassword = "SOCKS_PASSWORD",
        ClientProtocol = "CLIENT_PROTOCOL",
        SessionGroup = "SESSION_GROUP",
        NymEpoch = "NYM_EPOCH",
    }
}

/// What a stream shares no circuit over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIsolation {
    /// The SOCKS user.
    pub socks_username: Option<Vec<u8>>,
    /// His password.
    pub socks_password: Option<Vec<u8>>,
    /// By which protocol it came.
    pub client_protocol: ClientProtocol,
    /// How often NEWNYM was asked for before it.
    pub nym_epoch: u64,
    /// The group of its listener.
    pub session_group: i64,
    /// What of it is looked at.
    pub iso_fields: Vec<IsoField>,
}

/// STREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The stream.
    pub id: u64,
    /// How far it is.
    pub status: StreamStatus,
    /// Its circuit; 0 for none.
    pub circuit: u64,
    /// Where it goes, without spaces, an IPv6 address in brackets.
    pub target: String,
    /// The port there.
    pub port: u16,
    /// Why it ended.
    pub reason: Option<StreamReason>,
    /// Why the other side ended it, if it did.
    pub remote_reason: Option<StreamReason>,
    /// From where it got another address.
    pub source: Option<RemapSource>,
    /// Who asked for it.
    pub source_addr: Option<SocketAddr>,
    /// What it is for.
    pub purpose: Option<StreamPurpose>,
    /// What it shares no circuit over.
    pub isolation: Option<StreamIsolation>,
}

impl std::fmt::Display for StreamEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = String::new();
        push_field(&mut fields, "REASON", self.reason);
        push_field(&mut fields, "REMOTE_REASON", self.remote_reason);
        push_field(&mut fields, "SOURCE", self.source);
        push_field(&mut fields, "SOURCE_ADDR", self.source_addr);
        push_field(&mut fields, "PURPOSE", self.purpose);
        if let Some(isolation) = &self.isolation {
            let quoted = |text: &Option<Vec<u8>>| text.as_ref().map(|text| c_quote(text));
            push_field(
                &mut fields,
                "SOCKS_USERNAME",
                quoted(&isolation.socks_username),
            );
            push_field(
                &mut fields,
                "SOCKS_PASSWORD",
                quoted(&isolation.socks_password),
            );
            push_field(
                &mut fields,
                "CLIENT_PROTOCOL",
                Some(isolation.client_protocol),
            );
            push_field(&mut fields, "NYM_EPOCH", Some(isolation.nym_epoch));
            push_field(&mut fields, "SESSION_GROUP", Some(isolation.session_group));
            let names: Vec<&str> = isolation
                .iso_fields
                .iter()
                .map(|field| field.name())
                .collect();
            push_field(&mut fields, "ISO_FIELDS", Some(names.join(",")));
        }
        let StreamEvent {
            id,
            status,
            circuit,
            target,
            port,
            ..
        } = self;
        write!(f, "{id} {status} {circuit} {target}:{port}{fields}")
    }
}
