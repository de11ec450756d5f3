//! CIRC and CIRC_MINOR, and the lines of `GETINFO circuit-status` (control-spec 4.1.1, 4.1.19).

use std::time::SystemTime;

use super::{LongName, push_field, time_with_micros};
use crate::keyword::keywords;
use crate::text::c_quote;

keywords! {
    /// How far a circuit is.
    pub enum CircuitStatus {
        Launched = "LAUNCHED",
        Built = "BUILT",
        GuardWait = "GUARD_WAIT",
        Extended = "EXTENDED",
        Failed = "FAILED",
        Closed = "CLOSED",
    }
}

keywords! {
    /// What was asked of a circuit when it was built.
    pub enum BuildFlag {
        OneHopTunnel = "ONEHOP_TUNNEL",
        IsInternal = "IS_INTERNAL",
        NeedCapacity = "NEED_CAPACITY",
        NeedUptime = "NEED_UPTIME",
    }
}

keywords! {
    /// What a circuit is for.
    pub enum CircuitPurpose {
        General = "GENERAL",
        HsClientIntro = "HS_CLIENT_INTRO",
        HsClientHsdir = "HS_CLIENT_HSDIR",
        HsClientRend = "HS_CLIENT_REND",
        HsServiceHsdir = "HS_SERVICE_HSDIR",
        HsServiceIntro = "HS_SERVICE_INTRO",
        HsServiceRend = "HS_SERVICE_REND",
        Testing = "TESTING",
        Controller = "CONTROLLER",
        MeasureTimeout = "MEASURE_TIMEOUT",
        HsVanguards = "HS_VANGUARDS",
        PathBiasTesting = "PATH_BIAS_TESTING",
        CircuitPadding = "CIRCUIT_PADDING",
        ConfluxUnlinked = "CONFLUX_UNLINKED",
        ConfluxLinked = "CONFLUX_LINKED",
    }
}

keywords! {
    /// How far a circuit to an onion service is.
    pub enum HsState {
        ClientIntroConnecting = "HSCI_CONNECTING",
        ClientIntroSent = "HSCI_INTRO_SENT",
        ClientIntroDone = "HSCI_DONE",
        ClientRendConnecting = "HSCR_CONNECTING",
        ClientRendIdle = "HSCR_ESTABLISHED_IDLE",
        ClientRendWaiting = "HSCR_ESTABLISHED_WAITING",
        ClientRendJoined = "HSCR_JOINED",
        ServiceIntroConnecting = "HSSI_CONNECTING",
        ServiceIntroEstablished = "HSSI_ESTABLISHED",
        ServiceRendConnecting = "HSSR_CONNECTING",
        ServiceRendJoined = "HSSR_JOINED",
    }
}

keywords! {
    /// Why a circuit ended: the reasons of DESTROY (tor-spec 5.4) and those of our own.
    pub enum CircuitReason {
        None = "NONE",
        TorProtocol = "TORPROTOCOL",
        Internal = "INTERNAL",
        Requested = "REQUESTED",
        Hibernating = "HIBERNATING",
        ResourceLimit = "RESOURCELIMIT",
        ConnectFailed = "CONNECTFAILED",
        OrIdentity = "OR_IDENTITY",
        ChannelClosed = "CHANNEL_CLOSED",
        Finished = "FINISHED",
        Timeout = "TIMEOUT",
        Destroyed = "DESTROYED",
        NoPath = "NOPATH",
        NoSuchService = "NOSUCHSERVICE",
        MeasurementExpired = "MEASUREMENT_EXPIRED",
        IpNowRedundant = "IP_NOW_REDUNDANT",
    }
}

keywords! {
    /// What happened to a circuit that did not change its status.
    pub enum CircuitMinor {
        PurposeChanged = "PURPOSE_CHANGED",
        Cannibalized = "CANNIBALIZED",
    }
}

/// What is told of a circuit whatever happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitDescription {
    /// The hops that are built, first the guard.
    pub path: Vec<LongName>,
    /// What was asked of it.
    pub build_flags: Vec<BuildFlag>,
    /// What it is for.
    pub purpose: CircuitPurpose,
    /// How far its onion service is, if it has one.
    pub hs_state: Option<HsState>,
    /// The address of its onion service, without `.onion`.
    pub rend_query: Option<String>,
    /// When it was launched, or taken for its use.
    pub created: SystemTime,
    /// The SOCKS user whose streams it carries.
    pub socks_username: Option<Vec<u8>>,
    /// His password.
    pub socks_password: Option<Vec<u8>>,
    /// The effort of its proof of work.
    pub pow_effort: Option<u32>,
}

impl std::fmt::Display for CircuitDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path: Vec<String> = self.path.iter().map(ToString::to_string).collect();
        let flags: Vec<&str> = self.build_flags.iter().map(|flag| flag.name()).collect();
        let mut line = path.join(",");
        if !flags.is_empty() {
            push_field(&mut line, "BUILD_FLAGS", Some(flags.join(",")));
        }
        push_field(&mut line, "PURPOSE", Some(self.purpose));
        push_field(&mut line, "HS_STATE", self.hs_state);
        push_field(&mut line, "REND_QUERY", self.rend_query.as_ref());
        push_field(
            &mut line,
            "TIME_CREATED",
            Some(time_with_micros(self.created)),
        );
        let quoted = |text: &Option<Vec<u8>>| text.as_ref().map(|text| c_quote(text));
        push_field(&mut line, "SOCKS_USERNAME", quoted(&self.socks_username));
        push_field(&mut line, "SOCKS_PASSWORD", quoted(&self.socks_password));
        push_field(
            &mut line,
            "HS_POW",
            self.pow_effort.map(|effort| format!("v1,{effort}")),
        );
        f.write_str(line.trim_start())
    }
}

/// CIRC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitEvent {
    /// The circuit.
    pub id: u64,
    /// How far it is.
    pub status: CircuitStatus,
    /// What it is.
    pub description: CircuitDescription,
    /// Why it ended.
    pub reason: Option<CircuitReason>,
    /// Why the relay at the other end closed it, if it did.
    pub remote_reason: Option<CircuitReason>,
}

impl std::fmt::Display for CircuitEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reasons = String::new();
        push_field(&mut reasons, "REASON", self.reason);
        push_field(&mut reasons, "REMOTE_REASON", self.remote_reason);
        write!(
            f,
            "{} {} {}{reasons}",
            self.id, self.status, self.description
        )
    }
}

/// CIRC_MINOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitMinorEvent {
    /// The circuit.
    pub id: u64,
    /// What happened.
    pub event: CircuitMinor,
    /// What it is from now on.
    pub description: CircuitDescription,
    /// What it was for.
    pub old_purpose: CircuitPurpose,
    /// How far its onion service was, if it had one.
    pub old_hs_state: Option<HsState>,
}

impl std::fmt::Display for CircuitMinorEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut old = String::new();
        push_field(&mut old, "OLD_PURPOSE", Some(self.old_purpose));
        push_field(&mut old, "OLD_HS_STATE", self.old_hs_state);
        write!(f, "{} {} {}{old}", self.id, self.event, self.description)
    }
}
