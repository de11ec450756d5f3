//! Virtual machines: relays, some of them exits or authorities, and clients; each with the cores
//! of production and what `src/roles` keeps beside them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use cepa_authority::Authority;
use cepa_circuit::{CircuitKey, OnionKeys, StreamKey, StreamRead};
use cepa_client::{Client, FetchId, RequestId};
use cepa_crypto::{Rng, RsaId};
use cepa_dir::DirStore;
use cepa_link::{ChannelKey, LinkIdentity};
use cepa_relay::{HsDirStore, KeyFile, KnownRelays, Relay, Switch, SwitchConfig, WorkerId};
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::edges::{App, Edge};

/// A relay, with what its shell has.
pub(super) struct RelayHost {
    pub(super) relay: Relay,
    pub(super) switch: Option<Switch>,
    pub(super) store: DirStore,
    pub(super) hs: HsDirStore,
    pub(super) onion: Option<Arc<OnionKeys>>,
    pub(super) link: Option<Arc<LinkIdentity>>,
    pub(super) authority: Option<Authority>,
    pub(super) relays: Arc<KnownRelays>,
    /// Circuits that wait for a link to a relay.
    pub(super) waiting: BTreeMap<RsaId, Vec<CircuitKey>>,
    /// Channels to relays.
    pub(super) known: BTreeMap<RsaId, ChannelKey>,
    /// Bytes sent that the relay was told of.
    pub(super) told_bytes: u64,
}

/// A client, with what its shell has.
pub(super) struct ClientHost {
    pub(super) client: Client,
    /// Requests of applications that wait for their answer.
    pub(super) asked: BTreeMap<RequestId, App>,
    /// Streams of fetches.
    pub(super) fetches: BTreeMap<FetchId, StreamKey>,
    pub(super) requests: u64,
    /// Whether it asks, and does not only host.
    pub(super) visits: bool,
}

/// The cores of a machine.
pub(super) enum Plane {
    Relay(Box<RelayHost>),
    Client(Box<ClientHost>),
}

/// A machine.
pub(super) struct Machine {
    pub(super) ip: Ipv4Addr,
    pub(super) plane: Option<Plane>,
    pub(super) generation: u64,
    /// Its channels, each one end of a connection.
    pub(super) links: BTreeMap<ChannelKey, (u64, usize)>,
    pub(super) edges: BTreeMap<StreamKey, Edge>,
    pub(super) wake: Option<std::time::Duration>,
    /// When all that it sends by now has gone out.
    pub(super) busy: std::time::Duration,
    pub(super) sent_bytes: u64,
    /// What it has kept.
    pub(super) files: Arc<Vec<KeyFile>>,
    pub(super) number: usize,
    pub(super) rng: Rng,
}

impl RelayHost {
    /// Takes a configuration of the switch, and makes the switch of the first one.
    pub(super) fn configure(&mut self, config: Arc<SwitchConfig>, rng: &mut Rng, now: Now) {
        match &mut self.switch {
            Some(switch) => switch.set_config(config, now),
            None => {
                let mut switch = Switch::new(WorkerId(0), 1, config, rng.fork());
                switch.set_relays(Arc::clone(&self.relays));
                self.switch = Some(switch);
            }
        }
    }
}

impl Machine {
    pub(super) fn relay(&mut self) -> Option<&mut RelayHost> {
        match &mut self.plane {
            Some(Plane::Relay(host)) => Some(host),
            _ => None,
        }
    }

    pub(super) fn client(&mut self) -> Option<&mut ClientHost> {
        match &mut self.plane {
            Some(Plane::Client(host)) => Some(host),
            _ => None,
        }
    }

    fn switch(&mut self) -> Option<&mut Switch> {
        self.relay()?.switch.as_mut()
    }

    /// When it wants to be woken.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.plane.as_ref()? {
            Plane::Client(host) => host.client.poll_timeout(),
            Plane::Relay(host) => {
                let switch = host.switch.as_ref().and_then(Switch::poll_timeout);
                let authority = host.authority.as_ref().and_then(Authority::poll_timeout);
                let relay = host.relay.poll_timeout();
                relay.into_iter().chain(switch).chain(authority).min()
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now.mono);
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.handle_timeout(now),
            Some(Plane::Relay(host)) => {
                if is_due(host.relay.poll_timeout()) {
                    host.relay.handle_timeout(now);
                }
                if let Some(switch) = &mut host.switch
                    && is_due(switch.poll_timeout())
                {
                    switch.handle_timeout(now);
                }
                if let Some(authority) = &mut host.authority
                    && is_due(authority.poll_timeout())
                {
                    authority.handle_timeout(now);
                }
            }
            None => {}
        }
    }

    /// Takes cells; how many bytes of them, or nothing if the channel is over.
    pub(super) fn handle_cells(
        &mut self,
        key: ChannelKey,
        bytes: &mut [u8],
        now: Now,
    ) -> Option<usize> {
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.handle_cells(key, bytes, now).ok(),
            Some(Plane::Relay(host)) => host.switch.as_mut()?.handle_cells(key, bytes, now).ok(),
            None => None,
        }
    }

    pub(super) fn take_output(&mut self, key: ChannelKey, out: &mut Vec<u8>, now: Now) {
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.take_output(key, out, now),
            Some(Plane::Relay(host)) => {
                if let Some(switch) = &mut host.switch {
                    switch.take_output(key, out, now);
                }
            }
            None => {}
        }
    }

    pub(super) fn has_output(&self, key: ChannelKey) -> bool {
        match &self.plane {
            Some(Plane::Client(host)) => host.client.has_output(key),
            Some(Plane::Relay(host)) => {
                let switch = host.switch.as_ref();
                switch.is_some_and(|switch| switch.has_output(key))
            }
            None => false,
        }
    }

    pub(super) fn channel_closed(&mut self, key: ChannelKey, now: Now) {
        self.links.remove(&key);
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.channel_closed(key, now),
            Some(Plane::Relay(host)) => {
                host.known.retain(|_, known| *known != key);
                if let Some(switch) = &mut host.switch {
                    switch.channel_closed(key, now);
                }
            }
            None => {}
        }
    }

    pub(super) fn take_ready(&mut self) -> (Vec<ChannelKey>, Vec<StreamKey>) {
        let (mut channels, mut streams) = (Vec::new(), Vec::new());
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.take_ready(&mut channels, &mut streams),
            Some(Plane::Relay(host)) => {
                if let Some(switch) = &mut host.switch {
                    switch.take_ready(&mut channels, &mut streams);
                }
            }
            None => {}
        }
        (channels, streams)
    }

    pub(super) fn stream_room(&mut self, key: StreamKey) -> usize {
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.stream_room(key),
            _ => self.switch().map_or(0, |switch| switch.stream_room(key)),
        }
    }

    pub(super) fn stream_send(&mut self, key: StreamKey, bytes: &[u8], now: Now) {
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.stream_send(key, bytes, now),
            _ => {
                if let Some(switch) = self.switch() {
                    switch.stream_send(key, bytes, now);
                }
            }
        }
    }

    pub(super) fn stream_take(
        &mut self,
        key: StreamKey,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Option<StreamRead> {
        match &mut self.plane {
            Some(Plane::Client(host)) => Some(host.client.stream_take(key, out, max)),
            _ => Some(self.switch()?.stream_take(key, out, max)),
        }
    }

    pub(super) fn stream_written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.stream_written(key, bytes, now),
            _ => {
                if let Some(switch) = self.switch() {
                    switch.stream_written(key, bytes, now);
                }
            }
        }
    }

    pub(super) fn stream_close(&mut self, key: StreamKey, now: Now) {
        self.edges.remove(&key);
        match &mut self.plane {
            Some(Plane::Client(host)) => host.client.stream_close(key, EndReason::DONE, now),
            _ => {
                if let Some(switch) = self.switch() {
                    switch.stream_close(key, EndReason::DONE, now);
                }
            }
        }
    }
}
