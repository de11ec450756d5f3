//! Networks under a clock of their own: days in seconds, the same seed the same run
//! (docs/testing.md, "Long runs").
//!
//! What is simulated are the machines of the product; each file says what it leaves out.

pub mod churn;
pub mod guards;
pub mod net;
pub mod onions;
