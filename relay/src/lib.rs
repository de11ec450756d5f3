//! A relay: it carries cells, extends circuits, lets streams leave, keeps and serves the directory.
//!
//! [`Switch`] is the data plane, one for each worker thread. Nothing here does I/O, keeps time or
//! draws randomness by itself; what the outside must do comes out as commands.

pub mod switch;

pub use switch::{
    ChannelClose, Command as SwitchCommand, Handover, KnownRelays, Limits, LinkTarget, Switch,
    SwitchConfig, SwitchCounts, WorkerId,
};
