//! Clocks that are wrong from the start: fresh clients of ours and of `tor`, and a relay of ours,
//! two hours and two days off either way.
//!
//! Two hours keep nobody out of the network. Two days do; then the clock is named, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::clocks;
use crate::support::fetch::fetch_from;
use crate::support::network::{CEPA, Network};
use crate::support::processes::Process;
use crate::support::{Steps, now, server, until};
use crate::tor::{Tor, is_tor_here};

/// How a client begins the line that names its clock.
const NAMED: &str = "the clock of this machine is";
const HOUR_SECS: i64 = 3600;
/// How long a client may take to serve, or to say why it does not.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long the test waits for `tor` beside it.
const TOR_MAX: Duration = Duration::from_secs(10);
/// How often a client without a network asks directories until the test has seen enough.
const ATTEMPTS: usize = 12;
/// Warnings of one that can't take part: on the clock, and on what it refuses for its sake.
const WARNINGS_MAX: usize = 2;

#[test]
fn a_wrong_clock_is_lived_with_or_named() {
    if !is_tor_here() || !clocks::is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = "--authorities 3 --relays 3 --exits 1 --clients 0 --interval 10";
    let plan: Vec<_> = plan.split_whitespace().collect();
    let network = Network::up(&dir.path().join("net"), &plan);
    let world = World {
        network: &network,
        dir: dir.path(),
    };
    let mut steps = Steps::default();
    steps.step("two hours behind", || lived_with(&world, -2 * HOUR_SECS, 0));
    steps.step("two hours ahead", || lived_with(&world, 2 * HOUR_SECS, 2));
    steps.step("two days behind", || named(&world, -48 * HOUR_SECS, 4));
    steps.step("two days ahead", || named(&world, 48 * HOUR_SECS, 6));
    steps.step("a relay is told why it is refused", || {
        told_why(&world, 8);
    });
    steps.finish(|| network.show_logs());
}

struct World<'a> {
    network: &'a Network,
    dir: &'a Path,
}

impl World<'_> {
    /// A fresh client with a clock that is off, and its log.
    fn ours(&self, secs: i64, place: u16) -> (Process, PathBuf) {
        let name = format!("ours{place}");
        let text = format!(
            "socks = [\"{}\"]\ndata_dir = \"{name}\"\nnetwork = \"{}\"\n\
             [log]\nlevel = \"debug\"\nfile = \"{name}.log\"\n",
            self.network.local(place),
            self.network.summary.network.display()
        );
        self.start("client", &name, &text, secs)
    }

    fn start(&self, role: &str, name: &str, text: &str, secs: i64) -> (Process, PathBuf) {
        let config = self.dir.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(CEPA);
        clocks::shift(&mut command, secs);
        command.args([role, "--config"]).arg(&config);
        let process = Process::start(&mut command);
        (process, self.dir.join(format!("{name}.log")))
    }

    /// A client of `tor`'s, the same, with its log in `torN.log`.
    fn theirs(&self, secs: i64, place: u16) -> Tor {
        let base = std::fs::read_to_string(self.network.folder.join("torrc")).unwrap();
        let is_other = |line: &&str| !line.starts_with("SocksPort") && !line.starts_with("DataDir");
        let kept = base.lines().filter(is_other);
        let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
        let (name, socks) = (format!("tor{place}"), self.network.local(place));
        let folder = self.dir.join(&name).display().to_string();
        text.push_str(&format!(
            "SocksPort {socks}\nDataDirectory {folder}\nLog notice file {folder}.log\n"
        ));
        let path = self.dir.join(format!("{name}.torrc"));
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("tor");
        clocks::shift(&mut command, secs);
        Tor::run(command.arg("-f").arg(&path).stderr(Stdio::null()))
    }

    /// How often the log of a client of `tor`'s names the clock.
    fn named_by_tor(&self, place: u16) -> usize {
        let path = self.dir.join(format!("tor{place}.log"));
        let log = std::fs::read_to_string(path).unwrap_or_default();
        log.lines().filter(|line| line.contains("clock")).count()
    }
}

/// Lines of a log that have this in them.
fn lines(log: &Path, text: &str) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

fn warnings(log: &Path) -> Vec<String> {
    let mut warnings = lines(log, " WARN ");
    warnings.extend(lines(log, "ERROR "));
    warnings
}

fn lived_with(world: &World<'_>, secs: i64, place: u16) {
    let server = server::start();
    let fetches = |place| {
        let (socks, host) = (world.network.local(place), server.ip().to_string());
        fetch_from(socks, None, (&host, server.port()), "/bytes/1000").ok()
    };
    let started = now();
    let (_ours, log) = world.ours(secs, place);
    let _theirs = world.theirs(secs, place + 1);
    until(ANSWER_MAX, "a page", || fetches(place));
    println!("ours: {:.1} s", now().duration_since(started).as_secs_f64());
    let said = until(ANSWER_MAX, "a word on the clock", || {
        Some(lines(&log, NAMED)).filter(|lines| !lines.is_empty())
    });
    let hours = if secs < 0 { "2 h" } else { "1 h 59" };
    println!("{}", said[0]);
    assert!(said.len() == 1 && (said[0].contains("2 h") || said[0].contains(hours)));
    assert_eq!(warnings(&log).len(), 1, "{:?}", warnings(&log));
    // It need not be served for this test to pass.
    let is_served = until(2 * TOR_MAX, "an answer of tor's", || {
        let is_served = fetches(place + 1).is_some();
        let is_over = now().duration_since(started) > TOR_MAX;
        (is_served || is_over).then_some(is_served)
    });
    println!(
        "tor: served: {is_served} after {:.1} s, {} lines on the clock",
        now().duration_since(started).as_secs_f64(),
        world.named_by_tor(place + 1)
    );
}

fn named(world: &World<'_>, secs: i64, place: u16) {
    let (_ours, log) = world.ours(secs, place);
    let _theirs = world.theirs(secs, place + 1);
    let attempts = || lines(&log, "consensus").len();
    until(ANSWER_MAX, "the clock to be named", || {
        (!lines(&log, NAMED).is_empty()).then_some(())
    });
    until(ANSWER_MAX, "more attempts", || {
        (attempts() >= ATTEMPTS).then_some(())
    });
    let said = lines(&log, NAMED);
    let way = if secs < 0 { "behind" } else { "ahead of" };
    println!("{}", said[0]);
    assert!(said.len() == 1 && said[0].contains(way), "{said:?}");
    let warnings = warnings(&log);
    assert!(warnings.len() <= WARNINGS_MAX, "{warnings:?}");
    println!(
        "ours: {} warnings in {} lines; tor: {} lines on the clock",
        warnings.len(),
        lines(&log, "").len(),
        world.named_by_tor(place + 1)
    );
}

fn told_why(world: &World<'_>, place: u16) {
    let text = format!(
        "nickname = \"late\"\naddress = \"127.95.0.1\"\nor_port = {}\ndata_dir = \"late\"\n\
         network = \"{}\"\ntesting = true\n[log]\nlevel = \"debug\"\nfile = \"late.log\"\n",
        world.network.spare(place),
        world.network.summary.network.display()
    );
    let (_relay, log) = world.start("relay", "late", &text, -48 * HOUR_SECS);
    let refused = until(ANSWER_MAX, "word of the refusal", || {
        let refused = lines(&log, "refuses our descriptor");
        (!refused.is_empty()).then_some(refused)
    });
    println!("{}", refused[0]);
    for word in ["auth", "clock"] {
        assert!(refused[0].contains(word), "{refused:?}");
    }
}
