//! Bridges of ours under test, and the lines that lead to them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::network::CEPA;
use super::processes::{Process, start_relay};
use super::until;

/// How long a bridge may take to write its lines.
const LINES_MAX: Duration = Duration::from_secs(60);

/// A bridge that runs; it ends with this.
pub(crate) struct Bridge {
    pub(crate) process: Process,
    /// The lines that lead to it.
    pub(crate) lines: Vec<String>,
}

impl Bridge {
    /// Starts a bridge with these lines in its configuration, which say its address and port, and
    /// waits until it has so many lines and a consensus to serve. Its files are in `dir`.
    pub(crate) fn start_in(
        space: Option<&str>,
        network: &Path,
        dir: &Path,
        name: &str,
        lines: usize,
        more: &str,
    ) -> Self {
        let text = format!(
            "nickname = \"{name}\"\ndata_dir = \"{name}\"\nnetwork = \"{}\"\ntesting = true\n\
             bridge = true\n{more}\n[log]\nlevel = \"debug\"\nfile = \"{name}/log\"\n",
            network.display()
        );
        std::fs::create_dir_all(dir.join(name)).unwrap();
        let config = dir.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut process = start_relay(space, &config);
        let mut told_by_it = BufReader::new(process.0.stdout.as_mut().unwrap()).lines();
        let mut stages = ["cepa-status: listening", "cepa-status: consensus"].to_vec();
        while !stages.is_empty() {
            let line = told_by_it.next().expect("the bridge has ended").unwrap();
            stages.retain(|stage| !line.starts_with(stage));
        }
        let lines = until(LINES_MAX, "the lines of a bridge", || {
            Some(told(&dir.join(name))).filter(|told| told.len() == lines)
        });
        Bridge { process, lines }
    }

    /// The line with this transport; without one, that of its own port.
    pub(crate) fn line(&self, transport: Option<&str>) -> &str {
        let is_it = |line: &&String| match transport {
            Some(name) => line.starts_with(&format!("Bridge {name} ")),
            None => line.as_bytes()["Bridge ".len()].is_ascii_digit(),
        };
        self.lines.iter().find(is_it).unwrap()
    }
}

/// What `cepa bridge line` says of a data folder; nothing if there is nothing yet.
fn told(data_dir: &Path) -> Vec<String> {
    let mut asking = Command::new(CEPA);
    let asking = asking.args(["bridge", "line", "--data-dir"]).arg(data_dir);
    let output = asking.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}
