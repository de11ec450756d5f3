//! One plan of a whole network on one machine, the summary of a running one, and networks that are
//! only simulated.
//!
//! No files, sockets or processes here: the shell writes what the plan says and starts it.

pub mod node;
pub mod plan;
pub mod sim;
pub mod summary;

pub use node::{Counts, Program, Role, Share, Transport};
pub use plan::{Node, Plan};
pub use summary::{NodeSummary, Summary};
