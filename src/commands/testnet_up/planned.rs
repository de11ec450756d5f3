//! A node of a test network: where its files lie, who it is, what it says last.

use std::path::{Path, PathBuf};

use cepa_crypto::RsaId;
use cepa_testnet::{Node, Program, Role};

use crate::keyfiles::relay::Identity;

/// The end of a log that is read for its last line, in bytes.
const LOG_TAIL_LEN: u64 = 4096;

/// A node with its files.
#[derive(Debug, Clone)]
pub(super) struct PlannedNode {
    /// What the plan says.
    pub(super) node: Node,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// Its log.
    pub(super) log: PathBuf,
    /// Its process, once it is started.
    pub(super) pid: Option<u32>,
    /// Who it is; clients are nobody.
    pub(super) ids: Option<Ids>,
    /// The address of its onion service, once that can be visited.
    pub(super) onion: Option<String>,
}

/// The identities of a relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    /// Those of its links and descriptor.
    pub(super) relay: Identity,
    /// Of an authority.
    pub(super) v3: Option<RsaId>,
}

impl PlannedNode {
    /// A node of the plan that has no files yet, with its folder in this one.
    pub(super) fn new(node: Node, folder: &Path) -> Self {
        let folder = folder.join(&node.nickname);
        let config = match node.program {
            Program::Cepa => "cepa.toml",
            Program::Tor => "torrc",
        };
        let (config, log) = (folder.join(config), folder.join("log"));
        Self {
            node,
            folder,
            config,
            log,
            pid: None,
            ids: None,
            onion: None,
        }
    }

    /// Whether it runs `tor`.
    pub(super) fn is_tor(&self) -> bool {
        self.node.program == Program::Tor
    }

    /// The subcommand that runs it, if it runs our program.
    pub(super) fn command(&self) -> &'static str {
        match self.node.role {
            Role::Authority => "authority",
            Role::Relay | Role::Exit | Role::Bridge => "relay",
            Role::Client | Role::Onion => "client",
        }
    }

    /// What its log says last.
    pub(super) fn last_log_line(&self) -> Option<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = std::fs::File::open(&self.log).ok()?;
        let len = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_LEN)))
            .ok()?;
        let mut tail = Vec::new();
        file.take(LOG_TAIL_LEN).read_to_end(&mut tail).ok()?;
        let tail = String::from_utf8_lossy(&tail);
        tail.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(str::to_owned)
    }
}
