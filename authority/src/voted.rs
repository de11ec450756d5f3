//! The entry that a relay has in our vote, by its descriptor (dir-spec 3.4.1).
//!
//! What a descriptor would add to a vote is looked at when it is uploaded ([`check`]), as whoever
//! gets the vote must be able to read it.

use std::time::Duration;

use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::routerstatus::{Flags, RouterStatus};
use cepa_netdoc::vote::{Stats, VoteRouter, VotedBandwidth, VotedEd25519, VotedMicrodesc};

use crate::config::METHODS;

/// A descriptor older than this is neither taken nor voted for.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The flags on which each authority has an opinion.
pub(crate) const KNOWN_FLAGS: [&str; 10] = [
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

/// The entry of a relay with this descriptor and these microdescriptors, one each of [`METHODS`].
pub(crate) fn router(
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
        a: desc.or_address_v6,
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

/// What a relay with this descriptor can carry, in kilobytes a second, as far as it is believed.
pub(crate) fn believed_kb(desc: &ServerDescriptor) -> u32 {
    const BELIEVED_MAX_KB: u32 = 10_000;
    let of = &desc.bandwidth;
    (of.average.min(of.burst).min(of.observed) / 1000).min(BELIEVED_MAX_KB)
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
