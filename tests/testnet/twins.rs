//! Networks of the same command line, side by side.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::Signal;

use crate::support::network::{CEPA, Network};
use crate::support::{Steps, fetch, server};

/// Of the smallest network there is, with slow links besides: its proxies have ports, too.
const ARGS: [&str; 8] = [
    "testnet",
    "up",
    "--authorities=1",
    "--relays=1",
    "--exits=1",
    "--interval=10",
    "--onion-services=1",
    "--delay=1ms",
];

#[test]
fn two_networks_of_one_command_line_run_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let up = || {
        let mut command = std::process::Command::new(CEPA);
        Network::up_by(command.args(ARGS).current_dir(dir.path()), dir.path())
    };
    // They look for ports at the same time.
    let (mut one, other) = std::thread::scope(|scope| {
        let first = scope.spawn(up);
        let second = up();
        (first.join().unwrap(), second)
    });
    let mut steps = Steps::default();
    steps.step("each has a folder of its own", || {
        let names = [&one, &other].map(|network| network.folder.file_name());
        let names: BTreeSet<_> = names.into_iter().flatten().collect();
        let wanted = ["cepa-testnet", "cepa-testnet-2"].map(Path::new);
        assert_eq!(names, wanted.map(Path::as_os_str).into());
    });
    steps.step("each has ports of its own, and carries traffic", || {
        assert_ne!(one.summary.base_port, other.summary.base_port);
        for network in [&one, &other] {
            let fetched = fetch::get(network.socks(), server::start(), "/bytes/1000");
            assert_eq!(fetched.unwrap().sha256, server::sha256_of(1000));
        }
    });
    steps.step("a third one comes up where the first one was", || {
        one.stop(Signal::INT);
        let third = up();
        assert_eq!(third.folder, one.folder);
        assert_eq!(third.summary, {
            let pids = third.summary.nodes.iter().map(|node| node.pid);
            let mut before = one.summary.clone();
            for (node, pid) in before.nodes.iter_mut().zip(pids) {
                node.pid = pid;
            }
            before
        });
    });
    steps.finish(|| one.show_logs());
}
