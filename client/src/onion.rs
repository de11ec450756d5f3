//! Onion services, visited and hosted (rend-spec-v3).
//!
//! ```text
//! streams ─▶ Visits ─┐                          ┌─▶ circuits by name ─▶ Circuits, Pool
//!                    ├─ Action ─▶ Onion ────────┼─▶ plane (messages, joined layers)
//! Services ──────────┘ ◀─ Event ────────────────┴─▶ directory requests
//! ```
//!
//! [`Visits`] and [`Services`] are machines without circuits of their own: they
//! name circuits, say what each is for, and are told what became of it. So a simulation can run
//! them without a cell. `Onion` does what they ask for.

mod action;
mod asked;
pub(crate) mod circuits;
pub(crate) mod courier;
mod inbound;
pub mod services;
mod visits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cepa_circuit::CircuitKey;
use cepa_circuit::congestion::{Congestion, CongestionPath};
use cepa_crypto::Rng;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::RelayCommand;
use cepa_wire::{Now, Repeats};

use crate::circuits::Circuits;
use crate::command::Command;
use crate::context::Context;
use crate::select::paths;
use crate::status::CircuitEnd;
use asked::Asked;
use circuits::HsCircuit;
use courier::Courier;
use services::{ServiceOutcome, Services};

pub use crate::names::{CircuitName, Owner, VisitId};
pub use action::{Action, Ending, Event, LastHop, Purpose};
pub use visits::{CLIENT_KEYS_MAX, Outcome, VISITS_MAX, VisitError, Visits};

/// The machines of onion services, and their circuits.
#[derive(Debug)]
pub(crate) struct Onion {
    pub(crate) visits: Visits,
    pub(crate) services: Services,
    pub(crate) courier: Courier,
    /// The circuits that they asked for.
    pub(crate) by_name: BTreeMap<CircuitName, HsCircuit>,
    /// What they ask directories for.
    pub(crate) asked: Asked,
    /// When a circuit was last asked for.
    used_last: Option<Instant>,
    /// The machines have seen the network as it is.
    network_told: bool,
    /// No circuit more can have a name.
    full: Repeats,
    /// What the machines were told.
    #[cfg(test)]
    pub(crate) told: Vec<(Owner, String)>,
}

impl Onion {
    /// No visits and no services yet.
    pub(crate) fn new(rng: &mut Rng, is_testing: bool) -> Self {
        Onion {
            services: Services::new(rng.fork(), is_testing),
            visits: Visits::new(rng.fork(), is_testing),
            courier: Courier::new(rng.fork()),
            by_name: BTreeMap::new(),
            asked: Asked::default(),
            used_last: None,
            network_told: false,
            full: Repeats::default(),
            #[cfg(test)]
            told: Vec::new(),
        }
    }

    /// Onion services are in use: paths are kept ready from now on.
    pub(crate) fn used(&mut self, now: Now) {
        self.used_last = Some(now.mono);
    }

    /// There is another consensus, or more is known of its relays.
    pub(crate) fn network_changed(&mut self) {
        self.network_told = false;
    }

    /// Shows the machines the network, once paths can be made of it.
    pub(crate) fn tell_network(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let Some(view) = ctx.view.filter(|_| !self.network_told) else {
            return;
        };
        self.network_told = true;
        let choice = &mut circuits.choice;
        choice.refresh_vanguards(view, ctx.rng, ctx.now);
        let network = || Event::Network(view, choice.permits());
        self.visits.handle_event(network(), ctx.now);
        self.services.handle_event(network(), ctx.now);
        self.courier.handle_event(network(), ctx.now);
    }

    /// The machines do what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
        if is_due(self.visits.poll_timeout()) {
            self.visits.handle_timeout(now);
        }
        if is_due(self.services.poll_timeout()) {
            self.services.handle_timeout(now);
        }
        if is_due(self.courier.poll_timeout()) {
            self.courier.handle_timeout(now);
        }
    }

    /// When something is due by the clock, of the machines or of their circuits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [
            self.standing_by(),
            self.asked.deadline(),
            self.services.poll_timeout(),
            self.visits.poll_timeout(),
            self.courier.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the machines ask for. False if that was nothing.
    pub(crate) fn run(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) -> bool {
        let mut idle = true;
        while let Some(action) = self
            .visits
            .poll_action()
            .or_else(|| self.services.poll_action())
            .or_else(|| self.courier.poll_action())
        {
            self.act(action, circuits, ctx);
            idle = false;
        }
        while let Some(failed) = self.courier.poll_failed() {
            asked::tell_broken(&failed, ctx.listener);
        }
        while let Some(outcome) = self.services.poll_outcome() {
            let ServiceOutcome::Published { service } = outcome;
            ctx.commands.push_back(Command::OnionPublished { service });
        }
        !idle
    }

    /// Does one thing that a machine asks for.
    fn act(&mut self, action: Action, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        tracing::debug!("{action}");
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => self.open(circuit, purpose, last, circuits, ctx),
            Action::Send {
                circuit,
                command,
                body,
            } => {
                if let Some(key) = self.standing(circuit, circuits) {
                    ctx.plane.send_control(key, command, &body, ctx.now);
                    self.hide(circuit, command, circuits, ctx);
                }
            }
            Action::Join {
                circuit,
                layer,
                serves,
                congestion,
            } => {
                let Some(key) = self.standing(circuit, circuits) else {
                    return;
                };
                let congestion = congestion.and_then(|cells| onion_congestion(cells, ctx));
                let joined = ctx.plane.join_circuit(key, *layer, congestion, serves);
                if let Err(error) = joined {
                    tracing::warn!("a peer cannot be joined: {error}");
                    ctx.plane.close_circuit(key, DestroyReason::NONE, ctx.now);
                }
            }
            Action::Request {
                circuit,
                request,
                body,
            } => {
                if let Some(key) = self.standing(circuit, circuits) {
                    self.ask((circuit, key), request, body, ctx);
                }
            }
            Action::Close { circuit } => self.close(circuit, CircuitEnd::Finished, circuits, ctx),
        }
    }

    /// A message without a stream came over a circuit: its machine is told.
    pub(crate) fn handle_message(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        body: &[u8],
        circuits: &Circuits,
        ctx: &mut Context<'_>,
    ) {
        let id = circuits.pool.by_key(key);
        let Some(circuit) = id.and_then(|id| circuits.pool.name_of(id)) else {
            return;
        };
        self.hide(circuit, command, circuits, ctx);
        let message = Event::Message {
            circuit,
            command,
            body,
        };
        self.tell(circuit, message, ctx.now);
    }

    /// Tells the machine that has given this name.
    fn tell(&mut self, name: CircuitName, event: Event<'_>, now: Now) {
        #[cfg(test)]
        self.told.push((name.owner, format!("{event:?}")));
        tracing::debug!("{event}");
        match name.owner {
            Owner::Visits => self.visits.handle_event(event, now),
            Owner::Services => self.services.handle_event(event, now),
            Owner::Controllers => self.courier.handle_event(event, now),
        }
    }
}

/// The congestion control that a visitor and a service have agreed on.
fn onion_congestion(sendme_inc_cells: u8, ctx: &Context<'_>) -> Option<Congestion> {
    let params = ctx.view?.params();
    Some(Congestion {
        params: Arc::new(paths::congestion_params(params)),
        sendme_inc_cells,
        path: CongestionPath::Onion,
    })
}
