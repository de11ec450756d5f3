//! The streams of visitors to hosted services (rend-spec-v3 4.2).
//!
//! A stream to a port that a service has becomes the shell's. To any other the visitor hears DONE,
//! and after some guesses loses the circuit, so that a search for ports costs many rendezvous.
//! (`tor` closes it at the first: a browser that tries port 443 before 80 then loses all that it
//! was fetching.)

use cepa_circuit::StreamKey;
use cepa_wire::end::EndReason;

use super::Onion;
use crate::circuits::Circuits;
use crate::command::Command;
use crate::context::Context;
use crate::names::{CircuitName, Owner, ServiceId};

/// Ports that a visitor may guess at over one circuit.
const GUESSES_MAX: u32 = 8;

/// What to do with a stream that a visitor wants.
enum Verdict {
    Take(ServiceId),
    Refuse,
    RefuseAndClose,
}

impl Onion {
    /// A visitor sent BEGIN.
    pub(crate) fn stream_requested(
        &mut self,
        stream: StreamKey,
        port: u16,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let id = circuits.of_stream(stream, ctx.plane);
        let name = id.and_then(|id| circuits.pool.name_of(id));
        let verdict = match name {
            Some(name) if name.owner == Owner::Services => self.judge(name, stream, port, ctx),
            _ => Verdict::Refuse,
        };
        if let (Verdict::Take(service), Some(circuit)) = (&verdict, id) {
            return ctx.commands.push_back(Command::OnionStream {
                stream,
                service: *service,
                circuit,
                port,
            });
        }
        ctx.plane.stream_refuse(stream, EndReason::DONE, ctx.now);
        if let (Verdict::RefuseAndClose, Some(name)) = (verdict, name) {
            self.doom(name, circuits, ctx.now);
        }
    }

    fn judge(
        &mut self,
        name: CircuitName,
        stream: StreamKey,
        port: u16,
        ctx: &Context<'_>,
    ) -> Verdict {
        let Some(circuit) = self
            .by_name
            .get_mut(&name)
            .filter(|one| !one.is_marked_for_close)
        else {
            return Verdict::Refuse;
        };
        let service = self.services.service_of(name);
        let Some((service, config)) =
            service.and_then(|service| Some((service, self.services.config(service)?)))
        else {
            return Verdict::RefuseAndClose;
        };
        if !config.ports.contains(&port) {
            circuit.guesses = circuit.guesses.saturating_add(1);
            let is_search = circuit.guesses > GUESSES_MAX && !config.allows_unknown_ports;
            return match is_search {
                true => Verdict::RefuseAndClose,
                false => Verdict::Refuse,
            };
        }
        // With this one.
        let key = ctx.plane.stream_circuit(stream);
        let status = key.and_then(|key| ctx.plane.circuit_status(key));
        let streams = status.map_or(0, |status| status.stream_count);
        match config.streams_max {
            Some(max) if streams > max && config.closes_on_excess => Verdict::RefuseAndClose,
            Some(max) if streams > max => Verdict::Refuse,
            _ => {
                self.services.handle_stream(name);
                Verdict::Take(service)
            }
        }
    }
}
