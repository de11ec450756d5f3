//! A `tor` process: whether there is one to run, and what it says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::now;
use crate::support::processes::{Process, send};

/// The word of a line that is a complaint.
const COMPLAINTS: [&str; 2] = ["[warn]", "[err]"];

/// Whether a program is here. CI must have it.
pub(crate) fn is_here(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).output();
    let is_here = ran.is_ok_and(|output| output.status.success());
    if !is_here {
        println!("skipped: {program} {} does not run here", args.join(" "));
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI needs {program}"
        );
    }
    is_here
}

/// Whether `tor` is here.
pub(crate) fn is_tor_here() -> bool {
    is_here("tor", &["--version"])
}

/// Whether its TLS knows X25519MLKEM768, as OpenSSL does from 3.5 on; if not, why there is nothing
/// to show.
pub(crate) fn has_hybrid() -> Result<(), &'static str> {
    let ran = Command::new("tor").arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let version = text.split_once("OpenSSL ").map_or("", |(_, rest)| rest);
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let [major, minor]: [u32; 2] = [(); 2].map(|()| numbers.next().unwrap_or(0));
    match (major, minor) >= (3, 5) {
        true => Ok(()),
        false => Err("the OpenSSL of this tor does not have it"),
    }
}

/// A `tor` that runs.
pub(crate) struct Tor {
    process: Process,
    lines: Receiver<String>,
    /// What it has complained about so far.
    pub(crate) complaints: Vec<String>,
}

impl Tor {
    /// Starts it with a `torrc` and more options, its log on standard output.
    pub(crate) fn start(torrc: &Path, options: &[&str]) -> Self {
        Self::run(Command::new("tor").arg("-f").arg(torrc).args(options))
    }

    /// The same of a command.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            lines,
            complaints: Vec::new(),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.process.0.id(), signal);
    }

    /// Reads its log until a line has this in it.
    pub(crate) fn wait_for(&mut self, what: &str, limit: Duration) -> String {
        let until = now() + limit;
        let mut last = String::new();
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(now()))
            {
                Ok(line) => {
                    self.note(&line);
                    if line.contains(what) {
                        return line;
                    }
                    last = line;
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within {limit:?}: {last}"),
                Err(RecvTimeoutError::Disconnected) => panic!("tor has ended: {last}"),
            }
        }
    }

    /// Takes the lines that wait, and gives the complaints that are not among these.
    pub(crate) fn complaints_but(&mut self, expected: &[&str]) -> Vec<String> {
        while let Ok(line) = self.lines.try_recv() {
            self.note(&line);
        }
        let is_expected = |line: &&String| expected.iter().any(|part| line.contains(part));
        let complaints = self.complaints.iter();
        complaints
            .filter(|line| !is_expected(line))
            .cloned()
            .collect()
    }

    fn note(&mut self, line: &str) {
        if COMPLAINTS.iter().any(|word| line.contains(word)) {
            println!("tor: {line}");
            self.complaints.push(line.to_owned());
        }
    }
}
