//! Which relays of a consensus may become guards, and how they weigh (guard-spec 4.0; dir-spec
//! 3.8.3).
//!
//! A guard must serve for all purposes, so that the sample is the same for data and for the
//! directory. Its microdescriptor need not be known yet.

use cepa_dir::{NetworkView, Role};
use cepa_netdoc::routerstatus::{Flags, RouterStatus};

use super::GuardCandidate;

/// The guards of a consensus. In a young network that has none with all the flags, those with
/// Guard alone. Those that the operator does not allow are listed, too.
pub(crate) fn candidates(
    view: &NetworkView,
    is_allowed: impl Fn(&RouterStatus) -> bool,
) -> Vec<GuardCandidate> {
    let usable = Flags::GUARD | Flags::RUNNING | Flags::VALID;
    let all = usable | Flags::FAST | Flags::STABLE | Flags::V2_DIR;
    let routers = &view.consensus().routers;
    let wanted = match routers.iter().any(|one| one.flags.contains(all)) {
        true => all,
        false => usable,
    };
    let found = routers.iter().filter(|one| one.flags.contains(wanted));
    found
        .map(|status| GuardCandidate {
            rsa: status.rsa_id,
            ed: view
                .relay(&status.rsa_id)
                .and_then(|relay| relay.ed25519_id),
            nickname: status.nickname.clone(),
            bridge: None,
            weight: view.weigh(status, Role::Guard),
            allowed: is_allowed(status),
        })
        .collect()
}
