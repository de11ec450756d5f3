//! Hosted onion services: what the shell wants of them, and the streams of their visitors
//! (rend-spec-v3 4.2; [`crate::onion::services`]).
//!
//! A stream to a port that a service has becomes the shell's. To any other the visitor hears DONE,
//! and after some guesses loses the circuit, so that a search for ports costs many rendezvous.
//! (`tor` closes it at the first: a browser that tries port 443 before 80 then loses all that it
//! was fetching.)

use cepa_circuit::StreamKey;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::Client;
use crate::command::Command;
use crate::onion::Owner;
use crate::onion::services::{ServiceConfig, ServiceId, ServiceOutcome, ServiceStatus};

/// Ports that a visitor may guess at over one circuit.
const GUESSES_MAX: u32 = 8;

/// What to do with a stream that a visitor wants.
enum Verdict {
    Take(ServiceId),
    Refuse,
    RefuseAndClose,
}

impl Client {
    /// Hosts a service from now on; [`Command::OnionPublished`] tells when it can be found.
    pub fn add_service(&mut self, config: ServiceConfig, now: Now) -> ServiceId {
        self.wake(now);
        let id = self.services.add(config, now);
        self.onion.used_last = Some(now.mono);
        self.settle(now);
        id
    }

    /// Hosts a service with other ports, clients, limits or introduction points from now on.
    /// Streams that are open stay.
    pub fn change_service(&mut self, id: ServiceId, config: ServiceConfig, now: Now) {
        self.services.change(id, config, now);
        self.settle(now);
    }

    /// Hosts a service no longer: its circuits and streams are closed at once.
    pub fn remove_service(&mut self, id: ServiceId, now: Now) {
        self.services.remove(id, now);
        self.settle(now);
    }

    /// How the hosted services stand.
    #[must_use]
    pub fn service_statuses(&self) -> Vec<ServiceStatus> {
        self.services.statuses()
    }

    /// The connection for [`Command::OnionStream`] stands. False if the visitor has given up
    /// meanwhile: the stream has ended, and is to be closed.
    pub fn onion_stream_connected(&mut self, stream: StreamKey, now: Now) -> bool {
        let accepted = self.plane.stream_accept(stream, now);
        self.settle_events(now);
        accepted
    }

    /// There is no connection for [`Command::OnionStream`]; the stream is gone.
    pub fn onion_stream_refused(&mut self, stream: StreamKey, now: Now) {
        self.plane
            .stream_refuse(stream, EndReason::CONNECTREFUSED, now);
        self.settle_events(now);
    }

    pub(super) fn handle_service_outcome(&mut self, outcome: ServiceOutcome) {
        let ServiceOutcome::Published { service } = outcome;
        self.commands.push_back(Command::OnionPublished { service });
    }

    /// A visitor sent BEGIN.
    pub(super) fn stream_requested(&mut self, stream: StreamKey, port: u16, now: Now) {
        match self.judge(stream, port) {
            Verdict::Take(service) => self.commands.push_back(Command::OnionStream {
                stream,
                service,
                port,
            }),
            Verdict::Refuse => self.plane.stream_refuse(stream, EndReason::DONE, now),
            Verdict::RefuseAndClose => {
                let circuit = self.plane.stream_circuit(stream);
                self.plane.stream_refuse(stream, EndReason::DONE, now);
                if let Some(id) = circuit.and_then(|key| self.pool.by_key(key)) {
                    self.doom(id, now);
                }
            }
        }
    }

    fn judge(&mut self, stream: StreamKey, port: u16) -> Verdict {
        let Some(key) = self.plane.stream_circuit(stream) else {
            return Verdict::Refuse;
        };
        let name = self.pool.by_key(key).and_then(|id| self.onion.name_of(id));
        let Some(name @ (Owner::Services, circuit)) = name else {
            return Verdict::Refuse;
        };
        if self.onion.doomed.contains(&name) {
            return Verdict::Refuse;
        }
        let service = self.services.service_of(circuit);
        let Some((service, config)) =
            service.and_then(|service| Some((service, self.services.config(service)?)))
        else {
            return Verdict::RefuseAndClose;
        };
        if !config.ports.contains(&port) {
            let guesses = self.onion.guesses.entry(name).or_default();
            *guesses += 1;
            return match *guesses > GUESSES_MAX {
                true => Verdict::RefuseAndClose,
                false => Verdict::Refuse,
            };
        }
        // With this one.
        let streams = self
            .plane
            .circuit_status(key)
            .map_or(0, |status| status.stream_count);
        match config.streams_max {
            Some(max) if streams > max && config.closes_on_excess => Verdict::RefuseAndClose,
            Some(max) if streams > max => Verdict::Refuse,
            _ => {
                self.services.handle_stream(circuit);
                Verdict::Take(service)
            }
        }
    }
}
