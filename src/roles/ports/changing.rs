//! Ports for SOCKS and HTTP CONNECT while a client runs: what is asked for as before stays open,
//! the rest is opened or closed. Connections that stand stay.

use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::super::applications::Applications;
use super::super::{http_connect, socks};
use crate::config::{ClientConfig, Listener, UnixListener};
use crate::error::Failure;
use crate::listen::{self, OwnedSocket};

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Socks,
    HttpConnect,
}

/// A port that is served.
struct Served {
    purpose: Purpose,
    place: Place,
    task: AbortHandle,
}

enum Place {
    Tcp {
        /// What was asked for; its port may be 0, for one that is free.
        asked: Listener,
        /// Where that is.
        open: Listener,
        /// The same socket as the task's, so that another task can serve it by other rules.
        socket: StdTcpListener,
    },
    Unix(UnixListener),
}

/// What becomes of a port that is asked for.
enum Next {
    /// It is served already.
    Kept(usize),
    /// It is served already, by other rules.
    Taken(usize, StdTcpListener, Listener),
    Opened(StdTcpListener, Listener),
    OpenedUnix(OwnedSocket, UnixListener),
}

/// The ports that may change.
#[derive(Default)]
pub(crate) struct Changing {
    served: Vec<Served>,
    /// Tells unix sockets apart.
    number: u32,
}

impl Purpose {
    pub(super) fn key(self) -> &'static str {
        match self {
            Purpose::Socks => "socks",
            Purpose::HttpConnect => "http_connect",
        }
    }
}

impl Changing {
    /// Serves a port that is open.
    pub(super) fn serve(
        &mut self,
        purpose: Purpose,
        (listener, asked, open): (TcpListener, Listener, Listener),
        all: &Rc<Applications>,
    ) {
        let Ok(socket) = SockRef::from(&listener).try_clone() else {
            tracing::warn!("no descriptor is left for a port");
            return;
        };
        let place = Place::Tcp {
            asked,
            open,
            socket: socket.into(),
        };
        let all = Rc::clone(all);
        let key = purpose.key();
        let task = match purpose {
            Purpose::Socks => {
                tokio::task::spawn_local(all.accept((listener, open), key, socks::serve))
            }
            Purpose::HttpConnect => {
                tokio::task::spawn_local(all.accept((listener, open), key, http_connect::serve))
            }
        };
        let task = task.abort_handle();
        self.served.push(Served {
            purpose,
            place,
            task,
        });
    }

    /// The same of a unix socket.
    pub(super) fn serve_unix(
        &mut self,
        purpose: Purpose,
        (socket, asked): (OwnedSocket, UnixListener),
        all: &Rc<Applications>,
    ) {
        let port = asked.as_port(self.number);
        self.number = self.number.wrapping_add(1);
        let (all, key) = (Rc::clone(all), purpose.key());
        let task = match purpose {
            Purpose::Socks => {
                tokio::task::spawn_local(all.accept_unix((socket, port), key, socks::serve))
            }
            Purpose::HttpConnect => {
                tokio::task::spawn_local(all.accept_unix((socket, port), key, http_connect::serve))
            }
        };
        self.served.push(Served {
            purpose,
            place: Place::Unix(asked),
            task: task.abort_handle(),
        });
    }

    /// Opens and closes, so that there is what this configuration asks for, which has from then on
    /// the ports that were free.
    ///
    /// # Errors
    /// If one cannot be opened; then all stays as it was.
    pub(crate) fn change(
        &mut self,
        config: &mut ClientConfig,
        all: &Rc<Applications>,
    ) -> Result<(), Failure> {
        let mut plan: Vec<(Purpose, Next)> = Vec::new();
        for (purpose, ports) in [
            (Purpose::Socks, &config.socks),
            (Purpose::HttpConnect, &config.http_connect),
        ] {
            for asked in ports {
                let next = self.next(purpose, asked, &plan)?;
                plan.push((purpose, next));
            }
        }
        for (purpose, sockets) in [
            (Purpose::Socks, &config.socks_unix),
            (Purpose::HttpConnect, &config.http_connect_unix),
        ] {
            for asked in sockets {
                let next = self.next_unix(purpose, asked, &plan)?;
                plan.push((purpose, next));
            }
        }
        self.take(plan, all);
        config.socks = self.open(Purpose::Socks);
        config.http_connect = self.open(Purpose::HttpConnect);
        Ok(())
    }

    /// The places of TCP ports, as they are open.
    fn open(&self, of: Purpose) -> Vec<Listener> {
        let served = self.served.iter().filter(|one| one.purpose == of);
        let open = served.filter_map(|one| match &one.place {
            Place::Tcp { open, .. } => Some(*open),
            Place::Unix(_) => None,
        });
        open.collect()
    }

    /// The first port that is served, is not spoken for, and is so.
    fn find(&self, plan: &[(Purpose, Next)], is_so: impl Fn(&Served) -> bool) -> Option<usize> {
        let is_free = |place: usize| {
            let mut plan = plan.iter();
            !plan.any(|(_, next)| match next {
                Next::Kept(other) | Next::Taken(other, ..) => *other == place,
                _ => false,
            })
        };
        let mut served = self.served.iter().enumerate();
        let found = served.find(|(place, one)| is_free(*place) && is_so(one));
        found.map(|(place, _)| place)
    }

    fn next(
        &self,
        purpose: Purpose,
        wanted: &Listener,
        plan: &[(Purpose, Next)],
    ) -> Result<Next, Failure> {
        let is_same = |one: &Served| {
            let is_it = matches!(&one.place, Place::Tcp { asked, open, .. }
                if asked == wanted || open == wanted);
            one.purpose == purpose && is_it
        };
        if let Some(place) = self.find(plan, is_same) {
            return Ok(Next::Kept(place));
        }
        let is_there = |one: &Served| match &one.place {
            Place::Tcp { open, .. } => open.addr == wanted.addr,
            Place::Unix(_) => false,
        };
        let explain = |error: std::io::Error| listen::explain(wanted.addr, purpose.key(), &error);
        if let Some(place) = self.find(plan, is_there)
            && let Some(Place::Tcp { socket, .. }) = self.served.get(place).map(|one| &one.place)
        {
            let socket = socket.try_clone().map_err(explain)?;
            return Ok(Next::Taken(place, socket, *wanted));
        }
        let socket = listen::hold(wanted.addr).map_err(explain)?;
        Ok(Next::Opened(socket, *wanted))
    }

    fn next_unix(
        &self,
        purpose: Purpose,
        wanted: &UnixListener,
        plan: &[(Purpose, Next)],
    ) -> Result<Next, Failure> {
        let is_same = |one: &Served| {
            let is_it = matches!(&one.place, Place::Unix(asked) if asked == wanted);
            one.purpose == purpose && is_it
        };
        if let Some(place) = self.find(plan, is_same) {
            return Ok(Next::Kept(place));
        }
        let socket = listen::listen_unix(&wanted.path, wanted.mode, purpose.key())?;
        Ok(Next::OpenedUnix(socket, wanted.clone()))
    }

    /// Has what was planned come to be; what nobody asks for is closed.
    fn take(&mut self, plan: Vec<(Purpose, Next)>, all: &Rc<Applications>) {
        let mut before: Vec<_> = self.served.drain(..).map(Some).collect();
        for (purpose, next) in plan {
            match next {
                Next::Kept(place) => {
                    self.served
                        .extend(before.get_mut(place).and_then(Option::take));
                }
                Next::Taken(_, socket, wanted) | Next::Opened(socket, wanted) => {
                    match listen::from_std(socket) {
                        Ok(listener) => {
                            let addr = listener.local_addr().unwrap_or(wanted.addr);
                            let open = Listener { addr, ..wanted };
                            listen::tell(super::called(purpose.key()), addr);
                            self.serve(purpose, (listener, wanted, open), all);
                        }
                        Err(error) => tracing::error!(%error, "a port is not served"),
                    }
                }
                Next::OpenedUnix(socket, wanted) => {
                    listen::tell(super::called(purpose.key()), wanted.path.display());
                    self.serve_unix(purpose, (socket, wanted), all);
                }
            }
        }
        before
            .into_iter()
            .flatten()
            .for_each(|one| one.task.abort());
    }
}
