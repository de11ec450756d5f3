//! Our vote: what we think of each relay, signed (dir-spec 3.4.1).
//!
//! A relay is in it while its descriptor is of the last day and its protocols can be read; `tor`
//! refuses a vote in which they cannot.

use std::time::SystemTime;

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
const KNOWN_FLAGS: [&str; 11] = [
    "Authority",
    "Exit",
    "Fast",
    "Guard",
    "HSDir",
    "Running",
    "Stable",
    "StaleDesc",
    "Sybil",
    "V2Dir",
    "Valid",
];

/// Makes and signs our vote for the round of `schedule`.
pub(crate) fn make(
    config: &Config,
    keys: &Keys,
    relays: &Relays,
    shared_rand: SharedRandVote,
    schedule: &Schedule,
    now: SystemTime,
) -> Option<VoteText> {
    let us = config.authority(&keys.cert.identity)?;
    let needs = flags::thresholds(relays, config, now);
    let start = schedule.valid_after;
    let timing = config.timing;
    let vote = Vote {
        methods: METHODS.to_vec(),
        published: std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds(now)),
        lifetime: Lifetime {
            valid_after: start,
            fresh_until: timing.fresh_until(start),
            valid_until: timing.valid_until(start),
        },
        voting_delay: VotingDelay {
            vote_seconds: timing.vote_secs,
            dist_seconds: timing.dist_secs,
        },
        client_versions: None,
        server_versions: None,
        protocols: config.protocols.clone(),
        known_flags: known_flags(config),
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
        routers: routers(config, relays, &needs, now),
        signature: None,
    };
    Some(vote.sign(&keys.signing))
}

fn known_flags(config: &Config) -> Vec<String> {
    let mut flags: Vec<String> = KNOWN_FLAGS.iter().map(ToString::to_string).collect();
    if !config.bad_exits.is_empty() {
        flags.push("BadExit".to_owned());
    }
    if !config.middle_only.is_empty() {
        flags.push("MiddleOnly".to_owned());
    }
    flags.sort();
    flags
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

fn routers(
    config: &Config,
    relays: &Relays,
    needs: &FlagThresholds,
    now: SystemTime,
) -> Vec<VoteRouter> {
    relays
        .iter()
        .map(|(_, relay)| relay)
        .filter(|relay| relay.desc.published + AGE_MAX >= now)
        .filter(|relay| relay.desc.protocols().is_some())
        .map(|relay| router(relay, flags::flags(relay, needs, config, now), now))
        .collect()
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
        a: desc.or_address_v6.map(Into::into).into_iter().collect(),
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
