//! Our vote: what we think of each relay, signed (dir-spec 3.4.1).
//!
//! A relay is in it while its descriptor is of the last day and its protocols can be read; `tor`
//! refuses a vote in which they cannot. What a descriptor would add to a vote is looked at when it
//! is uploaded ([`check`]), and again before the vote is posted: each entry must come back from
//! the reader of votes as it is, and one that does not is left out, not the vote.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::{DirSource, Lifetime, StatusError, VotingDelay};
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Flags, RouterStatus};
use cepa_netdoc::vote::{
    FlagThresholds, SharedRandVote, Stats, Vote, VoteRouter, VoteText, VotedBandwidth,
    VotedEd25519, VotedMicrodesc,
};
use cepa_wire::time::unix_seconds;

use crate::bandwidth::Measurements;
use crate::config::{Config, Keys, METHODS};
use crate::flags::{self, Eyes};
use crate::relays::{AGE_MAX, Relay, Relays, believed_kb};
use crate::rules::Verdict;
use crate::schedule::Schedule;

/// The flags on which each authority has an opinion.
const KNOWN_FLAGS: [&str; 10] = [
    "Authority",
    "Exit",
    "Fast",
    "Guard",
    "HSDir",
    "Stable",
    "StaleDesc",
    "Sybil",
    "V2Dir",
    "Valid",
];

/// The flags on which it may have one.
const OTHER_FLAGS: [&str; 3] = ["BadExit", "MiddleOnly", "Running"];

/// Most bytes that one relay may add to a vote: 1000 for the summary of its policy, about 800 for
/// all that a usual relay adds, and as much again for what is to come. Without it, descriptors of
/// 20 kB whose `proto` line fills them would fill a vote with a thousand relays.
const ENTRY_LEN_MAX: usize = 3072;
/// The longest version that is voted for, as `tor`'s (`MAX_V_LINE_LEN`).
const VERSION_LEN_MAX: usize = 120;
/// Most bytes of all entries: a vote is posted, and `tor` takes no upload of 16 MiB or more
/// (`MAX_DIR_UL_SIZE`). Beyond it the longest entries are left out.
const ENTRIES_LEN_MAX: usize = (16 << 20) - (512 << 10);

/// How long an authority of the public network waits before it says who is Running: so long it
/// takes to have tested all relays (`TestingAuthDirTimeToLearnReachability`).
const TIME_TO_LEARN: Duration = Duration::from_secs(30 * 60);

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
        let sybils = flags::sybils(self.relays, self.measurements, config, self.now);
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
                hostname: us.ip.to_string(),
                ip: us.ip,
                dir_port: us.dir_port,
                or_port: us.or_port,
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
        if self.config.rules.say(Verdict::BadExit) {
            flags.push("BadExit");
        }
        if self.config.rules.say(Verdict::MiddleOnly) {
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
        let relays = self.relays.iter().map(|(_, relay)| relay);
        let routers = relays.filter(is_listed).map(|relay| {
            let mut flags = eyes.flags(relay, needs);
            if sybils.contains(&relay.desc.identity) {
                flags = flags::of_sybil(flags);
            }
            if !self.knows_who_runs() {
                flags.remove(Flags::RUNNING);
            }
            let stats = relay.history.stats(self.now);
            let mut router = router(&relay.desc, &relay.microdescs, flags, stats);
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
    config.is_testing || started + TIME_TO_LEARN <= now
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

/// Whether the entry that a descriptor would have may stand in a vote; its reason if not. One
/// whose protocols cannot be read has none: `tor` keeps its descriptor and does not vote for it.
pub(crate) fn check(desc: &ServerDescriptor) -> Result<(), String> {
    if desc.protocols().is_none() {
        return Ok(());
    }
    let names = KNOWN_FLAGS.iter().chain(&OTHER_FLAGS);
    let mut known: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    known.sort_unstable();
    let flags = known.iter().filter_map(|name| Flags::from_name(name));
    let flags = flags.fold(Flags::NONE, std::ops::BitOr::bitor);
    // The longest that these may become; each method's microdescriptor may be another one.
    let digests = METHODS.map(|method| Some([method.to_le_bytes()[0]; 32]));
    let stats = Stats {
        wfu: 1.0,
        time_known_seconds: u64::from(u32::MAX),
        mtbf_seconds: f64::from(u32::MAX),
    };
    match router(desc, &digests, flags, stats).check(&known) {
        Ok(0..=ENTRY_LEN_MAX) => Ok(()),
        Ok(len) => Err(format!(
            "it would take {len} bytes of a vote, {ENTRY_LEN_MAX} at most"
        )),
        Err(error) => Err(error.to_string()),
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

/// The entry of a relay with this descriptor and these microdescriptors, one each of [`METHODS`].
fn router(
    desc: &ServerDescriptor,
    digests: &[Option<[u8; 32]>],
    flags: Flags,
    stats: Stats,
) -> VoteRouter {
    let status = RouterStatus {
        nickname: desc.nickname.clone(),
        rsa_id: desc.identity,
        descriptor_digest: desc.digest,
        published: desc.published,
        ip: *desc.or_address.ip(),
        or_port: desc.or_address.port(),
        dir_port: desc.dir_port,
        // An address over which nobody has tested the relay is not passed on (as with `tor`'s
        // `AuthDirHasIPv6Connectivity 0`).
        a: None,
        flags,
        flags_unknown: Vec::new(),
        version: version(desc.platform.as_deref()),
        protocols: desc.proto.clone(),
        bandwidth: None,
        policy: Some(desc.policy.summary_ipv4().encode()),
        microdesc_digest: None,
    };
    VoteRouter {
        status,
        ed25519: Some(VotedEd25519::Id(desc.ed25519)),
        w: VotedBandwidth {
            bandwidth: Some(believed_kb(desc)),
            ..VotedBandwidth::default()
        },
        stats: Some(stats.to_string()),
        microdescs: microdescs(digests),
    }
}

/// `Tor 0.4.9.11` of the platform of a `tor`; others have no version (dir-spec 3.4.1, `v`). It ends
/// where `tor` ends it, at white space or `#`; a subversion revision, ` (r…`, belongs to it.
fn version(platform: Option<&str>) -> Option<String> {
    const ENDS: [char; 4] = [' ', '\t', '\r', '#'];
    let rest = platform?.strip_prefix("Tor ")?;
    let mut end = rest.find(ENDS).unwrap_or(rest.len());
    if rest.get(end..).is_some_and(|tail| tail.starts_with(" (r")) {
        let tail = rest.get(end + 1..).unwrap_or_default();
        end += 1 + tail.find(ENDS).unwrap_or(tail.len());
    }
    let version = format!("Tor {}", rest.get(..end).unwrap_or_default());
    (version.len() <= VERSION_LEN_MAX).then_some(version)
}

/// One `m` line for each microdescriptor, with the methods that make it.
fn microdescs(digests: &[Option<[u8; 32]>]) -> Vec<String> {
    let mut lines: Vec<VotedMicrodesc> = Vec::new();
    for (method, digest) in METHODS.into_iter().zip(digests) {
        match lines.last_mut() {
            Some(line) if line.digest == *digest => line.methods.push(method),
            _ => lines.push(VotedMicrodesc {
                methods: vec![method],
                digest: *digest,
            }),
        }
    }
    lines.retain(|line| line.digest.is_some());
    lines.iter().map(VotedMicrodesc::encode).collect()
}
