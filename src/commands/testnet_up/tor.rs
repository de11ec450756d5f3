//! Nodes of a test network that run Debian's `tor`: their `torrc`, and what their log tells.
//!
//! The settings are what `tor` needs on loopback addresses, with intervals of seconds (those that
//! `TestingTorNetwork` implies are in docs/protocol.md section 8), and such as make it vote on what
//! ours votes on: Guard and HSDir for all, and the same parameters. A `tor` says nothing to a
//! launcher; its stages are read from its log at notice. Orphaned, it ends by itself.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use cepa_dir::DirRequest;
use cepa_netdoc::consensus::Flavour;
use cepa_testnet::{Plan, Role};

use super::bridges::Bridges;
use super::delay;
use super::planned::PlannedNode;
use crate::error::{Failure, fail};
use crate::launched::Stage;
use crate::network::{Network, export};
use crate::roles::fetch;

/// What all nodes have in their `torrc`.
const COMMON: &str = "\
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
ShutdownWaitLength 2
";

/// What authorities have, besides their intervals. All relays are as young as the network: by the
/// median of their uptimes half of them would not be Stable, and no guards of `tor`.
const AUTHORITY: &str = "\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
AuthDirVoteStableGuaranteeMinUptime 0
AuthDirVoteStableGuaranteeMTBF 0
AuthDirTestReachability 1
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
V3AuthNIntervalsValid 3
";

/// What exits have: all ports of all addresses, those of this machine among them.
const EXIT: &str = "\
ExitRelay 1
IPv6Exit 1
ExitPolicyRejectPrivate 0
";

/// What bridges have.
const BRIDGE: &str = "\
BridgeRelay 1
PublishServerDescriptor 0
ExitRelay 0
";

/// Whether the program can be run at all.
pub(super) fn check(program: &Path) -> Result<(), Failure> {
    let ran = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => fail("this is no tor", program.display(), output.status),
        Err(error) => fail(
            "cannot run tor",
            program.display(),
            format!("{error}; install it, or say where it is by --tor PATH"),
        ),
    }
}

/// The `torrc` of a node, which goes over these bridges if it is a client; `more` are lines of the
/// user's, with `{address}` for the node's own, and `{spare_port}`.
pub(super) fn torrc(
    plan: &Plan,
    planned: &PlannedNode,
    network: &Network,
    more: &str,
    bridges: Bridges<'_>,
) -> String {
    let node = &planned.node;
    let data_dir = export::quoted(&planned.folder);
    let mut text = export::torrc_network(network);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "Nickname {}\nDataDirectory {data_dir}", node.nickname);
    text.push_str(COMMON);
    match node.role {
        Role::Onion => text.push_str("Log [rend]info notice stdout\n"),
        _ => text.push_str("Log notice stdout\n"),
    }
    push_ports(&mut text, plan, planned);
    match node.role {
        Role::Authority => push_voting(&mut text, plan),
        Role::Relay => text.push_str("ExitRelay 0\n"),
        Role::Exit => text.push_str(EXIT),
        Role::Bridge => text.push_str(BRIDGE),
        Role::Client => push_bridges(&mut text, plan, bridges),
        Role::Onion => {
            let service = export::quoted(&planned.folder.join("service"));
            let page = plan.page();
            let _ = writeln!(
                text,
                "HiddenServiceDir {service}\nHiddenServicePort 80 {page}"
            );
        }
    }
    let address = node.or.map_or(Ipv4Addr::LOCALHOST.into(), |or| or.ip());
    let more = more.replace("{address}", &address.to_string());
    text.push_str(&more.replace("{spare_port}", &plan.spare_port().to_string()));
    // Last, so that the lines of the user can refuse what they want.
    match node.role {
        Role::Exit => text.push_str("ExitPolicy accept *:*\n"),
        Role::Authority | Role::Relay | Role::Bridge => text.push_str("ExitPolicy reject *:*\n"),
        Role::Client | Role::Onion => {}
    }
    text
}

fn push_ports(text: &mut String, plan: &Plan, planned: &PlannedNode) {
    let node = &planned.node;
    let ports = [("ORPort", node.or), ("DirPort", node.dir)];
    for (keyword, addr) in ports {
        let Some(addr) = addr else { continue };
        let _ = if plan.delay.is_zero() {
            writeln!(text, "{keyword} {addr}")
        } else {
            let behind = delay::behind(addr);
            writeln!(
                text,
                "{keyword} {addr} NoListen\n{keyword} {behind} NoAdvertise"
            )
        };
    }
    if let Some(or) = node.or {
        let ip = or.ip();
        let name = &node.nickname;
        let _ = writeln!(text, "Address {ip}\nContactInfo {name}@example.org");
    }
    let _ = match node.socks {
        Some(socks) => writeln!(text, "SocksPort {socks}"),
        None => writeln!(text, "SocksPort 0"),
    };
}

fn push_bridges(text: &mut String, plan: &Plan, bridges: Bridges<'_>) {
    if bridges.lines.is_empty() {
        return;
    }
    text.push_str("UseBridges 1\n");
    for line in bridges.lines {
        let _ = writeln!(text, "Bridge {line}");
    }
    for transport in &plan.transports {
        let line = bridges.programs.line(*transport, true);
        let _ = writeln!(text, "ClientTransportPlugin {line}");
    }
}

fn push_voting(text: &mut String, plan: &Plan) {
    text.push_str(AUTHORITY);
    let (interval, delay) = (plan.interval_secs, plan.vote_delay_secs());
    for (keyword, seconds) in [
        ("TestingV3AuthInitialVotingInterval", interval),
        ("TestingV3AuthInitialVoteDelay", delay),
        ("TestingV3AuthInitialDistDelay", delay),
        ("V3AuthVotingInterval", interval),
        ("V3AuthVoteDelay", delay),
        ("V3AuthDistDelay", delay),
    ] {
        let _ = writeln!(text, "{keyword} {seconds}");
    }
    let params = plan.params();
    let params: Vec<_> = params
        .iter()
        .map(|(name, n)| format!("{name}={n}"))
        .collect();
    let _ = writeln!(text, "ConsensusParams {}", params.join(" "));
}

/// What a line of a node's log tells; some lines are a reason to ask the node.
pub(super) async fn stage(line: &str, planned: &PlannedNode) -> Option<Stage> {
    let node = &planned.node;
    if let Some(percent) = bootstrapped(line) {
        return Some(Stage::Bootstrapped(percent));
    }
    match node.role {
        Role::Authority if line.contains(LISTENS) => Some(Stage::Listening),
        Role::Authority if line.contains(PUBLISHED) => {
            let request = DirRequest::Consensus {
                flavour: Flavour::Microdesc,
                signers: Vec::new(),
                diff_from: Vec::new(),
            };
            let reply = fetch::over_dir_port(node.dir?, &request).await;
            let text = String::from_utf8(reply.body).ok()?;
            let relays = text.lines().filter(|line| line.starts_with("r ")).count();
            Some(Stage::Consensus(relays))
        }
        Role::Bridge if line.contains(OR_LISTENS) => Some(Stage::BridgeLines(1)),
        Role::Onion if line.contains(UPLOADED) => {
            let hostname = planned.folder.join("service/hostname");
            let address = std::fs::read_to_string(hostname).ok()?;
            Some(Stage::OnionUp(address.trim().to_owned()))
        }
        _ => None,
    }
}

/// What an authority says when its last port is open.
const LISTENS: &str = "Opened Directory listener";
/// What a relay says when its port is open.
const OR_LISTENS: &str = "Opened OR listener connection (ready)";
/// What it says when a consensus is in force.
const PUBLISHED: &str = "Published microdesc consensus";
/// What a service says when a directory has taken its descriptor.
const UPLOADED: &str = "Uploading hidden service descriptor: finished with status 200";

fn bootstrapped(line: &str) -> Option<u8> {
    let (_, rest) = line.split_once("[notice] Bootstrapped ")?;
    rest.split_once('%')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_read() {
        let line = "Nov 21 09:30:00.000 [notice] Bootstrapped 45% (requesting_descriptors): Asking";
        assert_eq!(bootstrapped(line), Some(45));
        assert_eq!(bootstrapped("Nov 21 [notice] Bootstrapped early"), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = check(Path::new("/nowhere/tor")).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/tor") && error.contains("--tor"),
            "{error}"
        );
    }
}
