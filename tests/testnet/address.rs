//! A relay that was told no address tells others the one that authorities see, and the next one
//! when it has moved. It needs a network namespace, and says so where there can be none.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::network::{CEPA, Network};
use crate::support::processes::Process;
use crate::support::space::Space;
use crate::support::until;

/// Of TEST-NET-2.
const FIRST: &str = "198.51.100.7";
const SECOND: &str = "198.51.100.8";
const PUBLISHED_MAX: Duration = Duration::from_secs(60);

#[test]
fn a_relay_follows_the_address_that_authorities_see() {
    let space = match Space::new("address") {
        Ok(space) => space,
        Err(missing) => {
            println!("not tested: {missing}");
            return;
        }
    };
    space.come_from(FIRST);
    let dir = tempfile::tempdir().unwrap();
    let plan = ["--relays", "1", "--exits", "1", "--clients", "0"];
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    let _relay = start(&space, &network, dir.path());
    for address in [FIRST, SECOND] {
        space.come_from(address);
        for authority in network.nodes("authority") {
            let what = format!("{address} at {}", authority.nickname);
            until(PUBLISHED_MAX, &what, || {
                let url = format!("http://{}/tor/server/all", authority.dir.unwrap());
                let mut curl = space.command("curl");
                let output = curl.args(["--silent", "--max-time", "5", &url]).output();
                let text = String::from_utf8(output.unwrap().stdout).unwrap();
                let line = format!("router mover {address} ");
                text.lines().any(|one| one.starts_with(&line)).then_some(())
            });
        }
    }
}

fn start(space: &Space, network: &Network, dir: &Path) -> Process {
    let text = format!(
        "nickname = \"mover\"\nor_port = {}\ndata_dir = \"mover\"\nnetwork = \"{}\"\n\
         testing = true\n",
        network.spare(0),
        network.summary.network.display()
    );
    let config = dir.join("mover.toml");
    std::fs::write(&config, text).unwrap();
    let mut relay = space.command(CEPA);
    relay.arg("relay").arg("--config").arg(config);
    Process::start(relay.stderr(Stdio::null()))
}
