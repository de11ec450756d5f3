//! Onion services of ours under test: `cepa onion serve`, started, found by its address, stopped.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::network::measured;
use super::processes::Process;

/// What a node reports when its service can be visited.
const UP: &str = "cepa-status: onion ";

/// A process that hosts one service; it ends with this.
pub(crate) struct Service {
    pub(crate) process: Process,
    /// Its address, `.onion` included.
    pub(crate) address: String,
}

impl Service {
    /// Hosts `server` at port 80 of the service in `dir`, and waits until it can be visited.
    pub(crate) fn start(network: &Path, dir: &Path, server: SocketAddr) -> Self {
        let mut command = Command::new(measured());
        command.args(["onion", "serve", "--launched", "--network"]);
        command.arg(network).arg("--dir").arg(dir);
        command.arg(format!("80={server}"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = Process(child.unwrap());
        let address = address_of(&mut process.0);
        Service { process, address }
    }
}

/// Hosts `server` as [`Service::start`] does, in a client whose links come from `from`.
pub(crate) fn hosted_from(
    from: Ipv4Addr,
    network: &Path,
    dir: &Path,
    server: SocketAddr,
) -> Service {
    let config = dir.join("client.toml");
    let text = format!(
        "network = \"{}\"\ndata_dir = \"client\"\noutbound_bind_address = \"{from}\"\n\
         [[onion_service]]\ndir = \"service\"\nports = [\"80={server}\"]\n",
        network.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(measured());
    command
        .args(["client", "--launched", "--config"])
        .arg(&config);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.unwrap());
    let address = address_of(&mut process.0);
    Service { process, address }
}

/// The address of a service, once the process that hosts it says that it can be visited.
pub(crate) fn address_of(child: &mut Child) -> String {
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        let read = output.read_line(&mut line).unwrap();
        assert!(read > 0, "it has ended without a service");
        if let Some(address) = line.trim_end().strip_prefix(UP) {
            return address.to_owned();
        }
    }
}
