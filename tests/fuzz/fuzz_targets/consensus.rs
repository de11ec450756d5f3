//! Consensuses and their diffs (dir-spec 3.8, 4.5).

#![no_main]

use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::diff;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(base) = ConsensusText::parse(first) {
        let _ = diff::apply(&base, second);
    }
});
