//! Bridge lines, and what a pluggable transport and the program that starts it say to each other
//! (pt-spec; ext-orport-spec).
//!
//! ```text
//! environment ─▶ child ─lines─▶ Message ─▶ Startup ─▶ methods: where it is asked, or listens
//! BridgeLine ─arguments─▶ user and password of SOCKS
//! Conversation: whom a transport hands on to the relay that has started it
//! ```
//!
//! Children are programs of strangers: every line is bounded, and none of them can make a parser
//! fail otherwise than by a named error.

pub mod arguments;
pub mod bridge_line;
pub mod environment;
pub mod ext_or;
pub mod message;
pub mod name;
pub mod plugin;
pub mod site;
pub mod startup;

pub use arguments::{Arguments, ArgumentsError};
pub use bridge_line::{BridgeLine, BridgeLineError};
pub use environment::{ClientEnvironment, ServerEnvironment, ServerTransport, Variables};
pub use ext_or::{Conversation, ExtOrClient, ExtOrCookie, ExtOrError, ExtOrStep};
pub use message::{Message, SocksVersion};
pub use name::{NameError, TransportName};
pub use plugin::{PluginError, Speaker, TransportPlugin};
pub use site::{Site, SiteError};
pub use startup::{End, Method, Startup, StartupError};
