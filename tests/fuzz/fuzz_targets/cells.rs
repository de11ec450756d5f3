//! Whole cells in a byte buffer (tor-spec 3).

#![no_main]

use cepa_wire::cell::{CircIdLen, split_cell, split_cell_mut};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = split_cell(data, CircIdLen::Two);
    let mut buf = data.to_vec();
    let mut rest = buf.as_mut_slice();
    while let Some((_, len)) = split_cell_mut(rest) {
        rest = rest.get_mut(len..).unwrap_or_default();
    }
});
