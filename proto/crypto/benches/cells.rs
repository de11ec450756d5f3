//! Nanoseconds a cell of the cell ciphers tor1 and CGO, in the cases that a relay's data plane has,
//! and how many times the one the other takes.
//!
//! `cargo bench -p cepa-crypto --bench cells`. Compare runs of one machine only.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures"
)]

use std::hint::black_box;
use std::time::Instant;

use cepa_crypto::layer::{HopLayer, RelayLayer};
use cepa_crypto::tor1::{self, PAYLOAD_LEN};
use cepa_crypto::{Rng, cgo};

const CELLS: u32 = 40_000;
/// The ciphers take turns, so that what else the machine does meets both; the best turn counts.
const TURNS: usize = 15;
const RELAY: u8 = 3;

const CASES: [&str; 4] = [
    "relay, forward, passed on",
    "relay, backward, passed on",
    "client to relay, made and recognised",
    "relay, backward, made",
];

type Payload = [u8; PAYLOAD_LEN];

/// Nanoseconds that a cell of a case takes.
fn measure(case: usize, (relay, hop): &mut (RelayLayer, HopLayer), payload: &mut Payload) -> f64 {
    let start = Instant::now();
    for _ in 0..CELLS {
        let payload = black_box(&mut *payload);
        match case {
            0 => drop(black_box(relay.decrypt_forward(RELAY, payload))),
            1 => relay.encrypt_backward(RELAY, payload),
            2 => {
                let tag = hop.originate_forward(RELAY, payload);
                assert_eq!(relay.decrypt_forward(RELAY, payload), Some(tag));
            }
            _ => drop(black_box(relay.originate_backward(RELAY, payload))),
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(CELLS)
}

fn main() {
    let mut rng = Rng::from_seed([1; 32]);
    let mut payload: Payload = rng.array();
    let tor1 = tor1::Keys::read(&rng.array());
    let cgo = cgo::Keys::read(&rng.array());
    let both = || {
        [
            (RelayLayer::tor1(&tor1), HopLayer::tor1(&tor1)),
            (RelayLayer::cgo(&cgo), HopLayer::cgo(&cgo)),
        ]
    };
    println!(
        "{:40} {:>8} {:>8} {:>6}",
        "ns a cell", "tor1", "CGO", "ratio"
    );
    for (case, name) in CASES.iter().enumerate() {
        let mut ciphers = both();
        let mut best = [f64::MAX; 2];
        for _ in 0..TURNS {
            for (cipher, best) in ciphers.iter_mut().zip(&mut best) {
                *best = best.min(measure(case, cipher, &mut payload));
            }
        }
        let [tor1, cgo] = best;
        println!("{name:40} {tor1:8.0} {cgo:8.0} {:6.2}", cgo / tor1);
    }
}
