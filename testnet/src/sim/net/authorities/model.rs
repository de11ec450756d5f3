//! What must be, naively: written from dir-spec 3 and srv-spec 4, not from the code.
//!
//! *Always*, whatever the weather and the liars: an honest authority makes one vote and signs one
//! consensus an hour and makes one commitment a run; what it publishes or believes has the
//! signatures of more than half of the authorities; and two consensuses of one hour have so many
//! only if liars signed both. *In a calm hour*, when more than half of the authorities are honest, up,
//! of one time and able to talk, and nobody divides them: all of these sign and publish the same
//! consensus. *Shared randomness*: within a run all consensuses have the same value, and the next
//! run's has it as the previous one.

use std::collections::{BTreeMap, BTreeSet};

use cepa_netdoc::consensus::{Consensus, SharedRandValue};

/// Hours of a run of shared randomness.
const RUN_HOURS: u64 = 24;

/// An hour, counted since 1970.
pub(super) type Hour = u64;
type Digest = [u8; 20];

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
        let hour = hour % 24;
        self.violations.push(format!("{hour:02}:00: {what}"));
    }

    /// An authority has posted its vote, with its own commitment.
    pub(super) fn voted(&mut self, node: usize, hour: Hour, vote: Digest, commit: Option<&str>) {
        if !self.is_honest(node) {
            return;
        }
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
        let held = *self.own.entry((hour, node)).or_insert(consensus);
        if held != consensus {
            self.fail(hour, format!("auth{node} signs two consensuses"));
        }
    }

    /// An honest authority publishes, or believes, a consensus with so many good signatures.
    pub(super) fn published(&mut self, node: usize, consensus: &Consensus, digest: Digest, good: usize) {
        let hour = hour_of(consensus.lifetime.valid_after);
        if good < self.majority() {
            self.fail(hour, format!("auth{node} publishes what {good} have signed"));
        }
        let held = *self.published.entry((hour, node)).or_insert(digest);
        if held != digest {
            self.fail(hour, format!("auth{node} publishes two consensuses"));
        }
        if good >= self.majority() {
            self.take_value(hour, consensus);
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
            self.fail(hour, "the previous shared random value is another".to_owned());
        }
    }

    /// An hour is over; `talking` had to publish its consensus, if there are any.
    pub(super) fn judge(&mut self, hour: Hour, talking: &BTreeSet<usize>) {
        if talking.is_empty() {
            return;
        }
        self.required.insert(hour, talking.len());
        let of = |held: &BTreeMap<(Hour, usize), Digest>| {
            let digests = talking.iter().map(|node| held.get(&(hour, *node)).copied());
            digests.collect::<Vec<_>>()
        };
        let (signed, published) = (of(&self.own), of(&self.published));
        let missing = |digests: &[Option<Digest>]| digests.iter().filter(|one| one.is_none()).count();
        let kinds = |digests: &[Option<Digest>]| digests.iter().collect::<BTreeSet<_>>().len();
        if missing(&published) > 0 || kinds(&published) > 1 {
            self.fail(
                hour,
                format!(
                    "of {talking:?} {} publish nothing, and the others {} consensuses; {} sign nothing",
                    missing(&published),
                    published.iter().flatten().collect::<BTreeSet<_>>().len(),
                    missing(&signed)
                ),
            );
        } else if kinds(&signed) > 1 {
            self.fail(hour, format!("{talking:?} sign {} consensuses", kinds(&signed)));
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
        let is_first = hour % RUN_HOURS == 0;
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

    /// Hours with two consensuses that each have a majority. That takes liars who sign both.
    pub(super) fn splits(&mut self) -> usize {
        let mut valid: BTreeMap<Hour, Vec<(Digest, BTreeSet<usize>)>> = BTreeMap::new();
        for (digest, signers) in &self.signed {
            if signers.len() >= self.majority()
                && let Some(hour) = self.hours.get(digest)
            {
                let all = valid.entry(*hour).or_default();
                all.push((*digest, signers.clone()));
            }
        }
        valid.retain(|_, all| all.len() > 1);
        for (hour, all) in &valid {
            let mut signers: BTreeSet<usize> = self.honest.clone();
            all.iter().for_each(|(_, own)| signers.retain(|node| own.contains(node)));
            if !signers.is_empty() {
                let what = format!("two valid consensuses, both signed by {signers:?}");
                self.violations.push(format!("{:02}:00: {what}", hour % 24));
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
