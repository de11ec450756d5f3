//! Nanoseconds a cell of the tor1 cipher, in the three cases that a relay's data plane has.
//!
//! `cargo bench -p cepa-crypto --bench tor1`. Compare runs of one machine only.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures"
)]

use std::hint::black_box;
use std::time::Instant;

use cepa_crypto::Rng;
use cepa_crypto::tor1::{HopCrypt, Keys, PAYLOAD_LEN, RelayCrypt};

const CELLS: u32 = 200_000;

fn measure(what: &str, mut work: impl FnMut()) {
    let start = Instant::now();
    (0..CELLS).for_each(|_| work());
    let nanoseconds = start.elapsed().as_nanos() / u128::from(CELLS);
    println!("{what:40} {nanoseconds:6} ns a cell");
}

fn main() {
    let mut rng = Rng::from_seed([1; 32]);
    let keys = Keys::read(&rng.array());
    let (mut relay, mut hop) = (RelayCrypt::new(&keys), HopCrypt::new(&keys));
    let mut payload: [u8; PAYLOAD_LEN] = rng.array();

    measure("decrypt_forward, passed on", || {
        black_box(relay.decrypt_forward(black_box(&mut payload)));
    });
    measure("encrypt_backward", || {
        relay.encrypt_backward(black_box(&mut payload))
    });

    let (mut relay, mut client) = (RelayCrypt::new(&keys), HopCrypt::new(&keys));
    measure("originate_forward and decrypt_forward", || {
        let tag = client.originate_forward(black_box(&mut payload));
        assert_eq!(relay.decrypt_forward(black_box(&mut payload)), Some(tag));
    });
    measure("originate_backward", || {
        black_box(relay.originate_backward(black_box(&mut payload)));
    });
    black_box(hop.decrypt_backward(&mut payload));
}
