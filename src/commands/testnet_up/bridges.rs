//! Bridges of a test network: the lines by which its clients reach them, and who speaks the
//! transports.
//!
//! Lines of transports are known once a bridge serves them; it writes them to a file of its own,
//! and says so. The clients of the network are configured and started then.

use std::path::{Path, PathBuf};

use cepa_testnet::{Plan, Role, Transport};

use super::planned::PlannedNode;
use crate::error::{Failure, fail};
use crate::roles::BRIDGE_LINES_FILE;

/// Programs that speak obfs4, the newest first.
const OBFS4: [&str; 2] = ["lyrebird", "obfs4proxy"];
/// The program by which clients of `tor` speak webtunnel.
const WEBTUNNEL: &str = "webtunnel-client";
/// Where Debian has them.
const FOLDERS: &str = "/usr/bin:/usr/sbin";

/// What clients go over.
#[derive(Clone, Copy)]
pub(super) struct Bridges<'a> {
    /// The lines; none: they go to relays themselves.
    pub(super) lines: &'a [String],
    /// Who speaks the transports.
    pub(super) programs: &'a Programs,
}

/// The programs of the transports, those that are needed.
#[derive(Debug, Default, Clone)]
pub(super) struct Programs {
    obfs4: Option<PathBuf>,
    webtunnel: Option<PathBuf>,
}

impl Programs {
    /// Finds the programs that a plan needs.
    pub(super) fn find(plan: &Plan) -> Result<Self, Failure> {
        let needs_obfs4 = plan.transports.contains(&Transport::Obfs4);
        let is_webtunnel = plan.transports.contains(&Transport::Webtunnel);
        let needs_webtunnel = is_webtunnel && plan.tor.clients > 0;
        let found = |names: &[&str], is_needed: bool| match find(names) {
            _ if !is_needed => Ok(None),
            Some(path) => Ok(Some(path)),
            None => {
                let names = names.join(" or ");
                fail(
                    "a transport has no program",
                    &names,
                    format!("install {names}"),
                )
            }
        };
        Ok(Programs {
            obfs4: found(&OBFS4, needs_obfs4)?,
            webtunnel: found(&[WEBTUNNEL], needs_webtunnel)?,
        })
    }

    /// The line that tells a node who speaks a transport; ours speak webtunnel themselves.
    pub(super) fn line(&self, transport: Transport, is_tor: bool) -> String {
        let program = match transport {
            Transport::Obfs4 => self.obfs4.as_deref(),
            Transport::Webtunnel => self.webtunnel.as_deref().filter(|_| is_tor),
        };
        let name = transport.name();
        match program {
            Some(program) => format!("{name} exec {}", program.display()),
            None => format!("{name} own"),
        }
    }
}

fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = || path.split(':').chain(FOLDERS.split(':'));
    let mut all = names
        .iter()
        .flat_map(|name| folders().map(move |folder| Path::new(folder).join(name)));
    all.find(|path| path.is_file())
}

/// The lines by which the clients reach the bridges: by transports where there are any.
pub(super) fn lines(plan: &Plan, nodes: &[PlannedNode]) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for bridge in nodes.iter().filter(|one| one.node.role == Role::Bridge) {
        if bridge.is_tor() {
            let (addr, ids) = (bridge.node.or, bridge.ids);
            let line = addr
                .zip(ids)
                .map(|(addr, ids)| format!("{addr} {}", ids.relay.rsa));
            lines.extend(line);
            continue;
        }
        let path = bridge.folder.join(BRIDGE_LINES_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new("no lines of a bridge", path.display(), error))?;
        let all = text.lines().filter_map(|line| line.strip_prefix("Bridge "));
        lines.extend(all.filter(|line| is_wanted(line, plan)).map(str::to_owned));
    }
    Ok(lines)
}

/// Whether a line is of the transports of a plan, or of none where it has none.
fn is_wanted(line: &str, plan: &Plan) -> bool {
    let first = line.split(' ').next();
    let mut transports = plan.transports.iter();
    let is_of_one = transports.any(|one| Some(one.name()) == first);
    is_of_one || plan.transports.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_transports_are_wanted() {
        let plan = |transports: &[Transport]| Plan {
            transports: transports.to_vec(),
            ..Plan::default()
        };
        let (plain, obfs4) = ("127.12.0.1:5000 AB", "obfs4 127.12.0.1:5004 AB cert=x");
        assert!(is_wanted(plain, &plan(&[])));
        let with = plan(&[Transport::Obfs4]);
        assert!(is_wanted(obfs4, &with) && !is_wanted(plain, &with));
        assert!(!is_wanted(obfs4, &plan(&[Transport::Webtunnel])));
    }

    #[test]
    fn a_transport_has_a_program_or_needs_none() {
        let programs = Programs {
            obfs4: Some("/usr/bin/lyrebird".into()),
            webtunnel: None,
        };
        let of = |transport| programs.line(transport, false);
        assert_eq!(of(Transport::Obfs4), "obfs4 exec /usr/bin/lyrebird");
        assert_eq!(of(Transport::Webtunnel), "webtunnel own");
    }
}
