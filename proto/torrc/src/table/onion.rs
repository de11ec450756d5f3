//! Options of onion services.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant HiddenServiceDir: Lines = "",
        "`dir` of `[[onion_service]]`; those behind it belong to it";
    Meant HiddenServicePort: Lines = "", "`ports` of `[[onion_service]]`";
    Meant HiddenServiceVersion: Lines = "", "3; there is no other";
    Meant HiddenServiceMaxStreams: Lines = "", "`streams_max` of `[[onion_service]]`";
    Meant HiddenServiceMaxStreamsCloseCircuit: Lines = "",
        "`streams_max_close_circuit` of `[[onion_service]]`";
    Meant HiddenServiceNumIntroductionPoints: Lines = "", "`intro_points` of `[[onion_service]]`";
    Meant HiddenServiceEnableIntroDoSDefense: Lines = "", "`introductions` of `[[onion_service]]`";
    Meant HiddenServiceEnableIntroDoSRatePerSec: Lines = "", "its `rate`";
    Meant HiddenServiceEnableIntroDoSBurstPerSec: Lines = "", "its `burst`";
    Meant HiddenServiceDirGroupReadable: Lines = "", "`dir_group_readable` of `[[onion_service]]`";
    Meant HiddenServiceAllowUnknownPorts: Lines = "",
        "`allow_unknown_ports` of `[[onion_service]]`";
    Meant HiddenServiceExportCircuitID: Lines = "", "`export_circuit_id` of `[[onion_service]]`";
    Meant HiddenServiceOnionBalanceInstance: Lines = "",
        "`onionbalance_instance` of `[[onion_service]]`";
    Refused HiddenServicePoWDefensesEnabled: Lines = "", "there is no proof of work";
    Accepted HiddenServicePoWQueueBurst: Lines = "", "there is no proof of work";
    Accepted HiddenServicePoWQueueRate: Lines = "", "there is no proof of work";
    Accepted CompiledProofOfWorkHash: AutoBool = "auto", "there is no proof of work";
    Refused HiddenServiceSingleHopMode: Bool = "0", "services are anonymous";
    Refused HiddenServiceNonAnonymousMode: Bool = "0", "services are anonymous";
    Meant PublishHidServDescriptors: Bool = "1", "`publish_onion_descriptors` of `[fetches]`";
}
