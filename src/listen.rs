//! Opens listening sockets, with errors that name the port and what to do.
//!
//! A process may be given sockets that are open already, in the way of systemd's socket units
//! (sd_listen_fds(3)): `LISTEN_FDS` says how many, from descriptor 3 on. One at the address that is
//! to be listened at is used as it is. So does `cepa testnet up` with its nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use command_fds::{CommandFdExt as _, FdMapping, FdMappingCollision};
use listenfd::ListenFd;
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::MetricsPort;
use crate::error::{Failure, fail};

/// Connections that may wait to be accepted, as many as tokio's own listeners let wait.
const WAITING_MAX: i32 = 1024;
/// The first descriptor that is given to a process besides its standard ones.
const FIRST_GIVEN: i32 = 3;

/// What this process was given and has not used yet.
static GIVEN: Mutex<BTreeMap<SocketAddr, StdTcpListener>> = Mutex::new(BTreeMap::new());

/// Takes what this process was given. To be called before it has threads and opens files.
pub fn take_given() {
    let mut all = ListenFd::from_env();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for place in 0..all.len() {
        // What is no listening socket of ours stays as it is.
        if let Ok(Some(listener)) = all.take_tcp_listener(place)
            && let Ok(addr) = listener.local_addr()
        {
            given.insert(addr, listener);
        }
    }
}

/// Gives listeners to the process that a command is to start.
pub fn give(
    command: &mut tokio::process::Command,
    listeners: Vec<StdTcpListener>,
) -> Result<(), FdMappingCollision> {
    command.env("LISTEN_FDS", listeners.len().to_string());
    // It goes to one process, whose number nobody knows yet.
    command.env_remove("LISTEN_PID");
    let mapping = |(child_fd, listener)| FdMapping {
        parent_fd: OwnedFd::from(listener),
        child_fd,
    };
    let mappings = (FIRST_GIVEN..).zip(listeners).map(mapping);
    command.fd_mappings(mappings.collect()).map(|_| ())
}

/// Listens on `addr` for a process that is yet to start.
pub fn hold(addr: SocketAddr) -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(addr)?;
    SockRef::from(&listener).listen(WAITING_MAX)?;
    Ok(listener)
}

/// The socket at an address that this process was given, if it was.
fn take(addr: SocketAddr) -> Option<StdTcpListener> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.remove(&addr)
}

/// Listens on `addr`. `purpose` is the setting that asked for it, such as `or_port`.
///
/// Must be called within a runtime.
pub async fn listen(addr: SocketAddr, purpose: &str) -> Result<TcpListener, Failure> {
    let listening = match take(addr) {
        Some(listener) => from_std(listener),
        None => TcpListener::bind(addr).await,
    };
    listening.map_err(|error| explain(addr, purpose, &error))
}

/// A listener of the runtime's of one that is open.
///
/// Must be called within a runtime.
pub fn from_std(listener: StdTcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Listens for who asks for metrics, if anybody may.
///
/// Must be called within a runtime.
pub async fn metrics(
    port: Option<MetricsPort>,
) -> Result<Option<(TcpListener, MetricsPort)>, Failure> {
    match port {
        Some(port) => Ok(Some((listen(port.addr, "metrics").await?, port))),
        None => Ok(None),
    }
}

/// A unix socket that is listened on; its file ends with it.
#[derive(Debug)]
pub struct OwnedSocket {
    /// What accepts.
    pub listener: UnixListener,
    /// The file.
    pub path: PathBuf,
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens on a unix socket with this mode. One that nobody listens on any more is replaced.
///
/// Must be called within a runtime.
pub fn listen_unix(path: &Path, mode: u32, purpose: &str) -> Result<OwnedSocket, Failure> {
    let place = format!("{purpose} unix:{}", path.display());
    let wrong = |error: io::Error| match error.kind() {
        ErrorKind::PermissionDenied => Failure::new(
            "not allowed to listen",
            &place,
            "choose a folder that this user may write to",
        ),
        _ => Failure::new("cannot listen", &place, error),
    };
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return fail("there is another file", &place, "choose another path");
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let advice = "stop the program that uses it or choose another";
            return fail("socket is taken", &place, advice);
        }
        _ => {}
    }
    // It has its mode before anybody finds it.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    let _ = std::fs::remove_file(fresh);
    let listener = UnixListener::bind(fresh).map_err(wrong)?;
    let mode = std::fs::Permissions::from_mode(mode);
    let named = std::fs::set_permissions(fresh, mode).and_then(|()| std::fs::rename(fresh, path));
    named.map_err(wrong)?;
    Ok(OwnedSocket {
        listener,
        path: path.to_owned(),
    })
}

/// Says, without keeping anything, whether `addr` could be listened on.
pub fn check_free(addr: SocketAddr, purpose: &str) -> Result<(), Failure> {
    match StdTcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(addr, purpose, &error)),
    }
}

/// What is wrong with a port at which somebody else listens.
pub const TAKEN: &str = "port is taken";

/// The error of a port that can't be listened at.
pub fn explain(addr: SocketAddr, purpose: &str, error: &io::Error) -> Failure {
    let place = format!("{purpose} {addr}");
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            TAKEN,
            place,
            "stop the program that uses it or choose another",
        ),
        ErrorKind::AddrNotAvailable => Failure::new(
            "address is not of this machine",
            place,
            "choose one of its addresses",
        ),
        ErrorKind::PermissionDenied => {
            Failure::new("not allowed to listen", place, "choose a port above 1023")
        }
        _ => Failure::new("cannot listen", place, error),
    }
}

/// The same, and says so by the kind of its port.
pub async fn listen_as(
    kind: &str,
    addr: SocketAddr,
    purpose: &str,
) -> Result<TcpListener, Failure> {
    let listener = listen(addr, purpose).await?;
    tell(kind, addr);
    Ok(listener)
}

/// Listens for IPv6 alone; none where it need not be, and cannot.
pub fn listen_v6(
    kind: &str,
    (addr, is_needed): (SocketAddr, bool),
    purpose: &str,
) -> Result<Option<TcpListener>, Failure> {
    let listening = || -> io::Result<TcpListener> {
        if let Some(listener) = take(addr) {
            return from_std(listener);
        }
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(WAITING_MAX)?;
        from_std(socket.into())
    };
    match listening() {
        Ok(listener) => {
            tell(kind, addr);
            Ok(Some(listener))
        }
        Err(error) if is_needed => Err(explain(addr, purpose, &error)),
        Err(error) => {
            tracing::debug!(%addr, %error, "not listened at");
            Ok(None)
        }
    }
}

/// Says, in words that programs wait for, that a port is open.
pub fn tell(kind: &str, place: impl fmt::Display) {
    tracing::info!("Opened {kind} listener connection (ready) on {place}");
}

/// Whether a connection was not accepted because this process or machine is out of descriptors or
/// memory: it waits in the kernel, and can be accepted when there are some again.
pub fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    wants
        .iter()
        .any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_and_replaces_one_that_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socks");
        for mode in [0o600, 0o660] {
            // Of a process that was killed.
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let socket = listen_unix(&path, mode, "socks").unwrap();
            let found = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
            let taken = listen_unix(&path, mode, "socks").unwrap_err();
            assert!(taken.to_string().contains("taken"), "{taken}");
            drop(socket);
            assert!(!path.exists());
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(listen_unix(&file, 0o600, "socks").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    }

    #[test]
    fn a_taken_port_is_named() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = holder.local_addr().unwrap();
        let text = check_free(addr, "socks").unwrap_err().to_string();
        assert!(
            text.contains(&addr.to_string()) && text.contains("taken"),
            "{text}"
        );
    }
}
