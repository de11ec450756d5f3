//! The file of a node that says no more than it has to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::NodeTable;
use crate::config::source::LogTable;

impl NodeTable {
    /// A node of this name, port and folder, and defaults for all else; it has no network yet.
    pub fn bare(nickname: Spanned<String>, or_port: Spanned<u16>, data_dir: PathBuf) -> Self {
        NodeTable {
            nickname,
            contact: None,
            address: None,
            ipv6_address: None,
            or_port,
            dir_port: None,
            listen: None,
            listen_ipv6: None,
            data_dir,
            network: None,
            inline_network: None,
            exit_policy: Vec::new(),
            reduced_exit_policy: false,
            ipv6_exit: None,
            exit_policy_reject_private: None,
            exit_policy_reject_local_interfaces: false,
            reevaluate_exit_policy: false,
            name_servers: Vec::new(),
            resolv_conf: None,
            family: Vec::new(),
            family_keys: Vec::new(),
            bridge: None,
            bridge_distribution: None,
            server_transport_plugins: Vec::new(),
            server_transport_listen: Vec::new(),
            server_transport_options: Vec::new(),
            ext_or_port: Vec::new(),
            ext_or_port_cookie_file: None,
            ext_or_port_cookie_file_group_readable: false,
            bandwidth_rate: None,
            bandwidth_burst: None,
            relay_bandwidth_rate: None,
            relay_bandwidth_burst: None,
            max_advertised_bandwidth: None,
            accounting_max: None,
            accounting_start: None,
            accounting_rule: None,
            dos: BTreeMap::new(),
            publish_descriptor: None,
            refuse_unknown_exits: None,
            max_onion_queue_delay: None,
            outbound_bind_address_exit: Vec::new(),
            directory: None,
            dns: None,
            keys: None,
            workers: None,
            max_memory: None,
            testing: false,
            geoip: None,
            geoip6: None,
            metrics: None,
            metrics_policy: Vec::new(),
            link_version: None,
            protocols: None,
            key_day_secs: None,
            log: LogTable::default(),
            control: None,
            authority: None,
        }
    }
}
