//! One plan of a whole network on one machine, the summary of a running one, and networks that are
//! only simulated.
//!
//! No files, sockets or processes here: the shell writes what the plan says and starts it.

pub mod plan;
pub mod sim;
pub mod summary;

pub use plan::{Node, Plan, Role};
pub use summary::{NodeSummary, Summary};
