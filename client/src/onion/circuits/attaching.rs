//! From the wish for a circuit to one that stands: a path for each name, and what comes behind it
//! (proposal 333 for the paths).

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_dir::Relay;

use super::{EXTEND_MAX, Failure, HsCircuit, Stage};
use crate::circuits::Circuits;
use crate::circuits::pool::{Bound, CLEAN_MAX};
use crate::context::Context;
use crate::names::{CircuitId, CircuitName, Owner};
use crate::onion::Onion;
use crate::onion::action::{Ending, Event, LastHop, Purpose};
use crate::select::paths::onion::is_rendezvous_point;
use crate::select::paths::{hop, hop_spec};
use crate::status::{CircuitChange, CircuitPurpose};

impl Onion {
    /// A machine wants a circuit.
    pub(in crate::onion) fn open(
        &mut self,
        name: CircuitName,
        purpose: Purpose,
        last: LastHop,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        self.used(ctx.now);
        debug_assert!(!self.by_name.contains_key(&name), "a name is used once");
        let has_room = self.make_room(purpose, circuits, ctx);
        let address = match name.owner {
            Owner::Visits => self.visits.address_of(name),
            Owner::Services => self.services.address_of(name),
            Owner::Controllers => self.courier.address_of(name),
        };
        let circuit = HsCircuit::new(purpose, last, address, ctx.now);
        self.by_name.insert(name, circuit);
        if !has_room {
            self.end(name, Ending::NoPath, circuits, ctx);
        }
    }

    /// Gives each circuit that waits a path: one that is ready, one in the making, a new one.
    pub(crate) fn attach(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        for name in self.waiting() {
            if !self.attach_one(name, circuits, ctx) {
                break;
            }
        }
    }

    /// False if no more paths may be begun now.
    fn attach_one(
        &mut self,
        name: CircuitName,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> bool {
        let (Some(circuit), Some(view)) = (self.by_name.get(&name), ctx.view) else {
            return true;
        };
        let choice = &circuits.choice;
        let is_permitted = match &circuit.last {
            LastHop::Any(_) => true,
            LastHop::Listed(id) => choice.may_end_at(id, view),
            LastHop::Told(spec) => choice.may_end_at_stranger(spec, view),
        };
        if !is_permitted {
            self.end(name, Ending::LastHop, circuits, ctx);
            return true;
        }
        let ends_at_path = circuit.ends_at_path(choice.layers());
        let fitting = circuits.pool.free_paths(ctx.now).filter(|(_, entry)| {
            let path = entry.onion_path();
            path.is_some_and(|path| fits(circuit, ends_at_path, path))
        });
        let best = fitting.min_by_key(|(id, entry)| (entry.built().is_none(), *id));
        if let Some((id, entry)) = best {
            let built = entry.built();
            self.bind(name, id, circuits, ctx);
            if let Some(key) = built {
                self.go_on(name, id, key, circuits, ctx);
            }
            return true;
        }
        let ends = match &circuit.last {
            LastHop::Any(excluded) if ends_at_path => Some(excluded.as_slice()),
            _ => None,
        };
        match circuits.launch_path(last_id(&circuit.last), ends, ctx) {
            Ok(Some(id)) => {
                self.bind(name, id, circuits, ctx);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!("no path for an onion service: {error}");
                circuits.upkeep.note_no_path(ctx.now);
                false
            }
        }
    }

    /// A path is for one name from now on.
    fn bind(
        &mut self,
        name: CircuitName,
        id: CircuitId,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let (Some(circuit), Some(entry)) =
            (self.by_name.get_mut(&name), circuits.pool.entry_mut(id))
        else {
            return;
        };
        circuit.stage = Stage::Path(id);
        entry.bound = Some(Bound {
            name,
            purpose: circuit.purpose.into(),
            address: circuit.address,
            is_ready: false,
        });
        let was = CircuitChange::Purpose(CircuitPurpose::OnionPath);
        circuits.tell(id, was, ctx);
    }

    /// All hops of a circuit stand, or one more does.
    pub(super) fn handle_built(
        &mut self,
        name: CircuitName,
        id: CircuitId,
        key: CircuitKey,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = self.by_name.get_mut(&name) else {
            return;
        };
        match &circuit.stage {
            Stage::Path(_) => self.go_on(name, id, key, circuits, ctx),
            Stage::Middle(..) => {
                circuit.has_middle = true;
                self.extend(name, id, key, circuits, ctx);
            }
            Stage::Extending(_, last) => {
                let last = HopSpec::clone(last);
                self.finish((name, id), key, &last, circuits, ctx);
            }
            Stage::Waiting | Stage::Ready(_) => {}
        }
    }

    /// The path of a circuit stands: what comes behind is added, or it is there.
    fn go_on(
        &mut self,
        name: CircuitName,
        id: CircuitId,
        key: CircuitKey,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let (Some(circuit), Some(view)) = (self.by_name.get(&name), ctx.view) else {
            return;
        };
        let entry = circuits.pool.entry(id);
        let Some(path) = entry.and_then(|entry| entry.onion_path()) else {
            return;
        };
        let layers = circuits.choice.layers();
        if circuit.ends_at_path(layers) {
            let [.., last] = path;
            let last = hop_spec(last, true);
            return self.finish((name, id), key, &last, circuits, ctx);
        }
        if !circuit.wants_middle(layers) {
            return self.extend(name, id, key, circuits, ctx);
        }
        let mut excluded = circuit.avoided.clone();
        excluded.extend(last_id(&circuit.last));
        let behind = circuits.choice.behind(path, &excluded);
        let Some(middle) = behind.middle(view, ctx.rng) else {
            return self.end(name, Ending::NoPath, circuits, ctx);
        };
        let (spec, middle) = (hop(middle, view.params()), middle.rsa_id);
        self.add_hop(name, key, spec, Stage::Middle(id, middle), circuits, ctx);
    }

    /// All hops before the last one stand.
    fn extend(
        &mut self,
        name: CircuitName,
        id: CircuitId,
        key: CircuitKey,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let (Some(circuit), Some(view)) = (self.by_name.get(&name), ctx.view) else {
            return;
        };
        let entry = circuits.pool.entry(id);
        let Some(path) = entry.and_then(|entry| entry.onion_path()) else {
            return;
        };
        let specs = |relay: &Relay| (hop(relay, view.params()), hop_spec(relay, true));
        let found = match &circuit.last {
            LastHop::Listed(relay) => view.relay(relay).map(specs),
            LastHop::Told(spec) => Some((HopSpec::clone(spec), HopSpec::clone(spec))),
            LastHop::Any(excluded) => {
                let excluded = [excluded.as_slice(), &circuit.avoided].concat();
                let behind = circuits.choice.behind(path, &excluded);
                let chosen = match circuit.purpose {
                    Purpose::Rendezvous => behind.rendezvous_point(view, ctx.rng),
                    _ => behind.intro_point(view, ctx.rng),
                };
                chosen.map(specs)
            }
        };
        let Some((spec, told)) = found else {
            let ending = match circuit.last {
                LastHop::Any(_) => Ending::NoPath,
                _ => Ending::LastHop,
            };
            return self.end(name, ending, circuits, ctx);
        };
        let stage = Stage::Extending(id, Box::new(told));
        self.add_hop(name, key, spec, stage, circuits, ctx);
    }

    /// Extends the circuit of a name by one hop.
    fn add_hop(
        &mut self,
        name: CircuitName,
        key: CircuitKey,
        spec: HopSpec,
        stage: Stage,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = self.by_name.get_mut(&name) else {
            return;
        };
        circuit.stage = stage;
        let entry = circuit.pool().and_then(|id| circuits.pool.entry_mut(id));
        if let Some(entry) = entry {
            entry.review_at = ctx.now.mono + EXTEND_MAX;
            entry.path.push(spec.link_specifiers.rsa_id());
        }
        if let Err(error) = ctx.plane.extend_circuit(key, spec, ctx.now) {
            tracing::debug!("a circuit cannot be extended: {error}");
            self.drop_path(name, Failure::LastHop, circuits, ctx);
        }
    }

    /// A circuit stands.
    fn finish(
        &mut self,
        (name, id): (CircuitName, CircuitId),
        key: CircuitKey,
        last: &HopSpec,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        if let Some(circuit) = self.by_name.get_mut(&name) {
            circuit.stage = Stage::Ready(id);
        }
        if let Some(entry) = circuits.pool.entry_mut(id) {
            entry.review_at = ctx.now.mono + CLEAN_MAX;
            if let Some(bound) = &mut entry.bound {
                bound.is_ready = true;
            }
        }
        ctx.plane.listen(key);
        let kh = ctx.plane.circuit_kh(key);
        let Some(kh) = kh.map(|kh| zeroize::Zeroizing::new(*kh)) else {
            return;
        };
        let built = Event::Built {
            circuit: name,
            last,
            kh: &kh,
        };
        self.tell(name, built, ctx.now);
    }
}

/// Whether a path can be one of this circuit.
fn fits(circuit: &HsCircuit, ends_at_path: bool, path: &[Relay; 3]) -> bool {
    let [_, second, third] = path;
    match &circuit.last {
        LastHop::Any(excluded) if ends_at_path => {
            is_rendezvous_point(third) && !excluded.contains(&third.rsa_id)
        }
        // The guard stays, whoever comes last.
        last => {
            let last = last_id(last);
            [second, third].iter().all(|hop| Some(hop.rsa_id) != last)
        }
    }
}

/// The relay that must come last.
fn last_id(last: &LastHop) -> Option<RsaId> {
    match last {
        LastHop::Listed(id) => Some(*id),
        LastHop::Told(spec) => spec.link_specifiers.rsa_id(),
        LastHop::Any(_) => None,
    }
}
