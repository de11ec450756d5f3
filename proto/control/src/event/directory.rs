//! ORCONN, ADDRMAP, GUARD and CLIENTS_SEEN (control-spec 4.1.3, 4.1.7, 4.1.11, 4.1.14).

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_netdoc::timestamp;

use super::push_field;
use crate::keyword::keywords;

keywords! {
    /// How far a channel is.
    pub enum OrStatus {
        New = "NEW",
        Launched = "LAUNCHED",
        Connected = "CONNECTED",
        Failed = "FAILED",
        Closed = "CLOSED",
    }
}

keywords! {
    /// Why a channel ended.
    pub enum OrReason {
        Done = "DONE",
        ConnectRefused = "CONNECTREFUSED",
        Identity = "IDENTITY",
        ConnectReset = "CONNECTRESET",
        Timeout = "TIMEOUT",
        NoRoute = "NOROUTE",
        IoError = "IOERROR",
        ResourceLimit = "RESOURCELIMIT",
        PtMissing = "PT_MISSING",
        Misc = "MISC",
    }
}

keywords! {
    /// What became of a guard.
    pub enum GuardStatus {
        New = "NEW",
        Up = "UP",
        Down = "DOWN",
        Bad = "BAD",
        BadLayer2 = "BAD_L2",
        Good = "GOOD",
        Dropped = "DROPPED",
    }
}

/// ORCONN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrConnEvent {
    /// The channel.
    pub id: u64,
    /// The relay at its other end, or the address where the relay is not known.
    pub target: String,
    /// How far it is.
    pub status: OrStatus,
    /// Why it ended.
    pub reason: Option<OrReason>,
    /// How many circuits it had when it ended.
    pub circuits: Option<u64>,
}

impl std::fmt::Display for OrConnEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = String::new();
        push_field(&mut fields, "REASON", self.reason);
        push_field(&mut fields, "NCIRCS", self.circuits);
        write!(f, "{} {}{fields} ID={}", self.target, self.status, self.id)
    }
}

/// ADDRMAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrMap {
    /// What was asked for.
    pub from: String,
    /// What it is; `None` if it could not be found.
    pub to: Option<String>,
    /// Until when; `None` for ever.
    pub expires: Option<SystemTime>,
    /// Whether it is kept, and not only told.
    pub is_cached: bool,
    /// The stream that asked.
    pub stream: Option<u64>,
}

impl std::fmt::Display for AddrMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The first of the two times is a local one in `tor`, by mistake; ours are both UTC.
        let expires = self
            .expires
            .map(|time| format!("\"{}\"", timestamp::encode(time)));
        let mut fields = String::new();
        push_field(&mut fields, "error", self.to.is_none().then_some("yes"));
        push_field(&mut fields, "EXPIRES", expires.as_ref());
        let is_cached = if self.is_cached { "\"YES\"" } else { "\"NO\"" };
        push_field(&mut fields, "CACHED", Some(is_cached));
        push_field(&mut fields, "STREAMID", self.stream);
        let to = self.to.as_deref().unwrap_or("<error>");
        let until = expires.as_deref().unwrap_or("NEVER");
        write!(f, "{} {to} {until}{fields}", self.from)
    }
}

/// CLIENTS_SEEN; counts are rounded by who makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientsSeen {
    /// Since when.
    pub since: SystemTime,
    /// Clients by country code.
    pub countries: BTreeMap<String, u64>,
    /// Clients by version of IP, `v4` and `v6`.
    pub ip_versions: BTreeMap<String, u64>,
}

impl std::fmt::Display for ClientsSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            let counts = counts.iter().map(|(key, count)| format!("{key}={count}"));
            counts.collect::<Vec<_>>().join(",")
        };
        write!(
            f,
            "TimeStarted=\"{}\" CountrySummary={} IPVersions={}",
            timestamp::encode(self.since),
            list(&self.countries),
            list(&self.ip_versions)
        )
    }
}
