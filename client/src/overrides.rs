//! What an operator wants otherwise than the network has it: numbers that a consensus says, or the
//! specification, and that options of `tor` say before them.
//!
//! A field without a value leaves it as it is. Whoever works with one reads it at that time, so
//! that other overrides take effect at once ([`crate::Client::set_overrides`]).

use std::time::Duration;

/// All of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// How many guards there are, and for how long.
    pub guards: GuardOverrides,
    /// When a guard is said to fail circuits.
    pub path_bias: PathBiasOverrides,
    /// How long things may take, and how many of them there may be.
    pub circuits: CircuitOverrides,
    /// What is fetched and published.
    pub fetches: FetchOverrides,
    /// When a client comes to rest.
    pub dormancy: DormancyOverrides,
}

/// How many guards there are, and for how long (guard-spec A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuardOverrides {
    /// How many carry traffic (`NumEntryGuards`).
    pub used: Option<usize>,
    /// How many are primary (`NumPrimaryGuards`).
    pub primary: Option<usize>,
    /// How many serve the directory (`NumDirectoryGuards`).
    pub directory: Option<usize>,
    /// How long one stays, confirmed or not (`GuardLifetime`).
    pub lifetime: Option<Duration>,
}

/// When a guard is said to fail circuits (path-spec 7.4). Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PathBiasOverrides {
    /// Circuits before the first is said (`PathBiasCircThreshold`).
    pub circuits_min: Option<u32>,
    /// Fewer that stand are worth a line (`PathBiasNoticeRate`).
    pub notice: Option<f64>,
    /// Fewer are worth a warning (`PathBiasWarnRate`).
    pub warn: Option<f64>,
    /// Fewer are extreme (`PathBiasExtremeRate`).
    pub extreme: Option<f64>,
    /// A guard that is extreme is not used any more (`PathBiasDropGuards`).
    pub drops: Option<bool>,
    /// Circuits after which counts are scaled (`PathBiasScaleThreshold`).
    pub scale_circuits: Option<u32>,
    /// Circuits that were used before anything is said of their use (`PathBiasUseThreshold`).
    pub uses_min: Option<u32>,
    /// Fewer that answered are worth a line (`PathBiasNoticeUseRate`).
    pub notice_use: Option<f64>,
    /// Fewer are extreme (`PathBiasExtremeUseRate`).
    pub extreme_use: Option<f64>,
    /// Used circuits after which their counts are scaled (`PathBiasScaleUseThreshold`).
    pub scale_uses: Option<u32>,
}

/// How long circuits and streams may take, and how many circuits there may be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CircuitOverrides {
    /// How long a circuit of three hops may take, until that is learnt (`CircuitBuildTimeout`).
    pub build: Option<Duration>,
    /// That is not learnt (`LearnCircuitBuildTimeout 0`).
    pub learns_nothing: bool,
    /// How long a circuit that nobody uses is kept, and up to twice as long; and how long a port
    /// that was wanted is thought of (`CircuitsAvailableTimeout`).
    pub available: Option<Duration>,
    /// How long an exit may take to answer before another is asked (`CircuitStreamTimeout`).
    pub answer: Option<Duration>,
    /// How long a request of an application may take in all (`SocksTimeout`).
    pub request: Option<Duration>,
    /// Most circuits in the making (`MaxClientCircuitsPending`).
    pub pending_max: Option<usize>,
    /// Ports whose streams live long, and so want Stable relays (`LongLivedPorts`).
    pub long_lived_ports: Option<Vec<u16>>,
    /// The share of all paths that must be known before circuits are built, from 0.25 to 0.95
    /// (`PathsNeededToBuildCircuits`).
    pub paths_needed: Option<f64>,
}

/// What is left to a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchOverrides {
    /// No documents of the network are fetched (`FetchServerDescriptors 0`).
    pub no_network: bool,
    /// No descriptors of onion services are fetched for streams (`FetchHidServDescriptors 0`).
    pub no_onions: bool,
    /// No descriptors of hosted services are published (`PublishHidServDescriptors 0`).
    pub publishes_nothing: bool,
}

/// When a client comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DormancyOverrides {
    /// It does not come to rest of itself (`DormantTimeoutEnabled 0`).
    pub never: bool,
    /// How long nobody may use it (`DormantClientTimeout`).
    pub after: Option<Duration>,
    /// A stream keeps it awake only by what it carries (`DormantTimeoutDisabledByIdleStreams 0`).
    pub despite_idle_streams: bool,
    /// Who starts for the first time is at rest (`DormantOnFirstStartup`).
    pub at_first: bool,
    /// Who starts is awake, however it was left (`DormantCanceledByStartup`).
    pub wakes_at_start: bool,
}
