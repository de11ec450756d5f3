//! Attack after attack while relays come and go, for as long as `CEPA_SOAK_MINUTES` says (an hour
//! without it): memory stays flat in the second half, and descriptors go back to where they began.

use std::process::Command;
use std::time::Duration;

use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::Attack;
use crate::support::network::measured;
use crate::support::now;
use crate::support::processes::{Process, lives, send};
use crate::trial::Usage;
use crate::world::World;

/// Relays that are killed and started again, a round the one, a round the other.
const CHURNED: [&str; 2] = ["relay4", "exit2"];
/// How much more memory the last quarter may take than the third, in parts of 100 and in bytes.
const GROWTH_PERCENT_MAX: u64 = 5;
const GROWTH_MAX: u64 = 4 << 20;
/// Descriptors that come and go by themselves.
const FDS_ROOM: usize = 16;
/// The quiet between the last attack of a round and the look at all nodes.
const QUIET: Duration = Duration::from_secs(8);

/// Attacks in rounds.
pub(crate) fn soak(world: &World, attacks: &[Attack]) {
    let minutes = std::env::var("CEPA_SOAK_MINUTES");
    let minutes = minutes.map_or(60, |text| text.parse().unwrap());
    let (started, limit) = (now(), Duration::from_secs(60 * minutes));
    let nodes = world.network.summary.nodes.iter();
    let nodes: Vec<_> = nodes
        .filter(|node| !CHURNED.contains(&node.nickname.as_str()))
        .collect();
    let look = || -> Vec<Usage> {
        let pids = nodes.iter().filter_map(|node| node.pid);
        pids.map(Usage::of).collect()
    };
    let (before, mut rounds, mut again) = (look(), Vec::new(), None);
    while now().duration_since(started) < limit {
        let number = rounds.len();
        for (name, attack) in attacks {
            let over = now().duration_since(started).as_secs();
            println!("{over} s, round {number}: {name}");
            attack(world);
        }
        drop(again.take());
        again = Some(restart(world.node(CHURNED[number % CHURNED.len()])));
        std::thread::sleep(QUIET);
        rounds.push(look());
        world.fetch().unwrap();
    }
    for (place, node) in nodes.iter().enumerate() {
        let of_node: Vec<_> = rounds.iter().map(|round| round[place]).collect();
        is_flat(node, before[place], &of_node);
    }
}

/// Kills a node, if it lives, and starts it again with its files.
fn restart(node: &NodeSummary) -> Process {
    let pid = node.pid.unwrap();
    if lives(pid) {
        send(pid, Signal::KILL);
    }
    let mut command = Command::new(measured());
    command.args(["relay", "--config"]).arg(&node.config);
    Process::start(&mut command)
}

fn is_flat(node: &NodeSummary, before: Usage, rounds: &[Usage]) {
    let mean = |part: &[Usage]| {
        let sum: u64 = part.iter().map(|usage| usage.resident).sum();
        sum / u64::try_from(part.len().max(1)).unwrap()
    };
    let len = rounds.len();
    let (third, last) = (&rounds[len / 2..len * 3 / 4], &rounds[len * 3 / 4..]);
    let (third, last) = (mean(third), mean(last));
    let fds = rounds.last().map_or(0, |usage| usage.fds);
    let name = &node.nickname;
    println!(
        "{name}: {} MiB before, {} and {} MiB in the last quarters; {} descriptors, then {fds}",
        before.resident >> 20,
        third >> 20,
        last >> 20,
        before.fds
    );
    let growth_max = third / 100 * GROWTH_PERCENT_MAX + GROWTH_MAX;
    // Too few rounds have no quarters.
    assert!(len < 4 || last <= third + growth_max, "{name} grows");
    assert!(fds <= before.fds + FDS_ROOM, "{name}: descriptors stay");
}
