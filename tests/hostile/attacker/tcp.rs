//! TCP connections from an address of our choice, and a proxy that counts.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a connection, a read or a write may take.
pub(crate) const IO_MAX: Duration = Duration::from_secs(20);

/// Connects from an address.
pub(crate) fn dial(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    dial_with(from, to, None)
}

/// The same, with a small buffer for what comes in, so that not reading is felt soon.
pub(crate) fn dial_with(
    from: Ipv4Addr,
    to: SocketAddr,
    receive_buffer: Option<usize>,
) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), IO_MAX)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(IO_MAX))?;
    stream.set_write_timeout(Some(IO_MAX))?;
    Ok(stream)
}

/// Whether the other side has closed a connection on which nothing is to come.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match seen {
        Ok(len) => len == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// An address at which a connection is never answered: its backlog is full.
pub(crate) struct Blackhole {
    /// What to connect to.
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _fill: Vec<Socket>,
}

impl Blackhole {
    /// Listens at an address of its own and takes none.
    pub(crate) fn open(ip: Ipv4Addr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // In progress, and so it stays once the backlog is full.
            let _ = socket.connect(&addr.into());
            socket
        };
        Self {
            addr,
            _fill: (0..4).map(|_| fill()).collect(),
            _listener: listener,
        }
    }
}

/// A server that takes connections and reads nothing of them.
pub(crate) struct Unread {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    _stays: Sender<()>,
}

impl Unread {
    /// Listens at an address, until this is dropped and one more has come.
    pub(crate) fn listen(ip: Ipv4Addr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Small, and set before it listens, so that the other end is soon stuck.
        listener.set_recv_buffer_size(2048).unwrap();
        listener.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        listener.listen(200).unwrap();
        let listener = TcpListener::from(listener);
        let addr = listener.local_addr().unwrap();
        let (stays, is_over) = channel();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                held.push(stream);
                if is_over.try_recv() == Err(TryRecvError::Disconnected) {
                    break;
                }
            }
        });
        let _stays = stays;
        Self { addr, _stays }
    }
}

/// Carries bytes between whoever comes and a target, and counts them.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    carried: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens at an address; the threads live as long as their connections.
    pub(crate) fn open(ip: Ipv4Addr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicU64::new(0));
        let count = carried.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let ways = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (from, to) in ways {
                    let count = count.clone();
                    std::thread::spawn(move || carry(from, to, &count));
                }
            }
        });
        Self { addr, carried }
    }

    /// Bytes of both directions so far.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut block = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut block) {
        count.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&block[..len]).is_err() {
            break;
        }
    }
    // The other way ends by this, too.
    let _ = to.shutdown(std::net::Shutdown::Both);
}
