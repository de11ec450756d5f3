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
use cepa_dir::DirDocument;
use cepa_netdoc::consensus::{Consensus, DirectorySignature, Flavour};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::{SharedRandVote, Vote, VoteText};
use cepa_wire::Now;

use super::Authority;
use crate::command::{Command, Reply, RowKind};
use crate::intake::{FETCHED_DESCRIPTORS_MAX, VoteDoor, read_signatures};
use crate::posts::Posted;
use crate::round::Round;
use crate::schedule::Schedule;
use crate::vote::{self, NoVote};

/// What stands before an author in the keys of votes whose round is not decided.
const NEXT: &str = "next ";

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
            timing: Some(self.timing(now)),
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
        let going_on = self.round.as_ref().map(|round| &round.votes);
        let held = going_on.into_iter().chain([&self.early_votes]);
        let held = held.filter_map(|votes| votes.get(&author));
        let evidence = self.equivocations.look(held, &text);
        self.commands.extend(evidence);
        self.commands.extend(missing_descriptors(self, &vote));
        match &mut self.round {
            Some(round) if round.schedule.valid_after == start => {
                let is_late = is_posted && !round.schedule.late && now > round.schedule.fetch_votes;
                if is_late && !round.votes.contains_key(&author) {
                    self.health.handle_late(author);
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
                self.put_next_vote(&text);
                self.learn_shared_random(&vote);
                self.serve(DirDocument::NextVote(text));
                if is_posted && is_late {
                    self.post_vote_again(author);
                }
            }
            _ => {
                let may_come = [self.next.valid_after, self.timing(now).interval_start(now)];
                if !may_come.contains(&start) {
                    return Err("Vote for another interval than ours".to_owned());
                }
                self.put_next_vote(&text);
                self.early_votes.insert(author, text);
            }
        }
        Ok(())
    }

    /// Keeps a vote of a round that is not decided: who sent it is told so, and will not again.
    fn put_next_vote(&mut self, text: &VoteText) {
        let key = format!("{NEXT}{}", text.vote().author());
        self.put(RowKind::Vote, key, text.text());
    }

    /// Takes what a vote says of its author's number, and keeps it: the value of a run is computed
    /// of what was learnt between a vote and the consensus, too.
    fn learn_shared_random(&mut self, vote: &Vote) {
        let before = self.shared_random.clone();
        self.shared_random.handle_vote(vote, &self.config.timing);
        if self.shared_random != before {
            self.put_shared_random();
        }
    }

    /// An authority that has just begun a late round may not have listened when we voted.
    fn post_vote_again(&mut self, author: RsaId) {
        let (Some(own), Some(known)) = (&self.own_vote, self.config.authority(&author)) else {
            return;
        };
        self.commands.push_back(Command::PostVote {
            to: known.dir_addr,
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
                self.serve(DirDocument::NextSignatures(all.into()));
            } else if has_new {
                return Err("No good signature of a recognized authority");
            }
            return Ok(());
        }
        let interval = self.timing(now).interval_start(now);
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

    pub(super) fn begin(&mut self, schedule: Schedule, now: Now) {
        let own = self.keys.cert.identity;
        self.warn_of_certificates(now.wall);
        if !self.keys.cert.is_current(now.wall) {
            tracing::error!("this authority's certificate is not good now: it does not vote");
            return;
        }
        let (timing, start) = (self.config.timing, schedule.valid_after);
        let mut commands = Vec::new();
        let may_judge = vote::knows_who_runs(&self.config, self.started, now.wall);
        self.relays
            .record_histories(&self.config, may_judge, now.wall, &mut commands);
        self.commands.extend(commands);
        if self.config.duties.shares_randomness {
            self.shared_random
                .advance(start, &timing, own, &mut self.rng);
            self.put_shared_random();
        }
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
        self.put_next_vote(&vote);
        self.serve(DirDocument::NextVote(vote.clone()));
        for to in self.config.others(&self.keys.cert.identity) {
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
                self.learn_shared_random(text.vote());
                self.serve(DirDocument::NextVote(text));
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
        let shared_rand = shared_rand(self, start);
        let relays = &self.relays;
        self.measurements.prepare(|id| relays.knows(id), now.wall);
        let view = vote::View {
            config: &self.config,
            relays,
            measurements: &self.measurements,
            params: self.consensus.as_ref().map(|text| &text.consensus().params),
            started: self.started,
            now: now.wall,
        };
        view.vote(&self.keys, shared_rand, schedule)
    }

    /// How a post ended: the HTTP status, 0 if there was no answer.
    pub fn handle_posted(&mut self, what: Posted, to: SocketAddrV4, status: u16, now: Now) {
        let is_known = self.config.others(&self.keys.cert.identity).contains(&to);
        if let Some(round) = self.round.as_mut().filter(|_| is_known) {
            round
                .posts
                .handle((what, to), status, &round.schedule, now.wall);
        }
        self.advance(now);
    }

    /// Posts again what is due.
    pub(super) fn step_posts(&mut self, now: SystemTime) {
        let Some(round) = &mut self.round else { return };
        let signatures = round
            .signing
            .as_ref()
            .map(|signing| signing.detached().encode());
        for (what, to) in round.posts.take_due(now) {
            let own = self.own_vote.as_ref().map(|own| Arc::clone(own.text()));
            let signatures = signatures.as_deref().map(Arc::from);
            self.commands.extend(match what {
                Posted::Vote => own.map(|body| Command::PostVote { to, body }),
                Posted::Signatures => signatures.map(|body| Command::PostSignatures { to, body }),
            });
        }
    }

    pub(super) fn put_shared_random(&mut self) {
        let state = self.shared_random.encode();
        self.put(RowKind::SharedRandom, String::new(), &state);
    }

    /// The round ended without a consensus; what came for it may serve a late round that begins
    /// again.
    fn give_up(&mut self) {
        if let Some(round) = self.round.take() {
            self.health.handle_failed(&round, &self.config);
            self.early_votes = round.votes;
        }
    }

    pub(super) fn step_votes(&mut self, now: Now) {
        let others = self.config.others(&self.keys.cert.identity);
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
            self.serve(DirDocument::NextConsensus(flavour, text.into()));
        }
        self.serve(DirDocument::NextSignatures(all));
        for to in self.config.others(&self.keys.cert.identity) {
            self.commands.push_back(Command::PostSignatures {
                to,
                body: Arc::clone(&own),
            });
        }
    }

    pub(super) fn step_signatures(&mut self, now: Now) {
        let others = self.config.others(&self.keys.cert.identity);
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
        let votes: Vec<VoteText> = round.votes.into_values().collect();
        let signed = texts.each_ref().map(|text| &**text.consensus());
        self.health.handle_published(&votes, &signed);
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
            self.serve(DirDocument::Consensus(text));
        }
        self.put_shared_random();
        for vote in &votes {
            let author = vote.vote().author().to_string();
            self.commands
                .push_back(Command::Drop(RowKind::Vote, format!("{NEXT}{author}")));
            self.put(RowKind::Vote, author, vote.text());
        }
        self.decided_votes.clone_from(&votes);
        self.serve(DirDocument::CurrentVotes(votes));
        self.early_signatures.clear();
        self.next_timing = self.timing(now.wall);
        self.next = self.next_timing.next_round(now.wall);
    }
}

/// What our vote says of shared randomness; nothing if we take no part.
fn shared_rand(authority: &mut Authority, start: SystemTime) -> SharedRandVote {
    if !authority.config.duties.shares_randomness {
        return SharedRandVote::default();
    }
    let (timing, own) = (authority.config.timing, authority.keys.cert.identity);
    authority.shared_random.vote(start, &timing, own)
}

/// Asks the author of a vote for the descriptors that it has and we have not.
fn missing_descriptors(authority: &Authority, vote: &Vote) -> Option<Command> {
    let author = authority.config.authority(&vote.author())?;
    let from = author.dir_addr;
    let listed = vote.routers.iter().map(|router| &router.status);
    let missing = listed.filter(|status| authority.relays.lacks(status));
    let digests: Vec<_> = missing
        .map(|status| status.descriptor_digest)
        .take(FETCHED_DESCRIPTORS_MAX)
        .collect();
    (!digests.is_empty()).then_some(Command::FetchDescriptors { from, digests })
}
