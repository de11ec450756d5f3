//! The files of a test network: keys, configurations, and what a client of each kind needs.
//!
//! Keys are made once and then kept, so that a folder started again is the same network. A node's
//! folder has its name; its configuration is `cepa.toml` there, its log `log`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cepa_crypto::encoding::hex_lower;
use cepa_crypto::{Rng, RsaId};
use cepa_dir::DirAuthority;
use cepa_testnet::{NodeSummary, Plan, Role, Summary, Transport};
use toml::Spanned;

use super::bridges::{self, Bridges, Programs};
use super::planned::{Ids, PlannedNode};
use super::{delay, tor};
use crate::clock;
use crate::config::Level;
use crate::config::client::ClientTable;
use crate::config::node::{AuthorityTable, NodeTable};
use crate::config::onion::OnionServiceTable;
use crate::config::source::{LogTable, unplaced};
use crate::error::{Failure, fail};
use crate::folder::make_private;
use crate::keyfiles::authority::{self, CertificateTerms, KeyPaths, KeySizes};
use crate::keyfiles::relay::load_or_make;
use crate::keyfiles::write_atomic;
use crate::network::{Network, export};

/// The keys of test authorities are as small as peers take: they are made while one waits.
const KEY_SIZES: KeySizes = KeySizes {
    identity: 1024,
    signing: 1024,
};
/// The lines of all bridges.
const BRIDGES_FILE: &str = "bridges";
/// How long their certificates are good.
const MONTHS: u16 = 12;

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The folder, absolute.
    pub(super) folder: PathBuf,
    /// The nodes, in the order of the plan.
    pub(super) nodes: Vec<PlannedNode>,
    /// The first of their ports.
    base_port: u16,
}

impl Written {
    /// The onion services that can be visited.
    pub(super) fn onions(&self) -> Vec<String> {
        self.nodes
            .iter()
            .filter_map(|node| node.onion.clone())
            .collect()
    }

    /// An onion service of a node can be visited: `testnet.json` names it from now on.
    pub(super) fn onion_up(&mut self, node: usize, address: String) -> Result<(), Failure> {
        match self.nodes.get_mut(node) {
            Some(node) if node.onion.is_none() => node.onion = Some(address),
            _ => return Ok(()),
        }
        self.write_summary()
    }

    /// Writes `testnet.json`.
    pub(super) fn write_summary(&self) -> Result<(), Failure> {
        let node = |node: &PlannedNode| NodeSummary {
            role: node.node.role.name().to_owned(),
            program: node.node.program.name().to_owned(),
            nickname: node.node.nickname.clone(),
            rsa: node.ids.map(|ids| ids.relay.rsa.to_string()),
            ed25519: node.ids.map(|ids| ids.relay.ed25519.to_string()),
            or: node.node.or,
            dir: node.node.dir,
            pid: node.pid,
            log: node.log.clone(),
            config: node.config.clone(),
        };
        let summary = Summary {
            socks: self
                .nodes
                .iter()
                .filter_map(|node| node.node.socks)
                .collect(),
            onions: self.onions(),
            network: self.folder.join("network.toml"),
            nodes: self.nodes.iter().map(node).collect(),
            base_port: self.base_port,
        };
        let path = self.folder.join("testnet.json");
        match serde_json::to_string_pretty(&summary) {
            Ok(text) => write_atomic(&path, format!("{text}\n").as_bytes(), 0o644),
            Err(error) => fail("cannot write this file", path.display(), error),
        }
    }
}

/// What nodes are told besides their plan.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Further lines for the `torrc` of each `tor`.
    pub(super) torrc: String,
    /// What ours log.
    pub(super) level: Level,
    /// Who speaks the transports of bridges.
    pub(super) programs: Programs,
}

/// Writes all files of a plan into a folder.
pub(super) fn write(plan: &Plan, folder: &Path, settings: &Settings) -> Result<Written, Failure> {
    let folder = std::fs::canonicalize(folder)
        .map_err(|error| Failure::new("cannot find this folder", folder.display(), error))?;
    let nodes = plan
        .nodes()
        .into_iter()
        .map(|node| PlannedNode::new(node, &folder))
        .collect();
    let mut written = Written {
        folder,
        nodes,
        base_port: plan.base_port,
    };
    make_keys(&mut written.nodes)?;
    let network = network(&written.nodes, plan)?;
    let folder = &written.folder;
    let put = |name: &str, text: String| write_atomic(&folder.join(name), text.as_bytes(), 0o644);
    put("network.toml", network.encode())?;
    put(
        "torrc",
        export::torrc(&network, &folder.join("tor-client"), plan.tor_socks()),
    )?;
    put(
        "arti.toml",
        export::arti(&network, &folder.join("arti-client"), plan.arti_socks()),
    )?;
    let all = |_: &PlannedNode| true;
    written.write_configs(plan, &network, settings, &[], all)?;
    written.write_summary()?;
    Ok(written)
}

impl Written {
    /// Writes the configurations of some nodes, of which clients go over these bridges.
    fn write_configs(
        &self,
        plan: &Plan,
        network: &Network,
        settings: &Settings,
        lines: &[String],
        is_wanted: impl Fn(&PlannedNode) -> bool,
    ) -> Result<(), Failure> {
        let bridges = Bridges {
            lines,
            programs: &settings.programs,
        };
        for node in self.nodes.iter().filter(|node| is_wanted(node)) {
            if node.is_tor() {
                let text = tor::torrc(plan, node, network, &settings.torrc, bridges);
                write_atomic(&node.config, text.as_bytes(), 0o600)?;
            } else {
                let file = self.folder.join("network.toml");
                write_config(plan, node, &file, (settings.level, bridges))?;
            }
        }
        Ok(())
    }

    /// The bridges serve: the clients go over them, and their lines are in a file.
    pub(super) fn bridges_up(&self, plan: &Plan, settings: &Settings) -> Result<(), Failure> {
        let lines = bridges::lines(plan, &self.nodes)?;
        let text: String = lines
            .iter()
            .map(|line| format!("Bridge {line}\n"))
            .collect();
        write_atomic(&self.folder.join(BRIDGES_FILE), text.as_bytes(), 0o600)?;
        let network = network(&self.nodes, plan)?;
        let is_client = |node: &PlannedNode| node.node.role == Role::Client;
        self.write_configs(plan, &network, settings, &lines, is_client)
    }
}

/// Makes the keys that are not there yet, on every core.
fn make_keys(nodes: &mut [PlannedNode]) -> Result<(), Failure> {
    let mut rng = clock::rng()?;
    let jobs: Vec<_> = nodes.iter_mut().map(|node| (node, rng.fork())).collect();
    let jobs = Mutex::new(jobs.into_iter());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || -> Result<(), Failure> {
            // A poisoned lock: another thread has panicked, and so does the scope.
            while let Some((node, mut rng)) = jobs.lock().ok().and_then(|mut jobs| jobs.next()) {
                make_node_keys(node, &mut rng)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

fn make_node_keys(planned: &mut PlannedNode, rng: &mut Rng) -> Result<(), Failure> {
    make_private(&planned.folder)?;
    if !planned.node.role.is_relay() {
        return Ok(());
    }
    let keys = planned.folder.join("keys");
    make_private(&keys)?;
    let relay = load_or_make(&planned.folder, &planned.node.nickname, rng)?;
    let v3 = match planned.node.dir {
        Some(dir) => Some(authority_identity(&keys, dir, rng)?),
        None => None,
    };
    planned.ids = Some(Ids { relay, v3 });
    Ok(())
}

/// The v3 identity of an authority, whose keys are made or renewed if need be.
fn authority_identity(keys: &Path, dir: SocketAddr, rng: &mut Rng) -> Result<RsaId, Failure> {
    let now = clock::now();
    if authority::certified_identity(keys)?.is_some()
        && let Ok(loaded) = authority::load(keys, now)
    {
        return Ok(loaded.certificate.identity);
    }
    let address = match dir {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    };
    let terms = CertificateTerms {
        address,
        months: MONTHS,
        sizes: KEY_SIZES,
        reuse: false,
        create_identity: false,
        under_passphrase: false,
    };
    let mut ask = || {
        let shown = keys.display();
        fail(
            "an identity key is under a passphrase",
            shown,
            "take it off",
        )
    };
    authority::make(&KeyPaths::within(keys), terms, &mut ask, now, rng)
}

fn network(nodes: &[PlannedNode], plan: &Plan) -> Result<Network, Failure> {
    let ipv4 = |address: SocketAddr| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    };
    let authority = |planned: &PlannedNode| {
        let ids = planned.ids?;
        Some(DirAuthority {
            nickname: planned.node.nickname.clone(),
            v3_identity: ids.v3?,
            rsa_id: ids.relay.rsa,
            ed25519_id: Some(ids.relay.ed25519),
            dir_addr: ipv4(planned.node.dir?)?,
            or_addr: ipv4(planned.node.or?)?,
            or_addr_v6: None,
        })
    };
    let authorities = nodes.iter().filter_map(authority).collect();
    Ok(Network {
        authorities,
        fallbacks: Vec::new(),
        testing: true,
        shared_subnets: plan.shared_subnets,
    })
}

fn write_config(
    plan: &Plan,
    planned: &PlannedNode,
    network: &Path,
    (level, bridges): (Level, Bridges<'_>),
) -> Result<(), Failure> {
    let log = LogTable {
        level,
        file: Some(planned.log.clone()),
        ..LogTable::default()
    };
    let text = match planned.node.or {
        Some(or) => {
            let table = node_table(plan, planned, or, network, log);
            toml::to_string(&bridge_table(plan, planned, bridges.programs, table)?)
        }
        None => toml::to_string(&ClientTable {
            bridges: bridges.lines.iter().cloned().map(unplaced).collect(),
            transport_plugins: transport_plugins(plan, bridges),
            socks: (planned.node.socks).map(|addr| vec![unplaced(addr.to_string())]),
            data_dir: Some(planned.folder.clone()),
            log,
            onion_service: onion_service(plan, planned).into_iter().collect(),
            ..ClientTable::new(network.to_owned())
        }),
    };
    match text {
        Ok(text) => write_atomic(&planned.config, text.as_bytes(), 0o600),
        Err(error) => fail("cannot write this file", planned.config.display(), error),
    }
}

/// Who speaks the transports of these bridges, for a client of ours, which speaks webtunnel itself.
fn transport_plugins(plan: &Plan, bridges: Bridges<'_>) -> Vec<Spanned<String>> {
    let transports = plan.transports.iter().filter(|_| !bridges.lines.is_empty());
    let others = transports.filter(|one| **one != Transport::Webtunnel);
    let lines = others.map(|one| unplaced(bridges.programs.line(*one, false)));
    lines.collect()
}

/// What a bridge has besides.
fn bridge_table(
    plan: &Plan,
    planned: &PlannedNode,
    programs: &Programs,
    table: NodeTable,
) -> Result<NodeTable, Failure> {
    if planned.node.role != Role::Bridge {
        return Ok(table);
    }
    let (mut plugins, mut listen, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for transport in &plan.transports {
        let Some(at) = plan.transport_at(&planned.node, *transport) else {
            continue;
        };
        let name = transport.name();
        plugins.push(unplaced(programs.line(*transport, false)));
        listen.push(unplaced(format!("{name} {at}")));
        if *transport == Transport::Webtunnel {
            // Behind no web site: it is one itself, in clear, at a path that nobody guesses.
            let secret = hex_lower(&clock::rng()?.array::<16>());
            options.push(unplaced(format!("{name} url=http://{at}/{secret}")));
        }
    }
    Ok(NodeTable {
        bridge: Some(unplaced(true)),
        server_transport_plugins: plugins,
        server_transport_listen: listen,
        server_transport_options: options,
        ..table
    })
}

/// The service of a node that hosts one: it shows the page.
fn onion_service(plan: &Plan, planned: &PlannedNode) -> Option<OnionServiceTable> {
    let ports = vec![unplaced(format!("80={}", plan.page()))];
    (planned.node.role == Role::Onion)
        .then(|| OnionServiceTable::new(planned.folder.join("service"), ports))
}

fn node_table(
    plan: &Plan,
    planned: &PlannedNode,
    or: SocketAddr,
    network: &Path,
    log: LogTable,
) -> NodeTable {
    let node = &planned.node;
    let is_exit = node.role == Role::Exit;
    let nickname = unplaced(node.nickname.clone());
    NodeTable {
        contact: Some(unplaced(format!("{}@example.org", node.nickname))),
        address: Some(unplaced::<IpAddr>(or.ip())),
        dir_port: node.dir.map(|dir| unplaced(dir.port())),
        listen: (!plan.delay.is_zero()).then(|| delay::behind(or).ip()),
        network: Some(network.to_owned()),
        exit_policy: is_exit
            .then(|| unplaced("accept *:*".to_owned()))
            .into_iter()
            .collect(),
        // What the public network refuses, and this one is for: pages of this machine.
        ipv6_exit: is_exit.then_some(true),
        exit_policy_reject_private: is_exit.then_some(false),
        workers: Some(unplaced(1)),
        // All nodes share one machine.
        max_memory: Some(unplaced(MEMORY_BYTES)),
        testing: true,
        log,
        authority: (node.role == Role::Authority).then(|| authority_table(plan)),
        ..NodeTable::bare(nickname, unplaced(or.port()), planned.folder.clone())
    }
}

/// `max_memory` of each node.
const MEMORY_BYTES: u64 = 256 << 20;

/// The `tor` that this program was tested with. Some parsers want a consensus to recommend one.
const PEER_VERSION: &str = "0.4.9.11";

fn authority_table(plan: &Plan) -> AuthorityTable {
    let params: Vec<(String, Spanned<i32>)> = plan
        .params()
        .into_iter()
        .map(|(name, value)| (name, unplaced(value)))
        .collect();
    AuthorityTable {
        voting_interval: Some(unplaced(plan.interval_secs)),
        vote_delay: Some(unplaced(plan.vote_delay_secs())),
        dist_delay: Some(unplaced(plan.vote_delay_secs())),
        // The authorities of `tor` know no round but those of the grid.
        first_vote_after_relays: (plan.tor.authorities == 0)
            .then(|| unplaced(plan.relays_in_all())),
        params: params.into_iter().collect(),
        recommended_versions: Some(unplaced(PEER_VERSION.to_owned())),
        ..AuthorityTable::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load_authority, load_client, load_relay};
    use cepa_netdoc::policy::AddrPolicy;
    use cepa_testnet::Counts;

    #[test]
    fn a_folder_keeps_its_identities_and_its_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Counts {
            authorities: 1,
            relays: 1,
            exits: 1,
            bridges: 0,
            clients: 1,
            onion_services: 0,
        };
        let plan = Plan {
            ours,
            ..Plan::default()
        };
        let first = write(&plan, dir.path(), &Settings::default()).unwrap();
        let second = write(&plan, dir.path(), &Settings::default()).unwrap();
        let ids = |written: &Written| -> Vec<_> {
            let ids = written.nodes.iter().filter_map(|node| node.ids);
            ids.map(|ids| (ids.relay.rsa, ids.relay.ed25519, ids.v3))
                .collect()
        };
        assert_eq!(ids(&first).len(), 3);
        assert_eq!(ids(&first), ids(&second));
        let network = Network::load(&dir.path().join("network.toml")).unwrap();
        assert_eq!(Some(network.authorities[0].v3_identity), ids(&first)[0].2);
        let authority = load_authority(&first.nodes[0].config).unwrap();
        assert_eq!(authority.voting_interval_secs, 20);
        assert_eq!(authority.first_vote_after_relays, Some(3));
        let options = |node: usize| load_relay(&first.nodes[node].config).unwrap().exit;
        assert!(options(1).rules.rules().is_empty());
        let all = AddrPolicy::parse_config(["accept *:*"]).unwrap();
        assert!(options(2).rules == all && !options(2).reject_private);
        let text = std::fs::read_to_string(&first.nodes[2].config).unwrap();
        assert!(
            text.contains("exit_policy_reject_private = false"),
            "{text}"
        );
        let client = load_client(&first.nodes[3].config).unwrap();
        assert_eq!(client.socks[0].addr, "127.0.0.1:5050".parse().unwrap());
        assert!(dir.path().join("testnet.json").exists());
    }
}
