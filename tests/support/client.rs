//! Clients of ours under test, beside those of a network: a configuration and a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use super::network::command_in;
use super::processes::Process;

/// A client with a SOCKS port; it ends with this.
pub(crate) struct Client {
    pub(crate) process: Process,
}

impl Client {
    /// Starts a client with further lines in its configuration, and waits until it has
    /// bootstrapped. Its files are in `dir`, under its name.
    pub(crate) fn start(
        network: &Path,
        dir: &Path,
        name: &str,
        socks: SocketAddr,
        more: &str,
    ) -> Self {
        Self::start_in(None, network, dir, name, socks, more)
    }

    /// The same in a network namespace.
    pub(crate) fn start_in(
        space: Option<&str>,
        network: &Path,
        dir: &Path,
        name: &str,
        socks: SocketAddr,
        more: &str,
    ) -> Self {
        let text = format!(
            "socks = [\"{socks}\"]\ndata_dir = \"{name}\"\nnetwork = \"{}\"\n{more}",
            network.display()
        );
        let config = dir.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut command = command_in(space);
        command
            .arg("client")
            .arg("--config")
            .arg(&config)
            .arg("--launched");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = Process(child.unwrap());
        wait_for(&mut process.0, "bootstrapped 100");
        Client { process }
    }
}

/// Waits until a launched node has reported a stage.
pub(crate) fn wait_for(child: &mut Child, stage: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let is_reached = lines.any(|line| line.unwrap() == format!("cepa-status: {stage}"));
    assert!(is_reached, "it has ended before: {stage}");
}
