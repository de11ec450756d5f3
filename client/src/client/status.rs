//! Snapshots of a client, and its events ([`crate::status`]).

use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_dir::NetworkView;
use cepa_wire::Now;

use super::Client;
use crate::circuits;
use crate::directory::Descriptors;
use crate::names::{CircuitId, RequestId};
use crate::onion::services::ServiceStatus;
use crate::select::guards::Guards;
use crate::status::bootstrap::BootstrapStatus;
use crate::status::{
    CircuitStatus, ClientStatus, ConsensusStatus, Event, GuardsStatus, LinkStatus, StreamStatus,
    Traffic,
};

/// The descriptors of onion services that a client has at hand.
#[derive(Debug, Clone, Copy)]
pub struct HsDescriptors<'a>(&'a Client);

impl<'a> HsDescriptors<'a> {
    /// Those of a client.
    #[must_use]
    pub fn of(client: &'a Client) -> Self {
        HsDescriptors(client)
    }

    /// The text of that of a service that is hosted here.
    #[must_use]
    pub fn hosted(self, address: &OnionAddress) -> Option<&'a str> {
        self.0.onion.services.descriptor(address)
    }

    /// The text of one that was fetched for a visit, and could be read.
    #[must_use]
    pub fn visited(self, address: &OnionAddress, now: Now) -> Option<&'a str> {
        self.0.onion.visits.descriptor(address, now)
    }
}

impl Client {
    /// All of it.
    #[must_use]
    pub fn status(&self, now: Now) -> ClientStatus {
        ClientStatus {
            at: now.wall,
            bootstrap: self.bootstrap(),
            is_dormant: self.is_dormant(),
            consensus: self.consensus_status(),
            traffic: self.traffic,
            build_times: self.circuits.build_times.status(),
            guards: self.guards_status(now),
            links: self.link_statuses(),
            circuits: self.circuit_statuses(),
            streams: self.stream_statuses(),
            services: self.service_statuses(),
            visits: self.onion.visits.statuses(),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn bootstrap(&self) -> BootstrapStatus {
        self.directory.bootstrap()
    }

    /// What its links have carried.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether anything has come from the network since circuits were last given up.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.circuits.is_live
    }

    /// Whether it is at rest.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.dormancy.is_dormant()
    }

    /// The network, once there is a consensus.
    #[must_use]
    pub fn view(&self) -> Option<&NetworkView> {
        self.directory.view()
    }

    /// Server descriptors are kept from now on, though no path needs them, until the process ends.
    pub fn want_descriptors(&mut self, now: Now) {
        self.directory.want_descriptors(now);
        self.settle(now);
    }

    /// The server descriptors that are kept.
    #[must_use]
    pub fn descriptors(&self) -> &Descriptors {
        &self.directory.descriptors
    }

    /// The text of the consensus that lists server descriptors, where those are kept.
    #[must_use]
    pub fn ns_consensus(&self) -> Option<&str> {
        Some(&**self.directory.ns_consensus()?.text())
    }

    /// The consensus in force.
    #[must_use]
    pub fn consensus_status(&self) -> Option<ConsensusStatus> {
        self.directory.consensus_status()
    }

    /// How far the clock of the directory that told its time last is ahead of ours, in seconds;
    /// only authorities and fallback directories are listened to.
    #[must_use]
    pub fn clock_skew_secs(&self) -> Option<i64> {
        self.directory.skew_secs()
    }

    /// The guards: which ones, since when, why.
    #[must_use]
    pub fn guards(&self) -> &Guards {
        &self.circuits.choice.guards
    }

    /// Its guards and vanguards.
    #[must_use]
    pub fn guards_status(&self, now: Now) -> GuardsStatus {
        self.circuits.guards_status(self.view(), now)
    }

    /// Its links.
    #[must_use]
    pub fn link_statuses(&self) -> Vec<LinkStatus> {
        self.circuits.link_statuses(&self.shared.plane)
    }

    /// Its circuits, the oldest first.
    #[must_use]
    pub fn circuit_statuses(&self) -> Vec<CircuitStatus> {
        self.circuits.statuses(self.view(), &self.shared.plane)
    }

    /// The streams of applications, the oldest first.
    #[must_use]
    pub fn stream_statuses(&self) -> Vec<StreamStatus> {
        self.streams.statuses()
    }

    /// Whether there is such a circuit.
    #[must_use]
    pub fn has_circuit(&self, id: CircuitId) -> bool {
        self.circuits.pool.entry(id).is_some()
    }

    /// Whether there is such a stream of an application.
    #[must_use]
    pub fn has_stream(&self, id: RequestId) -> bool {
        self.streams.has(id)
    }

    /// How the hosted services stand.
    #[must_use]
    pub fn service_statuses(&self) -> Vec<ServiceStatus> {
        self.onion.services.statuses()
    }

    /// The nickname of a relay that the consensus lists.
    #[must_use]
    pub fn nickname(&self, relay: &RsaId) -> Option<&str> {
        circuits::status::nickname(self.view(), relay)
    }

    /// From now on [`Client::poll_status_event`] has events, or none any more.
    pub fn listen(&mut self, listens: bool, now: Now) {
        self.shared.listener.listen(listens, self.traffic, now);
    }

    /// What happened, in order, while somebody listens ([`crate::Command::Events`]).
    pub fn poll_status_event(&mut self) -> Option<Event> {
        self.shared.listener.poll()
    }
}
