//! `cepa testnet up`: a whole network of processes on this machine, until it is told to stop.
//!
//! ```text
//! write files -> start nodes -> authorities up -> descriptors -> first consensus
//!             -> start clients -> bootstrapped -> first fetch -> "ready in N s" -> wait, or run
//!                a command -> stop
//! ```
//!
//! Nothing here sleeps for a network to become ready: nodes report their stages (`launched`), and
//! each stage ends when the last of them has. Whatever goes wrong, every node is stopped.

mod bridges;
mod command;
mod delay;
mod fetch;
mod files;
mod planned;
mod ports;
mod processes;
mod progress;
mod tor;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cepa_testnet::{Counts, Plan, Program, Role};

use self::bridges::Programs;
use self::files::Settings;
use self::planned::PlannedNode;
use self::ports::{NodePorts, Ports};
use self::processes::{Event, Processes};
use self::progress::Progress;
use crate::args::UpArgs;
use crate::error::{Failure, fail};
use crate::folder::Folder;
use crate::launched::{Launch, Shutdown, Stage};
use crate::{clock, page, terminal};

/// How long a network may take to become ready, besides four voting intervals.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The code of a launcher that was told to stop before its command had ended, as of a shell.
const INTERRUPTED: u8 = 130;
/// How much longer it may take where `tor` takes part, which tries again after longer pauses.
const TOR_READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the network; gives the code of the command that it was for, if any.
pub fn run(args: &UpArgs) -> Result<ExitCode, Failure> {
    let mut plan = plan(args)?;
    let folder = match args.folder.as_ref().or(args.dir.as_ref()) {
        Some(dir) => Folder::open(dir)?,
        None => Folder::open_first_unused(Path::new("cepa-testnet"))?,
    };
    let started = clock::now();
    let ports = Ports::take(&mut plan, args.base_port, &folder)?;
    if plan.has_tor() {
        tor::check(&args.tor)?;
    }
    let more = args.torrc.as_deref().map(read_lines).transpose()?;
    let settings = Settings {
        torrc: more.unwrap_or_default(),
        level: args.log,
        programs: Programs::find(&plan)?,
    };
    let network = files::write(&plan, folder.path(), &settings)?;
    let runtime = crate::runtime::runtime()?;
    let ran = runtime.block_on(async {
        let mut shutdown = Shutdown::watch(Launch::default())?;
        let nodes = ports
            .serve(plan.delay, &shutdown)
            .map_err(|error| Failure::new("cannot serve", "the page", error))?;
        let written = (network, settings);
        let mut launcher = Launcher::new(plan, written, nodes, args.tor.clone());
        let limit = args
            .timeout
            .map_or(Duration::MAX, |limit| Duration::from_secs(limit.into()));
        let ran = tokio::select! {
            ran = launcher.run(started, &args.command) => ran,
            () = shutdown.wait() => Ok(match args.command.as_slice() {
                [] => ExitCode::SUCCESS,
                [..] => ExitCode::from(INTERRUPTED),
            }),
            // In this order: what has ended in time has.
            () = tokio::time::sleep(limit) => fail(
                "the time of --timeout is over",
                folder.path().display(),
                "look at the logs there, or give more time",
            ),
        };
        launcher.processes.stop().await;
        ran
    });
    runtime.shutdown_background();
    ran
}

fn plan(args: &UpArgs) -> Result<Plan, Failure> {
    let mut tor = Counts::default();
    for share in &args.with {
        tor.add(share.role, share.count);
    }
    let plan = Plan {
        ours: Counts {
            authorities: args.authorities,
            relays: args.relays,
            exits: args.exits,
            bridges: args.bridges,
            clients: args.clients,
            onion_services: args.onion_services,
        },
        tor,
        interval_secs: args.interval,
        delay: args.delay.unwrap_or_default(),
        base_port: args.base_port.unwrap_or(crate::ports::FIRST_BASE),
        more_params: args.param.iter().cloned().collect(),
        transports: args.transport.clone(),
        shared_subnets: args.no_subnet_rule,
    };
    match plan.check() {
        Ok(()) => Ok(plan),
        Err(error) => fail("this network cannot be", "arguments", error),
    }
}

fn read_lines(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => fail("cannot read this file", path.display(), error),
    }
}

/// The network while it runs.
struct Launcher {
    plan: Plan,
    network: files::Written,
    settings: Settings,
    /// The ports of each node that is yet to start.
    ports: NodePorts,
    processes: Processes,
    /// What each node has reported last of each kind.
    reached: Vec<Reached>,
}

/// What a node has reported.
#[derive(Debug, Default, Clone)]
struct Reached {
    listening: bool,
    descriptors: usize,
    consensus: usize,
    bootstrapped: u8,
    onion: bool,
    bridge_lines: usize,
}

impl Launcher {
    fn new(
        plan: Plan,
        (network, settings): (files::Written, Settings),
        ports: NodePorts,
        tor: PathBuf,
    ) -> Self {
        let reached = vec![Reached::default(); network.nodes.len()];
        Self {
            plan,
            network,
            settings,
            ports,
            processes: Processes::new(tor),
            reached,
        }
    }

    /// Starts all, says when it is ready, runs the command if there is one, and watches meanwhile.
    async fn run(
        &mut self,
        started: cepa_wire::Now,
        words: &[OsString],
    ) -> Result<ExitCode, Failure> {
        let mut limit = READY_TIMEOUT + Duration::from_secs(4 * u64::from(self.plan.interval_secs));
        if self.plan.has_tor() {
            limit += TOR_READY_TIMEOUT;
        }
        match tokio::time::timeout(limit, self.become_ready()).await {
            Ok(ready) => ready?,
            Err(_) => {
                return fail(
                    "the network did not become ready",
                    self.network.folder.display(),
                    format!("look at the logs there: {} s are over", limit.as_secs()),
                );
            }
        }
        let took = clock::now().mono.duration_since(started.mono);
        let ready = format!("ready in {:.1} s", took.as_secs_f64());
        let Some(command) = command::command(words, &self.network, self.plan.page()) else {
            terminal::say(&ready);
            self.say_what_is_there();
            return self.watch().await;
        };
        // Standard output is the command's.
        terminal::complain(&ready);
        tokio::select! {
            code = command::run(command) => code,
            never = self.watch() => never,
        }
    }

    /// Says which nodes end, for as long as the network runs.
    async fn watch<T>(&mut self) -> T {
        loop {
            if let Event::Ended { node, status } = self.processes.next().await {
                let node = self.describe(node);
                terminal::complain(&format!("{node} has ended ({status})"));
            }
        }
    }

    async fn become_ready(&mut self) -> Result<(), Failure> {
        let mut progress = Progress::new();
        self.start(Role::is_relay)?;
        self.vote(&mut progress).await?;
        self.bridges(&mut progress).await?;
        self.start(|role| !role.is_relay())?;
        let onions = self.plan.count(Role::Onion);
        let clients = self.plan.count(Role::Client) + onions;
        if clients > 0 {
            progress.stage("bootstrapped", clients);
            let first = self.plan.relays_in_all() + self.plan.count(Role::Bridge);
            let done = |all: &[Reached]| {
                let ends = all.get(first..).unwrap_or_default();
                ends.iter().filter(|one| one.bootstrapped == 100).count()
            };
            self.until(&progress, done, clients).await?;
            if onions > 0 {
                progress.stage("onion services up", onions);
                let up = |all: &[Reached]| all.iter().filter(|one| one.onion).count();
                self.until(&progress, up, onions).await?;
            }
            self.first_fetches(&mut progress).await?;
        }
        progress.finish();
        Ok(())
    }

    /// Waits until the bridges serve, and has the clients go over them.
    async fn bridges(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let bridges = self.plan.count(Role::Bridge);
        if bridges == 0 {
            return Ok(());
        }
        progress.stage("bridges up", bridges);
        let first = self.plan.relays_in_all();
        let ours = usize::from(self.plan.ours.bridges);
        let transports = self.plan.transports.len();
        let serving = |all: &[Reached]| {
            let all = all.iter().skip(first).take(bridges).enumerate();
            // A line of its own port, and one of each transport; those of tor have none of these.
            let wanted = |place| 1 + if place < ours { transports } else { 0 };
            all.filter(|(place, one)| one.bridge_lines >= wanted(*place))
                .count()
        };
        self.until(progress, serving, bridges).await?;
        self.network.bridges_up(&self.plan, &self.settings)
    }

    /// Waits for the first consensus that the clients can use.
    async fn vote(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let authorities = self.plan.count(Role::Authority);
        let relays = self.plan.relays_in_all();
        let among = |all: &[Reached], is_so: &dyn Fn(&Reached) -> bool| {
            all.iter()
                .take(authorities)
                .filter(|one| is_so(one))
                .count()
        };
        progress.stage("authorities up", authorities);
        let listening = |all: &[Reached]| among(all, &|one| one.listening);
        self.until(progress, listening, authorities).await?;
        // Ours come first, and the others do not tell.
        let telling = usize::from(self.plan.ours.authorities);
        if telling > 0 {
            progress.stage("descriptors", relays);
            let published = |all: &[Reached]| {
                let held = all.iter().take(telling).map(|one| one.descriptors);
                held.min().unwrap_or(0)
            };
            self.until(progress, published, relays).await?;
        }
        // Our authorities, among themselves, wait for all relays before they vote.
        let needed = if self.plan.has_tor() { relays } else { 1 };
        progress.stage("first consensus", authorities);
        let decided = |all: &[Reached]| among(all, &|one| one.consensus >= needed);
        self.until(progress, decided, authorities).await
    }

    /// Starts the nodes of some roles, and writes what runs now.
    fn start(&mut self, wanted: impl Fn(Role) -> bool) -> Result<(), Failure> {
        for (place, node) in self.network.nodes.iter_mut().enumerate() {
            if wanted(node.node.role) {
                node.pid = Some(self.processes.start(place, node, self.ports.take(place))?);
            }
        }
        self.network.write_summary()
    }

    /// Takes reports until `measure` of them has come to `wanted`.
    async fn until(
        &mut self,
        progress: &Progress,
        measure: impl Fn(&[Reached]) -> usize,
        wanted: usize,
    ) -> Result<(), Failure> {
        loop {
            let now = measure(&self.reached);
            progress.reached(now.min(wanted));
            if now >= wanted {
                return Ok(());
            }
            let event = self.processes.next().await;
            self.apply(event)?;
        }
    }

    /// Fetches the page through the first client of each program, while the nodes are watched.
    async fn first_fetches(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let socks = Program::ALL.into_iter().filter_map(|program| {
            let mut nodes = self.network.nodes.iter().map(|node| &node.node);
            nodes.find_map(|node| node.socks.filter(|_| node.program == program))
        });
        let (socks, page): (Vec<_>, _) = (socks.collect(), self.plan.page());
        progress.stage("first fetch", socks.len());
        let fetched = async {
            for (count, socks) in socks.into_iter().enumerate() {
                fetch::until_fetched(socks, page).await;
                progress.reached(count + 1);
            }
        };
        tokio::pin!(fetched);
        loop {
            let event = tokio::select! {
                () = &mut fetched => return Ok(()),
                event = self.processes.next() => event,
            };
            self.apply(event)?;
        }
    }

    /// Notes a report; a node that ends before the network is ready is an error.
    fn apply(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Reached { node, stage } => {
                if let Some(reached) = self.reached.get_mut(node) {
                    match stage {
                        Stage::Listening => reached.listening = true,
                        Stage::Published => {}
                        Stage::Descriptors(relays) => reached.descriptors = relays,
                        Stage::Consensus(relays) => reached.consensus = relays,
                        Stage::Bootstrapped(percent) => reached.bootstrapped = percent,
                        Stage::BridgeLines(lines) => reached.bridge_lines = lines,
                        Stage::OnionUp(address) => {
                            reached.onion = true;
                            self.network.onion_up(node, address)?;
                        }
                    }
                }
                Ok(())
            }
            Event::Ended { node, status } => {
                let last = self
                    .network
                    .nodes
                    .get(node)
                    .and_then(PlannedNode::last_log_line);
                let advice = last.unwrap_or_else(|| "its log is empty".to_owned());
                fail(
                    format!("a node has ended ({status})"),
                    self.describe(node),
                    advice,
                )
            }
        }
    }

    fn describe(&self, node: usize) -> String {
        match self.network.nodes.get(node) {
            Some(node) => format!("{} ({})", node.node.nickname, node.log.display()),
            None => "a node".to_owned(),
        }
    }

    fn say_what_is_there(&self) {
        let folder = self.network.folder.display();
        let socks = self.network.nodes.iter().filter_map(|node| node.node.socks);
        for socks in socks.clone() {
            terminal::say(&format!("SOCKS:   {socks}"));
        }
        for onion in self.network.onions() {
            terminal::say(&format!("onion:   http://{onion}/"));
        }
        if self.plan.count(Role::Bridge) > 0 {
            terminal::say(&format!("bridges: {folder}/bridges"));
        }
        terminal::say(&format!(
            "network: {folder}/network.toml (also torrc, arti.toml)"
        ));
        if let Some(socks) = socks.into_iter().next() {
            let url = page::url(self.plan.page());
            terminal::say("Try it:");
            terminal::say(&format!("  curl --socks5-hostname {socks} {url}"));
        }
        terminal::say("Ctrl-C stops every node.");
    }
}
