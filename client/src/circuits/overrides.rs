//! What an operator wants otherwise than the network has it, as far as circuits are concerned
//! ([`crate::overrides`]).

use cepa_crypto::Rng;
use cepa_netdoc::params::Params;

use super::Circuits;
use super::build_times::BuildTimeParams;
use super::links::Need;
use super::path_bias::PathBiasParams;
use super::pool::Pool;
use crate::context::Context;
use crate::names::CircuitId;
use crate::overrides::Overrides;
use crate::select::choice::{Choice, Chosen};
use crate::select::paths::{ExitNeed, LinkTarget};

/// Takes these from now on; guards and path bias heed them with the next consensus, which is to
/// follow. False if they are those that there were.
pub(crate) fn set(circuits: &mut Circuits, overrides: &Overrides, rng: &mut Rng) -> bool {
    if !circuits.choice.set_overrides(overrides) {
        return false;
    }
    let overrides = &overrides.circuits;
    circuits.pool.pending_max = overrides.pending_max;
    circuits.upkeep.remember_for(overrides.available, rng);
    let params = BuildTimeParams::read(&Params::new());
    circuits
        .build_times
        .set_params(params.overridden(overrides));
    true
}

/// A consensus is in force, by which times and shares are judged.
pub(super) fn handle_params(circuits: &mut Circuits, params: &Params) {
    let overrides = circuits.choice.overrides();
    let build_times = BuildTimeParams::read(params).overridden(&overrides.circuits);
    let path_bias = PathBiasParams::read(params).overridden(&overrides.path_bias);
    circuits.build_times.set_params(build_times);
    let sampled: Vec<_> = circuits.choice.guards.sampled().collect();
    circuits.path_bias.set(path_bias, &sampled);
}

/// Takes other guards in the place of those that fail too many circuits, where that is wanted.
pub(super) fn drop_guards(circuits: &mut Circuits, ctx: &mut Context<'_>) {
    let dropped = circuits.path_bias.dropped();
    if !circuits.choice.drop_guards(dropped) {
        return;
    }
    tracing::warn!("guards that fail too many circuits are used no more");
    circuits.choice.update_bridges(ctx.rng, ctx.now);
    if let Some(view) = ctx.view {
        circuits.choice.handle_consensus(view, ctx.rng, ctx.now);
    }
}

/// Whether a path is for streams that live long: its relays are Stable, or it was drawn for one,
/// and there were no such relays.
pub(super) fn is_stable(chosen: &Chosen, need: ExitNeed, choice: &Choice) -> bool {
    chosen.0.is_stable() || need.wants_stable(choice.long_lived_ports())
}

/// Notes whether a circuit that was begun is for such streams.
pub(super) fn note_stable(opened: Option<CircuitId>, is_stable: bool, pool: &mut Pool) {
    if let Some(entry) = opened.and_then(|id| pool.entry_mut(id)) {
        entry.is_stable = is_stable;
    }
}

/// The channel to a relay, over an address that may be connected to.
pub(super) fn need(circuits: &mut Circuits, mut target: LinkTarget, ctx: &mut Context<'_>) -> Need {
    if !circuits.choice.limit(&mut target) {
        tracing::debug!(relay = %target.rsa, "no address of it may be connected to");
        return Need::Full;
    }
    circuits.links.need(target, ctx.now, ctx.commands)
}
