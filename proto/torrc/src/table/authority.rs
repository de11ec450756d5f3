//! Options of directory authorities.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant AuthoritativeDirectory: Bool = "0", "`[authority]`";
    Meant V3AuthoritativeDirectory: Bool = "0", "`[authority]`";
    Refused BridgeAuthoritativeDir: Bool = "0", "there are no bridge authorities";
    Refused BridgePassword: Text = "", "there are no bridge authorities";
    Meant VersioningAuthoritativeDirectory: Bool = "0", "1: versions are recommended";
    Meant RecommendedVersions: Lines = "", "`recommended_versions` of `[authority]`";
    Meant RecommendedClientVersions: Lines = "",
        "as RecommendedVersions, which it must be equal to";
    Meant RecommendedServerVersions: Lines = "",
        "as RecommendedVersions, which it must be equal to";
    Meant V3AuthVotingInterval: Interval = "1 hour", "`voting_interval` of `[authority]`";
    Meant V3AuthVoteDelay: Interval = "5 minutes", "`vote_delay` of `[authority]`";
    Meant V3AuthDistDelay: Interval = "5 minutes", "`dist_delay` of `[authority]`";
    Meant V3AuthNIntervalsValid: Number = "3", "`intervals_valid` of `[authority]`";
    Refused V3AuthUseLegacyKey: Bool = "0", "there is one identity";
    Meant TestingV3AuthInitialVotingInterval: Interval = "30 minutes",
        "`voting_interval` where V3AuthVotingInterval is not given; no shorter first ones";
    Accepted TestingV3AuthInitialVoteDelay: Interval = "5 minutes", "first rounds are as all";
    Accepted TestingV3AuthInitialDistDelay: Interval = "5 minutes", "first rounds are as all";
    Refused TestingV3AuthVotingStartOffset: Interval = "0", "rounds begin with the day";
    Meant V3BandwidthsFile: Path = "", "`bandwidth_file` of `[authority]`";
    Meant GuardfractionFile: Path = "", "`guardfraction_file` of `[authority]`";
    Meant AuthDirMaxServersPerAddr: Number = "2",
        "`auth_dir_max_servers_per_addr` of `[authority]`";
    Meant AuthDirReject: Lines = "", "`[[authority.rules]]`: reject";
    Meant AuthDirInvalid: Lines = "", "`[[authority.rules]]`: invalid";
    Meant AuthDirBadExit: Lines = "", "`[[authority.rules]]`: badexit";
    Meant AuthDirMiddleOnly: Lines = "", "`[[authority.rules]]`: middleonly";
    Refused AuthDirRejectCCs: Words = "", "rules are by relay and network, not by country";
    Refused AuthDirInvalidCCs: Words = "", "rules are by relay and network, not by country";
    Refused AuthDirBadExitCCs: Words = "", "rules are by relay and network, not by country";
    Refused AuthDirMiddleOnlyCCs: Words = "", "rules are by relay and network, not by country";
    Accepted AuthDirListBadExits: Bool = "0", "what rules say is voted for";
    Accepted AuthDirListMiddleOnly: Bool = "0", "what rules say is voted for";
    Refused AuthDirPinKeys: Bool = "1", "keys are pinned";
    Refused AuthDirSharedRandomness: Bool = "1", "authorities take part in shared randomness";
    Accepted AuthDirSupport048Clients: Bool = "0",
        "`consensus_method_max` decides which keys are asked for";
    Refused AuthDirTestEd25519LinkKeys: Bool = "1", "links are tested with their keys";
    Refused AuthDirTestReachability: Bool = "1", "relays are tested";
    Meant AuthDirHasIPv6Connectivity: Bool = "0", "`tests_ipv6` of `[authority]`";
    Accepted AuthDirRejectRequestsUnderLoad: Bool = "1", "requests are bounded otherwise";
    Meant AuthDirFastGuarantee: Size = "100 KB",
        "`auth_dir_fast_guarantee` of `[authority.flags]`";
    Meant AuthDirGuardBWGuarantee: Size = "2 MB",
        "`auth_dir_guard_bw_guarantee` of `[authority.flags]`";
    Refused AuthDirVoteGuard: Routers = "", "flags are given by measure, not by name";
    Meant AuthDirVoteGuardBwThresholdFraction: Float = "0.75",
        "`auth_dir_vote_guard_bw_threshold_fraction` of `[authority.flags]`";
    Meant AuthDirVoteGuardGuaranteeTimeKnown: Interval = "8 days",
        "`auth_dir_vote_guard_guarantee_time_known` of `[authority.flags]`";
    Meant AuthDirVoteGuardGuaranteeWFU: Float = "0.98",
        "`auth_dir_vote_guard_guarantee_wfu` of `[authority.flags]`";
    Meant AuthDirVoteStableGuaranteeMinUptime: Interval = "30 days",
        "`auth_dir_vote_stable_guarantee_min_uptime` of `[authority.flags]`";
    Meant AuthDirVoteStableGuaranteeMTBF: Interval = "5 days",
        "`auth_dir_vote_stable_guarantee_mtbf` of `[authority.flags]`";
    Refused MinMeasuredBWsForAuthToIgnoreAdvertised: Signed = "500", "the default is 500";
    Refused MinimalAcceptedServerVersion: Text = "0.4.9.1-alpha",
        "which versions are taken is the default's";
    Accepted TestingAuthDirTimeToLearnReachability: Interval = "30 minutes",
        "a test network votes at once";
    Accepted TestingDirAuthVoteExit: Routers = "",
        "a test network gives the flag by what relays say";
    Refused TestingDirAuthVoteExitIsStrict: Bool = "0",
        "a test network gives the flag by what relays say";
    Accepted TestingDirAuthVoteGuard: Routers = "", "a test network gives the flag at once";
    Refused TestingDirAuthVoteGuardIsStrict: Bool = "0", "a test network gives the flag at once";
    Accepted TestingDirAuthVoteHSDir: Routers = "", "a test network gives the flag at once";
    Refused TestingDirAuthVoteHSDirIsStrict: Bool = "0", "a test network gives the flag at once";
    Accepted TestingMinExitFlagThreshold: Size = "0",
        "a test network gives flags without a threshold";
    Accepted TestingMinFastFlagThreshold: Size = "0",
        "a test network gives flags without a threshold";
    Accepted __SbwsExit: Bool = "0", "it is for scanners";
}
