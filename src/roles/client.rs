//! Runs a client until it is stopped.

use crate::config::ClientConfig;
use crate::error::{Failure, fail};
use crate::launched::{Reporter, Shutdown};

/// Runs a client until `shutdown`.
pub async fn run(
    _config: ClientConfig,
    _reporter: Reporter,
    _shutdown: Shutdown,
) -> Result<(), Failure> {
    fail(
        "this role is not wired yet",
        "cepa client",
        "wait for the next commit",
    )
}
