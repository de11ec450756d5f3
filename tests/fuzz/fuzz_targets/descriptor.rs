//! Server descriptors and extra-infos (dir-spec 2.1).

#![no_main]

use cepa_netdoc::descriptor::{ServerDescriptor, split_descriptors};
use cepa_netdoc::extrainfo::{ExtraInfo, split_extra_infos};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = ServerDescriptor::parse(text);
    let _ = split_descriptors(text).count();
    let _ = ExtraInfo::parse(text);
    let _ = split_extra_infos(text).count();
});
