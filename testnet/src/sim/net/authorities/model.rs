//! What must be, naively: written from dir-spec 3 and srv-spec 4, not from the code.
//!
//! *Always*, whatever the weather and the liars: an honest authority makes one vote and signs one
//! consensus an hour and makes one commitment a run; what it publishes or believes has the
//! signatures of more than half of the authorities; and two consensuses of one hour have so many
//! only if liars signed both.
//! *In a calm hour*, when more than half of the authorities are honest, up, of one time and able to
//! talk, and nobody divides them: all of these sign and publish the same consensus.
//! *Shared randomness*: within a run all consensuses have the same value, and the next run's has
//! it as the previous one; who has a consensus votes for its values until the run is over.

use std::collections::{BTreeMap, BTreeSet};

use cepa_netdoc::consensus::{Consensus, ConsensusText, SharedRandValue};
use cepa_netdoc::vote::VoteText;

/// Hours of a run of shared randomness.
const RUN_HOURS: u64 = 24;

/// An hour, counted since 1970.
pub(super) type Hour = u64;
type Digest = [u8; 20];
/// The previous shared random value and the current one.
type Values = (Option<SharedRandValue>, Option<SharedRandValue>);

/// What was seen, and what of it must not be.
#[derive(Default)]
pub(super) struct Model {
    authorities: usize,
    honest: BTreeSet<usize>,
    votes: BTreeMap<(Hour, usize), Digest>,
    commits: BTreeMap<(u64, usize), String>,
    /// Who has signed which consensus.
    signed: BTreeMap<Digest, BTreeSet<usize>>,
    hours: BTreeMap<Digest, Hour>,
    own: BTreeMap<(Hour, usize), Digest>,
    published: BTreeMap<(Hour, usize), Digest>,
    values: BTreeMap<u64, SharedRandValue>,
    /// The value of each hour's consensus.
    of_hour: BTreeMap<Hour, Option<SharedRandValue>>,
    /// The newest consensus that an honest authority has, and its values.
    held: BTreeMap<usize, (Hour, Values)>,
    /// Liars have made two valid consensuses of one hour: values are anybody's from then on.
    is_split: bool,
    /// Hours in which a consensus had to be, with how many had to publish it.
    pub(super) required: BTreeMap<Hour, usize>,
    pub(super) violations: Vec<String>,
}

impl Model {
    pub(super) fn new(authorities: usize, honest: BTreeSet<usize>) -> Self {
        Model {
            authorities,
            honest,
            ..Model::default()
        }
    }

    pub(super) fn majority(&self) -> usize {
        self.authorities / 2 + 1
    }

    pub(super) fn is_honest(&self, node: usize) -> bool {
        self.honest.contains(&node)
    }

    pub(super) fn fail(&mut self, hour: Hour, what: String) {
        let what = format!("{:02}:00 of day {}: {what}", hour % 24, hour / 24);
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    /// An authority has posted its vote.
    pub(super) fn voted(&mut self, node: usize, text: &VoteText) {
        let (vote, own) = (text.vote(), text.vote().author());
        let hour = hour_of(vote.lifetime.valid_after);
        let digest = *text.digest();
        let mut commits = vote.shared_rand.commits.iter();
        let commit = commits.find(|one| one.identity == own);
        self.voted_once(node, hour, digest, commit.map(|one| one.commit.as_str()));
        if let Some((of, values)) = self.held.get(&node)
            && of / RUN_HOURS == hour / RUN_HOURS
            && *of < hour
            && *values != (vote.shared_rand.previous, vote.shared_rand.current)
            && !self.is_split
        {
            let what = "votes for other shared random values than its consensus has";
            self.fail(hour, format!("auth{node} {what}"));
        }
    }

    fn voted_once(&mut self, node: usize, hour: Hour, vote: Digest, commit: Option<&str>) {
        let held = *self.votes.entry((hour, node)).or_insert(vote);
        if held != vote {
            self.fail(hour, format!("auth{node} makes two votes"));
        }
        if let Some(commit) = commit {
            let run = (hour / RUN_HOURS, node);
            let held = self.commits.entry(run).or_insert_with(|| commit.to_owned());
            if held != commit {
                self.fail(hour, format!("auth{node} makes two commitments"));
            }
        }
    }

    /// An authority has signed a consensus.
    pub(super) fn signed(&mut self, node: usize, hour: Hour, consensus: Digest) {
        self.signed.entry(consensus).or_default().insert(node);
        if !self.is_honest(node) {
            return;
        }
        self.hours.insert(consensus, hour);
        self.is_split = self.is_split || self.valid().values().any(|all| all.len() > 1);
        let held = *self.own.entry((hour, node)).or_insert(consensus);
        if held != consensus {
            self.fail(hour, format!("auth{node} signs two consensuses"));
        }
    }

    /// An honest authority publishes a consensus with so many good signatures.
    pub(super) fn published(&mut self, node: usize, text: &ConsensusText, good: usize) {
        let (consensus, digest) = (text.consensus(), *text.sha1());
        let hour = hour_of(consensus.lifetime.valid_after);
        let held = *self.published.entry((hour, node)).or_insert(digest);
        if held != digest {
            self.fail(hour, format!("auth{node} publishes two consensuses"));
        }
        self.has(node, consensus, good);
        if good >= self.majority() && !self.is_split {
            self.take_value(hour, consensus);
        }
    }

    /// An honest authority publishes, or believes, a consensus.
    pub(super) fn has(&mut self, node: usize, consensus: &Consensus, good: usize) {
        let hour = hour_of(consensus.lifetime.valid_after);
        if good < self.majority() {
            self.fail(hour, format!("auth{node} believes what {good} have signed"));
        }
        let values = (
            consensus.shared_rand_previous,
            consensus.shared_rand_current,
        );
        let held = self.held.entry(node).or_insert((hour, values));
        if held.0 <= hour {
            *held = (hour, values);
        }
    }

    fn take_value(&mut self, hour: Hour, consensus: &Consensus) {
        let (run, current) = (hour / RUN_HOURS, consensus.shared_rand_current);
        self.of_hour.insert(hour, current);
        if let Some(value) = current {
            let held = *self.values.entry(run).or_insert(value);
            if held != value {
                self.fail(hour, "two shared random values in one run".to_owned());
            }
        }
        let before = run.checked_sub(1).and_then(|run| self.values.get(&run));
        if let (Some(before), Some(previous)) = (before, consensus.shared_rand_previous)
            && *before != previous
        {
            self.fail(
                hour,
                "the previous shared random value is another".to_owned(),
            );
        }
    }

    /// An hour is over; `talking` had to publish its consensus, if there are any.
    pub(super) fn judge(&mut self, hour: Hour, talking: &BTreeSet<usize>) {
        if talking.is_empty() || self.is_split {
            return;
        }
        self.required.insert(hour, talking.len());
        let of = |held: &BTreeMap<(Hour, usize), Digest>| {
            let digests = talking.iter().map(|node| held.get(&(hour, *node)).copied());
            digests.collect::<Vec<_>>()
        };
        let (signed, published) = (of(&self.own), of(&self.published));
        let missing =
            |digests: &[Option<Digest>]| digests.iter().filter(|one| one.is_none()).count();
        let kinds = |digests: &[Option<Digest>]| digests.iter().collect::<BTreeSet<_>>().len();
        if missing(&published) > 0 || kinds(&published) > 1 {
            self.fail(
                hour,
                format!(
                    "of {talking:?} {} publish nothing, the others {} consensuses; {} sign nothing",
                    missing(&published),
                    published.iter().flatten().collect::<BTreeSet<_>>().len(),
                    missing(&signed)
                ),
            );
        } else if kinds(&signed) > 1 {
            self.fail(
                hour,
                format!("{talking:?} sign {} consensuses", kinds(&signed)),
            );
        }
        self.judge_value(hour, talking.len());
    }

    /// Values do not get lost while all who must agree have the consensus of the hour before.
    fn judge_value(&mut self, hour: Hour, talking: usize) {
        let run = hour / RUN_HOURS;
        let Some(None) = self.of_hour.get(&hour) else {
            return;
        };
        let was_required = |hour: Hour| self.required.contains_key(&hour);
        let had = |hour: Hour| self.of_hour.get(&hour).copied().flatten().is_some();
        let is_first = hour.is_multiple_of(RUN_HOURS);
        // A new value needs two thirds (srv-spec 4.1.3), the same in all hours of the run before.
        let whole_run = (hour - RUN_HOURS.min(hour)..hour).all(was_required);
        let is_lost = match is_first {
            true => whole_run && talking >= (self.authorities * 2 / 3).max(self.majority()),
            false => (hour - 1) / RUN_HOURS == run && was_required(hour - 1) && had(hour - 1),
        };
        if is_lost {
            self.fail(hour, "the shared random value is lost".to_owned());
        }
    }

    /// The consensuses of each hour that a majority has signed, with who that is.
    fn valid(&self) -> BTreeMap<Hour, Vec<BTreeSet<usize>>> {
        let mut valid: BTreeMap<Hour, Vec<BTreeSet<usize>>> = BTreeMap::new();
        for (digest, signers) in &self.signed {
            if signers.len() >= self.majority()
                && let Some(hour) = self.hours.get(digest)
            {
                valid.entry(*hour).or_default().push(signers.clone());
            }
        }
        valid
    }

    /// Hours with two consensuses that each have a majority. That takes liars who sign both.
    pub(super) fn splits(&mut self) -> usize {
        let mut valid = self.valid();
        valid.retain(|_, all| all.len() > 1);
        for (hour, all) in &valid {
            let mut signers: BTreeSet<usize> = self.honest.clone();
            all.iter()
                .for_each(|own| signers.retain(|node| own.contains(node)));
            if !signers.is_empty() {
                let what = format!("two valid consensuses, both signed by {signers:?}");
                self.fail(*hour, what);
            }
        }
        valid.len()
    }

    /// How many hours have a consensus that an honest authority has published.
    pub(super) fn hours_with_consensus(&self) -> usize {
        let hours: BTreeSet<Hour> = self.published.keys().map(|(hour, _)| *hour).collect();
        hours.len()
    }

    /// How many runs have a shared random value.
    pub(super) fn values(&self) -> usize {
        self.values.len()
    }
}

/// The hour that begins at a time.
pub(super) fn hour_of(at: std::time::SystemTime) -> Hour {
    cepa_wire::time::unix_seconds(at) / 3600
}
