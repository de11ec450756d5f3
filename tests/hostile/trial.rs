//! One attack: what honest people and the victim's process feel before, during and after it.
//!
//! ```text
//! begin (quiet) ── the attack starts ── during (honest people) ── it stops ── end (as before?)
//! ```
//!
//! Latencies are figures, and asserted with room for a machine that is busy; memory, sockets and
//! whether honest people are served at all are asserted as they stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::now;
use crate::support::processes::{lives, resident};
use crate::table::{self, Row};

/// How many times honest people try in each phase.
const TRIES: usize = 5;
/// How much slower honest people may be in an attack: twice, and this for a machine that is busy.
const LATENCY_ROOM: Duration = Duration::from_secs(3);
/// When all is to be as before; the rest is room for a machine that is busy.
const AFTER_MAX: Duration = Duration::from_secs(5);
const AFTER_ROOM: Duration = Duration::from_secs(3);
/// Descriptors that come and go by themselves: links among relays, documents being fetched.
const FDS_ROOM: usize = 8;
/// How long most floods last.
pub(crate) const FLOOD: Duration = Duration::from_secs(2);
/// How often the memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// An honest deed, and how long it took.
pub(crate) type Honest<'w> = Box<dyn Fn() -> Result<Duration, String> + 'w>;

/// A process at an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    pub(crate) fds: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        Self {
            resident: resident(pid),
            fds: fds.count(),
        }
    }
}

/// An attack under way.
pub(crate) struct Trial<'w> {
    name: &'static str,
    pid: u32,
    honest: Honest<'w>,
    before: Usage,
    quiet: Duration,
    during: Vec<Duration>,
    most: Sampler,
    held: Option<Usage>,
}

impl<'w> Trial<'w> {
    /// Measures the quiet.
    pub(crate) fn begin(name: &'static str, pid: u32, honest: Honest<'w>) -> Self {
        let quiet = median((0..TRIES).map(|_| honest().unwrap()).collect());
        Self {
            name,
            pid,
            before: Usage::of(pid),
            quiet,
            honest,
            during: Vec::new(),
            most: Sampler::start(pid),
            held: None,
        }
    }

    /// Honest people try while the attack lasts.
    pub(crate) fn during(&mut self) {
        self.held = Some(Usage::of(self.pid));
        (0..TRIES).for_each(|number| self.attempt(number));
    }

    /// The same, now and then in a flood that goes on for so long, and then ends; how much it did.
    pub(crate) fn during_flood(&mut self, flood: Flood, lasts: Duration) -> usize {
        for number in 0..TRIES {
            std::thread::sleep(lasts / u32::try_from(TRIES).unwrap());
            self.attempt(number);
        }
        self.held = Some(Usage::of(self.pid));
        flood.stop()
    }

    fn attempt(&mut self, number: usize) {
        match (self.honest)() {
            Ok(took) => self.during.push(took),
            Err(error) => panic!("{}: honest try {number} failed: {error}", self.name),
        }
    }

    /// The attacker has left, who did `done` of `what`: writes the row, then checks it.
    /// `growth_max` and `left_max` bound the victim's memory above that of before, in MiB.
    pub(crate) fn end(self, done: usize, what: &str, growth_max: u64, left_max: u64) {
        let gone = now();
        let calm = |usage: &Usage| {
            usage.fds <= self.before.fds + FDS_ROOM
                && usage.resident <= self.before.resident + (left_max << 20)
        };
        let mut after = Usage::of(self.pid);
        while !calm(&after) && now().duration_since(gone) < AFTER_MAX + AFTER_ROOM {
            std::thread::sleep(SAMPLE_INTERVAL);
            after = Usage::of(self.pid);
        }
        let took = now().duration_since(gone);
        let most = self.most.stop();
        let during = median(self.during.clone());
        let held = self.held.unwrap_or(self.before);
        table::add(Row {
            name: self.name,
            cost: format!("{done} {what}"),
            quiet: self.quiet,
            during,
            resident: [self.before.resident, most, after.resident],
            fds: [self.before.fds, held.fds, after.fds],
            calm: calm(&after).then_some(took),
        });
        assert!(done > 0, "the attacker did nothing");
        assert!(lives(self.pid), "the victim has ended");
        let latency_max = 2 * self.quiet + LATENCY_ROOM;
        assert!(during <= latency_max, "{during:?} beside {:?}", self.quiet);
        let growth = most.saturating_sub(self.before.resident) >> 20;
        assert!(growth <= growth_max, "{growth} MiB more in the attack");
        let (fds, left) = (
            after.fds,
            after.resident.saturating_sub(self.before.resident),
        );
        assert!(
            calm(&after),
            "{took:?} later: {fds} descriptors, {} before; {} MiB more",
            self.before.fds,
            left >> 20
        );
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Looks at a process's memory again and again, and keeps the most.
struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sampler {
    fn start(pid: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) && lives(pid) {
                most = most.max(resident(pid));
                std::thread::sleep(SAMPLE_INTERVAL);
            }
            most
        });
        Self { is_over, thread }
    }

    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Threads that attack until told to stop.
pub(crate) struct Flood {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Flood {
    /// Runs `attack` in so many threads; it goes on for as long as it is told to, and says how much
    /// it did.
    pub(crate) fn start(
        threads: usize,
        attack: impl Fn(usize, &dyn Fn() -> bool) -> usize + Send + Sync + 'static,
    ) -> Self {
        let (is_over, attack) = (Arc::new(AtomicBool::new(false)), Arc::new(attack));
        let run = |number| {
            let (over, attack) = (is_over.clone(), attack.clone());
            std::thread::spawn(move || attack(number, &|| !over.load(Ordering::Relaxed)))
        };
        let threads = (0..threads).map(run).collect();
        Self { is_over, threads }
    }

    /// Stops them; how much all did.
    pub(crate) fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        let done = self.threads.into_iter().map(|thread| thread.join());
        done.map(Result::unwrap).sum()
    }
}
