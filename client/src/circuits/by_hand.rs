//! Circuits that a controller makes, extends, puts to another use, and closes (control-spec 3.10,
//! 3.11, 3.17).
//!
//! A path that it gives is taken as it is: neither guards nor the operator's rules are asked, and
//! nothing is learnt of it for guards, path bias or build times. Of circuits that are made or
//! taken so there are [`HAND_MADE_MAX`] at most.

use std::collections::VecDeque;
use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_circuit::origin::HOPS_MAX;
use cepa_crypto::RsaId;
use cepa_dir::Relay;
use cepa_wire::destroy::DestroyReason;

use super::Circuits;
use super::pool::{ByHand, CLEAN_MAX, Purpose, Stage};
use crate::by_hand::{ByHandError, HandUse};
use crate::context::Context;
use crate::names::CircuitId;
use crate::plane::CircuitClose;
use crate::select::paths::{self, ExitNeed};
use crate::status::{CircuitChange, CircuitEnd};

/// Most circuits that controllers have at a time.
pub(crate) const HAND_MADE_MAX: usize = 256;
/// How long such a circuit may take to be built, or to be extended.
pub(super) const BUILD_MAX: Duration = Duration::from_secs(60);

/// Begins a circuit over these relays; over three that are drawn, if there are none.
pub(crate) fn make(
    circuits: &mut Circuits,
    path: &[RsaId],
    usage: HandUse,
    ctx: &mut Context<'_>,
) -> Result<CircuitId, ByHandError> {
    let relays = relays(path, ctx)?;
    may_have_more(circuits)?;
    let is_path_given = !relays.is_empty();
    circuits.making = Some(ByHand {
        usage,
        is_path_given,
        rest: VecDeque::new(),
    });
    let begun = match relays.split_last() {
        Some(_) if relays.len() > HOPS_MAX => None,
        Some((last, _)) => {
            let hops = relays.first().zip(ctx.view).map(|(first, view)| {
                let hops = relays.iter().map(|relay| paths::hop(relay, view.params()));
                (paths::link_target(first), hops.collect::<VecDeque<_>>())
            });
            let (target, mut hops) = hops.unzip();
            let first = hops.as_mut().and_then(VecDeque::pop_front);
            let purpose = Purpose::General(Box::new(last.clone()));
            let given = target.zip(first).zip(hops);
            given.and_then(|((target, first), rest)| {
                circuits.open(purpose, target, first, rest.into(), ctx)
            })
        }
        None if !circuits.choice.is_enough() => None,
        None => circuits.launch(ExitNeed::Any, &[], ctx).ok().flatten(),
    };
    circuits.making = None;
    let id = begun.ok_or(ByHandError::NotBegun)?;
    let entry = circuits.pool.entry_mut(id).filter(|_| is_path_given);
    if let Some(entry) = entry {
        entry.review_at = ctx.now.mono + BUILD_MAX;
    }
    Ok(id)
}

/// Adds relays to a circuit, which is a controller's from then on.
pub(crate) fn extend(
    circuits: &mut Circuits,
    id: CircuitId,
    path: &[RsaId],
    ctx: &mut Context<'_>,
) -> Result<(), ByHandError> {
    if circuits.pool.entry(id).is_none() {
        return Err(ByHandError::NoCircuit);
    }
    let relays = relays(path, ctx)?;
    own(circuits, id)?;
    let last = relays.last().ok_or(ByHandError::NotExtended)?;
    let params = ctx.view.ok_or(ByHandError::NotExtended)?.params();
    let hops: Vec<HopSpec> = relays
        .iter()
        .map(|relay| paths::hop(relay, params))
        .collect();
    let now = ctx.now;
    let entry = circuits.pool.entry_mut(id).ok_or(ByHandError::NoCircuit)?;
    if entry.hops + hops.len() > HOPS_MAX {
        return Err(ByHandError::NotExtended);
    }
    entry.hops += hops.len();
    entry
        .path
        .extend(relays.iter().map(|relay| Some(relay.rsa_id)));
    entry.purpose = Purpose::General(Box::new(last.clone()));
    entry.review_at = now.mono + BUILD_MAX;
    entry.begun = now.mono;
    let by_hand = entry.by_hand.get_or_insert_with(ByHand::new);
    by_hand.is_path_given = true;
    by_hand.rest.extend(hops);
    if let Stage::Built(key) | Stage::Waiting(key) = entry.stage {
        entry.stage = Stage::Building(key);
        add_hop(circuits, id, key, ctx);
        // It may be gone already, if its first hop does not read.
        circuits
            .pool
            .entry(id)
            .map(|_| ())
            .ok_or(ByHandError::NotExtended)?;
    }
    Ok(())
}

/// All hops of a circuit stand that were asked for. True if a controller wants another, which
/// is asked for now.
pub(super) fn add_hop(
    circuits: &mut Circuits,
    id: CircuitId,
    key: CircuitKey,
    ctx: &mut Context<'_>,
) -> bool {
    let entry = circuits.pool.entry_mut(id);
    let by_hand = entry.and_then(|entry| entry.by_hand.as_mut());
    let Some(hop) = by_hand.and_then(|by_hand| by_hand.rest.pop_front()) else {
        return false;
    };
    if let Err(error) = ctx.plane.extend_circuit(key, hop, ctx.now) {
        tracing::debug!("a controller's circuit is not extended: {error}");
        let end = CircuitClose::Requested(DestroyReason::INTERNAL);
        circuits.close(id, CircuitEnd::Plane(end), ctx);
    }
    true
}

/// A circuit is for something else from now on.
pub(crate) fn set_use(
    circuits: &mut Circuits,
    id: CircuitId,
    usage: HandUse,
    ctx: &mut Context<'_>,
) -> Result<(), ByHandError> {
    own(circuits, id)?;
    let entry = circuits.pool.entry_mut(id).ok_or(ByHandError::NoCircuit)?;
    let before = entry.shown_purpose();
    if let Purpose::Onion(path) = &entry.purpose {
        let [_, _, last] = path.as_ref();
        entry.purpose = Purpose::General(Box::new(last.clone()));
    }
    let by_hand = entry.by_hand.get_or_insert_with(ByHand::new);
    by_hand.usage = usage;
    if entry.shown_purpose() != before {
        circuits.tell(id, CircuitChange::Purpose(before), ctx);
    }
    Ok(())
}

/// Closes a circuit; its streams end with it.
pub(crate) fn close(
    circuits: &mut Circuits,
    id: CircuitId,
    is_if_unused: bool,
    ctx: &mut Context<'_>,
) -> Result<(), ByHandError> {
    let entry = circuits.pool.entry(id).ok_or(ByHandError::NoCircuit)?;
    let status = entry.key().and_then(|key| ctx.plane.circuit_status(key));
    let is_used = status.is_some_and(|status| status.stream_count > 0);
    if !(is_if_unused && is_used) {
        let end = CircuitClose::Requested(DestroyReason::REQUESTED);
        circuits.close(id, CircuitEnd::Plane(end), ctx);
    }
    Ok(())
}

/// The circuit for a stream that is to leave it at a hop, counted from 1, or at its end.
pub(crate) fn open(
    circuits: &Circuits,
    id: CircuitId,
    hop: Option<u8>,
    ctx: &Context<'_>,
) -> Result<CircuitKey, ByHandError> {
    let entry = circuits.pool.entry(id).ok_or(ByHandError::NoCircuit)?;
    let key = entry.built().ok_or(ByHandError::NotOpen)?;
    let status = ctx.plane.circuit_status(key).ok_or(ByHandError::NotOpen)?;
    if status.hop_count < 2 || hop == Some(1) {
        return Err(ByHandError::OneHop);
    }
    if hop.is_some_and(|hop| usize::from(hop) > status.hop_count) {
        return Err(ByHandError::NoHop);
    }
    Ok(key)
}

/// The time of a controller's circuit has come; true if that is seen to.
pub(super) fn review(circuits: &mut Circuits, id: CircuitId, ctx: &mut Context<'_>) -> bool {
    let Some(entry) = circuits.pool.entry_mut(id) else {
        return false;
    };
    let Some(by_hand) = &entry.by_hand else {
        return false;
    };
    if !entry.has_all_hops() {
        let age = ctx.now.mono.saturating_duration_since(entry.begun);
        if !by_hand.is_path_given {
            return false;
        }
        if age < BUILD_MAX {
            entry.review_at = entry.begun + BUILD_MAX;
        } else {
            circuits.close(id, CircuitEnd::Timeout, ctx);
        }
        return true;
    }
    // Nobody but the controller knows for how long it is to stay.
    let is_kept = by_hand.usage == HandUse::Controller && entry.dirty_since.is_none();
    if is_kept {
        entry.review_at = ctx.now.mono + CLEAN_MAX;
    }
    is_kept
}

/// Has a controller have a circuit: one of exits, or a path that nobody has taken.
fn own(circuits: &mut Circuits, id: CircuitId) -> Result<(), ByHandError> {
    let entry = circuits.pool.entry(id).ok_or(ByHandError::NoCircuit)?;
    if entry.by_hand.is_some() {
        return Ok(());
    }
    let is_own = entry.bound.is_some() || matches!(entry.purpose, Purpose::Directory);
    if is_own || entry.is_measured_only {
        return Err(ByHandError::NotYours);
    }
    may_have_more(circuits)
}

fn may_have_more(circuits: &Circuits) -> Result<(), ByHandError> {
    let made = circuits
        .pool
        .iter()
        .filter(|(_, one)| one.by_hand.is_some());
    match made.count() < HAND_MADE_MAX {
        true => Ok(()),
        false => Err(ByHandError::NotBegun),
    }
}

/// What is known of the relays of a path.
fn relays(path: &[RsaId], ctx: &Context<'_>) -> Result<Vec<Relay>, ByHandError> {
    let known = |(index, id): (usize, &RsaId)| {
        let relay = ctx.view.and_then(|view| view.relay(id));
        relay.cloned().ok_or(ByHandError::NoDescriptor(index))
    };
    path.iter().enumerate().map(known).collect()
}
