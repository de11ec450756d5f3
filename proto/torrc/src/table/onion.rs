//! Options of onion services.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant HiddenServiceDir: Lines = "",
        "`dir` of `[[onion_service]]`; those behind it belong to it";
    Meant HiddenServicePort: Lines = "", "`ports` of `[[onion_service]]`";
    Meant HiddenServiceVersion: Lines = "", "3; there is no other";
    Meant HiddenServiceMaxStreams: Lines = "", "`streams_max` of `[[onion_service]]`";
    Refused HiddenServiceMaxStreamsCloseCircuit: Lines = "",
        "streams beyond the limit are refused, the circuit stays";
    Meant HiddenServiceNumIntroductionPoints: Lines = "", "`intro_points` of `[[onion_service]]`";
    Meant HiddenServiceEnableIntroDoSDefense: Lines = "", "`introductions` of `[[onion_service]]`";
    Meant HiddenServiceEnableIntroDoSRatePerSec: Lines = "", "its `rate`";
    Meant HiddenServiceEnableIntroDoSBurstPerSec: Lines = "", "its `burst`";
    Refused HiddenServiceDirGroupReadable: Lines = "", "the folder is for its user alone";
    Accepted HiddenServiceAllowUnknownPorts: Lines = "",
        "visits to unknown ports end their circuit";
    Refused HiddenServiceExportCircuitID: Lines = "", "circuits are not told to programs";
    Refused HiddenServiceOnionBalanceInstance: Lines = "", "descriptors are those of one address";
    Refused HiddenServicePoWDefensesEnabled: Lines = "", "there is no proof of work";
    Accepted HiddenServicePoWQueueBurst: Lines = "", "there is no proof of work";
    Accepted HiddenServicePoWQueueRate: Lines = "", "there is no proof of work";
    Accepted CompiledProofOfWorkHash: AutoBool = "auto", "there is no proof of work";
    Refused HiddenServiceSingleHopMode: Bool = "0", "services are anonymous";
    Refused HiddenServiceNonAnonymousMode: Bool = "0", "services are anonymous";
    Refused PublishHidServDescriptors: Bool = "1", "descriptors of services are published";
}
