//! Runs a authority until it is stopped.

use crate::config::AuthorityConfig;
use crate::error::{Failure, fail};
use crate::launched::{Reporter, Shutdown};

/// Runs a authority until `shutdown`.
pub async fn run(
    _config: AuthorityConfig,
    _reporter: Reporter,
    _shutdown: Shutdown,
) -> Result<(), Failure> {
    fail(
        "this role is not wired yet",
        "cepa authority",
        "wait for the next commit",
    )
}
