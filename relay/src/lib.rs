//! A relay: it carries cells, extends circuits, lets streams leave, keeps and serves the directory.
//!
//! [`Switch`] is the data plane, one for each worker thread; [`Relay`] the control plane: keys,
//! descriptor, what is downloaded; [`HsDirStore`] the descriptors of onion services that it holds.
//! Nothing here does I/O, keeps time or draws randomness by itself; what the outside must do comes
//! out as commands.

pub mod accounting;
pub mod bandwidth;
mod bridge_clients;
pub mod bucket;
pub mod config;
pub mod descriptor;
pub mod exit_policy;
pub mod hsdir;
pub mod key_files;
pub mod keys;
mod publish;
pub mod relay;
pub mod signing;
pub mod status;
pub mod switch;

pub use accounting::{Accounting, AccountingConfig, AccountingRule, AccountingStart, Wakefulness};
pub use bandwidth::BandwidthHistory;
pub use bridge_clients::{BridgeClient, BridgeClientsSeen};
pub use bucket::SharedBucket;
pub use config::{Choices, RelayConfig};
pub use descriptor::{OwnDocuments, PROTOCOLS};
pub use exit_policy::{ExitOptions, ExitPolicy};
pub use hsdir::{HS_DESCRIPTORS_LEN_MAX, HsDirCounts, HsDirStore, HsDuty, HsRefusal, HsUpload};
pub use key_files::{KeyFile, KeyFileError};
pub use keys::{KeyLife, KeyTimes, RelayKeys, Rotated};
pub use relay::{Command, Relay, Restored, TlsKeyJob};
pub use signing::{DAY, SIGNING_DAYS, make_signing_files};
pub use status::{AccountingStatus, LimitsStatus, RelayStatus};
pub use switch::{
    ChannelClose, Command as SwitchCommand, Handover, KnownRelays, Limits, LinkTarget,
    MemoryCounts, OnionskinCounts, OnionskinKind, OnionskinLimits, PointAction, PointCell,
    PointCounts, PointParams, StreamCounts, Switch, SwitchConfig, SwitchCounts, WorkerId,
};
