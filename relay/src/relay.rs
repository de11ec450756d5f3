//! The control core of a relay: keys, links, descriptor, what it downloads (docs/architecture.md,
//! "Cores and shell").
//!
//! ```text
//! new ─> MakeTlsKey ─> Link ─> documents made ─> Upload to each authority, again every 18 hours
//!          ^ 12 hours                              ^ keys, configuration, consensus, bandwidth
//! DirectoryDownload ─> Serve, Relays (what the switches know of other relays)
//! ```
//!
//! One event at a time; effects come out as [`Command`]s. Nothing is published before links can be
//! accepted. What is downloaded is checked by [`DirectoryDownload`] before it comes here.

mod command;
mod keys;
mod restore;
mod sleep;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cepa_circuit::{CongestionParams, PaddingParams};
use cepa_crypto::Rng;
use cepa_crypto::rsa::RsaKeyError;
use cepa_dir::fetch::{self, FetchId, Interest, Refusal};
use cepa_dir::{DirDocument, DirectoryDownload, Flavour, NetworkFile};
use cepa_limits::{DosParams, Memory};
use cepa_link::TlsKeyAndCert;
use cepa_link::channel::PaddingRange;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::params::Params;
use cepa_wire::{Now, Repeats};
use tracing::{debug, info, warn};

use crate::accounting::{Accounting, Wakefulness};
use crate::bandwidth::BandwidthHistory;
use crate::bridge_clients::{BridgeClient, BridgeClients, BridgeClientsSeen};
use crate::config::RelayConfig;
use crate::descriptor::{DescribeError, OwnDocuments, Work};
use crate::exit_policy::ExitPolicy;
use crate::hsdir::HsDuty;
use crate::keys::{KeyLife, RelayKeys};
use crate::publish::Publisher;
use crate::switch::{KnownRelays, OnionskinLimits, PointParams, SwitchConfig};

pub use command::{Command, TlsKeyJob};
pub use restore::Restored;

/// How often keys are looked at.
const KEYS_TICK: Duration = Duration::from_secs(60 * 60);
/// How long a TLS key is used for new links.
const TLS_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// After a TLS key could not be made.
const TLS_RETRY: Duration = Duration::from_secs(10);

/// How far a descriptor's time may be ahead of the clock, after several in one second; where it is
/// further, the clock was set back.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// The control core of a relay.
pub struct Relay {
    config: RelayConfig,
    exit_policy: Arc<ExitPolicy>,
    network: Arc<NetworkFile>,
    keys: RelayKeys,
    life: KeyLife,
    keys_due: Instant,
    /// When it was last told that the signing key ends soon.
    ends_told: Option<Instant>,
    tls: Option<Arc<TlsKeyAndCert>>,
    tls_due: Option<Instant>,
    download: DirectoryDownload,
    publisher: Publisher,
    own: Option<OwnDocuments>,
    history: BandwidthHistory,
    /// Of a bridge.
    clients: Option<BridgeClients>,
    accounting: Option<Accounting>,
    wakefulness: Wakefulness,
    started: Instant,
    padding: PaddingRange,
    points: PointParams,
    dos: DosParams,
    congestion: Arc<CongestionParams>,
    sendme_accept_min: u8,
    circuit_padding: PaddingParams,
    /// The consensus's `MaxOnionQueueDelay`.
    onion_delay: Duration,
    memory: Arc<Memory>,
    /// A consensus was refused.
    refused: Repeats,
    /// An authority was not reached to be told of this relay.
    unreached: Repeats,
    /// Each that refused to be, by its place in the network file.
    refused_by: BTreeMap<usize, Repeats>,
    commands: VecDeque<Command>,
    rng: Rng,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay that starts, with keys new or parsed. The first commands save the keys, hand out
    /// the onion keys and the switches' configuration, and ask for a TLS key.
    #[must_use]
    pub fn new(
        config: RelayConfig,
        network: Arc<NetworkFile>,
        keys: RelayKeys,
        now: Now,
        rng: Rng,
    ) -> Self {
        let interest = if config.serves_directory {
            Interest::cache()
        } else {
            Interest {
                server_descs: false,
                extra_infos: false,
                ..Interest::cache()
            }
        };
        let mut rng = rng;
        let is_bridge = config.is_bridge();
        let mut relay = Relay {
            clients: is_bridge.then(|| BridgeClients::new(now.wall, &mut rng)),
            download: DirectoryDownload::new(Arc::clone(&network), interest, now),
            publisher: Publisher::new(network.is_testing, network.authorities.len()),
            history: BandwidthHistory::new(now.mono),
            accounting: config
                .accounting
                .map(|config| Accounting::new(config, None, now.wall)),
            wakefulness: Wakefulness::Awake,
            life: KeyLife::of(&Params::new(), config.key_day).with(&config.key_times),
            keys_due: now.mono + KEYS_TICK,
            ends_told: None,
            tls: None,
            tls_due: None,
            own: None,
            started: now.mono,
            padding: PaddingRange::default(),
            points: PointParams::default(),
            dos: DosParams::of(&config.dos, |_, default, _, _| default),
            congestion: Arc::default(),
            sendme_accept_min: 0,
            circuit_padding: PaddingParams::default(),
            onion_delay: OnionskinLimits::default().delay_max,
            memory: Memory::new(config.max_memory),
            refused: Repeats::default(),
            unreached: Repeats::default(),
            refused_by: BTreeMap::new(),
            commands: VecDeque::new(),
            exit_policy: config.exit_policy(),
            config,
            network,
            keys,
            rng,
        };
        relay.save_keys();
        relay.look_for_signing_key(now);
        relay.hand_out_onion_keys();
        relay.configure_switches();
        let relays = KnownRelays::of_network(&relay.network);
        relay.commands.push_back(Command::Relays(Arc::new(relays)));
        relay.make_tls_key();
        relay
    }

    /// What the process holds, and may hold: shared with the switches.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Takes a consensus that did not come by a fetch: one that the authority beside this relay
    /// has computed.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn offer_consensus(&mut self, text: ConsensusText, now: Now) -> Result<(), Refusal> {
        let offered = self.download.offer_consensus(text, now, &mut self.rng);
        self.advance(now);
        offered
    }

    /// The operator has changed the configuration.
    pub fn set_config(&mut self, config: RelayConfig, now: Now) {
        self.memory.set_max_bytes(config.max_memory);
        self.account_by(config.accounting, now);
        self.exit_policy = config.exit_policy();
        self.config = config;
        self.life = self.life.with(&self.config.key_times);
        self.publisher.changed();
        self.configure_switches();
        self.tell_switches_of_relays();
        self.make_link_identity(now);
        self.advance(now);
    }

    /// Others reach it at this address. If that is another one than before, they are told.
    pub fn set_address(&mut self, ip: Ipv4Addr, now: Now) {
        if *self.config.or_address.ip() != ip {
            info!("this relay is now at {ip}");
            let mut config = self.config.clone();
            config.or_address.set_ip(ip);
            self.set_config(config, now);
        }
    }

    /// The answer to [`Command::Fetch`].
    pub fn handle_fetch(&mut self, id: FetchId, reply: fetch::Reply, now: Now) {
        self.download.handle_reply(id, reply, now, &mut self.rng);
        self.advance(now);
    }

    /// The answer to [`Command::Upload`]: the HTTP status, 0 if there was none, and what the
    /// authority says to it, or what went wrong.
    pub fn handle_upload(&mut self, authority: usize, status: u16, reason: &str, now: Now) {
        let named = self.download.network().authorities.get(authority);
        let name = named.map_or("?", |one| one.nickname.as_str());
        // Its words are a stranger's to a terminal.
        let reason: String = reason.chars().filter(|one| !one.is_control()).collect();
        match status {
            200 => {}
            0 => {
                if let Some(unsaid) = self.unreached.say(now) {
                    info!(
                        unsaid,
                        "authority {name} is not reached: {reason}; it is tried again"
                    );
                }
            }
            _ => {
                let repeats = self.refused_by.entry(authority).or_default();
                if let Some(unsaid) = repeats.say(now) {
                    warn!(
                        unsaid,
                        "authority {name} refuses our descriptor: {status} {reason}"
                    );
                }
            }
        }
        self.publisher.handle_upload(authority, status, now);
        self.advance(now);
    }

    /// The answer to [`Command::MakeTlsKey`].
    pub fn handle_tls_key(&mut self, made: Result<TlsKeyAndCert, RsaKeyError>, now: Now) {
        match made {
            Ok(tls) => {
                self.tls = Some(Arc::new(tls));
                self.tls_due = Some(now.mono + self.config.key_times.links_for(TLS_LIFE));
                self.make_link_identity(now);
            }
            Err(error) => {
                warn!(%error, "no TLS key could be made");
                self.tls_due = Some(now.mono + TLS_RETRY);
            }
        }
        self.advance(now);
    }

    /// So many bytes were read from and written to other relays and clients since the last call;
    /// to be called about every second while there is traffic.
    pub fn handle_traffic(&mut self, read_bytes: u64, written_bytes: u64, now: Now) {
        self.history.add(read_bytes, written_bytes, now.mono);
        self.account(read_bytes, written_bytes, now);
        self.publish(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.mono >= self.keys_due {
            self.keys_due = now.mono + KEYS_TICK;
            self.rotate_keys(now);
            self.look_for_signing_key(now);
            self.tell_clients(now);
        }
        if self.tls_due.is_some_and(|due| now.mono >= due) {
            self.make_tls_key();
        }
        self.download.handle_timeout(now, &mut self.rng);
        self.advance(now);
    }

    /// A client has opened a link to this bridge; of relays that are none it counts for nothing.
    pub fn handle_bridge_client(&mut self, client: &BridgeClient) {
        if let Some(clients) = &mut self.clients {
            clients.note(client);
        }
    }

    /// The clients of this bridge since its count began, if it is one.
    #[must_use]
    pub fn bridge_clients(&self) -> Option<BridgeClientsSeen> {
        self.clients.as_ref().map(BridgeClients::seen)
    }

    fn tell_clients(&mut self, now: Now) {
        if let Some(clients) = &mut self.clients {
            self.commands
                .push_back(Command::ClientsSeen(clients.seen()));
            clients.turn(now.wall, &mut self.rng);
        }
    }

    /// When to call [`Relay::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [
            self.tls_due,
            self.download.poll_timeout(),
            self.publisher.poll_timeout(),
        ];
        due.into_iter().flatten().chain([self.keys_due]).min()
    }

    /// The next thing that the outside is to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What is downloaded, and the view of the network that it gives.
    #[must_use]
    pub fn directory(&self) -> &DirectoryDownload {
        &self.download
    }

    /// The relay's own documents, once it has published.
    #[must_use]
    pub fn own(&self) -> Option<&OwnDocuments> {
        self.own.as_ref()
    }

    /// The configuration that holds now.
    #[must_use]
    pub fn config(&self) -> &RelayConfig {
        &self.config
    }

    /// The relay's keys.
    #[must_use]
    pub fn keys(&self) -> &RelayKeys {
        &self.keys
    }

    /// Passes on what the download wants, and publishes if that is due.
    fn advance(&mut self, now: Now) {
        let mut has_relays = false;
        while let Some(command) = self.download.poll_command() {
            match command {
                fetch::Command::Fetch { id, request, from } => {
                    self.commands
                        .push_back(Command::Fetch { id, request, from });
                }
                fetch::Command::Consensus(text) => {
                    if text.consensus().flavour == Flavour::Microdesc {
                        has_relays = true;
                        self.handle_params(&text, now);
                    }
                    self.serve(DirDocument::Consensus(text));
                }
                fetch::Command::Certificates(certs) => {
                    for cert in certs {
                        self.serve(DirDocument::Certificate(Arc::new(cert)));
                    }
                }
                fetch::Command::Microdescs(found) => {
                    has_relays = true;
                    for (microdesc, text) in found {
                        self.serve(DirDocument::Microdesc(microdesc.digest, text.into()));
                    }
                }
                fetch::Command::ServerDescs(found) => {
                    found
                        .iter()
                        .for_each(|one| self.serve(DirDocument::ServerDesc(one.into())));
                }
                fetch::Command::ExtraInfos(found) => {
                    found
                        .iter()
                        .for_each(|one| self.serve(DirDocument::ExtraInfo(one.into())));
                }
                fetch::Command::Refused(flavour, refusal) => match refusal {
                    // Every poll of a network that has no newer one ends so.
                    Refusal::NotServed(_) | Refusal::NotNewer => {
                        debug!(?flavour, %refusal, "no new consensus");
                    }
                    refusal => {
                        if let Some(unsaid) = self.refused.say(now) {
                            warn!(?flavour, unsaid, %refusal, "consensus refused");
                        }
                    }
                },
                // Each fetch asks an authority that is drawn anew.
                fetch::Command::Useless(_) => {}
            }
        }
        if has_relays {
            self.tell_switches_of_relays();
        }
        self.publish(now);
    }

    fn serve(&mut self, document: DirDocument) {
        self.commands.push_back(Command::Serve(document));
    }

    /// Takes the parameters of a new consensus, and looks whether we are in it.
    fn handle_params(&mut self, text: &ConsensusText, now: Now) {
        let consensus = text.consensus();
        let is_listed = consensus.router(&self.keys.rsa_id()).is_some();
        self.publisher.listed(is_listed || self.config.is_bridge());
        let life = KeyLife::of(&consensus.params, self.config.key_day);
        self.life = life.with(&self.config.key_times);
        self.rotate_keys(now);
        let value = |name: &str, default, min, max| consensus.params.value(name, default, min, max);
        let padding = (PaddingRange::read(value), PaddingParams::read(value));
        let points = PointParams::from_consensus(&consensus.params);
        let congestion = CongestionParams::read(value);
        let delay_ms = value("MaxOnionQueueDelay", 1750, 1, i32::MAX).unsigned_abs();
        let onion_delay = Duration::from_millis(delay_ms.into());
        let sendme = u8::try_from(value("sendme_accept_min_version", 0, 0, 255)).unwrap_or(0);
        let dos = DosParams::of(&self.config.dos, value);
        let held = (self.padding, self.circuit_padding);
        let others = (
            self.points,
            self.onion_delay,
            self.sendme_accept_min,
            self.dos,
        );
        let new = (points, onion_delay, sendme, dos);
        if (padding, new, &congestion) != (held, others, &*self.congestion) {
            (self.padding, self.circuit_padding) = padding;
            (
                self.points,
                self.onion_delay,
                self.sendme_accept_min,
                self.dos,
            ) = new;
            self.congestion = Arc::new(congestion);
            self.configure_switches();
        }
    }

    fn tell_switches_of_relays(&mut self) {
        let Some(view) = self.download.view() else {
            return;
        };
        let mut relays = KnownRelays::new(view, &self.network);
        if let Some(refuses) = self.config.choices.refuse_unknown_exits {
            relays.refuse_unknown_exits = refuses;
        }
        let is_hsdir = self.config.serves_directory && !self.config.is_bridge();
        let duty = HsDuty::new(view, self.keys.rsa_id()).filter(|_| is_hsdir);
        self.commands.push_back(Command::Relays(Arc::new(relays)));
        let duty = duty.map(|duty| Command::HsDuty(Box::new(duty)));
        self.commands.extend(duty);
    }

    fn configure_switches(&mut self) {
        let mut limits = self.config.limits;
        let chosen = self.config.choices.onion_delay;
        limits.onionskins.delay_max = chosen.unwrap_or(self.onion_delay);
        let config = SwitchConfig {
            rsa: self.keys.rsa_id(),
            ed: self.keys.ed25519_id(),
            exit_policy: Arc::clone(&self.exit_policy),
            serves_directory: self.config.serves_directory,
            extend_allow_private: self.config.extend_allow_private,
            extend_ipv6: self.config.or_address_v6.is_some(),
            points: self.points,
            congestion: Arc::clone(&self.congestion),
            sendme_accept_min: self.sendme_accept_min,
            padding: self.padding,
            circuit_padding: self.circuit_padding,
            dos: self.dos,
            limits,
            memory: Arc::clone(&self.memory),
        };
        self.commands.push_back(Command::Switch(Arc::new(config)));
    }

    /// Makes new documents if that is due, and uploads where that is.
    fn publish(&mut self, now: Now) {
        // Until it knows where it is, there is nothing to tell.
        if self.tls.is_none() || self.config.or_address.ip().is_unspecified() {
            return;
        }
        let observed = self.history.observed();
        let observed = observed.max(self.config.bandwidth_observed_min);
        if self.publisher.is_due(observed, now) {
            self.publisher.made(observed, now);
            self.make_documents(observed, now);
        }
        let due = self.publisher.take_due(now);
        let Some(own) = self.own.as_ref().filter(|_| self.config.publishes) else {
            return;
        };
        let body = own.body();
        for authority in due {
            let Some(to) = self.network.authorities.get(authority) else {
                continue;
            };
            let (to, body) = (to.dir_addr, Arc::clone(&body));
            self.commands.push_back(Command::Upload {
                authority,
                to,
                body,
            });
        }
    }

    /// The time of a new descriptor: later than the one before. Authorities keep the first of two
    /// of one second, and with it what was so before.
    fn published_now(&self, now: Now) -> SystemTime {
        let own = self.own.as_ref();
        let next = own.map(|own| own.descriptor.published + Duration::from_secs(1));
        let ahead = |next: SystemTime| next.duration_since(now.wall).unwrap_or_default();
        let next = next.filter(|next| ahead(*next) <= AHEAD_MAX);
        next.map_or(now.wall, |next| next.max(now.wall))
    }

    /// Its documents as they would be now, at this address where its own is not known yet.
    ///
    /// # Errors
    /// If its configuration makes none.
    pub fn fresh_documents(
        &self,
        address: impl FnOnce() -> Ipv4Addr,
        now: Now,
    ) -> Result<OwnDocuments, DescribeError> {
        let mut config = self.config.clone();
        if config.or_address.ip().is_unspecified() {
            config.or_address.set_ip(address());
        }
        let observed = self.history.observed().max(config.bandwidth_observed_min);
        self.documents(&config, observed, now)
    }

    fn documents(
        &self,
        config: &RelayConfig,
        observed: u32,
        now: Now,
    ) -> Result<OwnDocuments, DescribeError> {
        let work = Work {
            observed,
            is_hibernating: self.wakefulness != Wakefulness::Awake,
            uptime: now.mono.saturating_duration_since(self.started),
            statistics: self.clients.as_ref().map_or(&[], BridgeClients::lines),
        };
        let published = self.published_now(now);
        OwnDocuments::make(config, &self.exit_policy, &self.keys, &work, published)
    }

    fn make_documents(&mut self, observed: u32, now: Now) {
        match self.documents(&self.config, observed, now) {
            Ok(own) => {
                let (descriptor, extra_info) = (own.descriptor.clone(), own.extra_info.clone());
                self.serve(DirDocument::Own(descriptor, extra_info));
                self.own = Some(own);
            }
            Err(error) => warn!(%error, "this configuration makes no descriptor"),
        }
    }
}
