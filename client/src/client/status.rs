//! Snapshots of a client, and what is told of it to whoever listens ([`crate::status`]).

use cepa_circuit::StreamKey;
use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_netdoc::hs_descriptor::HsDescriptor;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;

use super::Client;
use crate::circuits::pool::{Entry, Purpose};
use crate::command::RequestId;
use crate::onion::LastHop;
use crate::onion::circuits::Name;
use crate::status::{
    CircuitChange, CircuitId, CircuitPurpose, CircuitStatus, ClientStatus, ConsensusStatus,
    DescriptorChange, DescriptorFailure, DescriptorTransfer, Event, GuardsStatus, HopStatus,
    LinkStatus, NamedVanguard, PathBiasStatus, StreamChange, StreamEnd, StreamStatus,
};

impl Client {
    /// All of it.
    #[must_use]
    pub fn status(&self, now: Now) -> ClientStatus {
        ClientStatus {
            at: now.wall,
            bootstrap: self.bootstrap,
            is_dormant: self.is_dormant(),
            consensus: self.consensus_status(),
            traffic: self.traffic,
            build_times: self.build_times.status(),
            guards: self.guards_status(now),
            links: self.link_statuses(),
            circuits: self.circuit_statuses(),
            streams: self.stream_statuses(),
            services: self.services.statuses(),
            visits: self.visits.statuses(),
        }
    }

    /// The consensus in force.
    #[must_use]
    pub fn consensus_status(&self) -> Option<ConsensusStatus> {
        let view = self.view()?;
        let lifetime = &view.consensus().lifetime;
        Some(ConsensusStatus {
            valid_after: lifetime.valid_after,
            fresh_until: lifetime.fresh_until,
            valid_until: lifetime.valid_until,
            listed: view.consensus().routers.len(),
            usable: view.relays().len(),
        })
    }

    /// Its guards and vanguards.
    #[must_use]
    pub fn guards_status(&self, now: Now) -> GuardsStatus {
        let bias = self.path_bias.iter().map(|(guard, counts)| PathBiasStatus {
            guard: *guard,
            attempts: counts.attempts,
            successes: counts.successes,
            use_attempts: counts.use_attempts,
            use_successes: counts.use_successes,
        });
        let vanguards = self.vanguards.statuses(now).map(|vanguard| NamedVanguard {
            nickname: self.nickname(&vanguard.id).map(str::to_owned),
            vanguard,
        });
        GuardsStatus {
            selection: self.guards.selection(),
            sampled: self.guards.statuses(),
            departures: self.guards.departures().cloned().collect(),
            path_bias: bias.collect(),
            vanguard_mode: self.vanguards.mode(),
            vanguards: vanguards.collect(),
        }
    }

    /// Its links.
    #[must_use]
    pub fn link_statuses(&self) -> Vec<LinkStatus> {
        let plane = &self.plane;
        self.links
            .statuses(|channel| plane.channel_circuit_count(channel))
    }

    /// Its circuits, the oldest first.
    #[must_use]
    pub fn circuit_statuses(&self) -> Vec<CircuitStatus> {
        let circuits = self.pool.iter();
        circuits
            .map(|(id, entry)| self.circuit_status(id, entry))
            .collect()
    }

    /// The streams of applications, the oldest first.
    #[must_use]
    pub fn stream_statuses(&self) -> Vec<StreamStatus> {
        let waiting = self.requests.by_id.values().map(|one| &one.status);
        let open = self.requests.open.values().map(|(status, _)| status);
        let mut all: Vec<StreamStatus> = waiting.chain(open).cloned().collect();
        all.sort_by_key(|one| one.id);
        all
    }

    /// The nickname of a relay that the consensus lists.
    #[must_use]
    pub fn nickname(&self, relay: &RsaId) -> Option<&str> {
        let router = self.view()?.consensus().router(relay)?;
        Some(&router.nickname)
    }

    fn circuit_status(&self, id: CircuitId, entry: &Entry) -> CircuitStatus {
        let status = entry.key().and_then(|key| self.plane.circuit_status(key));
        let named = self.onion.name_of(id);
        let named = named.and_then(|name| self.onion.by_name.get(&name));
        let path = entry.path.iter().take(entry.standing).map(|rsa| HopStatus {
            rsa: *rsa,
            nickname: rsa.and_then(|rsa| self.nickname(&rsa).map(str::to_owned)),
        });
        CircuitStatus {
            id,
            state: entry.state(),
            purpose: match (&entry.purpose, named) {
                (Purpose::Directory, _) => CircuitPurpose::Directory,
                (Purpose::General(_), _) => CircuitPurpose::General,
                (Purpose::Onion(_), None) => CircuitPurpose::OnionPath,
                (Purpose::Onion(_), Some(named)) => named.purpose.into(),
            },
            path: path.collect(),
            guard: entry.first,
            hops: entry.path.len(),
            created: entry.created,
            usage: entry.usage(),
            streams: status.map_or(0, |status| status.stream_count),
            isolation: entry.isolation.clone(),
            onion: named.and_then(|named| named.address),
        }
    }
}

/// What is told.
impl Client {
    /// From now on [`Client::poll_status_event`] has events, or none any more.
    pub fn listen(&mut self, listens: bool, now: Now) {
        self.listener.listen(listens, self.traffic, now);
    }

    /// What happened, in order, while somebody listens ([`crate::Command::Events`]).
    pub fn poll_status_event(&mut self) -> Option<Event> {
        self.listener.poll()
    }

    pub(super) fn tell_circuit(&mut self, id: CircuitId, change: CircuitChange) {
        if self.listener.listens()
            && let Some(entry) = self.pool.entry(id)
        {
            let circuit = Box::new(self.circuit_status(id, entry));
            self.listener.tell(|| Event::Circuit { change, circuit });
        }
    }

    pub(super) fn tell_request(&mut self, id: RequestId, change: StreamChange) {
        if self.listener.listens() {
            let request = self.requests.by_id.get(&id);
            self.listener
                .tell_stream(change, request.map(|one| &one.status));
        }
    }

    pub(super) fn tell_open(&mut self, stream: StreamKey, change: StreamChange) {
        let open = self.requests.open.get(&stream);
        self.listener
            .tell_stream(change, open.map(|(status, _)| status));
    }

    /// A stream is closed by us, or by the application; perhaps its far end did that before.
    pub(super) fn stream_gone(&mut self, stream: StreamKey, reason: EndReason) {
        if let Some((status, end)) = self.requests.open.remove(&stream) {
            let end = end.map_or(StreamEnd::Ours(reason), StreamEnd::Peer);
            self.listener
                .tell_stream(StreamChange::Closed(end), Some(&status));
        }
    }

    /// What a request asked for has shown its address or name.
    pub(super) fn tell_address(&mut self, id: RequestId, address: Host, ttl_secs: u32) {
        let Some(request) = self.requests.by_id.get(&id) else {
            return;
        };
        let name = &request.status.host;
        if *name != address {
            self.listener.tell(|| Event::AddressMap {
                name: name.clone(),
                address,
                ttl_secs,
            });
        }
    }

    /// What a machine of onion services asks a directory for, or gives to it.
    pub(super) fn transfer(
        &self,
        name: Name,
        request: &DirRequest,
        body: &[u8],
    ) -> DescriptorTransfer {
        let named = self.onion.by_name.get(&name);
        let blinded = match request {
            DirRequest::HsDescriptor(key) => Some(*key),
            _ => None,
        };
        DescriptorTransfer {
            address: named.and_then(|named| named.address),
            hsdir: named.and_then(|named| match named.last {
                LastHop::Listed(id) => Some(id),
                _ => None,
            }),
            is_upload: *request == DirRequest::PostHsDescriptor,
            blinded,
            text: match self.listener.listens() {
                true => String::from_utf8_lossy(body).into_owned(),
                false => String::new(),
            },
        }
    }

    pub(super) fn tell_transfer(
        &mut self,
        transfer: &DescriptorTransfer,
        change: DescriptorChange,
    ) {
        self.listener.tell(|| Event::OnionDescriptor {
            change,
            transfer: Box::new(transfer.clone()),
        });
    }

    /// A directory has answered; a text that is none is as good as no answer.
    pub(super) fn tell_transferred(
        &mut self,
        mut transfer: DescriptorTransfer,
        reply: &Reply,
        now: Now,
    ) {
        if !self.listener.listens() {
            return;
        }
        if !transfer.is_upload {
            transfer.text = String::from_utf8_lossy(&reply.body).into_owned();
        }
        let descriptor = HsDescriptor::parse(&transfer.text, now.wall);
        let is_it = descriptor.is_ok_and(|read| {
            let blinded = *read.blinded_key.as_bytes();
            blinded == *transfer.blinded.get_or_insert(blinded)
        });
        let change = match (reply.status, transfer.is_upload) {
            (200, false) if !is_it => DescriptorChange::Failed(DescriptorFailure::Bad),
            (200, _) => DescriptorChange::Done,
            (0, _) => DescriptorChange::Failed(DescriptorFailure::Broken),
            (_, true) => DescriptorChange::Failed(DescriptorFailure::Rejected),
            (_, false) => DescriptorChange::Failed(DescriptorFailure::NotFound),
        };
        self.tell_transfer(&transfer, change);
    }

    /// What the tables and rules have noted since.
    pub(super) fn tell_changes(&mut self) {
        while let Some((change, link)) = self.links.poll_change() {
            let link = Box::new(link);
            self.listener.tell(|| Event::Link { change, link });
        }
        while let Some((change, guard, nickname)) = self.guards.poll_change() {
            self.listener.tell(|| Event::Guard {
                change,
                guard,
                nickname,
            });
        }
        if let Some(change) = self.build_times.take_change() {
            let times = self.build_times.status();
            self.listener.tell(|| Event::BuildTimes { change, times });
        }
        let is_live = !self.build_times.is_silent();
        if std::mem::replace(&mut self.is_live, is_live) != is_live {
            self.listener.tell(|| Event::Liveness(is_live));
        }
    }
}
