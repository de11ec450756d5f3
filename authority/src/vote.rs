//! Our vote: what we think of each relay, signed (dir-spec 3.4.1).
//!
//! A relay is in it while its descriptor is of the last day and its protocols can be read; `tor`
//! refuses a vote in which they cannot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_netdoc::consensus::{DirSource, Lifetime, VotingDelay};
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Bandwidth, Flags, RouterStatus};
use cepa_netdoc::vote::{
    FlagThresholds, SharedRandVote, Vote, VoteRouter, VoteText, VotedEd25519, VotedMicrodesc,
};
use cepa_wire::time::unix_seconds;

use crate::config::{Config, Keys, METHODS};
use crate::flags;
use crate::relays::{AGE_MAX, Relay, Relays};
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
    /// When it was started.
    pub(crate) started: SystemTime,
    /// Now.
    pub(crate) now: SystemTime,
}

impl View<'_> {
    /// Makes and signs our vote for the round of `schedule`; none if we are no authority.
    pub(crate) fn vote(
        &self,
        keys: &Keys,
        shared_rand: SharedRandVote,
        schedule: &Schedule,
    ) -> Option<VoteText> {
        let config = self.config;
        let us = config.authority(&keys.cert.identity)?;
        let needs = flags::thresholds(self.relays, config, self.now);
        let start = schedule.valid_after;
        let timing = config.timing;
        let vote = Vote {
            methods: METHODS.to_vec(),
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
            known_flags: self.known_flags(),
            flag_thresholds: Some(needs.to_string()),
            params: params(config),
            bandwidth_file_headers: None,
            bandwidth_file_digest: None,
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
            legacy_dir_key: None,
            certificate: keys.cert.clone(),
            routers: self.routers(&needs),
            signature: None,
        };
        Some(vote.sign(&keys.signing))
    }

    fn knows_who_runs(&self) -> bool {
        self.config.is_testing || self.started + TIME_TO_LEARN <= self.now
    }

    fn known_flags(&self) -> Vec<String> {
        let mut flags: Vec<&str> = KNOWN_FLAGS.to_vec();
        if self.knows_who_runs() {
            flags.push("Running");
        }
        if !self.config.bad_exits.is_empty() {
            flags.push("BadExit");
        }
        if !self.config.middle_only.is_empty() {
            flags.push("MiddleOnly");
        }
        flags.sort_unstable();
        flags.into_iter().map(str::to_owned).collect()
    }

    fn routers(&self, needs: &FlagThresholds) -> Vec<VoteRouter> {
        let sybils = flags::sybils(self.relays, self.config, self.now);
        let is_listed = |relay: &&Relay| {
            relay.desc.published + AGE_MAX >= self.now && relay.desc.protocols().is_some()
        };
        let relays = self.relays.iter().map(|(_, relay)| relay);
        let routers = relays.filter(is_listed).map(|relay| {
            let mut flags = flags::flags(relay, needs, self.config, self.now);
            if sybils.contains(&relay.desc.identity) {
                flags = flags::of_sybil(flags);
            }
            if !self.knows_who_runs() {
                flags.remove(Flags::RUNNING);
            }
            router(relay, flags, self.now)
        });
        routers.collect()
    }
}

/// The parameters to vote for. In a test network onion services need `hsdir_interval` to be what
/// `tor` makes of the voting interval (PROTOCOL-NOTES section 7).
fn params(config: &Config) -> Params {
    let mut params = config.params.clone();
    if config.is_testing && params.lookup("hsdir_interval").is_none() {
        let minutes = i32::try_from(24 * config.timing.interval_secs / 60).unwrap_or(1440);
        params.set("hsdir_interval", minutes.max(5));
    }
    params
}

fn router(relay: &Relay, flags: Flags, now: SystemTime) -> VoteRouter {
    let desc = &relay.desc;
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
        a: Vec::new(),
        flags,
        flags_unknown: Vec::new(),
        version: version(desc.platform.as_deref()),
        protocols: desc.proto.clone(),
        bandwidth: Some(Bandwidth {
            bandwidth: relay.bandwidth_kb(),
            ..Bandwidth::default()
        }),
        policy: Some(desc.policy.summary_ipv4()),
        microdesc_digest: None,
    };
    VoteRouter {
        status,
        ed25519: Some(VotedEd25519::Id(desc.ed25519)),
        stats: Some(relay.history.stats(now)),
        microdescs: microdescs(relay),
    }
}

/// `Tor 0.4.9.11` of the platform of a `tor`; others have no version (dir-spec 3.4.1, `v`).
fn version(platform: Option<&str>) -> Option<String> {
    let mut words = platform?.split(' ');
    match (words.next(), words.next()) {
        (Some("Tor"), Some(version)) => Some(format!("Tor {version}")),
        _ => None,
    }
}

/// One `m` line for each microdescriptor, with the methods that make it.
fn microdescs(relay: &Relay) -> Vec<VotedMicrodesc> {
    let mut lines: Vec<VotedMicrodesc> = Vec::new();
    for (method, digest) in METHODS.into_iter().zip(&relay.microdescs) {
        match lines.last_mut() {
            Some(line) if line.digest == *digest => line.methods.push(method),
            _ => lines.push(VotedMicrodesc {
                methods: vec![method],
                digest: *digest,
            }),
        }
    }
    lines.retain(|line| line.digest.is_some());
    lines
}
