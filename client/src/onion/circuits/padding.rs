//! Which circuits are hidden by padding machines (padding-spec 3.3).
//!
//! ```text
//! INTRODUCE1 is sent ───────────────▶ HIDE_INTRO ┐
//! RENDEZVOUS_ESTABLISHED came ──────▶ HIDE_REND  ┴─▶ second hop, if it promises Padding=2
//! ```
//!
//! Only a visitor's circuits are; a service's would cost too much. Both machines are left out under
//! `reduced`, as `tor` leaves them out, which has no cheaper ones either.

use cepa_netdoc::protover::name;
use cepa_wire::circuit_padding::MachineType;
use cepa_wire::relay::RelayCommand;

use crate::circuits::Circuits;
use crate::context::Context;
use crate::names::{CircuitName, Owner};
use crate::onion::Onion;

/// The version of Padding that promises these machines (tor-spec 9).
const PADDING_MACHINES: u8 = 2;

impl Onion {
    /// A message went, or came, over a circuit: perhaps it is time to hide it.
    pub(in crate::onion) fn hide(
        &self,
        name: CircuitName,
        command: RelayCommand,
        circuits: &Circuits,
        ctx: &mut Context<'_>,
    ) {
        let machine = match (name.owner, command) {
            (Owner::Visits, RelayCommand::INTRODUCE1) => MachineType::HIDE_INTRO,
            (Owner::Visits, RelayCommand::RENDEZVOUS_ESTABLISHED) => MachineType::HIDE_REND,
            _ => return,
        };
        let Some(key) = self.standing(name, circuits) else {
            return;
        };
        let id = circuits.pool.by_key(key);
        let entry = id.and_then(|id| circuits.pool.entry(id));
        let path = entry.and_then(|entry| entry.onion_path());
        let knows_it = path.is_some_and(|[_, second, _]| {
            let protocols = &second.protocols;
            protocols.supports(name::PADDING, PADDING_MACHINES)
        });
        if knows_it {
            ctx.plane.start_machine(key, machine, ctx.now);
        }
    }
}
