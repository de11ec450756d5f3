//! The authority's core: one event at a time, effects as commands (docs/architecture.md, "Cores
//! and shell").
//!
//! ```text
//! uploads ──> Relays ──tests──> Running ──> vote ──> Round ──> consensus, served and persisted
//! votes and signatures of the others ────────────────^
//! ```
//! A network without a consensus may begin with a late round (see [`crate::schedule`]): as soon as
//! enough relays are Running. After that, rounds follow the grid from midnight.

mod pace;
mod reload;
mod restore;
mod status;
mod voting;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_dir::DirDocument;
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::VoteText;
use cepa_wire::Now;

use crate::bandwidth::{FileError, Measurements};
use crate::command::{Command, Reply, Row, RowKind};
use crate::config::{Config, Keys};
use crate::equivocations::Equivocations;
use crate::health::Health;
use crate::intake;
use crate::relays::Relays;
use crate::round::{Round, Signed};
use crate::schedule::{Schedule, Timing};
use crate::srv::SharedRandom;
use crate::uploads::{RelayUpload, Source};

/// A directory authority.
pub struct Authority {
    config: Config,
    keys: Keys,
    /// Renewed keys, which wait for the end of the round.
    next_keys: Option<Keys>,
    relays: Relays,
    measurements: Measurements,
    shared_random: SharedRandom,
    certs: BTreeMap<RsaId, AuthCert>,
    consensus: Option<ConsensusText>,
    round: Option<Round>,
    next: Schedule,
    /// By which timing that is.
    next_timing: Timing,
    /// Our last vote: never are there two of one interval.
    own_vote: Option<VoteText>,
    /// The consensus that we signed last: never are there two of one interval.
    signed: Option<Signed>,
    /// The interval for which we could make no vote that can be read.
    unvoted: Option<SystemTime>,
    /// Votes and signatures that came before the round that they are for.
    early_votes: BTreeMap<RsaId, VoteText>,
    early_signatures: BTreeMap<RsaId, DetachedSignatures>,
    /// The votes of the consensus in force.
    decided_votes: Vec<VoteText>,
    /// Pairs of votes of one author for one interval.
    equivocations: Equivocations,
    health: Health,
    started: SystemTime,
    commands: VecDeque<Command>,
    deadline: Option<Instant>,
    rng: Rng,
}

impl Authority {
    /// An authority with the rows that an earlier run put; damaged ones are left out.
    #[must_use]
    pub fn restore(config: Config, keys: Keys, rows: Vec<Row>, rng: Rng, now: Now) -> Self {
        let certs = BTreeMap::from([(keys.cert.identity, keys.cert.clone())]);
        let commands = keys.certificates().map(Command::Serve).collect();
        let timing = config.initial_timing();
        let next = timing.this_round(now.wall);
        let mut authority = Authority {
            config,
            keys,
            next_keys: None,
            relays: Relays::default(),
            measurements: Measurements::default(),
            shared_random: SharedRandom::default(),
            certs,
            consensus: None,
            round: None,
            next,
            next_timing: timing,
            own_vote: None,
            signed: None,
            unvoted: None,
            early_votes: BTreeMap::new(),
            early_signatures: BTreeMap::new(),
            decided_votes: Vec::new(),
            equivocations: Equivocations::default(),
            health: Health::default(),
            started: now.wall,
            commands,
            deadline: None,
            rng,
        };
        restore::rows(&mut authority, rows, now);
        authority.join_round(now.wall);
        authority.advance(now);
        authority
    }

    /// How many relays have published here.
    #[must_use]
    pub fn relays_known(&self) -> usize {
        self.relays.len()
    }

    /// The body of a POST to `/tor/`: a descriptor, its extra-info behind it.
    pub fn handle_descriptor(&mut self, body: &str, now: Now) -> Reply {
        self.handle_upload(RelayUpload::read(body), now)
    }

    /// Takes or refuses an upload that [`RelayUpload::read`] has read beside the loop; the answer
    /// for its sender.
    pub fn handle_upload(&mut self, upload: Result<RelayUpload, Reply>, now: Now) -> Reply {
        let reply = match upload {
            Ok(upload) => self.take(upload, Source::Relay, now),
            Err(refusal) => refusal,
        };
        if reply.status != 200 {
            tracing::info!(reason = reply.reason, "a descriptor is refused");
        }
        self.advance(now);
        reply
    }

    fn take(&mut self, upload: RelayUpload, source: Source, now: Now) -> Reply {
        let mut commands = Vec::new();
        let (relays, config) = (&mut self.relays, &self.config);
        let reply = relays.upload(upload, source, config, now.wall, &mut commands);
        self.commands.extend(commands);
        reply
    }

    /// Takes descriptors that [`Command::FetchDescriptors`] brought, and that were read beside the
    /// loop ([`crate::read_descriptors`]).
    pub fn handle_read_descriptors(&mut self, read: Vec<RelayUpload>, now: Now) {
        for upload in read {
            let reply = self.take(upload, Source::Taken, now);
            if reply.status != 200 {
                intake::log_refused_descriptor(&reply);
            }
        }
        self.advance(now);
    }

    /// How [`Command::TestReachability`] of this relay at this address ended.
    pub fn handle_reachability(&mut self, rsa: &RsaId, at: SocketAddr, reached: bool, now: Now) {
        self.relays
            .handle_reachability(rsa, at, reached, &self.config, now.wall);
        self.advance(now);
    }

    /// The bandwidth file as it is now: votes go by it and it is served, until another one comes
    /// or it is too old; `None`: there is none. Says how many relays it has.
    ///
    /// # Errors
    /// It says nothing; there is none then.
    pub fn handle_bandwidth_file(
        &mut self,
        bytes: Option<&[u8]>,
        now: Now,
    ) -> Result<usize, FileError> {
        let (text, read) = self.measurements.read_file(bytes, now.wall);
        self.serve(DirDocument::NextBandwidth(text));
        read
    }

    /// The file of GuardFraction as it is now; `None`: there is none. Says how many relays it has.
    ///
    /// # Errors
    /// It says nothing; there is none then.
    pub fn handle_guard_fractions(
        &mut self,
        text: Option<&str>,
        now: Now,
    ) -> Result<usize, FileError> {
        self.measurements.read_guards(text, now.wall)
    }

    /// A verified consensus that others made while we were away.
    pub fn handle_consensus(&mut self, text: &ConsensusText, now: Now) {
        let start = |text: &ConsensusText| text.consensus().lifetime.valid_after;
        let is_newer = self
            .consensus
            .as_ref()
            .is_none_or(|held| start(held) < start(text));
        if text.consensus().flavour == Flavour::Ns && is_newer {
            self.take_values(text.consensus());
            self.put_shared_random();
            self.consensus = Some(text.clone());
            self.round = self.round.take().filter(|round| !round.schedule.late);
        }
        self.advance(now);
    }

    /// By how many seconds the clock of another authority is ahead of ours, by what it says where
    /// it answers.
    pub fn handle_clock(&mut self, dir_port: SocketAddrV4, ahead_seconds: i64) {
        self.health
            .handle_clock(&self.config, dir_port, ahead_seconds);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// When to call [`Authority::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next thing that the outside is to do, in the order in which it was wanted.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Works off what follows from an event or from the time.
    fn advance(&mut self, now: Now) {
        let mut commands = Vec::new();
        self.relays
            .handle_timeout(&self.config, now.wall, &mut commands);
        self.commands.extend(commands);
        self.take_next_keys();
        self.advance_rounds(now);
        let due = self.due(now.wall);
        self.deadline = Some(now.mono + due.duration_since(now.wall).unwrap_or(Duration::ZERO));
    }

    /// When something is due next, by the wall clock.
    fn due(&self, now: SystemTime) -> SystemTime {
        let test = self.relays.next_test(&self.config, now);
        let round = self.round.as_ref().filter(|round| !round.is_void);
        let round = round.map(|round| {
            let at = &round.schedule;
            match &round.signing {
                None if !round.votes_fetched => at.fetch_votes,
                None => at.compute,
                Some(signing) if !signing.fetched => at.fetch_signatures,
                Some(_) => at.publish,
            }
        });
        test.into_iter()
            .chain(round)
            .chain(self.round.as_ref().and_then(|round| round.posts.next()))
            .chain(pace::consensus_end(self.consensus.as_ref(), now))
            .fold(self.next.vote, SystemTime::min)
    }

    fn serve(&mut self, document: DirDocument) {
        self.commands.push_back(Command::Serve(document));
    }

    fn put(&mut self, kind: RowKind, key: String, text: &str) {
        let bytes = text.as_bytes().to_vec();
        self.commands
            .push_back(Command::Put(Row { kind, key, bytes }));
    }

    fn add_certificate(&mut self, cert: &AuthCert) {
        let is_known = self.config.authority(&cert.identity).is_some();
        let held = self.certs.get(&cert.identity);
        if is_known && held.is_none_or(|held| held.published < cert.published) {
            self.certs.insert(cert.identity, cert.clone());
            self.serve(DirDocument::Certificate(cert.clone().into()));
            self.put(RowKind::Certificate, cert.identity.to_string(), &cert.text);
        }
    }
}

#[cfg(test)]
mod tests;
