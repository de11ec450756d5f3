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
    Meant V3AuthUseLegacyKey: Bool = "0", "`v3_auth_use_legacy_key` of `[authority.practice]`";
    Meant TestingV3AuthInitialVotingInterval: Interval = "30 minutes",
        "`voting_interval` where V3AuthVotingInterval is not given; no shorter first ones";
    Meant TestingV3AuthInitialVoteDelay: Interval = "5 minutes",
        "`testing_v3_auth_initial_vote_delay` of `[authority.practice]`";
    Meant TestingV3AuthInitialDistDelay: Interval = "5 minutes",
        "`testing_v3_auth_initial_dist_delay` of `[authority.practice]`";
    Meant TestingV3AuthVotingStartOffset: Interval = "0",
        "`testing_v3_auth_voting_start_offset` of `[authority.practice]`";
    Meant V3BandwidthsFile: Path = "", "`bandwidth_file` of `[authority]`";
    Meant GuardfractionFile: Path = "", "`guardfraction_file` of `[authority]`";
    Meant AuthDirMaxServersPerAddr: Number = "2",
        "`auth_dir_max_servers_per_addr` of `[authority]`";
    Meant AuthDirReject: Lines = "", "`[[authority.rules]]`: reject";
    Meant AuthDirInvalid: Lines = "", "`[[authority.rules]]`: invalid";
    Meant AuthDirBadExit: Lines = "", "`[[authority.rules]]`: badexit";
    Meant AuthDirMiddleOnly: Lines = "", "`[[authority.rules]]`: middleonly";
    Meant AuthDirRejectCCs: Words = "", "`[[authority.rules]]`: reject, by country";
    Meant AuthDirInvalidCCs: Words = "", "`[[authority.rules]]`: invalid, by country";
    Meant AuthDirBadExitCCs: Words = "", "`[[authority.rules]]`: badexit, by country";
    Meant AuthDirMiddleOnlyCCs: Words = "", "`[[authority.rules]]`: middleonly, by country";
    Meant AuthDirListBadExits: Bool = "0", "`auth_dir_list_bad_exits` of `[authority.practice]`";
    Meant AuthDirListMiddleOnly: Bool = "0",
        "`auth_dir_list_middle_only` of `[authority.practice]`";
    Meant AuthDirPinKeys: Bool = "1", "`auth_dir_pin_keys` of `[authority.practice]`";
    Meant AuthDirSharedRandomness: Bool = "1",
        "`auth_dir_shared_randomness` of `[authority.practice]`";
    Accepted AuthDirSupport048Clients: Bool = "0",
        "`consensus_method_max` decides which keys are asked for";
    Meant AuthDirTestEd25519LinkKeys: Bool = "1",
        "`auth_dir_test_ed25519_link_keys` of `[authority.practice]`";
    Meant AuthDirTestReachability: Bool = "1",
        "`auth_dir_test_reachability` of `[authority.practice]`";
    Meant AuthDirHasIPv6Connectivity: Bool = "0", "`tests_ipv6` of `[authority]`";
    Accepted AuthDirRejectRequestsUnderLoad: Bool = "1", "requests are bounded otherwise";
    Meant AuthDirFastGuarantee: Size = "100 KB",
        "`auth_dir_fast_guarantee` of `[authority.flags]`";
    Meant AuthDirGuardBWGuarantee: Size = "2 MB",
        "`auth_dir_guard_bw_guarantee` of `[authority.flags]`";
    Meant AuthDirVoteGuard: Routers = "", "`auth_dir_vote_guard` of `[authority.practice]`";
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
    Meant MinMeasuredBWsForAuthToIgnoreAdvertised: Signed = "500",
        "`min_measured_bws_for_auth_to_ignore_advertised` of `[authority.practice]`";
    Meant MinimalAcceptedServerVersion: Text = "0.4.9.1-alpha",
        "`minimal_accepted_server_version` of `[authority.practice]`";
    Meant TestingAuthDirTimeToLearnReachability: Interval = "30 minutes",
        "`testing_auth_dir_time_to_learn_reachability` of `[authority.practice]`";
    Meant TestingDirAuthVoteExit: Routers = "",
        "`testing_dir_auth_vote_exit` of `[authority.practice]`";
    Meant TestingDirAuthVoteExitIsStrict: Bool = "0",
        "`testing_dir_auth_vote_exit_is_strict` of `[authority.practice]`";
    Meant TestingDirAuthVoteGuard: Routers = "",
        "`testing_dir_auth_vote_guard` of `[authority.practice]`";
    Meant TestingDirAuthVoteGuardIsStrict: Bool = "0",
        "`testing_dir_auth_vote_guard_is_strict` of `[authority.practice]`";
    Meant TestingDirAuthVoteHSDir: Routers = "",
        "`testing_dir_auth_vote_hs_dir` of `[authority.practice]`";
    Meant TestingDirAuthVoteHSDirIsStrict: Bool = "0",
        "`testing_dir_auth_vote_hs_dir_is_strict` of `[authority.practice]`";
    Meant TestingMinExitFlagThreshold: Size = "0",
        "`testing_min_exit_flag_threshold` of `[authority.practice]`";
    Meant TestingMinFastFlagThreshold: Size = "0",
        "`testing_min_fast_flag_threshold` of `[authority.practice]`";
    Accepted __SbwsExit: Bool = "0", "it is for scanners";
}
