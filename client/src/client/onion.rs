//! Does what machines of onion services ask for, and tells them what became of it
//! ([`crate::onion::Action`], [`crate::onion::Event`]).
//!
//! ```text
//! Visits, Services ─Action─▶ circuits by name, messages, joins, requests ─Event─▶ the same
//! ```
//!
//! Each machine sees the circuits of its own names only.

use std::sync::Arc;

use cepa_circuit::CircuitKey;
use cepa_circuit::congestion::{Congestion, CongestionPath};
use cepa_dir::DirRequest;
use cepa_dir::fetch::{Reply, reply_bytes_max};
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::relay::RelayCommand;

use super::Client;
use crate::command::{Command, FetchId};
use crate::onion::circuits::{Asked, Name, Named, REQUEST_MAX};
use crate::onion::{Action, Ending, Event, Owner};
use crate::plane::StreamTarget;
use crate::select::paths;
use crate::status::{CircuitEnd, DescriptorChange, DescriptorFailure};

impl Client {
    /// Does one thing that a machine asks for.
    pub(super) fn do_action(&mut self, owner: Owner, action: Action, now: Now) {
        tracing::debug!("{owner:?}: {action}");
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => {
                let name = (owner, circuit);
                self.onion.used_last = Some(now.mono);
                debug_assert!(
                    !self.onion.by_name.contains_key(&name),
                    "a name is used once"
                );
                let has_room = self.make_named_room(purpose, now);
                let address = match owner {
                    Owner::Visits => self.visits.address_of(circuit),
                    Owner::Services => self.services.address_of(circuit),
                };
                let mut named = Named::new(purpose, last, now);
                named.address = address;
                self.onion.by_name.insert(name, named);
                if !has_room {
                    self.end_named(name, Ending::NoPath, now);
                }
            }
            Action::Send {
                circuit,
                command,
                body,
            } => {
                if let Some(key) = self.standing((owner, circuit)) {
                    self.plane.send_control(key, command, &body, now);
                    self.hide_circuit((owner, circuit), command, now);
                }
            }
            Action::Join {
                circuit,
                layer,
                serves,
                congestion,
            } => {
                let Some(key) = self.standing((owner, circuit)) else {
                    return;
                };
                let congestion = congestion.and_then(|cells| self.onion_congestion(cells));
                let joined = self.plane.join_circuit(key, *layer, congestion, serves);
                if let Err(error) = joined {
                    tracing::warn!("a peer cannot be joined: {error}");
                    self.plane.close_circuit(key, DestroyReason::NONE, now);
                }
            }
            Action::Request {
                circuit,
                request,
                body,
            } => self.ask_last((owner, circuit), request, body, now),
            Action::Close { circuit } => {
                self.close_named((owner, circuit), CircuitEnd::Finished, now);
            }
        }
    }

    /// The congestion control that a visitor and a service have agreed on.
    fn onion_congestion(&self, sendme_inc_cells: u8) -> Option<Congestion> {
        let params = self.download.view()?.params();
        Some(Congestion {
            params: Arc::new(paths::congestion_params(params)),
            sendme_inc_cells,
            path: CongestionPath::Onion,
        })
    }

    /// Asks the directory at the end of a circuit.
    fn ask_last(&mut self, name: Name, request: DirRequest, body: Vec<u8>, now: Now) {
        let Some(key) = self.standing(name) else {
            return;
        };
        let transfer = self.transfer(name, &request, &body);
        match self.plane.open_stream(key, &StreamTarget::BeginDir, now) {
            Ok(stream) => {
                self.tell_transfer(&transfer, DescriptorChange::Asked);
                let fetch = self.fetches.new_id();
                let until = now.mono + REQUEST_MAX;
                let asked = Asked {
                    name,
                    stream,
                    until,
                    transfer,
                };
                self.onion.asked.insert(fetch, asked);
                self.commands.push_back(Command::DirRequest {
                    fetch,
                    stream,
                    body_bytes_max: reply_bytes_max(&request),
                    request,
                    body,
                });
            }
            Err(error) => {
                tracing::debug!("a directory stream cannot be opened: {error}");
                self.tell_reply(name, Reply::failed(), now);
            }
        }
    }

    /// An answer for a machine, if the fetch was one's. True then.
    pub(super) fn onion_reply(&mut self, id: FetchId, reply: Option<Reply>, now: Now) -> bool {
        let Some(asked) = self.onion.asked.remove(&id) else {
            return false;
        };
        self.plane.stream_close(asked.stream, EndReason::DONE, now);
        let reply = reply.unwrap_or_else(Reply::failed);
        self.tell_transferred(asked.transfer, &reply, now);
        self.tell_reply(asked.name, reply, now);
        true
    }

    pub(super) fn tell_reply(&mut self, (owner, circuit): Name, reply: Reply, now: Now) {
        self.tell(owner, Event::Reply { circuit, reply }, now);
    }

    pub(super) fn cancel_asked(&mut self, fetch: FetchId, now: Now) {
        if let Some(asked) = self.onion.asked.remove(&fetch) {
            self.tell_transfer(
                &asked.transfer,
                DescriptorChange::Failed(DescriptorFailure::Broken),
            );
            self.plane.stream_close(asked.stream, EndReason::DONE, now);
            self.commands.push_back(Command::CancelDirRequest { fetch });
        }
    }

    /// Tells the machine of a circuit that a message came.
    pub(super) fn onion_message(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        body: &[u8],
        now: Now,
    ) {
        let name = self.pool.by_key(key).and_then(|id| self.onion.name_of(id));
        let Some((owner, circuit)) = name else { return };
        self.hide_circuit((owner, circuit), command, now);
        let message = Event::Message {
            circuit,
            command,
            body,
        };
        self.tell(owner, message, now);
    }

    pub(super) fn tell(&mut self, owner: Owner, event: Event<'_>, now: Now) {
        #[cfg(test)]
        self.told.push((owner, format!("{event:?}")));
        tracing::debug!("{owner:?}: {event}");
        match owner {
            Owner::Visits => self.visits.handle_event(event, now),
            Owner::Services => self.services.handle_event(event, now),
        }
    }

    /// The machines do what is due.
    pub(super) fn handle_onion_timeout(&mut self, now: Now) {
        if self.visits.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.visits.handle_timeout(now);
        }
        if self
            .services
            .poll_timeout()
            .is_some_and(|at| at <= now.mono)
        {
            self.services.handle_timeout(now);
        }
    }

    /// Lets the machines of onion services do what they have to do. False if that was nothing.
    pub(super) fn run_onion(&mut self, now: Now) -> bool {
        self.begin_visits(now);
        self.tell_network(now);
        let mut idle = true;
        while let Some(action) = self.visits.poll_action() {
            self.do_action(Owner::Visits, action, now);
            idle = false;
        }
        while let Some(outcome) = self.visits.poll_outcome() {
            self.handle_visit(outcome, now);
            idle = false;
        }
        while let Some(action) = self.services.poll_action() {
            self.do_action(Owner::Services, action, now);
            idle = false;
        }
        while let Some(outcome) = self.services.poll_outcome() {
            self.handle_service_outcome(outcome);
        }
        !idle
    }

    /// Shows the machines the network, once paths can be made of it.
    fn tell_network(&mut self, now: Now) {
        if self.onion.network_told || !self.is_ready(now) {
            return;
        }
        self.onion.network_told = true;
        let Some(view) = self.download.view() else {
            return;
        };
        self.vanguards
            .refresh(view, &self.permits, now, &mut self.rng);
        let network = || Event::Network(view, &self.permits);
        self.visits.handle_event(network(), now);
        self.services.handle_event(network(), now);
    }
}
