//! What an operator wants otherwise than the network has it, as far as circuits are concerned
//! ([`crate::overrides`]).

use cepa_crypto::Rng;
use cepa_netdoc::params::Params;

use super::Circuits;
use super::build_times::BuildTimeParams;
use super::path_bias::PathBiasParams;
use crate::context::Context;
use crate::overrides::Overrides;

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
