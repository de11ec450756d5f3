//! What an authority is told: who it is, who the others are, and how it votes.
//!
//! Nothing here changes while it runs. Whoever makes these values sees to it that the certificate
//! is of the signing key, and its identity among the known authorities; an authority that is not
//! of its network, or whose certificate has run out, does not vote.

use std::net::SocketAddrV4;
use std::time::Duration;

use cepa_crypto::{RsaId, rsa};
use cepa_dir::{DirAuthority, DirDocument};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::RequiredProtocols;
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::Flags;

use crate::rules::Rules;
use crate::schedule::Timing;

/// The consensus methods that we compute (docs/protocol.md section 5; `tor` 0.4.9.15 has the same).
pub const METHODS: [u32; 6] = [32, 33, 34, 35, 36, 37];
/// The highest of them.
pub const METHOD_MAX: u32 = METHODS[METHODS.len() - 1];
/// The highest that we vote for unless the operator says more. Those beyond it leave out TAP keys,
/// and with them family lists: whoever lists his family by hand would have none, and programs that
/// read microdescriptors by the text of 2023 (stem 1.8) refuse them.
pub(crate) const METHOD_VOTED_MAX: u32 = 35;

/// Most relays that an authority keeps; the live network has about 9000.
pub const RELAYS_MAX: usize = 20_000;

/// The oldest `tor` that is taken unless the operator says otherwise.
const TOR_VERSION_MIN: &str = "0.4.8.0-alpha-dev";
/// From so many measured relays on, what others say of themselves counts for nothing.
const MEASURED_MIN: i32 = 500;
/// So long an authority of the public network needs to have tested all relays.
const TIME_TO_LEARN: Duration = Duration::from_secs(30 * 60);

/// What relays and clients of a network of ours must have; never more than we have ourselves.
/// All four lines are those of `tor` 0.4.9.11: authorities of both vote for the same.
const PROTOCOLS_RELAY: &str = concat!(
    "Cons=2 Desc=2 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 HSRend=2 Link=4-5 LinkAuth=3 ",
    "Microdesc=2 Relay=2-4"
);
const PROTOCOLS_CLIENT: &str = "Cons=2 Desc=2 FlowCtrl=1 Link=4 Microdesc=2 Relay=2";
/// What they should have.
const PROTOCOLS_RELAY_RECOMMENDED: &str = PROTOCOLS_RELAY;
const PROTOCOLS_CLIENT_RECOMMENDED: &str = concat!(
    "Cons=2 Desc=2 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4 HSRend=2 Link=4-5 Microdesc=2 ",
    "Relay=2-4"
);

/// The key that signs votes and consensuses, with its certificate.
pub struct Keys {
    /// The certificate, by the long-term identity key.
    pub cert: AuthCert,
    /// The medium-term signing key that it certifies.
    pub signing: rsa::Keypair,
    /// The key of an identity that the authority had before, for as long as there are clients that
    /// know it by that: it signs consensuses, too (`V3AuthUseLegacyKey`).
    pub legacy: Option<Box<Keys>>,
}

/// What makes a relay good enough for a flag whatever the others have, and shares of all: options
/// of `tor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlagTerms {
    /// Whoever carries as many kilobytes a second is Fast (`AuthDirFastGuarantee`).
    pub fast_kilobytes: u32,
    /// Whoever carries as many is enough for Guard (`AuthDirGuardBWGuarantee`).
    pub guard_kilobytes: u32,
    /// The share of all relays that has less than Guard takes
    /// (`AuthDirVoteGuardBwThresholdFraction`).
    pub guard_bandwidth_fraction: f64,
    /// Enough weighted fractional uptime for Guard (`AuthDirVoteGuardGuaranteeWFU`).
    pub guard_wfu: f64,
    /// Known for long enough for Guard (`AuthDirVoteGuardGuaranteeTimeKnown`).
    pub guard_time_known_seconds: u64,
    /// Up for long enough for Stable (`AuthDirVoteStableGuaranteeMinUptime`).
    pub stable_uptime_seconds: u64,
    /// Failing seldom enough for Stable (`AuthDirVoteStableGuaranteeMTBF`).
    pub stable_mtbf_seconds: u64,
    /// Up for long enough for `HSDir` (`MinUptimeHidServDirectoryV2`).
    pub hs_dir_uptime_seconds: u64,
    /// In a test network, who carries less is no Exit (`TestingMinExitFlagThreshold`).
    pub exit_min_kilobytes: u32,
    /// In a test network, who carries less is not Fast (`TestingMinFastFlagThreshold`).
    pub fast_min_kilobytes: u32,
}

/// What an authority does of what it could; all of it unless its operator says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duties {
    /// Refuses a relay one of whose two identity keys is known with another (`AuthDirPinKeys`).
    pub pins_keys: bool,
    /// Tests whether relays can be reached; if not, each that is not asleep is Running
    /// (`AuthDirTestReachability`).
    pub tests_reachability: bool,
    /// Asks for a relay's Ed25519 identity in these tests (`AuthDirTestEd25519LinkKeys`).
    pub tests_link_keys: bool,
    /// Takes part in shared randomness (`AuthDirSharedRandomness`).
    pub shares_randomness: bool,
    /// Votes on the flag `BadExit` (`AuthDirListBadExits`); none: if any rule is about it.
    pub lists_bad_exits: Option<bool>,
    /// Votes on the flag `MiddleOnly` (`AuthDirListMiddleOnly`); none: if any rule is about it.
    pub lists_middle_only: Option<bool>,
}

impl Default for Duties {
    fn default() -> Self {
        Duties {
            pins_keys: true,
            tests_reachability: true,
            tests_link_keys: true,
            shares_randomness: true,
            lists_bad_exits: None,
            lists_middle_only: None,
        }
    }
}

impl Default for FlagTerms {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        const DAY: u64 = 24 * HOUR;
        FlagTerms {
            fast_kilobytes: 102,
            guard_kilobytes: 2097,
            guard_bandwidth_fraction: 0.75,
            guard_wfu: 0.98,
            guard_time_known_seconds: 8 * DAY,
            stable_uptime_seconds: 30 * DAY,
            stable_mtbf_seconds: 5 * DAY,
            hs_dir_uptime_seconds: 96 * HOUR,
            exit_min_kilobytes: 0,
            fast_min_kilobytes: 0,
        }
    }
}

impl Keys {
    /// The certificate, and that of an identity of before, to be served.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = DirDocument> {
        let legacy = self.legacy.as_ref().map(|legacy| &legacy.cert);
        let certs = std::iter::once(&self.cert).chain(legacy);
        certs.map(|cert| DirDocument::Certificate(cert.clone().into()))
    }
}

/// How an authority works: its network, its times, and what it votes for.
#[derive(Debug, Clone)]
pub struct Config {
    /// All authorities of the network, this one among them.
    pub authorities: Vec<DirAuthority>,
    /// How its operator can be reached: the `contact` line of its vote.
    pub contact: String,
    /// Intervals and delays.
    pub timing: Timing,
    /// From one round to the next while no consensus is in force
    /// (`TestingV3AuthInitialVotingInterval`), in seconds; divides a day.
    pub initial_interval_secs: u32,
    /// How long votes and signatures may take then (`TestingV3AuthInitialVoteDelay`,
    /// `TestingV3AuthInitialDistDelay`), in seconds; none: as long as in any round.
    pub initial_delays_secs: [Option<u32>; 2],
    /// How long after its start it says who is Running
    /// (`TestingAuthDirTimeToLearnReachability`).
    pub time_to_learn: Duration,
    /// The oldest version of `tor` that is taken (`MinimalAcceptedServerVersion`).
    pub tor_version_min: String,
    /// Where more relays are measured, what others say of themselves counts for nothing
    /// (`MinMeasuredBWsForAuthToIgnoreAdvertised`).
    pub measured_min: i32,
    /// What it does of what it could.
    pub duties: Duties,
    /// Whether it is a test network (`TestingTorNetwork`): short intervals and late rounds are
    /// allowed, time-known and uptime demand nothing.
    pub is_testing: bool,
    /// Whether relays may have private addresses.
    pub allows_private_addresses: bool,
    /// A network without a consensus votes as soon as so many relays are Running here, instead of
    /// at the next interval; in test networks only.
    pub first_vote_after_relays: Option<usize>,
    /// The highest consensus method that we vote for, of [`METHODS`].
    pub method_max: u32,
    /// Whether relays with an IPv6 address are tested there, too: then they are Running only if
    /// they can be reached at both, and their IPv6 address is voted for
    /// (`AuthDirHasIPv6Connectivity`).
    pub tests_ipv6: bool,
    /// Most relays that may be Running on one address; 0 is no limit.
    pub relays_per_address_max: usize,
    /// Flags that relays get whatever the thresholds say: of Guard, Exit and HSDir
    /// (`TestingDirAuthVoteGuard *` and so on).
    pub flags_forced: Flags,
    /// Flags of these that only relays get of whom a rule says so
    /// (`TestingDirAuthVoteGuardIsStrict` and so on).
    pub flags_strict: Flags,
    /// What is good enough for a flag.
    pub flag_terms: FlagTerms,
    /// Network parameters to vote for, beside `hsdir_interval` in a test network.
    pub params: Params,
    /// Versions of `tor` to recommend to clients and relays, joined by commas.
    pub recommended_versions: Option<String>,
    /// Protocols to vote for.
    pub protocols: RequiredProtocols,
    /// What is said of single relays.
    pub rules: Rules,
}

impl Config {
    /// The public network's way: hourly, no private addresses, two relays an address.
    #[must_use]
    pub fn new(authorities: Vec<DirAuthority>, contact: String) -> Self {
        Config {
            authorities,
            contact,
            timing: Timing::hourly(),
            initial_interval_secs: Timing::hourly().interval_secs / 2,
            initial_delays_secs: [None; 2],
            time_to_learn: TIME_TO_LEARN,
            tor_version_min: TOR_VERSION_MIN.to_owned(),
            measured_min: MEASURED_MIN,
            duties: Duties::default(),
            is_testing: false,
            allows_private_addresses: false,
            first_vote_after_relays: None,
            method_max: METHOD_VOTED_MAX,
            tests_ipv6: false,
            relays_per_address_max: 2,
            flags_forced: Flags::NONE,
            flags_strict: Flags::NONE,
            flag_terms: FlagTerms::default(),
            params: Params::new(),
            recommended_versions: None,
            protocols: default_protocols(),
            rules: Rules::default(),
        }
    }

    /// The way of a test network on one machine, with the given timing.
    #[must_use]
    pub fn testing(authorities: Vec<DirAuthority>, contact: String, timing: Timing) -> Self {
        Config {
            timing,
            initial_interval_secs: timing.interval_secs,
            time_to_learn: Duration::ZERO,
            is_testing: true,
            allows_private_addresses: true,
            relays_per_address_max: 0,
            flags_forced: Flags::GUARD | Flags::HS_DIR,
            ..Config::new(authorities, contact)
        }
    }

    /// The v3 identities of all authorities.
    #[must_use]
    pub fn v3_identities(&self) -> Vec<RsaId> {
        self.authorities.iter().map(|one| one.v3_identity).collect()
    }

    /// The timing while no consensus is in force.
    #[must_use]
    pub fn initial_timing(&self) -> Timing {
        let [vote, dist] = self.initial_delays_secs;
        Timing {
            interval_secs: self.initial_interval_secs,
            vote_secs: vote.unwrap_or(self.timing.vote_secs),
            dist_secs: dist.unwrap_or(self.timing.dist_secs),
            ..self.timing
        }
    }

    /// How many documents of authorities are more than half of them (dir-spec 3.8).
    #[must_use]
    pub fn majority(&self) -> usize {
        self.authorities.len() / 2 + 1
    }

    /// The nickname of an authority; that of none is empty.
    #[must_use]
    pub fn nickname(&self, v3_identity: &RsaId) -> &str {
        let known = self.authority(v3_identity);
        known.map_or("", |one| one.nickname.as_str())
    }

    /// The DirPorts of the authorities but this one.
    pub(crate) fn others(&self, own: &RsaId) -> Vec<SocketAddrV4> {
        let others = self
            .authorities
            .iter()
            .filter(|one| one.v3_identity != *own);
        others.map(|one| one.dir_addr).collect()
    }

    /// The authority with a v3 identity.
    #[must_use]
    pub fn authority(&self, v3_identity: &RsaId) -> Option<&DirAuthority> {
        self.authorities
            .iter()
            .find(|one| one.v3_identity == *v3_identity)
    }
}

/// What we vote for unless told otherwise (docs/protocol.md section 6).
#[must_use]
pub fn default_protocols() -> RequiredProtocols {
    RequiredProtocols {
        recommended_client: Some(PROTOCOLS_CLIENT_RECOMMENDED.to_owned()),
        recommended_relay: Some(PROTOCOLS_RELAY_RECOMMENDED.to_owned()),
        required_client: Some(PROTOCOLS_CLIENT.to_owned()),
        required_relay: Some(PROTOCOLS_RELAY.to_owned()),
    }
}
