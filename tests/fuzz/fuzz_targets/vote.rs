//! Votes and detached signatures (dir-spec 3.4, 3.10).

#![no_main]

use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::VoteText;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = VoteText::parse(text);
    let _ = DetachedSignatures::parse(text);
});
