//! The control protocol (control-spec): what programs that drive `tor` say, and what they are told.
//!
//! No I/O, no clock, no randomness: bytes go into a [`LineReader`], a [`Command`] comes out, a
//! [`Reply`] or an [`Event`] becomes bytes. [`Authenticator`] decides who may speak and [`Profile`]
//! what he may say. Codes and texts are those of `tor` 0.4.9, since programs parse them; where the
//! specification and `tor` differ, `tor` is followed. All that is read is bounded.

pub mod auth;
pub mod command;
pub mod event;
mod keyword;
pub mod line;
pub mod profile;
pub mod refusal;
pub mod reply;
pub mod signal;
pub mod text;

pub use auth::{Authenticator, Credentials};
pub use command::Command;
pub use event::{Event, EventKind};
pub use line::{LineReader, RawCommand};
pub use profile::Profile;
pub use refusal::Refusal;
pub use reply::Reply;
pub use signal::Signal;
