//! The authority's part in voting: when rounds begin, what is sent, what is taken of others
//! (dir-spec 3.4 to 3.11).
//!
//! A vote is taken if its author is an authority of the network, its signature holds, and it is
//! for the very interval that we vote on or are about to. Signatures that come before our own
//! consensus is computed are kept until it is.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::{Consensus, DirectorySignature, Flavour};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::{Vote, VoteText};
use cepa_wire::Now;

use super::{Authority, FETCHED_DESCRIPTORS_MAX};
use crate::command::{Command, Document, Reply, RowKind};
use crate::intake::{VoteDoor, read_signatures};
use crate::round::Round;
use crate::schedule::Schedule;
use crate::vote::{self, NoVote};

/// Intervals after which a network without a consensus votes by the grid, even if relays that
/// were to come first have not.
const PATIENCE_INTERVALS: u32 = 2;

impl Authority {
    /// When the last consensus begins.
    fn decided(&self, now: SystemTime) -> Option<SystemTime> {
        let soon = now + self.config.timing.interval();
        let consensus = self.consensus.as_ref();
        consensus
            .map(|text| text.consensus().lifetime.valid_after)
            // Unless the clock was set back.
            .filter(|decided| *decided <= soon)
    }

    /// Which votes may come now: it reads them beside the loop, and lets in no others.
    #[must_use]
    pub fn vote_door(&self, now: SystemTime) -> VoteDoor {
        let going_on = self.round.as_ref();
        let votes = going_on.map(|round| &round.votes);
        let votes = votes.into_iter().flatten().chain(&self.early_votes);
        VoteDoor {
            authorities: self.config.v3_identities(),
            decided: self.decided(now),
            timing: Some(self.config.timing),
            starts: going_on
                .map(|round| round.schedule.valid_after)
                .into_iter()
                .chain([self.next.valid_after])
                .collect(),
            held: votes
                .map(|(author, vote)| (*author, *vote.digest()))
                .collect(),
        }
    }

    /// A vote that was posted to us.
    pub fn handle_vote(&mut self, body: &str, now: Now) -> Reply {
        self.handle_read_vote(self.vote_door(now.wall).read(body, now.wall), now)
    }

    /// Takes or refuses a vote that was posted to us and read beside the loop by
    /// [`Authority::vote_door`]; the answer for its sender.
    pub fn handle_read_vote(&mut self, read: Result<VoteText, Reply>, now: Now) -> Reply {
        let taken = read.and_then(|text| {
            let taken = self.take_vote(text, true, now.wall);
            taken.map_err(Reply::refused)
        });
        let reply = match taken {
            Ok(()) => Reply::ok("Vote stored"),
            Err(reply) => reply,
        };
        if reply.status != 200 {
            tracing::info!(reason = reply.reason, "a vote is refused");
        }
        self.advance(now);
        reply
    }

    /// Votes that we asked for, one behind the other.
    pub fn handle_fetched_votes(&mut self, body: &str, now: Now) {
        self.handle_read_votes(self.vote_door(now.wall).read_all(body, now.wall), now);
    }

    /// Takes votes fetched from another authority that were read beside the loop by
    /// [`Authority::vote_door`].
    pub fn handle_read_votes(&mut self, votes: Vec<VoteText>, now: Now) {
        for text in votes {
            if let Err(reason) = self.take_vote(text, false, now.wall) {
                tracing::info!(reason, "a vote that was fetched is not used");
            }
        }
        self.advance(now);
    }

    /// Detached signatures that were posted to us.
    pub fn handle_signatures(&mut self, body: &str, now: Now) -> Reply {
        self.handle_read_signatures(read_signatures(body), now)
    }

    /// Takes signatures that were posted to us and read beside the loop; the answer for their
    /// sender.
    pub fn handle_read_signatures(
        &mut self,
        read: Result<DetachedSignatures, Reply>,
        now: Now,
    ) -> Reply {
        let reply = read.map_or_else(
            |refusal| refusal,
            |detached| match self.take_signatures(&detached, now.wall) {
                Ok(()) => Reply::ok("Signatures stored"),
                Err(reason) => Reply::refused(reason),
            },
        );
        if reply.status != 200 {
            tracing::info!(reason = reply.reason, "signatures are refused");
        }
        self.advance(now);
        reply
    }

    /// Detached signatures that we asked for.
    pub fn handle_fetched_signatures(&mut self, body: &str, now: Now) {
        self.handle_read_signatures(read_signatures(body), now);
    }

    fn take_vote(
        &mut self,
        text: VoteText,
        is_posted: bool,
        now: SystemTime,
    ) -> Result<(), String> {
        let vote = Arc::clone(text.vote());
        let author = vote.author();
        if self.config.authority(&author).is_none() {
            return Err("Vote not from a recognized v3 authority".to_owned());
        }
        if !text.is_signed(now) {
            return Err("Vote with a wrong signature or an expired certificate".to_owned());
        }
        if !vote.lifetime.has_minimum_intervals(self.config.is_testing) {
            return Err("Vote for too short an interval".to_owned());
        }
        let start = vote.lifetime.valid_after;
        if self.decided(now).is_some_and(|decided| start <= decided) {
            return Err("Vote for an interval that is decided".to_owned());
        }
        self.add_certificate(&vote.certificate);
        self.fetch_descriptors(&vote);
        match &mut self.round {
            Some(round) if round.schedule.valid_after == start => {
                let is_late = is_posted && !round.schedule.late && now > round.schedule.fetch_votes;
                if is_late && !round.votes.contains_key(&author) {
                    return Err("Posted vote too late".to_owned());
                }
                if round.signing.is_some() {
                    return Err("The consensus is computed already".to_owned());
                }
                let held = round.votes.get(&author);
                if held.is_some_and(|held| held.vote().published >= vote.published) {
                    return Ok(());
                }
                round.votes.insert(author, text.clone());
                let is_late = round.schedule.late;
                self.shared_random.handle_vote(&vote, &self.config.timing);
                self.serve(Document::NextVote(text));
                if is_posted && is_late {
                    self.post_vote_again(author);
                }
            }
            _ => {
                let may_come = [
                    self.next.valid_after,
                    self.config.timing.interval_start(now),
                ];
                if !may_come.contains(&start) {
                    return Err("Vote for another interval than ours".to_owned());
                }
                self.early_votes.insert(author, text);
            }
        }
        Ok(())
    }

    /// Asks the author of a vote for the descriptors that it has and we have not.
    fn fetch_descriptors(&mut self, vote: &Vote) {
        let Some(author) = self.config.authority(&vote.author()) else {
            return;
        };
        let from = SocketAddrV4::new(author.ip, author.dir_port);
        let listed = vote.routers.iter().map(|router| &router.status);
        let missing = listed.filter(|status| self.relays.lacks(status));
        let digests: Vec<_> = missing
            .map(|status| status.descriptor_digest)
            .take(FETCHED_DESCRIPTORS_MAX)
            .collect();
        if !digests.is_empty() {
            self.commands
                .push_back(Command::FetchDescriptors { from, digests });
        }
    }

    /// An authority that has just begun a late round may not have listened when we voted.
    fn post_vote_again(&mut self, author: RsaId) {
        let (Some(own), Some(known)) = (&self.own_vote, self.config.authority(&author)) else {
            return;
        };
        self.commands.push_back(Command::PostVote {
            to: SocketAddrV4::new(known.ip, known.dir_port),
            body: Arc::clone(own.text()),
        });
    }

    fn take_signatures(
        &mut self,
        detached: &DetachedSignatures,
        now: SystemTime,
    ) -> Result<(), &'static str> {
        let start = detached.lifetime.valid_after;
        if let Some(signing) = self.round.as_mut().and_then(|round| round.signing.as_mut())
            && start == signing.lifetime().valid_after
        {
            if !signing.is_same(detached) {
                return Err("Signatures on another consensus than ours");
            }
            let is_new = |one: &DirectorySignature| !signing.has_signed(&one.identity);
            let has_new = detached.ns.iter().any(is_new);
            if signing.add(detached, &self.certs) > 0 {
                let all = signing.detached().encode();
                self.serve(Document::NextSignatures(all.into()));
            } else if has_new {
                return Err("No good signature of a recognized authority");
            }
            return Ok(());
        }
        let interval = self.config.timing.interval_start(now);
        let going_on = self.round.as_ref().map(|round| round.schedule.valid_after);
        if ![Some(self.next.valid_after), Some(interval), going_on].contains(&Some(start)) {
            return Err("Signatures for another interval than ours");
        }
        self.keep_early(detached)
    }

    /// Keeps signatures for a consensus that is not computed yet, one document an authority: only
    /// what the certificates at hand confirm, so that nobody else can fill the place.
    fn keep_early(&mut self, detached: &DetachedSignatures) -> Result<(), &'static str> {
        let good = detached.ns.iter().filter(|one| {
            let cert = self.certs.get(&one.identity);
            cert.is_some_and(|cert| one.verifies(&detached.consensus_digest, cert))
        });
        let good: Vec<RsaId> = good.map(|one| one.identity).collect();
        if good.is_empty() {
            return Err("No good signature of a recognized authority");
        }
        for author in good {
            let mut own = detached.clone();
            own.ns.retain(|one| one.identity == author);
            own.microdesc.retain(|one| one.identity == author);
            self.early_signatures.insert(author, own);
        }
        Ok(())
    }

    /// Begins rounds, and takes their steps.
    pub(super) fn advance_rounds(&mut self, now: Now) {
        self.keep_to_the_clock(now.wall);
        if let Some(schedule) = self.late_round(now.wall) {
            self.begin(schedule, now);
        } else if self.next.vote <= now.wall {
            let schedule = self.next;
            self.next = self.config.timing.next_round(now.wall);
            // Whoever comes when the others compute has nobody to vote with.
            if now.wall < schedule.compute && self.may_vote_by_the_grid(now.wall) {
                self.begin(schedule, now);
            }
        }
        self.step_votes(now);
        self.step_signatures(now);
    }

    /// The clock may have been set back: what is planned is at most two intervals ahead.
    fn keep_to_the_clock(&mut self, now: SystemTime) {
        let horizon = now + self.config.timing.interval() * 2;
        if self.next.valid_after > horizon {
            self.next = self.config.timing.next_round(now);
        }
        let is_beyond = |round: &Round| round.schedule.publish > horizon;
        if self.round.as_ref().is_some_and(is_beyond) {
            tracing::warn!("the clock was set back: the voting round is given up");
            self.round = None;
        }
    }

    /// A late round, if there is to be one now: no consensus is in force, enough relays are
    /// Running, and no round is being signed or is a late one for this interval.
    fn late_round(&self, now: SystemTime) -> Option<Schedule> {
        let relays = self.config.first_vote_after_relays?;
        let schedule = self.config.timing.late(now);
        let goes_on = self.round.as_ref().is_some_and(|round| {
            let is_for_now = round.schedule.valid_after == schedule.valid_after;
            round.signing.is_some() || (round.schedule.late && is_for_now)
        });
        let is_vain = !self.keys.cert.is_current(now) || self.unvoted == Some(schedule.valid_after);
        let may_begin = self.config.is_testing && !goes_on && !is_vain;
        let begins = may_begin && !self.has_live_consensus(now);
        let enough = begins && self.relays.running(&self.config, now) >= relays;
        enough.then_some(schedule)
    }

    fn may_vote_by_the_grid(&self, now: SystemTime) -> bool {
        let interval = u64::from(self.config.timing.interval_secs);
        let patience = std::time::Duration::from_secs(interval) * PATIENCE_INTERVALS;
        self.config.first_vote_after_relays.is_none()
            || self.has_live_consensus(now)
            || self.started + patience <= now
    }

    fn has_live_consensus(&self, now: SystemTime) -> bool {
        let held = self.consensus.as_ref();
        held.is_some_and(|text| text.consensus().lifetime.is_live(now))
    }

    fn begin(&mut self, schedule: Schedule, now: Now) {
        let own = self.keys.cert.identity;
        if !self.keys.cert.is_current(now.wall) {
            tracing::error!("this authority's certificate is not good now: it does not vote");
            return;
        }
        let (timing, start) = (self.config.timing, schedule.valid_after);
        let mut commands = Vec::new();
        self.relays
            .record_histories(&self.config, now.wall, &mut commands);
        self.commands.extend(commands);
        self.shared_random
            .advance(start, &timing, own, &mut self.rng);
        self.put_shared_random();
        let vote = match self.vote_for(&schedule, now) {
            Ok(vote) => vote,
            Err(error) => {
                tracing::error!(%error, "this authority does not vote");
                self.unvoted = Some(start);
                return;
            }
        };
        tracing::info!(
            relays = vote.vote().routers.len(),
            late = schedule.late,
            "voting"
        );
        let body = Arc::clone(vote.text());
        self.put(RowKind::Vote, own.to_string(), &body);
        self.serve(Document::NextVote(vote.clone()));
        for to in self.others() {
            self.commands.push_back(Command::PostVote {
                to,
                body: Arc::clone(&body),
            });
        }
        self.own_vote = Some(vote.clone());
        let before = self.round.replace(Round::new(schedule, vote));
        // A late round that starts again for the same interval has votes from before.
        let before = before.into_iter().flat_map(|round| round.votes);
        let early = std::mem::take(&mut self.early_votes);
        for (author, text) in before.chain(early) {
            let is_of_round = text.vote().lifetime.valid_after == start;
            if let Some(round) = &mut self.round
                && is_of_round
                && author != own
            {
                round.votes.insert(author, text.clone());
                self.shared_random.handle_vote(text.vote(), &timing);
                self.serve(Document::NextVote(text));
            }
        }
    }

    /// Our vote for a round: the one that there is already, or a new one.
    fn vote_for(&mut self, schedule: &Schedule, now: Now) -> Result<VoteText, NoVote> {
        let start = schedule.valid_after;
        let held = self
            .own_vote
            .clone()
            .filter(|held| held.vote().lifetime.valid_after == start);
        if let Some(held) = held {
            return Ok(held);
        }
        let (timing, own) = (self.config.timing, self.keys.cert.identity);
        let shared_rand = self.shared_random.vote(start, &timing, own);
        let relays = &self.relays;
        self.measurements.prepare(|id| relays.knows(id), now.wall);
        let view = vote::View {
            config: &self.config,
            relays,
            measurements: &self.measurements,
            started: self.started,
            now: now.wall,
        };
        view.vote(&self.keys, shared_rand, schedule)
    }

    pub(super) fn put_shared_random(&mut self) {
        let state = self.shared_random.encode();
        self.put(RowKind::SharedRandom, String::new(), &state);
    }

    /// The round ended without a consensus; what came for it may serve a late round that begins
    /// again.
    fn give_up(&mut self) {
        if let Some(round) = self.round.take() {
            self.early_votes = round.votes;
        }
    }

    fn step_votes(&mut self, now: Now) {
        let others = self.others();
        let Some(round) = &mut self.round else { return };
        if now.wall >= round.schedule.fetch_votes && !round.votes_fetched {
            round.votes_fetched = true;
            let of = round.missing_votes(&self.config);
            if !of.is_empty() {
                let ask = |from| Command::FetchVotes {
                    from,
                    of: of.clone(),
                };
                self.commands.extend(others.iter().copied().map(ask));
            }
        }
        if round.has_failed(&self.config, now.wall) {
            tracing::warn!(votes = round.votes.len(), "too few votes for a consensus");
            self.give_up();
        } else if round.may_compute(&self.config, now.wall) {
            let is_fresh = self.shared_random.is_fresh();
            round.compute(&self.config, &self.keys, is_fresh, self.signed);
            self.send_signatures();
        }
    }

    /// The consensus is computed: says so to the others, and takes what they said before.
    fn send_signatures(&mut self) {
        let Some(signing) = self.round.as_mut().and_then(|round| round.signing.as_mut()) else {
            return;
        };
        let own: Arc<str> = signing.detached().encode().into();
        let signed = signing.signed();
        self.signed = Some(signed);
        for early in std::mem::take(&mut self.early_signatures).into_values() {
            signing.add(&early, &self.certs);
        }
        let all: Arc<str> = signing.detached().encode().into();
        let texts =
            [Flavour::Ns, Flavour::Microdesc].map(|flavour| (flavour, signing.text(flavour)));
        self.put(RowKind::Signed, String::new(), &signed.encode());
        for (flavour, text) in texts {
            self.serve(Document::NextConsensus(flavour, text.into()));
        }
        self.serve(Document::NextSignatures(all));
        for to in self.others() {
            self.commands.push_back(Command::PostSignatures {
                to,
                body: Arc::clone(&own),
            });
        }
    }

    fn step_signatures(&mut self, now: Now) {
        let others = self.others();
        let Some(round) = &mut self.round else { return };
        let fetch_at = round.schedule.fetch_signatures;
        if let Some(signing) = &mut round.signing
            && now.wall >= fetch_at
            && !signing.fetched
        {
            signing.fetched = true;
            self.commands.extend(
                others
                    .into_iter()
                    .map(|from| Command::FetchSignatures { from }),
            );
        }
        if round.may_publish(&self.config, now.wall) {
            self.publish(now);
        } else if round.has_no_majority(&self.config, now.wall) {
            tracing::warn!("too few signatures on the consensus: it is dropped");
            self.give_up();
        }
    }

    /// Takes the shared random values of a consensus.
    pub(super) fn take_values(&mut self, of: &Consensus) {
        let values = (of.shared_rand_previous, of.shared_rand_current);
        let (at, timing) = (of.lifetime.valid_after, &self.config.timing);
        self.shared_random.handle_consensus(at, timing, values);
    }

    fn publish(&mut self, now: Now) {
        let Some(round) = self.round.take() else {
            return;
        };
        let Some(texts) = round.signing.and_then(|signing| signing.publish()) else {
            return;
        };
        for text in texts {
            let consensus = Arc::clone(text.consensus());
            self.put(
                RowKind::Consensus,
                consensus.flavour.name().to_owned(),
                text.text(),
            );
            if consensus.flavour == Flavour::Ns {
                let signatures = consensus.signatures.len();
                let relays = consensus.routers.len();
                tracing::info!(relays, signatures, "a consensus is published");
                self.take_values(&consensus);
                self.consensus = Some(text.clone());
            }
            self.serve(Document::CurrentConsensus(text));
        }
        self.put_shared_random();
        for (author, vote) in &round.votes {
            self.put(RowKind::Vote, author.to_string(), vote.text());
        }
        self.serve(Document::CurrentVotes(round.votes.into_values().collect()));
        self.early_signatures.clear();
        self.next = self.config.timing.next_round(now.wall);
    }

    /// The DirPorts of the other authorities.
    fn others(&self) -> Vec<SocketAddrV4> {
        let own = self.keys.cert.identity;
        let others = self
            .config
            .authorities
            .iter()
            .filter(|one| one.v3_identity != own);
        others
            .map(|one| SocketAddrV4::new(one.ip, one.dir_port))
            .collect()
    }
}
