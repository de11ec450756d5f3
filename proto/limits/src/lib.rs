//! What strangers may take of a process: places, work and memory, counted in constant memory.
//!
//! Pure machines, shared by all doors (OR port, DirPort, BEGIN_DIR, SOCKS, control): no I/O and no
//! clock. The shell asks before it lets a stranger in, and tells when he has left.

pub mod account;
pub mod dos;
mod held;
mod history;
pub mod memory;
mod meter;
pub mod places;
pub mod shares;
mod source;
pub mod strangers;

pub use account::Account;
pub use dos::{DosCounts, DosOptions, DosParams, DosRule};
pub use held::Held;
pub use memory::{Memory, MemoryClass, MemoryShare, Shortage};
pub use meter::{Meter, Rate};
pub use places::{PlaceLimits, Places, Refused, Ticket};
pub use shares::Shares;
pub use source::Source;
pub use strangers::{Denied, Door, DoorCounts, DoorRules, Entered, Strangers};
