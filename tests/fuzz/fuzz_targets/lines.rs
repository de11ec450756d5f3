//! The small languages inside of documents: policies, protocols, parameters, families.

#![no_main]

use cepa_netdoc::family::Family;
use cepa_netdoc::params::Params;
use cepa_netdoc::policy::{AddrPolicy, PortPolicy};
use cepa_netdoc::protover::Protocols;
use cepa_netdoc::timestamp;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Protocols::parse(text);
    let _ = Params::parse(text);
    let _ = PortPolicy::parse(text);
    let _ = AddrPolicy::parse_config(text.lines());
    let _ = Family::parse(text);
    let _ = timestamp::parse(text);
});
