//! Cells through a channel: queued one by one, taken a TLS record at a time.
//!
//! Run with `cargo bench -p cepa-link`. Prints cells and bytes a second for a few numbers of busy
//! circuits; no other measure of the machine is taken, so compare lines of one run only.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a bench prints, and measures time"
)]

use std::time::{Duration, Instant, SystemTime};

use cepa_link::{Channel, CircuitRef, Established};
use cepa_wire::Now;
use cepa_wire::cell::{self, CELL_LEN, CircId, Command};

/// Cells of a TLS record.
const RECORD_CELLS: usize = 31;

fn channel(now: Now) -> Channel {
    let link = Established {
        version: 5,
        initiator: false,
        peer: None,
        peer_addr: "127.0.0.1:1".parse().unwrap(),
        peer_addrs: Vec::new(),
        my_addr_seen: "127.0.0.1".parse().unwrap(),
        clock_skew_secs: None,
        canonical: false,
    };
    Channel::new(link, now)
}

fn run(circuits: u32) {
    let start = Instant::now();
    let mut now = Now {
        mono: start,
        wall: SystemTime::now(),
    };
    let mut channel = channel(now);
    let ids = (1..=circuits).map(|id| CircId((id * 0x0101) | CircId::INITIATOR_BIT));
    let cells: Vec<_> = ids.map(|id| cell::new_cell(id, Command::RELAY)).collect();
    for cell in &cells {
        channel.accept(cell::circ_id(cell), CircuitRef(1)).unwrap();
    }
    let (mut out, mut drained) = (Vec::new(), Vec::new());
    let (mut sent, mut next) = (0, 0);
    while now.mono - start < Duration::from_secs(1) {
        now.mono = Instant::now();
        for _ in 0..64 {
            for _ in 0..RECORD_CELLS {
                channel.queue(&cells[next % cells.len()], now).unwrap();
                next += 7;
            }
            out.clear();
            sent += channel.take_output(&mut out, RECORD_CELLS, now, &mut drained);
        }
    }
    let seconds = (now.mono - start).as_secs_f64();
    let megabytes = (sent * CELL_LEN) as f64 / 1e6;
    println!(
        "{circuits:6} circuits: {:6.2} million cells/s, {:6.0} MB/s",
        sent as f64 / 1e6 / seconds,
        megabytes / seconds
    );
}

fn main() {
    [1, 10, 100, 10_000].into_iter().for_each(run);
}
