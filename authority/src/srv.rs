//! Shared randomness: commit, reveal, compute (srv-spec; docs/protocol.md section 5).
//!
//! ```text
//! run of 24 rounds since 1970:  rounds 0-11 commit | rounds 12-23 reveal | next run: the value
//! ```
//! Nobody can choose the value: all commit to a random number before anybody shows one. A
//! commitment counts as its own author voted it; the first one in a run stays. The state is
//! persisted before it is voted, since two commitments in one run would spoil both.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::digest::sha3_256;
use cepa_crypto::encoding::{base64, base64_array, hex_array, hex_upper};
use cepa_crypto::{Rng, RsaId};
use cepa_netdoc::consensus::{SharedRandCommit, SharedRandValue};
use cepa_netdoc::vote::{SharedRandVote, Vote};
use cepa_wire::time::unix_seconds;

use crate::schedule::Timing;

/// Rounds of each of the two phases.
const PHASE_ROUNDS: u64 = 12;
/// Rounds of a run.
const RUN_ROUNDS: u64 = 2 * PHASE_ROUNDS;
/// Commitments that are read of a state, at most: one an authority.
pub(crate) const COMMITS_MAX: usize = 128;

/// The previous value and the current one.
type Values = (Option<SharedRandValue>, Option<SharedRandValue>);

/// Where a round is in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// When the run began, in seconds since 1970.
    run: u64,
    /// Whether numbers are shown.
    is_reveal: bool,
}

/// What an authority knows of the protocol's run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SharedRandom {
    run: u64,
    own_reveal: Option<String>,
    commits: BTreeMap<RsaId, SharedRandCommit>,
    previous: Option<SharedRandValue>,
    current: Option<SharedRandValue>,
    /// The current value was made at the start of this run and is in no consensus yet.
    is_fresh: bool,
}

fn position(valid_after: SystemTime, timing: &Timing) -> Position {
    let secs = unix_seconds(valid_after);
    let interval = u64::from(timing.interval_secs.max(1));
    // From 1970 on, as `tor` counts: where runs do not divide a day, they do not begin at midnight.
    let round = secs / interval;
    let run = round / RUN_ROUNDS * RUN_ROUNDS * interval;
    Position {
        run,
        is_reveal: round % RUN_ROUNDS >= PHASE_ROUNDS,
    }
}

/// The hash that a commitment holds and the order of reveals goes by.
fn commit_hash(commit: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 40] = base64_array(commit)?;
    bytes.get(8..)?.try_into().ok()
}

fn commits_to(commit: &str, reveal: &str) -> bool {
    commit_hash(commit).is_some_and(|hash| hash == sha3_256(reveal.as_bytes()))
        && base64_array::<40>(reveal).is_some_and(|bytes| {
            // Both carry the same time stamp.
            base64_array::<40>(commit).is_some_and(|commit| commit.get(..8) == bytes.get(..8))
        })
}

/// The shared random value of these reveals. Without any there is a value too, as with `tor`, so
/// that authorities that all began too late for a run agree.
fn compute(
    commits: &BTreeMap<RsaId, SharedRandCommit>,
    previous: Option<&SharedRandValue>,
) -> SharedRandValue {
    let mut shown: Vec<([u8; 32], &RsaId, &String)> = commits
        .iter()
        .filter_map(|(id, one)| Some((commit_hash(&one.commit)?, id, one.reveal.as_ref()?)))
        .collect();
    // The peers' order: srv-spec says by R_a, `tor` sorts by the hash in the commitment.
    shown.sort();
    let reveals = u64::try_from(shown.len()).unwrap_or(u64::MAX);
    let all: String = shown
        .iter()
        .map(|(_, id, reveal)| format!("{id}{reveal}"))
        .collect();
    let mut message = b"shared-random".to_vec();
    message.extend_from_slice(&reveals.to_be_bytes());
    message.extend_from_slice(&1_u32.to_be_bytes());
    message.extend_from_slice(&sha3_256(all.as_bytes()));
    message.extend_from_slice(&previous.map_or([0; 32], |value| value.value));
    SharedRandValue {
        reveals,
        value: sha3_256(&message),
    }
}

/// A number to be shown later, and the commitment to it (srv-spec 4.1.1).
fn commitment(valid_after: SystemTime, own: RsaId, rng: &mut Rng) -> (String, SharedRandCommit) {
    let stamp = unix_seconds(valid_after).to_be_bytes();
    // What is shown is a hash of the number, so that our generator's output is not.
    let reveal = base64(&[&stamp[..], &sha3_256(&rng.array::<32>())].concat());
    let commit = base64(&[&stamp[..], &sha3_256(reveal.as_bytes())].concat());
    let identity = own;
    (
        reveal,
        SharedRandCommit {
            identity,
            commit,
            reveal: None,
        },
    )
}

impl SharedRandom {
    /// What another program knew of the run in which `at` lies; of its own commitment the number
    /// as well.
    pub(crate) fn of_other(
        at: SystemTime,
        timing: &Timing,
        own: RsaId,
        commits: Vec<SharedRandCommit>,
        [previous, current]: [Option<SharedRandValue>; 2],
    ) -> Self {
        let mut state = SharedRandom {
            run: position(at, timing).run,
            previous,
            current,
            ..SharedRandom::default()
        };
        for mut commit in commits {
            if commit.identity == own {
                state.own_reveal = commit.reveal.take();
            }
            state.commits.insert(commit.identity, commit);
        }
        state
    }

    /// Moves on to the round whose consensus begins at `valid_after`: in a new run, makes the value
    /// of the last one; while it is the time to commit, commits to a number of our own.
    pub(crate) fn advance(
        &mut self,
        valid_after: SystemTime,
        timing: &Timing,
        own: RsaId,
        rng: &mut Rng,
    ) {
        let Position { run, is_reveal } = position(valid_after, timing);
        if self.run != run {
            if self.run != 0 {
                let is_next = self.run + RUN_ROUNDS * u64::from(timing.interval_secs) >= run;
                let value = is_next.then(|| compute(&self.commits, self.current.as_ref()));
                self.previous = self.current.take().filter(|_| is_next);
                self.current = value;
                self.is_fresh = is_next;
            }
            self.run = run;
            self.own_reveal = None;
            self.commits.clear();
        }
        // Who begins in the middle of the second phase has not committed, and nobody would take it.
        if !is_reveal && self.own_reveal.is_none() {
            let (reveal, commit) = commitment(valid_after, own, rng);
            self.own_reveal = Some(reveal);
            self.commits.insert(own, commit);
        }
    }

    /// Our part of the vote.
    pub(crate) fn vote(
        &mut self,
        valid_after: SystemTime,
        timing: &Timing,
        own: RsaId,
    ) -> SharedRandVote {
        let is_reveal = position(valid_after, timing).is_reveal;
        if is_reveal && let Some(commit) = self.commits.get_mut(&own) {
            commit.reveal.clone_from(&self.own_reveal);
        }
        let shown = |commit: &SharedRandCommit| SharedRandCommit {
            reveal: commit.reveal.clone().filter(|_| is_reveal),
            ..commit.clone()
        };
        SharedRandVote {
            participates: true,
            commits: self.commits.values().map(shown).collect(),
            previous: self.previous,
            current: self.current,
        }
    }

    /// Takes what a verified vote of the same round says of its author's own commitment.
    pub(crate) fn handle_vote(&mut self, vote: &Vote, timing: &Timing) {
        let at = position(vote.lifetime.valid_after, timing);
        if at.run != self.run {
            return;
        }
        let author = vote.author();
        let Some(voted) = vote
            .shared_rand
            .commits
            .iter()
            .find(|one| one.identity == author)
        else {
            return;
        };
        match self.commits.get_mut(&author) {
            // A number that is shown while others can still choose theirs binds nobody: who takes
            // it may find another one in the vote that others have.
            None if !at.is_reveal
                && voted.reveal.is_none()
                && commit_hash(&voted.commit).is_some() =>
            {
                let commit = SharedRandCommit {
                    reveal: None,
                    ..voted.clone()
                };
                self.commits.insert(author, commit);
            }
            Some(known) if at.is_reveal && known.commit == voted.commit => {
                let reveal = voted.reveal.as_ref();
                if known.reveal.is_none()
                    && reveal.is_some_and(|reveal| commits_to(&known.commit, reveal))
                {
                    known.reveal = reveal.cloned();
                }
            }
            _ => {}
        }
    }

    /// Whether the current value has been in no consensus yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The values of a consensus are everybody's from now on, in the run that it is of. One of a
    /// run that began without us takes us there; one of the run before says only its value.
    pub(crate) fn handle_consensus(
        &mut self,
        valid_after: SystemTime,
        timing: &Timing,
        (previous, current): Values,
    ) {
        let Position { run, .. } = position(valid_after, timing);
        if run < self.run {
            let is_last = run + RUN_ROUNDS * u64::from(timing.interval_secs) == self.run;
            if is_last && current.is_some() {
                self.previous = current;
            }
            return;
        }
        if run > self.run {
            self.run = run;
            self.own_reveal = None;
            self.commits.clear();
        }
        self.previous = previous;
        self.current = current;
        self.is_fresh = false;
    }

    /// Lines of text, so that the state survives a restart.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("run {} {}\n", self.run, u8::from(self.is_fresh));
        if let Some(reveal) = &self.own_reveal {
            text += &format!("own {reveal}\n");
        }
        for (name, value) in [("previous", self.previous), ("current", self.current)] {
            if let Some(SharedRandValue { reveals, value }) = value {
                text += &format!("{name} {reveals} {}\n", hex_upper(&value));
            }
        }
        for commit in self.commits.values() {
            let reveal = commit.reveal.as_deref().unwrap_or("-");
            text += &format!("commit {} {} {reveal}\n", commit.identity, commit.commit);
        }
        text
    }

    /// Reads such lines; what is not understood is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut state = SharedRandom::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["run", run, fresh] => {
                    state.run = run.parse().unwrap_or(0);
                    state.is_fresh = *fresh == "1";
                }
                ["own", reveal] => state.own_reveal = Some((*reveal).to_owned()),
                ["previous", reveals, value] => state.previous = read_value(reveals, value),
                ["current", reveals, value] => state.current = read_value(reveals, value),
                ["commit", id, commit, reveal] => {
                    if let Ok(identity) = id.parse::<RsaId>() {
                        let reveal = Some((*reveal).to_owned()).filter(|text| text != "-");
                        let commit = (*commit).to_owned();
                        let commit = SharedRandCommit {
                            identity,
                            commit,
                            reveal,
                        };
                        state.commits.insert(identity, commit);
                    }
                }
                _ => {}
            }
        }
        state
    }
}

fn read_value(reveals: &str, value: &str) -> Option<SharedRandValue> {
    Some(SharedRandValue {
        reveals: reveals.parse().ok()?,
        value: hex_array(value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_SECS: u64 = 86_400;

    use std::time::{Duration, UNIX_EPOCH};

    fn run_start(valid_after: SystemTime, timing: &Timing) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(position(valid_after, timing).run)
    }

    fn timing() -> Timing {
        Timing {
            interval_secs: 20,
            vote_secs: 4,
            dist_secs: 4,
            intervals_valid: 3,
            offset_secs: 0,
        }
    }

    fn at(round: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY_SECS + round * 20)
    }

    #[test]
    fn runs_begin_at_midnight() {
        assert_eq!(run_start(at(23), &timing()), at(0));
        assert_eq!(run_start(at(24), &timing()), at(24));
        assert!(!position(at(11), &timing()).is_reveal);
        assert!(position(at(12), &timing()).is_reveal);
        assert!(!position(at(24), &timing()).is_reveal);
    }

    #[test]
    fn a_commitment_is_kept_and_shown_later() {
        let own = RsaId::from([1; 20]);
        let mut rng = Rng::from_seed([1; 32]);
        let mut state = SharedRandom::default();
        state.advance(at(3), &timing(), own, &mut rng);
        let first = state.vote(at(3), &timing(), own);
        assert_eq!(first.commits[0].reveal, None);
        let mut state = SharedRandom::parse(&state.encode());
        state.advance(at(4), &timing(), own, &mut rng);
        let later = state.vote(at(14), &timing(), own);
        assert_eq!(later.commits[0].commit, first.commits[0].commit);
        let reveal = later.commits[0]
            .reveal
            .clone()
            .expect("it is the time to show it");
        assert!(commits_to(&first.commits[0].commit, &reveal));
        assert!(!commits_to(&first.commits[0].commit, &base64(&[0; 40])));
        state.advance(at(24), &timing(), own, &mut rng);
        let value = state.current.expect("one number was shown");
        assert_eq!((value.reveals, state.commits.len()), (1, 1));
        assert!(state.is_fresh() && state.previous.is_none());
        assert_eq!(SharedRandom::parse(&state.encode()), state);
    }

    /// Votes of three `tor`s at the end of a run, and the value that they agreed on.
    #[test]
    fn the_value_is_the_one_that_tor_computed() {
        const VOTE: &str = include_str!("../../tests/vectors/netdoc/consensus/vote-srv-reveal");
        const CONSENSUS: &str =
            include_str!("../../tests/vectors/netdoc/consensus/consensus-srv-current");
        let vote = cepa_netdoc::vote::VoteText::parse(VOTE).expect("tor's vote");
        let consensus =
            cepa_netdoc::consensus::ConsensusText::parse(CONSENSUS).expect("tor's consensus");
        let commits = vote.vote().shared_rand.commits.iter();
        let commits: BTreeMap<RsaId, SharedRandCommit> =
            commits.map(|one| (one.identity, one.clone())).collect();
        let before = vote.vote().shared_rand.current;
        let value = compute(&commits, before.as_ref());
        assert_eq!(Some(value), consensus.consensus().shared_rand_current);
        assert_eq!(before, consensus.consensus().shared_rand_previous);
        // They had begun too late for the run before: its value is of no reveals.
        assert_eq!(before, Some(compute(&BTreeMap::new(), None)));
        for commit in commits.values() {
            let reveal = commit.reveal.as_ref().expect("it was shown");
            assert!(commits_to(&commit.commit, reveal));
        }
    }

    fn value(byte: u8) -> Option<SharedRandValue> {
        Some(SharedRandValue {
            reveals: 3,
            value: [byte; 32],
        })
    }

    /// Found by `cepa testnet sim authorities`: an authority that was away at midnight made a value
    /// of the commitments it remembered in place of the one that all have.
    #[test]
    fn who_was_away_at_the_start_of_a_run_takes_its_value() {
        let own = RsaId::from([1; 20]);
        let mut rng = Rng::from_seed([1; 32]);
        let mut state = SharedRandom::default();
        state.advance(at(20), &timing(), own, &mut rng);
        state.handle_consensus(at(20), &timing(), (value(1), value(2)));
        let mut state = SharedRandom::parse(&state.encode());
        state.handle_consensus(at(24), &timing(), (value(2), value(3)));
        state.advance(at(25), &timing(), own, &mut rng);
        let vote = state.vote(at(25), &timing(), own);
        assert_eq!((vote.previous, vote.current), (value(2), value(3)));
        assert!(!state.is_fresh() && vote.commits.len() == 1);
    }

    /// The same when the last consensus of a run is learnt while the first of the next is voted.
    #[test]
    fn a_consensus_of_the_run_before_changes_no_value_of_this_one() {
        let own = RsaId::from([1; 20]);
        let mut rng = Rng::from_seed([1; 32]);
        let mut state = SharedRandom::default();
        state.advance(at(3), &timing(), own, &mut rng);
        state.handle_consensus(at(3), &timing(), (value(1), value(2)));
        state.advance(at(24), &timing(), own, &mut rng);
        let made = state.current;
        state.handle_consensus(at(23), &timing(), (value(1), value(2)));
        assert!(state.is_fresh() && made.is_some());
        assert_eq!((state.previous, state.current), (value(2), made));
    }

    #[test]
    fn who_comes_late_does_not_commit() {
        let own = RsaId::from([1; 20]);
        let mut rng = Rng::from_seed([1; 32]);
        let mut state = SharedRandom::default();
        state.advance(at(13), &timing(), own, &mut rng);
        assert_eq!(state.vote(at(13), &timing(), own).commits, []);
        state.advance(at(24), &timing(), own, &mut rng);
        assert_eq!(state.current.map(|value| value.reveals), Some(0));
        assert_eq!(state.vote(at(24), &timing(), own).commits.len(), 1);
        let mut asleep = state.clone();
        asleep.advance(at(80), &timing(), own, &mut rng);
        assert_eq!((asleep.current, asleep.previous), (None, None));
        assert!(!asleep.is_fresh());
    }
}
