//! What a torrc says is started: as its user, in the background, with a file for its number.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cepa_torrc::translate::Process;
use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior};
use tracing::Level;

use super::{Ended, Run};
use crate::commands::block_on;
use crate::error::{Failure, fail};
use crate::launched::Launch;
use crate::reload::Reread;
use crate::roles::Lifecycle;
use crate::sandbox::Sandbox;
use crate::torrc::{Configured, Read, Torrc};
use crate::{logs, roles};

/// Tells a process that it is in the background already.
const BACKGROUND: &str = "CEPA_IN_BACKGROUND";
/// Who users are, by name and number.
const PASSWD: &str = "/etc/passwd";

/// Runs it until its end.
pub(super) fn run(run: &Run<'_>, (torrc, read): &(Torrc, Read)) -> Result<(), Ended> {
    let configured = read.configured();
    let configured = configured.map_err(|wrong| run.ended(Ended::checked(&wrong)))?;
    let process = &read.translated.process;
    check_user(run, process)?;
    let failed = |wrong: Failure| run.ended(Ended::failed(&wrong));
    if !process.has_network {
        let wrong = Failure::new(
            "the torrc has no DirAuthority, and there is no network of this machine",
            "/etc/cepa/network.toml",
            "put a network file there, or name one by CEPA_NETWORK",
        );
        return Err(failed(wrong));
    }
    let is_in_background = std::env::var_os(BACKGROUND).is_some();
    if process.is_daemon && !is_in_background {
        return to_background(run, torrc).map_err(failed);
    }
    check_descriptors(process).map_err(failed)?;
    if !process.is_debuggable {
        // Where the system knows no such thing, it is as it was.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    if is_in_background {
        // It fails only where this leads a session already.
        let _ = rustix::process::setsid();
    }
    serve(configured, torrc.clone(), process, read).map_err(failed)
}

/// Whether it may open as many descriptors as it needs at least (`ConnLimit`).
fn check_descriptors(process: &Process) -> Result<(), Failure> {
    let (needed, most) = (process.descriptors_min, getrlimit(Resource::Nofile).maximum);
    match most.filter(|most| *most < needed) {
        None => Ok(()),
        Some(most) => fail(
            format!("{needed} descriptors are needed (ConnLimit), and {most} are the limit"),
            "this process",
            "raise it by ulimit -n, or say less",
        ),
    }
}

/// Whether this process is of the user whose it is to be.
pub(super) fn check_user(run: &Run<'_>, process: &Process) -> Result<(), Ended> {
    match &process.user {
        Some((user, problem)) if !is_user(user) => {
            Err(run.ended(Ended::config(vec![problem.clone()])))
        }
        _ => Ok(()),
    }
}

fn serve(
    configured: Configured,
    torrc: Torrc,
    process: &Process,
    read: &Read,
) -> Result<(), Failure> {
    let log = match &configured {
        Configured::Client(config) => &config.log,
        Configured::Relay(config, _) => &config.log,
        Configured::Authority(config) => &config.relay.log,
    };
    logs::start(log)?;
    for (_, note) in read.notes().filter(|(is_warning, _)| !is_warning) {
        tracing::debug!("{note}");
    }
    let number = process.pid_file.as_deref();
    let _number = number.map(PidFile::write).transpose()?;
    let sandbox = Sandbox {
        is_on: process.is_sandboxed,
        no_exec: process.no_exec,
    };
    sandbox.enter()?;
    let done = run_role(configured, torrc, process);
    // Standard output may be nobody's by now.
    if let Err(wrong) = &done {
        wrong.each().for_each(|one| tracing::error!("{one}"));
    }
    done
}

/// Runs the role that the torrc is of, until its end.
fn run_role(configured: Configured, torrc: Torrc, process: &Process) -> Result<(), Failure> {
    let launch = Launch {
        as_tor: true,
        owner: process.owner,
        leaves_signals: process.leaves_signals,
        ..Launch::default()
    };
    let rereads = process.rereads;
    match configured {
        Configured::Client(config) => {
            let by = Some(torrc.clone());
            let reread = reread(torrc, rereads, |configured| match configured {
                Configured::Client(config) => Some(*config),
                _ => None,
            });
            block_on(launch, |lifecycle| {
                let lifecycle = Lifecycle {
                    torrc: by,
                    ..lifecycle
                };
                roles::client::run(*config, reread, lifecycle, None)
            })
        }
        Configured::Relay(config, None) => {
            let reread = reread(torrc, rereads, |configured| match configured {
                Configured::Relay(config, None) => Some(*config),
                _ => None,
            });
            block_on(launch, |lifecycle| {
                roles::relay::run(*config, reread, lifecycle)
            })
        }
        Configured::Relay(relay, Some(client)) => {
            let by = torrc.clone();
            let of_relay = reread(torrc.clone(), rereads, |configured| match configured {
                Configured::Relay(relay, Some(_)) => Some(*relay),
                _ => None,
            });
            let of_client = reread(torrc, rereads, |configured| match configured {
                Configured::Relay(_, Some(client)) => Some(*client),
                _ => None,
            });
            block_on(launch, |lifecycle| {
                let lifecycle = Lifecycle {
                    torrc: Some(by),
                    ..lifecycle
                };
                let (relay, client) = ((*relay, of_relay), (*client, of_client));
                roles::relay_and_client::run(relay, client, lifecycle)
            })
        }
        Configured::Authority(config) => {
            let reread = reread(torrc, rereads, |configured| match configured {
                Configured::Authority(config) => Some(*config),
                _ => None,
            });
            block_on(launch, |lifecycle| {
                roles::authority::run(*config, reread, lifecycle)
            })
        }
    }
}

/// Reads the torrc again, which must be of the same role.
fn reread<T: 'static>(
    torrc: Torrc,
    rereads: bool,
    of_role: fn(Configured) -> Option<T>,
) -> Reread<T> {
    Box::new(move || {
        if !rereads {
            return fail("not read again", "torrc", "__ReloadTorrcOnSIGHUP is 0");
        }
        let read = torrc.read().map_err(|wrong| {
            let each = wrong.into_iter();
            let each = each.map(|one| Failure::new("wrong line", "torrc", one));
            Failure::several(each).unwrap_or_else(|| Failure::new("wrong", "torrc", "it is"))
        })?;
        let advice = "start anew for another role";
        let configured = of_role(read.configured()?);
        configured.ok_or_else(|| Failure::new("the role has changed", "torrc", advice))
    })
}

/// Starts the same in the background, and is over.
fn to_background(run: &Run<'_>, torrc: &Torrc) -> Result<(), Failure> {
    let wrong = |error| Failure::new("cannot go to the background", "this process", error);
    let program = std::env::current_exe().map_err(wrong)?;
    let is_tor = Path::new(run.program).file_name() == Some("tor".as_ref());
    let mut command = Command::new(program);
    if is_tor {
        command.arg0(run.program);
    } else {
        command.arg("tor");
    }
    let input = match &torrc.input {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    };
    command.args(run.words).env(BACKGROUND, "1").stdin(input);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(wrong)?;
    if let (Some(text), Some(mut stdin)) = (&torrc.input, child.stdin.take()) {
        use std::io::Write as _;
        stdin.write_all(text.as_bytes()).map_err(wrong)?;
    }
    let number = child.id();
    run.say(
        Level::INFO,
        &format!("In the background as process {number}."),
    );
    Ok(())
}

/// Whether this process is of a user of this name.
fn is_user(name: &str) -> bool {
    let own = rustix::process::geteuid().as_raw().to_string();
    let text = std::fs::read_to_string(PASSWD).unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name.trim()) && fields.nth(1) == Some(&own)
    })
}

/// A file with the number of this process; it ends with it.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &str) -> Result<Self, Failure> {
        let path = PathBuf::from(path);
        let number = format!("{}\n", std::process::id());
        crate::keyfiles::write_atomic(&path, number.as_bytes(), 0o644)?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told() {
        let process = |descriptors_min| Process {
            descriptors_min,
            ..Process::default()
        };
        assert!(check_descriptors(&process(1)).is_ok());
        let wrong = check_descriptors(&process(u64::MAX));
        let is_bounded = getrlimit(Resource::Nofile).maximum.is_some();
        assert_eq!(wrong.is_err(), is_bounded);
    }
}
