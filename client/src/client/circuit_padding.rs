//! Which circuits are hidden by padding machines (padding-spec 3.3), and by whose leave.
//!
//! ```text
//! INTRODUCE1 is sent ───────────────▶ HIDE_INTRO ┐
//! RENDEZVOUS_ESTABLISHED came ──────▶ HIDE_REND  ┴─▶ second hop, if it promises Padding=2
//! ```
//!
//! Only a visitor's circuits are; a service's would cost too much. Both machines are left out under
//! `reduced`, as `tor` leaves them out, which has no cheaper ones either.

use cepa_circuit::PaddingParams;
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::name;
use cepa_wire::Now;
use cepa_wire::circuit_padding::MachineType;
use cepa_wire::relay::RelayCommand;

use super::Client;
use crate::config::PaddingLevel;
use crate::onion::Owner;
use crate::onion::circuits::Name;

/// The version of Padding that promises these machines (tor-spec 9).
const PADDING_MACHINES: u8 = 2;

/// What a consensus and the operator allow.
pub(super) fn allowed(params: &Params, wish: PaddingLevel) -> PaddingParams {
    let read = |name: &str, default, min, max| params.value(name, default, min, max);
    let consensus = PaddingParams::read(read);
    PaddingParams {
        is_disabled: consensus.is_disabled || wish == PaddingLevel::Off,
        is_reduced: consensus.is_reduced || wish == PaddingLevel::Reduced,
        ..consensus
    }
}

impl Client {
    /// A message went, or came, over a circuit of onion services: perhaps it is time to hide it.
    pub(super) fn hide_circuit(&mut self, name: Name, command: RelayCommand, now: Now) {
        let machine = match (name.0, command) {
            (Owner::Visits, RelayCommand::INTRODUCE1) => MachineType::HIDE_INTRO,
            (Owner::Visits, RelayCommand::RENDEZVOUS_ESTABLISHED) => MachineType::HIDE_REND,
            _ => return,
        };
        let (Some(key), Some(id)) = (self.standing(name), self.onion.pool_of(name)) else {
            return;
        };
        let path = self.pool.entry(id).and_then(|entry| entry.onion_path());
        let knows_it = path.is_some_and(|[_, second, _]| {
            let protocols = &second.protocols;
            protocols.supports(name::PADDING, PADDING_MACHINES)
        });
        if knows_it {
            self.plane.start_machine(key, machine, now);
        }
    }
}
