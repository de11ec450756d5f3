//! What an operator changes while a relay runs.

use std::net::IpAddr;

use cepa_crypto::ed25519::ExpandedKeypair;

use super::Node;
use super::core::core_config;
use crate::clock;
use crate::config::written::Changes;
use crate::config::{BridgeConfig, DirectoryOptions, RelayConfig};
use crate::error::Failure;
use crate::logs;

/// The keys that take effect at a start only, those of an authority among them.
pub(in crate::roles) const FIXED: [&str; 35] = [
    "inline_network",
    "bridge",
    "server_transport_plugins",
    "server_transport_listen",
    "server_transport_options",
    "directory.dir_cache",
    "keys.offline_master_key",
    "ext_or_port",
    "ext_or_port_cookie_file",
    "ext_or_port_cookie_file_group_readable",
    "nickname",
    "address",
    "ipv6_address",
    "or_port",
    "dir_port",
    "listen",
    "data_dir",
    "network",
    "name_servers",
    "resolv_conf",
    "workers",
    "testing",
    "metrics",
    "control",
    "link_version",
    "protocols",
    "key_day_secs",
    "authority.voting_interval",
    "authority.vote_delay",
    "authority.dist_delay",
    "authority.intervals_valid",
    "authority.first_vote_after_relays",
    "authority.practice.testing_v3_auth_initial_vote_delay",
    "authority.practice.testing_v3_auth_initial_dist_delay",
    "authority.practice.testing_v3_auth_voting_start_offset",
];

impl Node {
    /// Takes what of another configuration can change while it runs.
    ///
    /// # Errors
    /// If something is wrong with it; then all stays as it was.
    pub(crate) fn reload(&mut self, next: RelayConfig) -> Result<Changes, Failure> {
        let config = with_fixed(next, &self.config);
        let before = self.relay.config();
        let core = core_config(&config, IpAddr::V4(*before.or_address.ip()))?;
        let publics = |keys: &[std::sync::Arc<ExpandedKeypair>]| -> Vec<_> {
            keys.iter().map(|key| key.public()).collect()
        };
        // What is not in the file itself: keys of families, addresses of this machine.
        let has_others =
            publics(&core.family_keys) != publics(&before.family_keys) || core.exit != before.exit;
        self.read_signing_key()?;
        self.resolver.set_options(config.dns)?;
        self.resolver.reload();
        self.directory.set_options(&config.directory);
        if let Some(workers) = &self.workers {
            workers.set_exit_from(&config.exit_from);
        }
        logs::change(&config.log)?;
        let mut written = std::mem::take(&mut self.config.written);
        let changes = written.read(&config.written, &FIXED);
        self.config = RelayConfig { written, ..config };
        self.pace.set(&self.config);
        // What changes the log alone is no reason to publish anew.
        let mut told = changes.now.iter();
        if has_others || told.any(|key| !key.starts_with("log.")) {
            self.relay.set_config(core, clock::now());
        }
        Ok(changes)
    }
}

/// The configuration with all that takes effect at a start only as it was at ours.
fn with_fixed(next: RelayConfig, ours: &RelayConfig) -> RelayConfig {
    RelayConfig {
        bridge: (ours.bridge.clone()).map(|bridge| BridgeConfig {
            distribution: next
                .bridge
                .map_or(bridge.distribution, |one| one.distribution),
            ..bridge
        }),
        ext_or: ours.ext_or.clone(),
        directory: DirectoryOptions {
            is_cache: ours.directory.is_cache,
            ..next.directory
        },
        is_master_offline: ours.is_master_offline,
        nickname: ours.nickname.clone(),
        address: ours.address,
        ipv6_address: ours.ipv6_address,
        or_port: ours.or_port,
        dir_port: ours.dir_port,
        listen: ours.listen,
        data_dir: ours.data_dir.clone(),
        network: ours.network.clone(),
        name_servers: ours.name_servers.clone(),
        resolv_conf: ours.resolv_conf.clone(),
        workers: ours.workers,
        testing: ours.testing,
        metrics: ours.metrics.clone(),
        link_versions: ours.link_versions,
        protocols: ours.protocols.clone(),
        key_day: ours.key_day,
        control: ours.control.clone(),
        ..next
    }
}
