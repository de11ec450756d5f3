//! The programs that speak pluggable transports: started, listened to, started again when they die,
//! and ended (pt-spec 3).
//!
//! ```text
//! start ─▶ Starting ─METHODS DONE─▶ Serving ─it dies─▶ Down ─later each time─▶ Starting
//! ```
//!
//! A program ends when its standard input is closed, and so with this process, however that ends.
//! If it does not, it is asked, and then killed, with its whole process group. What it writes is
//! bounded by the line and by the second; its last lines are told when it dies. One transport needs
//! no program: [`webtunnel`].

mod program;
pub(crate) mod webtunnel;

use std::path::Path;
use std::time::Duration;

use cepa_control::Event;
use cepa_pt::{End, Method, Speaker, TransportName, TransportPlugin, Variables};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use program::Program;

/// How long somebody waits for a program that is starting.
const READY_MAX: Duration = Duration::from_secs(60);

/// How a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not said yet how it serves.
    Starting,
    /// It serves, each transport so.
    Serving(std::collections::BTreeMap<TransportName, Method>),
    /// It is not there, and why.
    Down(String),
}

impl State {
    /// Where transports listen, for the controllers of this process.
    pub(crate) fn launched(&self) -> impl Iterator<Item = Event> + use<> {
        let methods = match self {
            State::Serving(methods) => methods.clone(),
            State::Starting | State::Down(_) => std::collections::BTreeMap::new(),
        };
        methods.into_iter().filter_map(|(name, method)| {
            let (is_server, address) = match method {
                Method::Client(_, address) => (false, address),
                Method::Server(address, _) => (true, address),
                Method::Failed(_) => return None,
            };
            Some(Event::TransportLaunched {
                is_server,
                name: name.to_string(),
                address,
            })
        })
    }
}

/// Why a transport cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportError {
    /// Nobody speaks it.
    #[error("no program is named for the transport {0}")]
    Unknown(TransportName),
    /// The program is not there, or cannot serve it.
    #[error("the transport {0} is not there: {1}")]
    Down(TransportName, String),
    /// What speaks it does not serve clients.
    #[error("the transport of a bridge cannot be used")]
    Unusable,
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) plugin: TransportPlugin,
    pub(crate) end: End,
    /// Its environment, beside that of this process.
    pub(crate) variables: Variables,
    /// Of a bridge's transport that needs no program: how it serves.
    pub(crate) own: Option<webtunnel::Door>,
}

/// A program that is kept running.
struct Running {
    wanted: Wanted,
    state: watch::Receiver<State>,
    /// Dropped, it ends the program.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// Who speaks a transport.
enum Door {
    Proxy(Method),
    Program(watch::Receiver<State>),
}

/// All transports of a process.
pub(crate) struct Transports {
    proxies: Vec<Wanted>,
    running: Vec<Running>,
    /// Who is told how programs are, each time that changes.
    told: mpsc::UnboundedSender<State>,
    /// Whether a web site of [`webtunnel`] may be in a private network, as in a test network.
    pub(crate) takes_internal: bool,
}

impl Transports {
    /// None yet, and how their programs are from then on. These change by a back-off.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<State>) {
        let (told, states) = mpsc::unbounded_channel();
        let transports = Transports {
            proxies: Vec::new(),
            running: Vec::new(),
            told,
            takes_internal: false,
        };
        (transports, states)
    }

    /// Starts what is wanted and does not run, and ends what runs and is not wanted. To be called
    /// within a runtime.
    pub(crate) fn set(&mut self, wanted: Vec<Wanted>) {
        let is_proxy = |one: &Wanted| matches!(one.plugin.speaker, Speaker::Proxy(..));
        let (proxies, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_proxy);
        self.proxies = proxies;
        self.running.retain(|one| wanted.contains(&one.wanted));
        for one in wanted {
            if self.running.iter().all(|other| other.wanted != one) {
                let running = Running::start(one);
                let (mut state, told) = (running.state.clone(), self.told.clone());
                tokio::spawn(async move {
                    while state.changed().await.is_ok() {
                        let now = state.borrow_and_update().clone();
                        if told.send(now).is_err() {
                            return;
                        }
                    }
                });
                self.running.push(running);
            }
        }
    }

    /// How a transport is spoken, once that is known.
    pub(crate) fn method(
        &self,
        name: &TransportName,
    ) -> impl Future<Output = Result<Method, TransportError>> + use<> {
        let door = self.door(name);
        let name = name.clone();
        async move {
            match door {
                None => Err(TransportError::Unknown(name)),
                Some(Door::Proxy(method)) => Ok(method),
                Some(Door::Program(state)) => ready(name, state).await,
            }
        }
    }

    /// Whether a program or a proxy is named for a transport.
    pub(crate) fn has(&self, name: &TransportName) -> bool {
        self.door(name).is_some()
    }

    fn door(&self, name: &TransportName) -> Option<Door> {
        let proxies = self.proxies.iter();
        let mut proxy = proxies.filter(|one| one.plugin.names.contains(name));
        let proxy = proxy.find_map(|one| match one.plugin.speaker {
            Speaker::Proxy(version, addr) => Some(Door::Proxy(Method::Client(version, addr))),
            Speaker::Program(_) | Speaker::Own => None,
        });
        let mut running = self.running.iter();
        proxy.or_else(|| {
            let found = running.find(|one| one.wanted.plugin.names.contains(name));
            found.map(|one| Door::Program(one.state.clone()))
        })
    }

    /// The states of all programs, each with the transports that it is to serve.
    pub(crate) fn states(&self) -> Vec<watch::Receiver<State>> {
        self.running.iter().map(|one| one.state.clone()).collect()
    }

    /// Ends all programs, and waits until they are gone.
    pub(crate) async fn finish(&mut self) {
        let tasks: Vec<_> = self.running.drain(..).map(Running::stop).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
}

impl Running {
    fn start(wanted: Wanted) -> Self {
        let (sender, state) = watch::channel(State::Starting);
        let (stop, stopped) = watch::channel(());
        let name = wanted.plugin.names.first().cloned();
        let task = match (wanted.own.clone(), name) {
            (Some(door), Some(name)) => tokio::spawn(door.run(name, sender, stopped)),
            _ => tokio::spawn(Program::new(&wanted, sender).run(stopped)),
        };
        Running {
            task,
            wanted,
            state,
            stop,
        }
    }

    /// Has it end; the task is over once it has.
    fn stop(self) -> JoinHandle<()> {
        drop(self.stop);
        self.task
    }
}

/// How a program serves a transport, as soon as it says so.
async fn ready(
    name: TransportName,
    mut state: watch::Receiver<State>,
) -> Result<Method, TransportError> {
    let settled = state.wait_for(|state| *state != State::Starting);
    let down = |why: &str| TransportError::Down(name.clone(), why.to_owned());
    let state = match tokio::time::timeout(READY_MAX, settled).await {
        Ok(Ok(state)) => state.clone(),
        Ok(Err(_)) => return Err(down("its program is no longer wanted")),
        Err(_) => return Err(down("its program does not say that it is ready")),
    };
    match state {
        State::Serving(methods) => match methods.get(&name) {
            Some(Method::Failed(why)) => Err(down(why)),
            Some(method) => Ok(method.clone()),
            None => Err(down("its program does not know it")),
        },
        State::Down(why) => Err(down(&why)),
        State::Starting => Err(down("its program is starting")),
    }
}

/// The folder in which transports keep what they like, as `tor` names it; it is made if need be.
pub(crate) fn state_folder(data_dir: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = data_dir.join("pt_state");
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&folder)?;
    let folder = folder.canonicalize()?;
    let folder = folder.into_os_string().into_string();
    folder.map_err(|_| std::io::Error::other("the path of the data folder is no UTF-8"))
}

#[cfg(test)]
mod tests;
