//! Runs a directory authority until it is stopped: the relay that it also is, and its own core.
//!
//! One loop for both: await an event, apply it, persist what changed, do what the cores ask, wait
//! again. What is posted to the DirPort or fetched comes to it read and verified (`uploads`), is
//! judged by the core, some at a time, and answered when it is persisted.

mod control;
mod measured;
mod takeover;

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use cepa_authority::schedule::Timing;
use cepa_authority::{
    Authority, Command, Config, Keys, Posted, RelayUpload, Row, RowKind, read_descriptors,
    read_signatures,
};
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::fetch::Refusal;
use cepa_dir::request::{DescQuery, Round, VoteQuery};
use cepa_dir::{DirDocument, DirRequest, DirStore};
use cepa_link::{LINK_VERSIONS, PeerExpectation};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::VoteText;
use cepa_wire::Now;
use tokio::sync::{mpsc, oneshot};

use self::measured::Measured;
use super::fetch as exchange;
use super::relay::{AuthorityParts, Node};
use super::uploads::{self, Read, Upload, Uploads};
use super::{Lifecycle, stays};
use crate::archive::Archive;
use crate::clock;
use crate::config::AuthorityConfig;
use crate::config::written::Changes;
use crate::control::heard;
use crate::error::{Failure, fail};
use crate::http::Reply;
use crate::keyfiles;
use crate::launched::Stage;
use crate::net::link;
use crate::network::Network;
use crate::reload::{Asked, Reread};
use crate::status::{self, Subject};
use crate::store::Change;

/// Uploads that are judged before what they changed is persisted.
const UPLOADS_AT_ONCE: usize = 32;

/// The answers to what the core asked for.
enum Event {
    Votes(Vec<VoteText>),
    Signatures(Option<DetachedSignatures>),
    Descriptors(Vec<RelayUpload>),
    Reached(RsaId, SocketAddr, bool),
    /// How a post ended, by its status.
    Posted(Posted, SocketAddrV4, u16),
    /// By how many seconds the clock behind a DirPort is ahead of ours.
    Clock(SocketAddrV4, i64),
}

/// Runs an authority until `shutdown`.
pub async fn run(
    config: AuthorityConfig,
    reread: Reread<AuthorityConfig>,
    lifecycle: Lifecycle,
) -> Result<(), Failure> {
    let (mut shutdown, mut signals) = (lifecycle.shutdown, lifecycle.signals);
    let by = (lifecycle.reporter, lifecycle.torrc);
    let network = Network::of(&config.relay.network)?;
    let folder = config.relay.data_dir.join("keys");
    let keys = keyfiles::authority::read(&folder)?;
    let keys = keys.with_legacy(config.practice.uses_legacy_key());
    // A clock may be wrong when a machine starts, and right a minute later.
    if let Err(error) = keyfiles::authority::check_time(&folder, &keys, clock::now()) {
        tracing::error!("{error}: this authority does not vote until then");
    }
    let own = keys.certificate.identity;
    if !network
        .authorities
        .iter()
        .any(|authority| authority.v3_identity == own)
    {
        return fail(
            format!("the network does not know this authority, v3_ident {own}"),
            &config.relay.network,
            "add it there, on all machines of the network",
        );
    }
    let authorities = network.authorities.iter();
    let addresses = authorities.map(|one| (one.v3_identity, IpAddr::V4(*one.dir_addr.ip())));
    let core = core_config(&config, &network);
    let (sender, mut queue) = Uploads::new(addresses.collect());
    let parts = AuthorityParts {
        store: DirStore::new(Some(own)),
        uploads: sender.clone(),
    };
    let node = Node::start(config.relay.clone(), Some(parts), by, &shutdown).await?;
    let measured = Measured::of(&config);
    let mut running = Running::new(node, core, network, core_keys(keys), sender, measured)?;
    running.archive = config.archive_dir.as_deref().map(Archive::of);
    let mut controllers = running.node.take_controllers();
    let mut waiting = Vec::with_capacity(UPLOADS_AT_ONCE);
    loop {
        running.drain()?;
        let node_timeout = running.node.timeout();
        let timeout = running
            .authority
            .poll_timeout()
            .unwrap_or(node_timeout)
            .min(node_timeout);
        tokio::select! {
            () = running.node.next_event() => running.answer(),
            Some(event) = running.events.recv() => running.handle(event),
            heard = heard(&mut controllers) => if !running.goes_on(heard, &reread) { break },
            _ = queue.recv_many(&mut waiting, UPLOADS_AT_ONCE) => {
                let now = running.now();
                waiting.drain(..).for_each(|upload| running.handle_upload(upload, now));
            }
            () = tokio::time::sleep_until(timeout.into()) => {
                running.node.handle_timeout();
                let now = running.now();
                running.authority.handle_timeout(now);
            }
            asked = signals.next() => running.handle_asked(asked, &reread),
            () = shutdown.wait() => break,
        }
    }
    running.node.flushed().await;
    running.node.finish();
    Ok(())
}

fn put(Row { kind, key, bytes }: Row) -> Change {
    Change::Put {
        kind: kind.name(),
        key,
        bytes,
    }
}

fn core_keys(keys: keyfiles::authority::AuthorityKeys) -> Keys {
    Keys {
        cert: keys.certificate,
        signing: keys.signing,
        legacy: keys.legacy.map(|legacy| Box::new(core_keys(*legacy))),
    }
}

/// A running authority.
struct Running {
    node: Node,
    network: Network,
    authority: Authority,
    uploads: Uploads,
    /// Answers to uploads that are not persisted yet.
    answered: Vec<(oneshot::Sender<Reply>, Reply)>,
    relays_reported: usize,
    measured: Measured,
    archive: Option<Archive>,
    events: mpsc::UnboundedReceiver<Event>,
    answers: mpsc::UnboundedSender<Event>,
}

impl Running {
    fn new(
        mut node: Node,
        config: Config,
        network: Network,
        keys: Keys,
        uploads: Uploads,
        measured: Measured,
    ) -> Result<Self, Failure> {
        let mut rows = Vec::new();
        for kind in RowKind::ALL {
            let entries = node.keep.store().entries(kind.name())?.into_iter();
            rows.extend(entries.map(|(key, bytes)| Row { kind, key, bytes }));
        }
        let own = keys.cert.identity;
        let taken = takeover::rows(node.folder(), &rows, &config, own);
        node.keep
            .rows(taken.iter().cloned().map(put).collect::<Vec<_>>());
        rows.extend(taken);
        let rng = node.rng.fork();
        let authority = Authority::restore(config, keys, rows, rng, clock::now());
        let (answers, events) = mpsc::unbounded_channel();
        Ok(Running {
            node,
            network,
            authority,
            uploads,
            answered: Vec::new(),
            relays_reported: 0,
            measured,
            archive: None,
            events,
            answers,
        })
    }

    /// Now, with what the files of measurements say by now: any event may find a vote due.
    fn now(&mut self) -> Now {
        self.measured.follow(&mut self.authority);
        clock::now()
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Votes(votes) => self.authority.handle_read_votes(votes, now),
            Event::Signatures(Some(read)) => {
                self.authority.handle_read_signatures(Ok(read), now);
            }
            Event::Signatures(None) => {}
            Event::Descriptors(read) => self.authority.handle_read_descriptors(read, now),
            Event::Reached(rsa, address, reached) => {
                self.authority
                    .handle_reachability(&rsa, address, reached, now);
            }
            Event::Posted(what, to, status) => {
                self.authority.handle_posted(what, to, status, now);
            }
            Event::Clock(of, ahead) => self.authority.handle_clock(of, ahead),
        }
    }

    fn handle_upload(&mut self, upload: Upload, now: Now) {
        let reply = match upload.read {
            Read::Descriptor(read) => self.authority.handle_upload(read, now),
            Read::Vote(read) => self.authority.handle_read_vote(read, now),
            Read::Signatures(read) => self.authority.handle_read_signatures(read, now),
        };
        self.answered.push((upload.answer, uploads::answer(reply)));
    }

    fn handle_asked(&mut self, asked: Asked, reread: &Reread<AuthorityConfig>) {
        match asked {
            Asked::Reload => self.reread(reread),
            Asked::Status => self.log_status(),
        }
    }

    /// Reads the configuration again; what controllers have changed is forgotten.
    fn reread(&mut self, reread: &Reread<AuthorityConfig>) {
        match reread().and_then(|config| self.reload(config)) {
            Ok(changes) => {
                changes.tell("the certificate and family keys");
                self.node.forget_changes();
            }
            Err(error) => stays(&error),
        }
    }

    /// Takes what of another configuration can change, and a certificate that was renewed.
    fn reload(&mut self, config: AuthorityConfig) -> Result<Changes, Failure> {
        let core = core_config(&config, &self.network);
        let now = clock::now();
        let keys = keyfiles::authority::load(&self.node.keys_folder(), now)?;
        let keys = keys.with_legacy(config.practice.uses_legacy_key());
        self.measured.name(&config);
        self.archive = config.archive_dir.as_deref().map(Archive::of);
        let changes = self.node.reload(config.relay)?;
        self.authority.set_config(core, now);
        if self.authority.renew_keys(core_keys(keys), now) {
            tracing::info!("The certificate was renewed; it is used from the next round on");
        }
        Ok(changes)
    }

    fn log_status(&self) {
        let text = status::authority::summary(&self.authority.status(clock::now()));
        text.lines()
            .for_each(|line| tracing::info!("Status: {line}"));
        self.node.log_status();
    }

    /// Answers what the node was asked about its authority.
    fn answer(&mut self) {
        for query in self.node.take_unanswered() {
            let now = clock::now();
            match (query.question.subject, query.question.relay) {
                (Subject::Metrics, _) => {
                    let health = self.authority.status(now).health;
                    let more = status::health::metrics(&health);
                    self.node.answer_metrics(query, more);
                }
                (Subject::Health, _) => {
                    let health = self.authority.status(now).health;
                    query.reply(&health, || status::health::words(&health));
                }
                (Subject::Why, Some(relay)) => {
                    let why = self.authority.why(&relay, now);
                    query.reply(&why, || status::votes::why(&why));
                }
                (Subject::Authority, _) => {
                    let status = self.authority.status(now);
                    query.reply(&status, || status::authority::words(&status));
                }
                _ => query.refuse(),
            }
        }
    }

    /// Persists what changed, then does what both cores ask for.
    fn drain(&mut self) -> Result<(), Failure> {
        let mut changes = Vec::new();
        let mut commands = Vec::new();
        while let Some(command) = self.authority.poll_command() {
            match command {
                Command::Put(row) => changes.push(put(row)),
                Command::Drop(kind, key) => changes.push(Change::Drop {
                    kind: kind.name(),
                    key,
                }),
                other => commands.push(other),
            }
        }
        tokio::task::block_in_place(|| self.node.keep.rows(changes));
        let door = self.authority.vote_door(clock::now().wall);
        self.uploads.set_door(door);
        for (answer, reply) in self.answered.drain(..) {
            // Whoever does not wait for it needs none.
            let _ = answer.send(reply);
        }
        for command in commands {
            self.run_command(command);
        }
        if self.authority.relays_known() != self.relays_reported {
            self.relays_reported = self.authority.relays_known();
            self.node
                .reporter
                .report(&Stage::Descriptors(self.relays_reported));
        }
        self.node.drain()?;
        for text in self.node.take_consensuses() {
            let kept = text.clone();
            self.keep_in_archive(move |archive| archive.keep_consensus(&kept));
            self.authority.handle_consensus(&text, clock::now());
        }
        Ok(())
    }

    fn run_command(&mut self, command: Command) {
        match command {
            Command::PostVote { to, body } => self.post(to, Posted::Vote, &body),
            Command::PostSignatures { to, body } => {
                self.post(to, Posted::Signatures, &body);
            }
            Command::FetchVotes { from, of } => {
                let request = DirRequest::Votes(Round::Next, VoteQuery::Identities(of));
                let door = self.authority.vote_door(clock::now().wall);
                self.fetch(from, request, move |body| {
                    Event::Votes(door.read_all(body, clock::now().wall))
                });
            }
            Command::FetchSignatures { from } => {
                self.fetch(from, DirRequest::Signatures, |body| {
                    Event::Signatures(read_signatures(body).ok())
                });
            }
            Command::FetchDescriptors { from, digests } => {
                let request = DirRequest::ServerDescs(DescQuery::Digests(digests));
                self.fetch(from, request, |body| {
                    Event::Descriptors(read_descriptors(body))
                });
            }
            Command::TestReachability {
                address,
                rsa_id,
                ed25519,
            } => {
                self.test(address, rsa_id, ed25519);
            }
            Command::Serve(document) => self.serve(document),
            Command::Withdraw(digest) => self.node.directory.withdraw(&digest),
            // Persisted before.
            Command::Put(_) | Command::Drop(..) => {}
        }
    }

    /// Posts something to another authority.
    fn post(&self, to: SocketAddrV4, what: Posted, body: &str) {
        let request = match what {
            Posted::Vote => DirRequest::PostVote,
            Posted::Signatures => DirRequest::PostSignatures,
        };
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let told = exchange::upload(to.into(), &request, body).await;
            let clock = told.ahead_seconds.map(|ahead| Event::Clock(to, ahead));
            for event in clock
                .into_iter()
                .chain([Event::Posted(what, to, told.status)])
            {
                let _ = answers.send(event);
            }
        });
    }

    /// Asks another authority, and reads its reply beside this loop.
    fn fetch<F>(&self, from: SocketAddrV4, request: DirRequest, read: F)
    where
        F: FnOnce(&str) -> Event + Send + 'static,
    {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let (reply, ahead) = exchange::over_dir_port_by_the_clock(from.into(), &request).await;
            if let Some(ahead) = ahead {
                let _ = answers.send(Event::Clock(from, ahead));
            }
            let (200, Ok(body)) = (reply.status, String::from_utf8(reply.body)) else {
                return;
            };
            let read = tokio::task::spawn_blocking(move || read(&body));
            if let Ok(event) = read.await {
                let _ = answers.send(event);
            }
        });
    }

    /// Opens a link as any relay would, and closes it again.
    fn test(&mut self, address: SocketAddr, rsa: RsaId, ed: Option<Ed25519Id>) {
        // Whether we prove who we are makes no difference to the test.
        let identity = self.node.link_identity();
        let tls = Arc::clone(&self.node.connector);
        let (bind, answers) = (self.node.bind, self.answers.clone());
        let mut rng = self.node.rng.fork();
        tokio::spawn(async move {
            let expect = PeerExpectation { rsa: Some(rsa), ed };
            let ours = link::Ours {
                tls: &tls,
                bind,
                proxy: None,
                identity: identity.as_ref(),
                versions: &LINK_VERSIONS,
                connect_max: link::CONNECT_TIMEOUT,
            };
            let link = link::open(&[address], expect, ours, &mut rng).await;
            if let Err(error) = &link {
                tracing::info!(relay = %rsa, %error, "a relay cannot be reached");
            }
            let _ = answers.send(Event::Reached(rsa, address, link.is_ok()));
        });
    }

    fn serve(&mut self, document: DirDocument) {
        match &document {
            DirDocument::CurrentVotes(votes) => {
                let votes = votes.clone();
                self.keep_in_archive(move |archive| {
                    votes.iter().try_for_each(|vote| archive.keep_vote(vote))
                });
            }
            DirDocument::Consensus(text) => {
                let kept = text.clone();
                self.keep_in_archive(move |archive| archive.keep_consensus(&kept));
                // A relay that takes it has it served, as one that others made.
                match self.node.relay.offer_consensus(text.clone(), clock::now()) {
                    Ok(()) => return,
                    // It was kept, or others gave it before this one was started again.
                    Err(Refusal::NotNewer) => {}
                    Err(refusal) => tracing::warn!(%refusal, "our own consensus is not used"),
                }
            }
            _ => {}
        }
        self.node.directory.insert(document);
    }

    /// Keeps something in the archive, if there is one, beside this loop.
    fn keep_in_archive<F>(&self, keep: F)
    where
        F: FnOnce(&Archive) -> std::io::Result<()> + Send + 'static,
    {
        if let Some(archive) = self.archive.clone() {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = keep(&archive) {
                    tracing::warn!(%error, "the archive does not keep what it is given");
                }
            });
        }
    }
}

fn core_config(config: &AuthorityConfig, network: &Network) -> Config {
    let authorities = network.authorities.clone();
    let contact = config
        .relay
        .contact
        .clone()
        .unwrap_or_else(|| config.relay.nickname.clone());
    let timing = Timing {
        interval_secs: config.voting_interval_secs,
        vote_secs: config.vote_delay_secs,
        dist_secs: config.dist_delay_secs,
        intervals_valid: config.intervals_valid,
        offset_secs: 0,
    };
    let mut core = if config.relay.testing {
        Config::testing(authorities, contact, timing)
    } else {
        Config {
            timing,
            ..Config::new(authorities, contact)
        }
    };
    core.initial_interval_secs = config.initial_interval_secs;
    core.flag_terms = config.flag_terms;
    core.first_vote_after_relays = config.first_vote_after_relays;
    core.method_max = config.consensus_method_max.unwrap_or(core.method_max);
    core.tests_ipv6 = config.tests_ipv6;
    if let Some(most) = config.auth_dir_max_servers_per_addr {
        core.relays_per_address_max = most;
    }
    core.rules = config.rules.clone();
    core.recommended_versions
        .clone_from(&config.recommended_versions);
    for (name, value) in &config.params {
        core.params.set(name, *value);
    }
    config.practice.apply(&mut core);
    core
}
