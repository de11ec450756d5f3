//! One program that speaks transports, as long as it is wanted.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cepa_pt::message::{LINE_LEN_MAX, Message, shown};
use cepa_pt::{Speaker, Startup, TransportName};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{State, Wanted};
use crate::clock;

/// How long a program may take to say how it serves.
const START_MAX: Duration = Duration::from_secs(45);
/// How long it may take to end by itself, when its input is closed, and then when it is asked.
const END_MAX: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(1)];
/// The least and the most time between its end and its next start.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(300)];
/// One that has served for so long begins with the least again.
const LASTING: Duration = Duration::from_secs(60);
/// Lines that are told when it dies.
const LAST_LINES: usize = 8;
/// Lines of a second that are logged.
const LINES_A_SECOND: u32 = 20;
/// Variables of ours that no other program's end may leak into.
const OF_TRANSPORTS: &str = "TOR_PT_";

/// A program, and who is told how it is.
pub(super) struct Program {
    wanted: Wanted,
    state: watch::Sender<State>,
    ears: Ears,
}

/// Why a program is no more.
enum Ended {
    /// It is not wanted any more.
    Stopped,
    /// It has failed.
    Failed(String),
}

impl Program {
    pub(super) fn new(wanted: &Wanted, state: watch::Sender<State>) -> Self {
        Program {
            wanted: wanted.clone(),
            state,
            ears: Ears::default(),
        }
    }

    /// Runs the program, again and again, until nobody holds the other end of `stopped`.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<()>) {
        let [least, most] = BACK_OFF;
        let mut wait = least;
        loop {
            self.state.send_replace(State::Starting);
            let begun = clock::now();
            let why = match self.run_once(&mut stopped).await {
                Ended::Stopped => return,
                Ended::Failed(why) => why,
            };
            if clock::now().mono.saturating_duration_since(begun.mono) >= LASTING {
                wait = least;
            }
            let name = self.name();
            tracing::warn!("the transport program {name} has ended: {why}; again in {wait:?}");
            for line in self.ears.last.drain(..) {
                tracing::warn!("{name} said: {line}");
            }
            self.state.send_replace(State::Down(why));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.changed() => return,
            }
            wait = (wait * 2).min(most);
        }
    }

    fn name(&self) -> String {
        let names = self.wanted.plugin.names.iter().map(TransportName::as_str);
        names.collect::<Vec<_>>().join(",")
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let Speaker::Program(words) = &self.wanted.plugin.speaker else {
            return Err(std::io::Error::other("it is a proxy, and not started"));
        };
        let Some((path, arguments)) = words.split_first() else {
            return Err(std::io::Error::other("it has no path"));
        };
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OF_TRANSPORTS) {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .envs(
                self.wanted
                    .variables
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn run_once(&mut self, stopped: &mut watch::Receiver<()>) -> Ended {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Ended::Failed(format!("it cannot be started: {error}")),
        };
        let why = self.listen(&mut child, stopped).await;
        let status = end(&mut child).await;
        match (why, status) {
            (Ended::Failed(why), Some(status)) if why.is_empty() => {
                Ended::Failed(status.to_string())
            }
            (why, _) => why,
        }
    }

    /// Listens to the program until it is gone, breaks a rule, or is not wanted any more.
    async fn listen(&mut self, child: &mut Child, stopped: &mut watch::Receiver<()>) -> Ended {
        let (Some(out), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Ended::Failed("its output is not there".to_owned());
        };
        let (mut out, mut errors) = (Lines::new(out), Lines::new(errors));
        let names = self.wanted.plugin.names.iter().cloned();
        let variables = &self.wanted.variables;
        let has_proxy = variables.iter().any(|(name, _)| *name == "TOR_PT_PROXY");
        let mut startup = Some(Startup::new(self.wanted.end, names, has_proxy));
        let start_max = tokio::time::sleep(START_MAX);
        tokio::pin!(start_max);
        loop {
            tokio::select! {
                line = out.next() => {
                    let Some(line) = line else { return Ended::Failed(String::new()) };
                    self.ears.hear(&line, &self.wanted);
                    match took(&mut startup, &line) {
                        Ok(Some(methods)) => {
                            tracing::info!("the transport program {} serves", self.name());
                            self.state.send_replace(State::Serving(methods));
                        }
                        Ok(None) => {}
                        Err(why) => return Ended::Failed(why),
                    }
                }
                Some(line) = errors.next() => self.ears.hear(&line, &self.wanted),
                () = &mut start_max, if startup.is_some() => {
                    return Ended::Failed("it does not say that it is ready".to_owned());
                }
                _ = stopped.changed() => return Ended::Stopped,
            }
        }
    }
}

type Methods = std::collections::BTreeMap<TransportName, cepa_pt::Method>;

/// Takes a line of a program that starts: its methods, once these are all.
fn took(startup: &mut Option<Startup>, line: &str) -> Result<Option<Methods>, String> {
    let Some(starting) = startup else {
        return Ok(None);
    };
    match starting.handle(Message::parse(line)) {
        Ok(true) => Ok(startup.take().map(Startup::methods)),
        Ok(false) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Ends a program: by its input, by asking, by force; with all that it has started.
async fn end(child: &mut Child) -> Option<ExitStatus> {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let group = group.and_then(Pid::from_raw);
    drop(child.stdin.take());
    let [by_itself, asked] = END_MAX;
    let ended = match tokio::time::timeout(by_itself, child.wait()).await {
        Ok(ended) => ended.ok(),
        Err(_) => {
            // It may be gone by now.
            let _ = group.map(|group| kill_process_group(group, Signal::TERM));
            let ended = tokio::time::timeout(asked, child.wait()).await;
            ended.ok().and_then(Result::ok)
        }
    };
    if ended.is_none() {
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        return child.wait().await.ok();
    }
    ended
}

/// What is heard of a program, and told.
#[derive(Default)]
struct Ears {
    /// Its last lines.
    last: VecDeque<String>,
    /// The second that is now, and how many of its lines were logged.
    second: Option<(Instant, u32)>,
}

impl Ears {
    fn hear(&mut self, line: &str, wanted: &Wanted) {
        if self.last.len() >= LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(shown(line));
        let now = clock::now().mono;
        let (since, lines) = self.second.get_or_insert((now, 0));
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *lines) = (now, 0);
        }
        *lines = lines.saturating_add(1);
        if *lines > LINES_A_SECOND {
            return;
        }
        let name = wanted.plugin.names.first().map_or("", |name| name.as_str());
        match Message::parse(line) {
            Message::Log(severity, text) => match severity.as_str() {
                "error" | "warning" => tracing::warn!("{name}: {text}"),
                "notice" => tracing::info!("{name}: {text}"),
                _ => tracing::debug!("{name}: {text}"),
            },
            Message::MethodError(name, why) => tracing::warn!("the transport {name}: {why}"),
            _ => tracing::debug!("{name} says {}", shown(line)),
        }
    }
}

/// Lines of a stranger's: the end of one that is too long is not kept.
struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// The end of the line that is being read is passed over.
    is_cut: bool,
    is_over: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Lines {
            from,
            buffer: Vec::new(),
            is_cut: false,
            is_over: false,
        }
    }

    /// The next line; `None` at the end. Cancel-safe.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                if !std::mem::take(&mut self.is_cut) {
                    return Some(String::from_utf8_lossy(&line).into_owned());
                }
                continue;
            }
            if self.buffer.len() > LINE_LEN_MAX {
                let long = std::mem::take(&mut self.buffer);
                if !std::mem::replace(&mut self.is_cut, true) {
                    return Some(String::from_utf8_lossy(&long).into_owned());
                }
            }
            if self.is_over {
                return None;
            }
            let mut more = [0; 4096];
            match self.from.read(&mut more).await {
                Ok(0) | Err(_) => self.is_over = true,
                Ok(count) => self.buffer.extend(more.get(..count).unwrap_or_default()),
            }
        }
    }
}
