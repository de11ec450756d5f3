//! STATUS_GENERAL, STATUS_CLIENT and STATUS_SERVER (control-spec 4.1.10), and the phases of
//! bootstrapping (5.5), which `GETINFO status/bootstrap-phase` tells, too.

use crate::keyword::keywords;
use crate::text::c_quote;

keywords! {
    /// How much a status matters.
    pub enum Severity {
        Notice = "NOTICE",
        Warn = "WARN",
        Err = "ERR",
    }
}

/// Whom a status is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// The program.
    General,
    /// Its client.
    Client,
    /// Its relay.
    Server,
}

keywords! {
    /// What happened.
    pub enum StatusAction {
        ClockJumped = "CLOCK_JUMPED",
        DangerousVersion = "DANGEROUS_VERSION",
        TooManyConnections = "TOO_MANY_CONNECTIONS",
        Bug = "BUG",
        ClockSkew = "CLOCK_SKEW",
        DirAllUnreachable = "DIR_ALL_UNREACHABLE",
        Bootstrap = "BOOTSTRAP",
        EnoughDirInfo = "ENOUGH_DIR_INFO",
        NotEnoughDirInfo = "NOT_ENOUGH_DIR_INFO",
        CircuitEstablished = "CIRCUIT_ESTABLISHED",
        CircuitNotEstablished = "CIRCUIT_NOT_ESTABLISHED",
        ConsensusArrived = "CONSENSUS_ARRIVED",
        DangerousPort = "DANGEROUS_PORT",
        DangerousSocks = "DANGEROUS_SOCKS",
        SocksUnknownProtocol = "SOCKS_UNKNOWN_PROTOCOL",
        SocksBadHostname = "SOCKS_BAD_HOSTNAME",
        ExternalAddress = "EXTERNAL_ADDRESS",
        CheckingReachability = "CHECKING_REACHABILITY",
        ReachabilitySucceeded = "REACHABILITY_SUCCEEDED",
        ReachabilityFailed = "REACHABILITY_FAILED",
        GoodServerDescriptor = "GOOD_SERVER_DESCRIPTOR",
        AcceptedServerDescriptor = "ACCEPTED_SERVER_DESCRIPTOR",
        BadServerDescriptor = "BAD_SERVER_DESCRIPTOR",
        NameserverStatus = "NAMESERVER_STATUS",
        NameserverAllDown = "NAMESERVER_ALL_DOWN",
        DnsHijacked = "DNS_HIJACKED",
        DnsUseless = "DNS_USELESS",
        HibernationStatus = "HIBERNATION_STATUS",
    }
}

impl StatusAction {
    /// Whom it is about.
    #[must_use]
    pub fn kind(self) -> StatusKind {
        use StatusAction as A;
        match self {
            A::ClockJumped
            | A::DangerousVersion
            | A::TooManyConnections
            | A::Bug
            | A::ClockSkew
            | A::DirAllUnreachable => StatusKind::General,
            A::Bootstrap
            | A::EnoughDirInfo
            | A::NotEnoughDirInfo
            | A::CircuitEstablished
            | A::CircuitNotEstablished
            | A::ConsensusArrived
            | A::DangerousPort
            | A::DangerousSocks
            | A::SocksUnknownProtocol
            | A::SocksBadHostname => StatusKind::Client,
            _ => StatusKind::Server,
        }
    }
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusValue {
    /// A word, written as it is: letters, digits, `_` and what addresses need.
    Word(String),
    /// A text, written in quotes.
    Text(String),
}

/// STATUS_GENERAL, STATUS_CLIENT or STATUS_SERVER, by its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEvent {
    /// How much it matters.
    pub severity: Severity,
    /// What happened.
    pub action: StatusAction,
    /// What is told of it, in order.
    pub arguments: Vec<(&'static str, StatusValue)>,
}

impl std::fmt::Display for StatusEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.severity, self.action)?;
        for (key, value) in &self.arguments {
            match value {
                StatusValue::Word(word) => write!(f, " {key}={word}")?,
                StatusValue::Text(text) => write!(f, " {key}={}", c_quote(text.as_bytes()))?,
            }
        }
        Ok(())
    }
}

/// How far bootstrapping is: a phase of control-spec 5.5 is its progress, tag and summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// From 0 to 100.
    pub progress: u8,
    /// The phase's tag.
    pub tag: String,
    /// What is done next, for humans; `Done` at the end.
    pub summary: String,
    /// What hinders it.
    pub problem: Option<BootstrapProblem>,
}

/// What hinders bootstrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapProblem {
    /// For humans.
    pub warning: String,
    /// Why, as an ORCONN event has it.
    pub reason: super::OrReason,
    /// How many problems there were in this phase.
    pub count: u64,
    /// Whether the user should be told.
    pub should_warn: bool,
    /// The relay.
    pub host: cepa_crypto::RsaId,
    /// Its address.
    pub address: std::net::SocketAddr,
}

impl From<&Bootstrap> for StatusEvent {
    fn from(bootstrap: &Bootstrap) -> StatusEvent {
        let word = |value: &dyn ToString| StatusValue::Word(value.to_string());
        let text = |value: &dyn ToString| StatusValue::Text(value.to_string());
        let mut arguments = vec![
            ("PROGRESS", word(&bootstrap.progress)),
            ("TAG", word(&bootstrap.tag)),
            ("SUMMARY", text(&bootstrap.summary)),
        ];
        if let Some(problem) = &bootstrap.problem {
            let advice = if problem.should_warn {
                "warn"
            } else {
                "ignore"
            };
            arguments.extend([
                ("WARNING", text(&problem.warning)),
                ("REASON", word(&problem.reason)),
                ("COUNT", word(&problem.count)),
                ("RECOMMENDATION", word(&advice)),
                ("HOSTID", text(&problem.host)),
                ("HOSTADDR", text(&problem.address)),
            ]);
        }
        let is_warning = bootstrap
            .problem
            .as_ref()
            .is_some_and(|problem| problem.should_warn);
        StatusEvent {
            severity: if is_warning {
                Severity::Warn
            } else {
                Severity::Notice
            },
            action: StatusAction::Bootstrap,
            arguments,
        }
    }
}
