//! Options that say which network it is.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant DirAuthority: Lines = "", "the network's authorities";
    Meant AlternateDirAuthority: Lines = "", "as DirAuthority";
    Meant FallbackDir: Lines = "", "the network's fallback directories";
    Accepted UseDefaultFallbackDirs: Bool = "1", "there are none without FallbackDir";
    Accepted DirAuthorityFallbackRate: Float = "0.1", "fallback directories come first";
    Meant TestingTorNetwork: Bool = "0",
        "`testing` of the network and the relay, and what it implies";
    Meant DirAllowPrivateAddresses: Bool = "0", "`testing`, which allows them";
    Meant ExtendAllowPrivateAddresses: Bool = "0", "`testing`, which allows them";
    Meant ConsensusParams: Lines = "", "`params` of `[authority]`";
}
