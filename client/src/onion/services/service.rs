//! One hosted service: its machines, and what goes between them (rend-spec-v3 1.2).
//!
//! ```text
//! events ─▶ IntroPoints ─ points ─▶ Publisher ─ texts ─▶ Uploads ─▶ actions
//!       └─▶ Introductions ─ whom ─▶ Rendezvouses ─▶ actions
//! ```
//!
//! Invariants: after each event [`Service::advance`] brings all machines up to date; what is
//! dropped is counted by its reason.

use std::time::Instant;

use cepa_wire::relay::RelayCommand;

use super::circuits::{Context, Network, Part};
use super::config::ServiceConfig;
use super::intro_points::IntroPoints;
use super::introductions::Introductions;
use super::publisher::Publisher;
use super::rendezvous::{RendezvousEnd, Rendezvouses};
use super::uploads::Uploads;
use crate::names::{CircuitName, ServiceId};
use crate::onion::action::Ending;
use crate::select::paths::congestion_params;
use crate::status::{Counts, IntroDrop, ServiceStatus};

/// What came of bringing a service up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advance {
    /// It has just been published for the first time.
    pub(super) is_published: bool,
    /// It has uploads for which there is no room.
    pub(super) waits_for_room: bool,
}

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) config: ServiceConfig,
    publisher: Publisher,
    uploads: Uploads,
    points: IntroPoints,
    introductions: Introductions,
    rendezvouses: Rendezvouses,
    is_published: bool,
    counts: Counts,
}

impl Service {
    /// A service that nothing has been done for.
    pub(super) fn new(config: ServiceConfig, is_testing: bool) -> Self {
        let mut publisher = Publisher::new(&config.identity, config.clients.clone());
        publisher.set_masters(config.masters.clone());
        Service {
            publisher,
            uploads: Uploads::default(),
            points: IntroPoints::new(config.intro_points, config.dos),
            introductions: Introductions::new(is_testing),
            rendezvouses: Rendezvouses::new(config.circuits_max),
            is_published: false,
            counts: Counts::default(),
            config,
        }
    }

    /// Something else is wanted. Clients that are left out may know introduction points until these
    /// are replaced, as with `tor`.
    pub(super) fn change(&mut self, config: ServiceConfig, ctx: &mut Context<'_>) {
        debug_assert_eq!(config.identity.public(), self.config.identity.public());
        self.publisher.set_clients(config.clients.clone(), ctx.now);
        self.publisher.set_masters(config.masters.clone());
        self.points.want(config.intro_points, config.dos);
        self.rendezvouses.bound(config.circuits_max);
        self.config = config;
    }

    /// There is a consensus.
    pub(super) fn handle_network(&mut self, network: &Network, ctx: &mut Context<'_>) {
        self.points.handle_network(&network.view);
        let params = congestion_params(network.view.params());
        let congestion = params.is_enabled.then_some(params.sendme_inc_cells);
        self.introductions.offer_congestion(congestion);
        self.publisher.offer_congestion(congestion, ctx.now);
        self.publisher
            .handle_rings(&network.rings, ctx.now, ctx.rng);
    }

    /// A circuit stands.
    pub(super) fn handle_built(
        &mut self,
        circuit: CircuitName,
        part: Part,
        kh: &[u8; 20],
        ctx: &mut Context<'_>,
    ) {
        match part {
            Part::Intro => self.points.handle_built(circuit, kh, ctx),
            Part::Upload => self.uploads.handle_built(circuit, ctx),
            Part::Rendezvous => self.rendezvouses.handle_built(circuit, ctx),
        }
    }

    /// A message came. Says whether the machines are to be brought up to date.
    pub(super) fn handle_message(
        &mut self,
        circuit: CircuitName,
        command: RelayCommand,
        body: &[u8],
        ctx: &mut Context<'_>,
    ) -> bool {
        match command {
            RelayCommand::INTRO_ESTABLISHED => {
                self.points.handle_established(circuit, body, ctx);
                true
            }
            RelayCommand::INTRODUCE2 => {
                self.counts.intro_num_total += 1;
                if let Err(reason) = self.introduce(circuit, body, ctx) {
                    tracing::debug!("an introduction is dropped: {}", reason.reason());
                    let count = &mut self.counts.intro_rejected_intro_req_count;
                    *count.entry(reason).or_default() += 1;
                }
                false
            }
            // Nothing else is said to a service (3.1.3, 3.2, 4.2).
            _ => false,
        }
    }

    fn introduce(
        &mut self,
        circuit: CircuitName,
        body: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), IntroDrop> {
        let point = self.points.find(circuit).ok_or(IntroDrop::AuthKey)?;
        point.introduced();
        let has_room = self.rendezvouses.has_room() && ctx.circuits.has_room_for_rendezvous();
        if !has_room && !self.rendezvouses.make_room(ctx) {
            return Err(IntroDrop::Circuits);
        }
        let subcredentials = self.publisher.subcredentials();
        let introduction = self.introductions.read(body, point, subcredentials, ctx)?;
        self.counts.rdv_num_total += 1;
        self.rendezvouses.begin(introduction, ctx);
        Ok(())
    }

    /// A directory has answered.
    pub(super) fn handle_reply(
        &mut self,
        circuit: CircuitName,
        status: u16,
        ctx: &mut Context<'_>,
    ) {
        self.uploads
            .handle_reply(circuit, status, &mut self.publisher, ctx);
    }

    /// A circuit is gone.
    pub(super) fn handle_ended(
        &mut self,
        circuit: CircuitName,
        part: Part,
        ending: Ending,
        ctx: &mut Context<'_>,
    ) {
        match part {
            Part::Intro => self.points.handle_ended(circuit, ending, ctx),
            Part::Upload => self.uploads.handle_ended(circuit, &mut self.publisher, ctx),
            Part::Rendezvous => {
                if self.rendezvouses.handle_ended(circuit, ctx) == Some(RendezvousEnd::Failed) {
                    self.counts.rdv_error_count += 1;
                }
            }
        }
    }

    /// Does what is due, and brings all machines up to date.
    pub(super) fn advance(&mut self, network: &Network, ctx: &mut Context<'_>) -> Advance {
        self.uploads.handle_timeout(&mut self.publisher, ctx);
        self.counts.rdv_error_count += self.rendezvouses.handle_timeout(ctx);
        self.points.advance(network, ctx);
        if let Some(points) = self.points.listing() {
            self.publisher.set_points(points, ctx.now, ctx.rng);
        }
        self.publisher.handle_timeout(ctx.now, ctx.rng);
        let waits_for_room = self.uploads.advance(&mut self.publisher, ctx);
        let is_published = !self.is_published && self.publisher.stands();
        self.is_published |= is_published;
        Advance {
            is_published,
            waits_for_room,
        }
    }

    /// When [`Service::advance`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.publisher.poll_timeout(),
            self.uploads.poll_timeout(),
            self.points.poll_timeout(),
            self.rendezvouses.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// The visitor at the end of a circuit has opened a stream.
    pub(super) fn used(&mut self, circuit: CircuitName) {
        self.rendezvouses.used(circuit);
    }

    /// Whether a visitor is the last hop of a circuit.
    pub(super) fn is_joined(&self, circuit: CircuitName) -> bool {
        self.rendezvouses.is_joined(circuit)
    }

    /// The text of its descriptor.
    pub(super) fn descriptor(&self) -> Option<&str> {
        self.publisher.text()
    }

    /// How it stands.
    pub(super) fn status(&self, service: ServiceId) -> ServiceStatus {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        ServiceStatus {
            service,
            identity: self.config.identity.public(),
            is_published: self.is_published,
            descriptors: self.publisher.statuses(),
            intro_points: self.points.statuses(),
            counts: Counts {
                intro_established_count: number(self.points.standing()),
                rdv_established_count: number(self.rendezvouses.joined()),
                ..self.counts.clone()
            },
        }
    }
}
