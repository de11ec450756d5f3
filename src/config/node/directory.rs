//! The table `[directory]`: what a relay serves of the directory, and to whom.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cepa_netdoc::policy::{AddrPolicy, PortRange};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::NodeTable;
use crate::config::metrics::any_port;
use crate::config::source::Source;
use crate::error::Failure;

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryTable {
    /// DirCache: whether the directory is cached and served; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_cache: Option<Spanned<bool>>,
    /// DirPolicy: who may come to the DirPort, lines of accept and reject; all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dir_policy: Vec<Spanned<String>>,
    /// DirPortFrontPage: a file of HTML that the DirPort shows to who asks for nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_port_front_page: Option<PathBuf>,
    /// MaxConsensusAgeForDiffs, in seconds: no differences are made from older consensuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_consensus_age_for_diffs: Option<u64>,
    /// MaxHSDirCacheBytes: bytes of descriptors of onion services; a fifth of the memory, and no
    /// more than 128 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hs_dir_cache_bytes: Option<u64>,
}

/// What is served of the directory, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryOptions {
    /// Whether the directory is cached and served.
    pub is_cache: bool,
    /// Who may come to the DirPort; none: all.
    pub policy: Option<AddrPolicy>,
    /// The page of the DirPort.
    pub front_page: Option<PathBuf>,
    /// No differences are made from consensuses that are older.
    pub diff_age_max: Option<Duration>,
    /// Bytes of descriptors of onion services.
    pub hs_len_max: Option<usize>,
}

impl DirectoryOptions {
    /// Whether somebody at this address may come to the DirPort.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| policy.allows(ip, PortRange::ALL.low))
    }
}

/// The table, checked.
pub(super) fn options(source: &Source, table: &NodeTable) -> Result<DirectoryOptions, Failure> {
    let directory = table.directory.clone().unwrap_or_default();
    if let Some(is_cache) = &directory.dir_cache {
        let is_bridge = table.bridge.as_ref().is_some_and(|is_on| *is_on.get_ref());
        let needs = is_bridge || table.dir_port.is_some() || table.authority.is_some();
        let expected = "true for a bridge, an authority, and whoever has a dir_port";
        source.expect(is_cache, "dir_cache", expected, |is_on| *is_on || !needs)?;
    }
    let mut rules = Vec::new();
    let expected = "accept or reject, then an address or a network, such as reject 192.0.2.0/24";
    for line in &directory.dir_policy {
        let read = AddrPolicy::parse_config([line.get_ref().as_str()]);
        let read = read.map_err(|_| source.wrong(line, "dir_policy", expected))?;
        rules.extend(read.rules().iter().map(any_port));
    }
    let policy = match directory.dir_policy.first() {
        None => None,
        Some(first) => {
            rules.push("accept *:*".to_owned());
            let all = AddrPolicy::parse_config(rules.iter().map(String::as_str));
            Some(all.map_err(|_| source.wrong(first, "dir_policy", "fewer rules"))?)
        }
    };
    let bytes = directory.max_hs_dir_cache_bytes.filter(|bytes| *bytes > 0);
    let age = directory.max_consensus_age_for_diffs;
    Ok(DirectoryOptions {
        is_cache: directory.dir_cache.is_none_or(Spanned::into_inner),
        policy,
        front_page: (directory.dir_port_front_page).map(|path| source.resolve(&path)),
        diff_age_max: age.filter(|secs| *secs > 0).map(Duration::from_secs),
        hs_len_max: bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const RELAY: &str = "nickname = \"relay1\"\nor_port = 5000\n\
        data_dir = \"d\"\nnetwork = \"network.toml\"\n";

    fn read(text: &str) -> Result<DirectoryOptions, Failure> {
        let source = Source::from_text(Path::new("/etc/relay.toml"), &format!("{RELAY}{text}"));
        options(&source, &source.parse().unwrap())
    }

    #[test]
    fn a_relay_serves_what_it_is_told_to() {
        let usual = read("").unwrap();
        assert!(usual.is_cache && usual.allows([192, 0, 2, 7].into()));
        let text = "[directory]\ndir_cache = false\ndir_policy = [\"reject 192.0.2.0/24\", \
            \"accept 192.0.2.0/23, reject *\"]\ndir_port_front_page = \"page.html\"\n\
            max_consensus_age_for_diffs = 7200\nmax_hs_dir_cache_bytes = 1000\n";
        let told = read(text).unwrap();
        assert!(!told.is_cache);
        for (ip, is_let_in) in [([192, 0, 2, 7], false), ([192, 0, 3, 7], true)] {
            assert_eq!(told.allows(ip.into()), is_let_in, "{ip:?}");
        }
        assert!(!told.allows([198, 51, 100, 1].into()));
        assert_eq!(
            told.front_page.as_deref(),
            Some(Path::new("/etc/page.html"))
        );
        assert_eq!(told.diff_age_max, Some(Duration::from_secs(7200)));
        assert_eq!(told.hs_len_max, Some(1000));
        assert!(read("dir_port = 1\n[directory]\ndir_cache = false\n").is_err());
        assert!(read("[directory]\ndir_policy = [\"allow *\"]\n").is_err());
    }
}
