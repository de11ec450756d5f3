//! The relays that an authority knows: descriptors, key pins, reachability (dir-spec 3.2, 3.4.2).
//!
//! What is refused ([`crate::uploads`]) leaves what was there before. The two identity keys of a
//! relay belong together for ever. A relay is Running while links to it could be opened lately.
//! Who was not heard of for two days is forgotten, but for keys and history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::extrainfo::ExtraInfo;
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_wire::time::unix_seconds;

use crate::command::{Command, Document, Reply, Row, RowKind};
use crate::config::{Config, METHODS, RELAYS_MAX};
use crate::history::History;
use crate::uploads::{self, Source};

/// A descriptor older than this is neither taken nor voted for.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A relay that was not heard of for so long is forgotten.
const FORGET_AGE: Duration = Duration::from_secs(48 * 60 * 60);

/// What is known of a relay's past is forgotten so long after the last word of it.
const HISTORY_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// After a failed test the next one comes so soon, at first: a relay that has just started may
/// publish a moment before its port answers.
const RETRY: Duration = Duration::from_secs(1);
/// How many of the tests come so soon.
const RETRIES_MAX: u32 = 5;

/// Replaced descriptors of one relay that are still served; those of a day, as a rule.
const REPLACED_MAX: usize = 4;

/// Times between tests of one relay, and how long a good one counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReachTimes {
    test_every: Duration,
    running_for: Duration,
}

impl ReachTimes {
    /// `tor`'s: 1280 s and 45 min. In a test network each interval, and two of them, so that a
    /// relay that was killed is missed soon.
    pub(crate) fn new(config: &Config) -> Self {
        let interval = Duration::from_secs(u64::from(config.timing.interval_secs));
        if config.is_testing {
            ReachTimes {
                test_every: interval,
                running_for: interval * 2,
            }
        } else {
            ReachTimes {
                test_every: Duration::from_secs(1280),
                running_for: Duration::from_secs(45 * 60),
            }
        }
    }
}

/// A relay.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    /// Its newest descriptor.
    pub(crate) desc: Arc<ServerDescriptor>,
    /// SHA-256 of the microdescriptors that each of [`METHODS`] makes.
    pub(crate) microdescs: Vec<Option<[u8; 32]>>,
    /// How it was in the past.
    pub(crate) history: History,
    reached: Option<SystemTime>,
    tested: Option<SystemTime>,
    /// Tests that failed since the last good one.
    failures: u32,
    /// Descriptors before this one that are still served: consensuses name them for a while.
    replaced: VecDeque<[u8; 20]>,
}

/// All relays.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    by_id: BTreeMap<RsaId, Relay>,
    pins: BTreeMap<RsaId, Ed25519Id>,
    pinned: BTreeMap<Ed25519Id, RsaId>,
    histories: BTreeMap<RsaId, History>,
}

impl Relays {
    /// All relays, ascending by RSA identity.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RsaId, &Relay)> {
        self.by_id.iter()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many of them are Running.
    pub(crate) fn running(&self, config: &Config, now: SystemTime) -> usize {
        self.by_id
            .values()
            .filter(|relay| relay.is_running(config, now))
            .count()
    }

    /// A pin from an earlier run.
    pub(crate) fn restore_pin(&mut self, rsa: RsaId, ed: Ed25519Id) {
        self.pins.insert(rsa, ed);
        self.pinned.insert(ed, rsa);
    }

    /// A history from an earlier run; it waits for the relay's descriptor.
    pub(crate) fn restore_history(&mut self, rsa: RsaId, history: History) {
        self.histories.insert(rsa, history);
    }

    /// A descriptor, its extra-info behind it, from an upload, another authority or an earlier run.
    pub(crate) fn upload(
        &mut self,
        body: &str,
        source: Source,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) -> Reply {
        let (desc, extra_info) = match uploads::read(body) {
            Ok(read) => read,
            Err(refusal) => return refusal,
        };
        if let Err(refusal) = uploads::check(&desc, config, now) {
            return refusal;
        }
        let pin = self.pins.get(&desc.identity);
        let pinned = self.pinned.get(&desc.ed25519);
        if pin.is_some_and(|ed| *ed != desc.ed25519)
            || pinned.is_some_and(|rsa| *rsa != desc.identity)
        {
            return Reply::refused("Ed25519 identity key or RSA identity key has changed.");
        }
        let known = self.by_id.get(&desc.identity);
        if known.is_none() && self.by_id.len() >= RELAYS_MAX {
            return Reply::refused("Too many relays are known.");
        }
        if let Some(refusal) = known.and_then(|known| uploads::old(&desc, &known.desc, source)) {
            return refusal;
        }
        self.insert(Arc::new(desc), extra_info.map(Arc::new), now, commands);
        Reply::ok("OK")
    }

    /// Whether another authority has a newer descriptor of a relay than we.
    pub(crate) fn lacks(&self, status: &RouterStatus) -> bool {
        self.by_id.get(&status.rsa_id).is_none_or(|known| {
            known.desc.digest != status.descriptor_digest && known.desc.published < status.published
        })
    }

    fn insert(
        &mut self,
        desc: Arc<ServerDescriptor>,
        extra_info: Option<Arc<ExtraInfo>>,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) {
        let id = desc.identity;
        let microdescs = serve_microdescs(&desc, commands);
        commands.push(put(RowKind::Descriptor, &id, &desc.text));
        commands.push(Command::Serve(Document::Descriptor(Arc::clone(&desc))));
        if let Some(info) = &extra_info {
            commands.push(put(RowKind::ExtraInfo, &id, &info.text));
            commands.push(Command::Serve(Document::ExtraInfo(Arc::clone(info))));
        }
        if self.pins.insert(id, desc.ed25519).is_none() {
            commands.push(put(RowKind::KeyPin, &id, &desc.ed25519.to_string()));
        }
        self.pinned.insert(desc.ed25519, id);
        let before = self.by_id.remove(&id);
        let moved = before
            .as_ref()
            .is_none_or(|known| known.desc.or_address != desc.or_address);
        let mut replaced = VecDeque::new();
        if let Some(known) = &before {
            replaced.clone_from(&known.replaced);
            replaced.push_back(known.desc.digest);
        }
        if replaced.len() > REPLACED_MAX {
            commands.extend(replaced.pop_front().map(Command::Withdraw));
        }
        let (history, reached, tested) = match before {
            Some(known) if !moved => (known.history, known.reached, known.tested),
            Some(known) => (known.history, None, None),
            None => {
                let history = self.histories.remove(&id).unwrap_or(History::new(now));
                (history, history.reached, None)
            }
        };
        let relay = Relay {
            desc,
            microdescs,
            history,
            reached,
            tested,
            failures: 0,
            replaced,
        };
        self.by_id.insert(id, relay);
    }

    /// Starts the tests that are due, brings histories up to date, forgets who is gone.
    pub(crate) fn handle_timeout(
        &mut self,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) {
        let times = ReachTimes::new(config);
        self.forget(now, commands);
        for relay in self.by_id.values_mut() {
            if relay.next_test(times) <= now {
                relay.tested = Some(now);
                commands.push(Command::TestReachability {
                    address: relay.desc.or_address.into(),
                    rsa_id: relay.desc.identity,
                    ed25519: relay.desc.ed25519,
                });
            }
        }
    }

    /// Forgets relays that were not heard of for long, and later their histories.
    fn forget(&mut self, now: SystemTime, commands: &mut Vec<Command>) {
        let histories = &mut self.histories;
        self.by_id.retain(|id, relay| {
            let is_gone = relay.desc.published + FORGET_AGE <= now;
            if is_gone {
                let replaced = relay.replaced.iter().copied();
                let digests = replaced.chain([relay.desc.digest]);
                commands.extend(digests.map(Command::Withdraw));
                commands.push(Command::Drop(RowKind::Descriptor, id.to_string()));
                commands.push(Command::Drop(RowKind::ExtraInfo, id.to_string()));
                if histories.len() < RELAYS_MAX {
                    histories.insert(*id, relay.history);
                }
            }
            !is_gone
        });
        histories.retain(|id, history| {
            let is_void = history.recorded + HISTORY_AGE <= now;
            if is_void {
                commands.push(Command::Drop(RowKind::History, id.to_string()));
            }
            !is_void
        });
    }

    /// When the next test is due.
    pub(crate) fn next_test(&self, config: &Config) -> Option<SystemTime> {
        let times = ReachTimes::new(config);
        self.by_id
            .values()
            .map(|relay| relay.next_test(times))
            .min()
    }

    /// How a test ended.
    pub(crate) fn handle_reachability(&mut self, rsa: &RsaId, reached: bool, now: SystemTime) {
        if let Some(relay) = self.by_id.get_mut(rsa)
            && reached
        {
            relay.reached = Some(now);
            relay.failures = 0;
        } else if let Some(relay) = self.by_id.get_mut(rsa) {
            relay.failures = relay.failures.saturating_add(1);
        }
    }

    /// Brings all histories up to date and persists them: once a voting round.
    pub(crate) fn record_histories(
        &mut self,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) {
        for (id, relay) in &mut self.by_id {
            let is_running = relay.is_running(config, now);
            relay.history.record(is_running, now);
            relay.history.reached = relay.reached;
            commands.push(put(RowKind::History, id, &relay.history.encode()));
        }
    }
}

impl Relay {
    /// When it is to be tested next: at once if it never was, soon after a first failure.
    fn next_test(&self, times: ReachTimes) -> SystemTime {
        let Some(tested) = self.tested else {
            return SystemTime::UNIX_EPOCH;
        };
        let is_first_failure = (1..=RETRIES_MAX).contains(&self.failures);
        tested
            + if is_first_failure {
                RETRY.min(times.test_every)
            } else {
                times.test_every
            }
    }

    /// Whether it gets the flag Running.
    pub(crate) fn is_running(&self, config: &Config, now: SystemTime) -> bool {
        let times = ReachTimes::new(config);
        let recent = self
            .reached
            .is_some_and(|reached| reached + times.running_for >= now);
        recent && !self.desc.is_hibernating
    }

    /// Seconds since it was started, by its own account.
    pub(crate) fn uptime_seconds(&self, now: SystemTime) -> u64 {
        let since = unix_seconds(now).saturating_sub(unix_seconds(self.desc.published));
        self.desc.uptime_seconds.saturating_add(since)
    }

    /// What it can carry, in kilobytes a second, as far as it is believed without measurement.
    pub(crate) fn bandwidth_kb(&self) -> u32 {
        const BELIEVED_MAX_KB: u32 = 10_000;
        let of = &self.desc.bandwidth;
        (of.average.min(of.burst).min(of.observed) / 1000).min(BELIEVED_MAX_KB)
    }
}

/// Serves the microdescriptors that our methods make of a descriptor, and says their digests.
fn serve_microdescs(desc: &ServerDescriptor, commands: &mut Vec<Command>) -> Vec<Option<[u8; 32]>> {
    let mut digests: Vec<Option<[u8; 32]>> = Vec::new();
    for method in METHODS {
        let text = cepa_netdoc::microdesc::from_descriptor(desc, method);
        let digest = text
            .as_ref()
            .map(|text| cepa_crypto::digest::sha256(text.as_bytes()));
        if let (Some(digest), Some(text)) = (digest, text)
            && digests.last() != Some(&Some(digest))
        {
            commands.push(Command::Serve(Document::Microdesc(digest, text.into())));
        }
        digests.push(digest);
    }
    digests
}

fn put(kind: RowKind, id: &RsaId, text: &str) -> Command {
    Command::Put(Row {
        kind,
        key: id.to_string(),
        bytes: text.as_bytes().to_vec(),
    })
}
