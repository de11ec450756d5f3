//! `tor`'s defences against denial of service, under its names (tor(1), "DENIAL OF SERVICE
//! MITIGATION OPTIONS"; param-spec 9; the changelog of 0.4.9.15 for BEGIN_DIR).
//!
//! The values are the operator's, or else the consensus's, or else `tor`'s defaults. Which of a
//! rule's things were refused is counted under the types of `tor_relay_dos_total`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Rate;

/// `DoSConnection…`: links of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRules {
    /// `DoSConnectionEnabled`.
    pub is_enabled: bool,
    /// `DoSConnectionDefenseType` is not 1.
    pub defends: bool,
    /// `DoSConnectionMaxConcurrentCount`.
    pub concurrent_max: u32,
    /// `DoSConnectionConnectRate` and `DoSConnectionConnectBurst`.
    pub connect: Option<Rate>,
    /// `DoSConnectionConnectDefenseTimePeriod`.
    pub period: Duration,
}

/// What is done about who creates too many circuits (`DoSCircuitCreationDefenseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitDefense {
    /// 1: nothing.
    None,
    /// 2: all of his circuits are refused for the period.
    Mark,
    /// 3, ours: those beyond the rate are refused, as introductions are (proposal 305).
    Limit,
}

/// `DoSCircuitCreation…`: circuits of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitRules {
    /// `DoSCircuitCreationEnabled`.
    pub is_enabled: bool,
    /// `DoSCircuitCreationMinConnections`.
    pub min_connections: u32,
    /// `DoSCircuitCreationRate` and `DoSCircuitCreationBurst`.
    pub rate: Option<Rate>,
    /// `DoSCircuitCreationDefenseType`.
    pub defense: CircuitDefense,
    /// `DoSCircuitCreationDefenseTimePeriod`.
    pub period: Duration,
}

/// What is done about a circuit that opens too many streams (`DoSStreamCreationDefenseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamDefense {
    /// 1: nothing.
    None,
    /// 2: the stream is refused.
    Reject,
    /// 3: the circuit is closed.
    Close,
}

/// `DoSStreamCreation…` and `DoSBeginDir…`: streams of one circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRules {
    /// `DoSStreamCreationEnabled`, `DoSBeginDirRateEnabled`.
    pub is_enabled: bool,
    /// The rate and the burst.
    pub rate: Option<Rate>,
    /// The defence.
    pub defense: StreamDefense,
}

/// All parameters of `tor`'s defences against denial of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DosParams {
    /// Links.
    pub connection: ConnectionRules,
    /// Circuits.
    pub circuit: CircuitRules,
    /// Streams and look-ups.
    pub stream: StreamRules,
    /// Directory streams.
    pub begin_dir: StreamRules,
    /// `DoSBeginDirLimitEnabled`: one directory stream for each circuit of an authenticated relay.
    pub begin_dir_once: bool,
    /// `DoSRefuseSingleHopClientRendezvous`.
    pub refuses_single_hop: bool,
    /// What would be refused is counted and told, and let through.
    pub is_dry_run: bool,
}

/// What an operator decides: values by `tor`'s names, each within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DosOptions {
    /// They go before what the consensus says.
    pub values: BTreeMap<&'static str, i32>,
    /// See [`DosParams::is_dry_run`].
    pub is_dry_run: bool,
}

/// `tor`'s name of a parameter, its default, least and greatest value.
type Param = (&'static str, i32, i32, i32);

const MAX: i32 = i32::MAX;
/// All parameters; the operator's options have the same names.
pub const DOS_PARAMS: [Param; 22] = [
    ("DoSConnectionEnabled", 0, 0, 1),
    ("DoSConnectionDefenseType", 2, 1, 2),
    ("DoSConnectionMaxConcurrentCount", 100, 1, MAX),
    ("DoSConnectionConnectRate", 20, 1, MAX),
    ("DoSConnectionConnectBurst", 40, 1, MAX),
    ("DoSConnectionConnectDefenseTimePeriod", 24 * 3600, 10, MAX),
    ("DoSCircuitCreationEnabled", 0, 0, 1),
    ("DoSCircuitCreationMinConnections", 3, 1, MAX),
    ("DoSCircuitCreationRate", 3, 1, MAX),
    ("DoSCircuitCreationBurst", 90, 1, MAX),
    ("DoSCircuitCreationDefenseType", 2, 1, 3),
    ("DoSCircuitCreationDefenseTimePeriod", 3600, 0, MAX),
    ("DoSStreamCreationEnabled", 0, 0, 1),
    ("DoSStreamCreationDefenseType", 2, 1, 3),
    ("DoSStreamCreationRate", 100, 1, MAX),
    ("DoSStreamCreationBurst", 300, 1, MAX),
    ("DoSBeginDirRateEnabled", 1, 0, 1),
    ("DoSBeginDirDefenseType", 3, 1, 3),
    ("DoSBeginDirRate", 10, 1, MAX),
    ("DoSBeginDirBurst", 60, 1, MAX),
    ("DoSBeginDirLimitEnabled", 0, 0, 1),
    ("DoSRefuseSingleHopClientRendezvous", 0, 0, 1),
];

impl DosParams {
    /// What the operator decides and, for the rest, `value(name, default, min, max)`.
    pub fn of(options: &DosOptions, value: impl Fn(&str, i32, i32, i32) -> i32) -> Self {
        let read = DosParams::read(|name, default, min, max| {
            let chosen = options.values.get(name).copied();
            chosen.unwrap_or_else(|| value(name, default, min, max))
        });
        DosParams {
            is_dry_run: options.is_dry_run,
            ..read
        }
    }

    /// Reads each parameter by `value(name, default, min, max)`.
    pub fn read(value: impl Fn(&str, i32, i32, i32) -> i32) -> Self {
        let number = |wanted: &str| {
            let known = DOS_PARAMS.iter().find(|(name, ..)| *name == wanted);
            debug_assert!(known.is_some(), "{wanted} is in the table");
            known.map_or(0, |(name, default, min, max)| {
                value(name, *default, *min, *max).unsigned_abs()
            })
        };
        let is_on = |name: &str| number(name) == 1;
        let seconds = |name: &str| Duration::from_secs(number(name).into());
        let streams = |enabled: &str, rule: &str| StreamRules {
            is_enabled: is_on(enabled),
            rate: Rate::new(
                number(&format!("{rule}Rate")),
                number(&format!("{rule}Burst")),
            ),
            defense: match number(&format!("{rule}DefenseType")) {
                1 => StreamDefense::None,
                2 => StreamDefense::Reject,
                _ => StreamDefense::Close,
            },
        };
        DosParams {
            connection: ConnectionRules {
                is_enabled: is_on("DoSConnectionEnabled"),
                defends: number("DoSConnectionDefenseType") != 1,
                concurrent_max: number("DoSConnectionMaxConcurrentCount"),
                connect: Rate::new(
                    number("DoSConnectionConnectRate"),
                    number("DoSConnectionConnectBurst"),
                ),
                period: seconds("DoSConnectionConnectDefenseTimePeriod"),
            },
            circuit: CircuitRules {
                is_enabled: is_on("DoSCircuitCreationEnabled"),
                min_connections: number("DoSCircuitCreationMinConnections"),
                rate: Rate::new(
                    number("DoSCircuitCreationRate"),
                    number("DoSCircuitCreationBurst"),
                ),
                defense: match number("DoSCircuitCreationDefenseType") {
                    1 => CircuitDefense::None,
                    2 => CircuitDefense::Mark,
                    _ => CircuitDefense::Limit,
                },
                period: seconds("DoSCircuitCreationDefenseTimePeriod"),
            },
            stream: streams("DoSStreamCreationEnabled", "DoSStreamCreation"),
            begin_dir: streams("DoSBeginDirRateEnabled", "DoSBeginDir"),
            begin_dir_once: is_on("DoSBeginDirLimitEnabled"),
            refuses_single_hop: is_on("DoSRefuseSingleHopClientRendezvous"),
            is_dry_run: false,
        }
    }
}

impl Default for DosParams {
    /// `tor`'s defaults: what holds where neither operator nor consensus says anything.
    fn default() -> Self {
        DosParams::read(|_, default, _, _| default)
    }
}

/// What was refused, by rule; each is a type of `tor_relay_dos_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DosRule {
    /// Circuits of marked addresses, or beyond the rate.
    CircuitRejected,
    /// Addresses that were marked for their circuits.
    MarkedAddress,
    /// Links of addresses that connect too often.
    ConnRejected,
    /// Links of addresses that have too many.
    ConcurrentConnRejected,
    /// Rendezvous points for who is one hop away.
    SingleHopRefused,
    /// Introductions beyond a service's rate.
    Introduce2Rejected,
    /// Streams beyond a circuit's rate.
    StreamRejected,
    /// Directory streams beyond the first of a relay's circuit.
    BeginDirRejected,
    /// Directory streams beyond a circuit's rate.
    BeginDirRateRejected,
}

impl DosRule {
    /// All, in the order of the metrics.
    pub const ALL: [DosRule; 9] = [
        DosRule::CircuitRejected,
        DosRule::MarkedAddress,
        DosRule::ConnRejected,
        DosRule::ConcurrentConnRejected,
        DosRule::SingleHopRefused,
        DosRule::Introduce2Rejected,
        DosRule::StreamRejected,
        DosRule::BeginDirRejected,
        DosRule::BeginDirRateRejected,
    ];

    /// `tor`'s name of the type.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            DosRule::CircuitRejected => "circuit_rejected",
            DosRule::MarkedAddress => "marked_address",
            DosRule::ConnRejected => "conn_rejected",
            DosRule::ConcurrentConnRejected => "concurrent_conn_rejected",
            DosRule::SingleHopRefused => "single_hop_refused",
            DosRule::Introduce2Rejected => "introduce2_rejected",
            DosRule::StreamRejected => "stream_rejected",
            DosRule::BeginDirRejected => "begindir_rejected",
            DosRule::BeginDirRateRejected => "begindir_rate_rejected",
        }
    }

    /// The option that an operator finds in tor(1).
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            DosRule::CircuitRejected | DosRule::MarkedAddress => "DoSCircuitCreationRate",
            DosRule::ConnRejected => "DoSConnectionConnectRate",
            DosRule::ConcurrentConnRejected => "DoSConnectionMaxConcurrentCount",
            DosRule::SingleHopRefused => "DoSRefuseSingleHopClientRendezvous",
            DosRule::Introduce2Rejected => "HiddenServiceEnableIntroDoSRatePerSec",
            DosRule::StreamRejected => "DoSStreamCreationRate",
            DosRule::BeginDirRejected => "DoSBeginDirLimitEnabled",
            DosRule::BeginDirRateRejected => "DoSBeginDirRate",
        }
    }
}

/// How often each rule was applied, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DosCounts([u64; DosRule::ALL.len()]);

impl serde::Serialize for DosCounts {
    /// By the label of each rule.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = DosRule::ALL.into_iter();
        serializer.collect_map(rows.map(|rule| (rule.label(), self.number(rule))))
    }
}

impl DosCounts {
    /// Counts one.
    pub fn count(&mut self, rule: DosRule) {
        if let Some(count) = self.0.get_mut(rule as usize) {
            *count += 1;
        }
    }

    /// How often this rule was applied.
    #[must_use]
    pub fn number(&self, rule: DosRule) -> u64 {
        self.0.get(rule as usize).copied().unwrap_or(0)
    }
}

impl std::ops::AddAssign<&DosCounts> for DosCounts {
    fn add_assign(&mut self, other: &DosCounts) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_tor() {
        let params = DosParams::default();
        assert!(!params.connection.is_enabled && !params.circuit.is_enabled);
        assert!(!params.stream.is_enabled && params.begin_dir.is_enabled);
        assert!(!params.begin_dir_once && !params.refuses_single_hop);
        assert_eq!(params.begin_dir.rate, Rate::new(10, 60));
        assert_eq!(params.begin_dir.defense, StreamDefense::Close);
        assert_eq!(params.circuit.rate, Rate::new(3, 90));
        assert_eq!(params.circuit.defense, CircuitDefense::Mark);
        assert_eq!(params.connection.concurrent_max, 100);
    }

    #[test]
    fn each_value_is_read_by_its_name() {
        let params = DosParams::read(|name, default, min, max| {
            let is_type = name.ends_with("DefenseType");
            if is_type {
                max
            } else {
                default.max(7).clamp(min, max)
            }
        });
        assert!(params.connection.is_enabled && params.begin_dir_once);
        assert_eq!(params.circuit.defense, CircuitDefense::Limit);
        assert_eq!(params.stream.defense, StreamDefense::Close);
        assert_eq!(params.circuit.min_connections, 7);
    }

    #[test]
    fn the_operator_goes_before_the_consensus() {
        let options = DosOptions {
            values: BTreeMap::from([("DoSCircuitCreationEnabled", 0)]),
            is_dry_run: true,
        };
        let params = DosParams::of(&options, |_, _, _, max| max);
        assert!(!params.circuit.is_enabled && params.connection.is_enabled && params.is_dry_run);
    }

    #[test]
    fn rules_are_counted_apart() {
        let mut counts = DosCounts::default();
        for rule in DosRule::ALL {
            counts.count(rule);
        }
        let mut twice = counts;
        twice += &counts;
        assert!(DosRule::ALL.iter().all(|rule| twice.number(*rule) == 2));
    }
}
