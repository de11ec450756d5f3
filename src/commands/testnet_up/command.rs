//! A command that the network is there for: `cepa testnet up -- COMMAND`.
//!
//! It runs once the network is ready, with what it needs to know in its environment, and the
//! network ends with it. Its standard streams are the launcher's own.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use tokio::process::{Child, Command};

use super::files::Written;
use crate::error::Failure;
use crate::page;

/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// The command of these words; none where there are no words. Beside its variables for each client
/// and onion service it has `CEPA_NETWORK` (the file for further clients), `CEPA_DIR` (the folder
/// of the network) and `CEPA_PAGE` (what every exit of the network reaches).
pub(super) fn command(
    words: &[OsString],
    network: &Written,
    page: std::net::SocketAddr,
) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    // What it starts is to end with it. At a terminal it stays in our group, or could not read:
    // Ctrl-C reaches all of that by itself.
    if !std::io::stdin().is_terminal() {
        command.process_group(0);
    }
    let socks = network.nodes.iter().filter_map(|node| node.node.socks);
    for (count, socks) in (1..).zip(socks) {
        if count == 1 {
            command.env("CEPA_SOCKS", socks.to_string());
        }
        command.env(format!("CEPA_SOCKS_{count}"), socks.to_string());
    }
    for (count, onion) in (1..).zip(network.onions()) {
        command.env(format!("CEPA_ONION_{count}"), onion);
    }
    let folder = std::path::absolute(&network.folder).unwrap_or_else(|_| network.folder.clone());
    command.env("CEPA_NETWORK", folder.join("network.toml"));
    command.env("CEPA_DIR", &folder);
    command.env("CEPA_PAGE", page::url(page));
    Some(command)
}

/// Runs it to its end. Dropped, it is killed.
///
/// # Errors
/// It cannot be started.
pub(super) async fn run(mut command: Command) -> Result<ExitCode, Failure> {
    let name = command.as_std().get_program().to_owned();
    let shown = Path::new(&name).display();
    let wrong = |error: std::io::Error| Failure::new("cannot run the command", &shown, error);
    let mut child = command.spawn().map_err(wrong)?;
    let mut group = Group::of(&child);
    let status = child.wait().await.map_err(wrong)?;
    group.0 = None;
    Ok(exit_code(status))
}

/// The process group of a command that has not ended. Dropped, it is killed.
struct Group(Option<Pid>);

impl Group {
    /// The group of a child, if it leads one.
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw);
        Group(pid.filter(|pid| getpgid(Some(*pid)).is_ok_and(|group| group == *pid)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // One that has ended is as good.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// The code of a command, as a shell tells it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let signal = status.signal().unwrap_or_default();
    let code = status.code().unwrap_or(SIGNALLED + signal);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
