//! What a running node tells of itself: the socket `status.sock` in its data folder, and metrics.
//!
//! HTTP over a unix socket that only its user reaches: `GET /onion` (and `/onion?probe`) answers
//! [`Vec<OnionStatus>`] as JSON (of a client), `GET /metrics` the text format of Prometheus, with
//! the names that `tor`'s MetricsPort has. The commands `cepa onion status` and others ask here, so
//! what they say comes from the process itself.

mod ask;
mod load;
pub mod metrics;
pub mod relay;
mod serve;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use ask::ask;
pub use serve::{Query, Sockets};

/// The name of the socket in a data folder.
pub const SOCKET: &str = "status.sock";

/// Most bytes of the path by which a socket is bound or connected to (`sun_path`, without its 0).
const SOCKET_PATH_MAX: usize = 107;

/// A path to the socket in a data folder, and what keeps that path good. A folder whose own path is
/// too long for sockets is opened, and goes by its number.
fn socket_in(folder: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((path, None));
    }
    let open = File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string());
    Ok((path.join(SOCKET), Some(open)))
}

/// How a hosted onion service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnionStatus {
    /// Its address, `.onion` included.
    pub address: String,
    /// Whether its descriptors have stood where visitors look.
    pub published: bool,
    /// What a visit of our own came to; none was made without it.
    pub probe: Option<Probe>,
    /// Its descriptors.
    pub descriptors: Vec<Descriptor>,
    /// Its introduction points.
    pub intro_points: Vec<IntroPoint>,
    /// Introductions that came, and those that were dropped, by reason.
    pub introductions: u64,
    /// Introductions that were dropped.
    pub dropped: Vec<(String, u64)>,
    /// Visitors now.
    pub visitors: u64,
    /// Visitors in all.
    pub visitors_total: u64,
    /// Visitors who were not met.
    pub not_met: u64,
}

/// A visit of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Whether a stream to the first port was opened.
    pub reached: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why the service was not reached.
    pub error: Option<String>,
}

/// A descriptor and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The number of its time period.
    pub period: u64,
    /// Its revision counter.
    pub revision: Option<u64>,
    /// Seconds until it is made anew.
    pub next_upload_secs: Option<u64>,
    /// The directories that are responsible for it.
    pub hsdirs: Vec<HsDir>,
}

/// A directory of onion services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HsDir {
    /// Its RSA identity.
    pub relay: String,
    /// The revision that it took.
    pub revision: Option<u64>,
    /// How many seconds ago the directory took it.
    pub since_secs: Option<u64>,
    /// Uploads that failed since.
    pub failures: u32,
}

/// An introduction point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntroPoint {
    /// Its RSA identity.
    pub relay: String,
    /// `connecting`, `standing` or `retiring`.
    pub state: String,
    /// For how many seconds the point has stood.
    pub since_secs: Option<u64>,
    /// Introductions that came by it.
    pub introductions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_may_be_deep_down() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        for folder in [dir.path(), &deep] {
            let (path, _open) = socket_in(folder).unwrap();
            let _listener = UnixListener::bind(path).unwrap();
            assert!(folder.join(SOCKET).exists());
            let (path, _open) = socket_in(folder).unwrap();
            UnixStream::connect(path).unwrap();
        }
    }
}
