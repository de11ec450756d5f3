//! Introduction points (rend-spec-v3 3.1, 3.2; proposal 305; `tor`'s hs_intropoint.c).
//!
//! A service proves its auth key on a circuit that ends here; INTRODUCE1 for that key from another
//! circuit goes to it unchanged, as INTRODUCE2, and is answered. A client gets one introduction a
//! circuit, and none on a circuit that comes straight from it. A service may ask for a limit on how
//! many reach it; what exceeds that is refused here. Every fault closes the circuit, but for an
//! INTRODUCE1 that is malformed or finds nobody: its client is told, and may extend elsewhere.

use cepa_circuit::{CircuitKey, RelayCircuit};
use cepa_limits::DosRule;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::establish_intro::{EstablishIntro, EstablishIntroError, IntroEstablished};
use cepa_wire::introduce::{Introduce, IntroduceAck, IntroduceError, IntroduceStatus};
use cepa_wire::relay::{RelayCommand, StreamId};
use tracing::debug;

use super::{PointAction, PointCell, Points};
use crate::switch::circuits::{IntroPoint, Next};
use crate::switch::context::Context;
use crate::switch::handover::{AuthKey, PointItem, PointKey};
use crate::switch::place::CircuitPlace;

/// Why an ESTABLISH_INTRO is refused; the consequence is DESTROY with reason 1 (PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum EstablishRefused {
    #[error("the circuit does not end here, or is a point already")]
    NotEnd,
    #[error(transparent)]
    Invalid(#[from] EstablishIntroError),
}

impl Points {
    pub(crate) fn handle_establish_intro(
        &mut self,
        key: CircuitKey,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        match check_establish_intro(key, data, ctx) {
            Ok(point) => {
                let point_key = PointKey::Intro(point.auth_key);
                if let Some(circuit) = ctx.circuits.circuit_mut(key) {
                    circuit.next = Next::Intro(Box::new(point));
                }
                let outbox = &mut ctx.shared.outbox;
                let item = PointItem::Register {
                    key: point_key,
                    circuit: outbox.place(key),
                };
                outbox.tell(outbox.home(&point_key), item);
            }
            Err(refused) => {
                debug!(%refused, "ESTABLISH_INTRO refused");
                let action = match refused {
                    EstablishRefused::NotEnd => PointAction::UnsuitableCircuit,
                    EstablishRefused::Invalid(_) => PointAction::Malformed,
                };
                self.counts.count(PointCell::EstablishIntro, action);
                ctx.destroy(key, DestroyReason::PROTOCOL);
            }
        }
    }

    pub(crate) fn handle_introduce1(
        &mut self,
        key: CircuitKey,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let is_direct = ctx.previous_peer(key).is_none();
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let is_used = !matches!(circuit.next, Next::None) || circuit.has_introduced;
        circuit.has_introduced = true;
        let introduce = Introduce::read(data);
        let refused = match introduce {
            _ if is_direct => Some(PointAction::SingleHop),
            _ if is_used => Some(PointAction::CircuitReused),
            Err(IntroduceError::Legacy) => Some(PointAction::Malformed),
            _ => None,
        };
        if let Some(action) = refused {
            debug!(action = action.label(), "INTRODUCE1 refused");
            self.counts.count(PointCell::Introduce1, action);
            return ctx.destroy(key, DestroyReason::PROTOCOL);
        }
        let client = ctx.shared.outbox.place(key);
        let Ok(introduce) = introduce else {
            let action = PointAction::Malformed;
            return self.end_introduce(client, IntroduceStatus::BAD_FORMAT, action, ctx);
        };
        let auth_key = *introduce.auth_key.as_bytes();
        let home = ctx.shared.outbox.home(&PointKey::Intro(auth_key));
        let item = PointItem::Introduce {
            auth_key,
            client,
            body: data.to_vec(),
        };
        ctx.shared.outbox.tell(home, item);
    }

    /// The auth key's home: whose circuit is it?
    pub(super) fn introduce(
        &mut self,
        auth_key: &AuthKey,
        client: CircuitPlace,
        body: Vec<u8>,
        ctx: &mut Context<'_>,
    ) {
        let Some(CircuitPlace { worker, circuit }) = self.intros.get(auth_key).copied() else {
            let action = PointAction::UnknownService;
            return self.end_introduce(client, IntroduceStatus::UNKNOWN_ID, action, ctx);
        };
        let item = PointItem::Introduced {
            circuit,
            client,
            body,
        };
        ctx.shared.outbox.tell(worker, item);
    }

    /// The service's worker: INTRODUCE2, if the service wants that many.
    pub(super) fn introduced(
        &mut self,
        key: CircuitKey,
        client: CircuitPlace,
        body: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let format = ctx.circuits.relay(key).map(RelayCircuit::format);
        let next = ctx
            .circuits
            .circuit_mut(key)
            .map(|circuit| &mut circuit.next);
        let (Some(Next::Intro(point)), Some(format)) = (next, format) else {
            let action = PointAction::CircuitDead;
            return self.end_introduce(client, IntroduceStatus::UNKNOWN_ID, action, ctx);
        };
        // What came in one cell need not fit one of the service's.
        if body.len() > format.data_max(RelayCommand::INTRODUCE2) {
            let action = PointAction::Malformed;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, ctx);
        }
        if !point.lets_through(ctx.now.mono) {
            ctx.shared
                .defenses
                .counts
                .count(DosRule::Introduce2Rejected);
            let action = PointAction::RateLimited;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, ctx);
        }
        if !ctx.send(key, RelayCommand::INTRODUCE2, StreamId::NONE, body) {
            let action = PointAction::CircuitDead;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, ctx);
        }
        self.end_introduce(client, IntroduceStatus::SUCCESS, PointAction::Success, ctx);
    }

    /// Counts what became of an INTRODUCE1, and answers it.
    fn end_introduce(
        &mut self,
        client: CircuitPlace,
        status: IntroduceStatus,
        action: PointAction,
        ctx: &mut Context<'_>,
    ) {
        self.counts.count(PointCell::Introduce1, action);
        let CircuitPlace { worker, circuit } = client;
        let answer = PointItem::Acknowledge { circuit, status };
        ctx.shared.outbox.tell(worker, answer);
    }
}

fn check_establish_intro(
    key: CircuitKey,
    data: &[u8],
    ctx: &Context<'_>,
) -> Result<IntroPoint, EstablishRefused> {
    let circuit = ctx.circuits.get(key).ok_or(EstablishRefused::NotEnd)?;
    if !matches!(circuit.next, Next::None) {
        return Err(EstablishRefused::NotEnd);
    }
    let establish = EstablishIntro::read(data)?;
    establish.verify(&circuit.kh)?;
    let asked = establish.dos.or(ctx.shared.config.points.intro_dos);
    Ok(IntroPoint::new(*establish.auth_key.as_bytes(), asked))
}

/// Owner: the service can be found.
pub(super) fn established(key: CircuitKey, ctx: &mut Context<'_>) {
    let mut body = Vec::with_capacity(1);
    IntroEstablished.write(&mut body);
    let command = RelayCommand::INTRO_ESTABLISHED;
    ctx.send(key, command, StreamId::NONE, &body);
}

/// The client's worker: INTRODUCE_ACK.
pub(super) fn acknowledge(key: CircuitKey, status: IntroduceStatus, ctx: &mut Context<'_>) {
    let mut body = Vec::with_capacity(3);
    IntroduceAck { status }.write(&mut body);
    ctx.send(key, RelayCommand::INTRODUCE_ACK, StreamId::NONE, &body);
}
