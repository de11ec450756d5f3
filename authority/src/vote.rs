//! Our vote: what we think of each relay, signed (dir-spec 3.4.1).
//!
//! A relay is in it while its descriptor is of the last day and its protocols can be read; `tor`
//! refuses a vote in which they cannot. What a descriptor would add to a vote is looked at when it
//! is uploaded ([`crate::voted::check`]), and again before the vote is posted: each entry must come
//! back from the reader of votes as it is, and one that does not is left out, not the vote.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::{DirSource, Lifetime, StatusError, VotingDelay};
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::vote::{FlagThresholds, SharedRandVote, Vote, VoteRouter, VoteText};
use cepa_wire::time::unix_seconds;

use crate::bandwidth::Measurements;
use crate::config::{Config, Keys, METHODS};
use crate::flags::{self, Eyes};
use crate::relays::{Relay, Relays};
use crate::rules::Verdict;
use crate::schedule::Schedule;
use crate::voted::{AGE_MAX, KNOWN_FLAGS, router};

/// Most bytes of all entries: a vote is posted, and `tor` takes no upload of 16 MiB or more
/// (`MAX_DIR_UL_SIZE`). Beyond it the longest entries are left out.
const ENTRIES_LEN_MAX: usize = (16 << 20) - (512 << 10);

/// What there is to vote on.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// How this authority works.
    pub(crate) config: &'a Config,
    /// The relays that it knows.
    pub(crate) relays: &'a Relays,
    /// What they were measured with.
    pub(crate) measurements: &'a Measurements,
    /// The parameters of the consensus in force.
    pub(crate) params: Option<&'a Params>,
    /// When it was started.
    pub(crate) started: SystemTime,
    /// Now.
    pub(crate) now: SystemTime,
}

impl View<'_> {
    /// Makes and signs our vote for the round of `schedule`, and reads it.
    ///
    /// # Errors
    /// [`NoVote`] if there is nothing to post.
    pub(crate) fn vote(
        &self,
        keys: &Keys,
        shared_rand: SharedRandVote,
        schedule: &Schedule,
    ) -> Result<VoteText, NoVote> {
        let config = self.config;
        let us = config
            .authority(&keys.cert.identity)
            .ok_or(NoVote::Unlisted)?;
        let known_flags = self.known_flags();
        let eyes = self.eyes();
        let sybils = flags::sybils(&eyes);
        let needs = eyes.thresholds(&sybils, self.params);
        let routers = |needs| readable(self.routers(&eyes, needs, &sybils), &known_flags);
        let file = self.measurements.file();
        let start = schedule.valid_after;
        let timing = config.timing;
        let methods = METHODS.iter().filter(|one| **one <= config.method_max);
        let vote = Vote {
            methods: methods.map(u32::to_string).collect(),
            published: UNIX_EPOCH + Duration::from_secs(unix_seconds(self.now)),
            lifetime: Lifetime {
                valid_after: start,
                fresh_until: timing.fresh_until(start),
                valid_until: timing.valid_until(start),
            },
            voting_delay: VotingDelay {
                vote_seconds: timing.vote_secs,
                dist_seconds: timing.dist_secs,
            },
            client_versions: config.recommended_versions.clone(),
            server_versions: config.recommended_versions.clone(),
            protocols: config.protocols.clone(),
            routers: routers(&needs),
            known_flags,
            flag_thresholds: Some(needs.to_string()),
            params: params(config),
            bandwidth_file_headers: file.map(|file| file.headers.clone()),
            bandwidth_file_digest: file.map(|file| file.digest.clone()),
            dir_source: DirSource {
                nickname: us.nickname.clone(),
                identity: us.v3_identity,
                hostname: us.dir_addr.ip().to_string(),
                ip: *us.dir_addr.ip(),
                dir_port: us.dir_addr.port(),
                or_port: us.or_addr.port(),
            },
            contact: config.contact.clone(),
            shared_rand,
            legacy_dir_key: keys.legacy.as_ref().map(|legacy| legacy.cert.identity),
            certificate: keys.cert.clone(),
            signature: None,
        };
        read_back(vote.sign(&keys.signing))
    }

    fn knows_who_runs(&self) -> bool {
        knows_who_runs(self.config, self.started, self.now)
    }

    fn eyes(&self) -> Eyes<'_> {
        Eyes::of(self.config, self.relays, self.measurements, self.now)
    }

    fn known_flags(&self) -> Vec<String> {
        let mut flags: Vec<&str> = KNOWN_FLAGS.to_vec();
        if self.knows_who_runs() {
            flags.push("Running");
        }
        let (duties, rules) = (&self.config.duties, &self.config.rules);
        let says = |listed: Option<bool>, verdict| listed.unwrap_or_else(|| rules.say(verdict));
        if says(duties.lists_bad_exits, Verdict::BadExit) {
            flags.push("BadExit");
        }
        if says(duties.lists_middle_only, Verdict::MiddleOnly) {
            flags.push("MiddleOnly");
        }
        flags.sort_unstable();
        flags.into_iter().map(str::to_owned).collect()
    }

    fn routers(
        &self,
        eyes: &Eyes<'_>,
        needs: &FlagThresholds,
        sybils: &BTreeSet<RsaId>,
    ) -> Vec<VoteRouter> {
        let is_listed = |relay: &&Relay| {
            relay.desc.published + AGE_MAX >= self.now && relay.desc.protocols().is_some()
        };
        let known = self.known_flags();
        let relays = self.relays.iter().map(|(_, relay)| relay);
        let routers = relays.filter(is_listed).map(|relay| {
            let mut flags = eyes.flags(relay, needs);
            if sybils.contains(&relay.desc.identity) {
                flags = flags::of_sybil(flags);
            }
            if !self.knows_who_runs() {
                flags.remove(Flags::RUNNING);
            }
            for (flag, name) in [
                (Flags::BAD_EXIT, "BadExit"),
                (Flags::MIDDLE_ONLY, "MiddleOnly"),
            ] {
                if flags.contains(flag) && !known.iter().any(|one| one == name) {
                    flags.remove(flag);
                }
            }
            let stats = relay.history.stats(self.now);
            let mut router = router(&relay.desc, &relay.microdescs, flags, stats);
            router.status.a = relay.reached_over_ipv6(self.config, self.now);
            self.measure(&mut router);
            router
        });
        routers.collect()
    }

    /// What was measured of a relay. What was measured of an authority must not count.
    fn measure(&self, router: &mut VoteRouter) {
        let relay = &router.status.rsa_id;
        let measured = self.measurements.measured(relay);
        match router.status.flags.contains(Flags::AUTHORITY) {
            true => router.w.measured_but_authority = measured,
            false => router.w.measured = measured,
        }
        if router.status.flags.contains(Flags::GUARD) {
            router.w.guard_fraction = self.measurements.guard_fraction(relay);
        }
    }
}

/// Whether an authority that was started then has looked at all relays by now.
pub(crate) fn knows_who_runs(config: &Config, started: SystemTime, now: SystemTime) -> bool {
    started + config.time_to_learn <= now
}

/// The parameters to vote for. In a test network onion services need `hsdir_interval` to be what
/// `tor` makes of the voting interval (docs/protocol.md section 7).
fn params(config: &Config) -> Params {
    let mut params = config.params.clone();
    if config.is_testing && params.lookup("hsdir_interval").is_none() {
        let minutes = i32::try_from(24 * config.timing.interval_secs / 60).unwrap_or(1440);
        params.set("hsdir_interval", minutes.max(5));
    }
    params
}

/// Why we do not vote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoVote {
    /// The network does not know us.
    #[error("this authority is not in its own network file")]
    Unlisted,
    /// What we were told to vote for is nothing that a vote can hold.
    #[error("its vote could not be read by anybody: {0}")]
    Unreadable(#[from] StatusError),
    /// The same.
    #[error("its vote would be read as another one")]
    Altered,
}

/// The vote, if it says to others what it says to us.
fn read_back(made: VoteText) -> Result<VoteText, NoVote> {
    let read = VoteText::parse(Arc::clone(made.text()))?;
    match read.vote().encode() == **made.text() && read.vote().routers == made.vote().routers {
        true => Ok(read),
        false => Err(NoVote::Altered),
    }
}

/// The entries that all will read, as many as a vote may hold.
fn readable(mut routers: Vec<VoteRouter>, known_flags: &[String]) -> Vec<VoteRouter> {
    let mut lens = Vec::with_capacity(routers.len());
    routers.retain(|router| match router.check(known_flags) {
        Ok(len) => {
            lens.push((Reverse(len), router.status.rsa_id));
            true
        }
        Err(error) => {
            let relay = router.status.rsa_id;
            tracing::error!(%relay, %error, "a relay is left out of our vote");
            false
        }
    });
    let mut over: usize = lens.iter().map(|(len, _)| len.0).sum();
    over = over.saturating_sub(ENTRIES_LEN_MAX);
    if over > 0 {
        lens.sort_unstable();
        let mut left_out = BTreeSet::new();
        for (len, id) in lens {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(len.0);
            left_out.insert(id);
        }
        tracing::error!(
            relays = left_out.len(),
            "our vote is full: the longest entries go"
        );
        routers.retain(|router| !left_out.contains(&router.status.rsa_id));
    }
    routers
}
