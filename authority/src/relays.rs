//! The relays that an authority knows: descriptors, key pins, reachability (dir-spec 3.2, 3.4.2).
//!
//! What is refused ([`crate::uploads`]) leaves what was there before. The two identity keys of a
//! relay belong together for ever, once it was reached. A relay is Running while links to it could
//! be opened lately ([`reach`]). Who was not heard of for two days is forgotten, but for keys and
//! history; of a stranger whom nobody could reach nothing is kept ([`places`]).

mod pins;
mod places;
mod reach;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::DirDocument;
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::extrainfo::ExtraInfo;
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_wire::time::unix_seconds;

use crate::command::{Command, Reply, Row, RowKind};
use crate::config::{Config, METHODS, RELAYS_MAX};
use crate::history::History;
use crate::rules::{Rule, Rules, Verdict};
use crate::uploads::{self, RelayUpload, Source};
use crate::why::{OwnView, RuleSaid};
use places::{Places, Room};
use reach::{ReachTimes, TestsDue};

/// A relay that was not heard of for so long is forgotten.
const FORGET_AGE: Duration = Duration::from_secs(48 * 60 * 60);
/// So often it is looked who that is.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What is known of a relay's past is forgotten so long after the last word of it.
const HISTORY_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Replaced descriptors of one relay that are still served; those of a day, as a rule.
const REPLACED_MAX: usize = 4;

/// A relay.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    /// Its newest descriptor.
    pub(crate) desc: Arc<ServerDescriptor>,
    /// Whether its extra-info is held.
    has_extra_info: bool,
    /// SHA-256 of the microdescriptors that each of [`METHODS`] makes.
    pub(crate) microdescs: Vec<Option<[u8; 32]>>,
    /// How it was in the past.
    pub(crate) history: History,
    /// When a test last reached it at its address.
    reached: Option<SystemTime>,
    /// Whether tests over IPv6 reach it.
    over_ipv6: OverIpv6,
    tested: Option<SystemTime>,
    /// Tests that failed since the last good one.
    failures: u32,
    /// Whether it was reached at another address than it has now.
    has_moved: bool,
    /// Descriptors before this one that are still served: consensuses name them for a while.
    replaced: VecDeque<[u8; 20]>,
}

/// What tests of a relay's IPv6 address have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OverIpv6 {
    /// Nothing yet: it counts neither for nor against the relay.
    Untested,
    /// It was reached then.
    Reached(SystemTime),
    /// The last test has failed.
    Missed,
}

/// What a descriptor was that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inserted {
    /// Of a relay that was not known.
    New(RsaId),
    /// Of one that has another address.
    Moved(RsaId),
    /// Another one of a relay at the same address.
    Renewed,
}

/// All relays.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    by_id: BTreeMap<RsaId, Relay>,
    pins: BTreeMap<RsaId, Ed25519Id>,
    pinned: BTreeMap<Ed25519Id, RsaId>,
    histories: BTreeMap<RsaId, History>,
    places: Places,
    tests_due: TestsDue,
    /// When the last look was for those that are to be forgotten.
    swept: Option<SystemTime>,
}

impl Relays {
    /// All relays, ascending by RSA identity.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RsaId, &Relay)> {
        self.by_id.iter()
    }

    /// Whether a relay is known.
    pub(crate) fn knows(&self, id: &RsaId) -> bool {
        self.by_id.contains_key(id)
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

    /// What was uploaded, or comes from another authority or an earlier run: each descriptor, then
    /// each extra-info. The reply is the first refusal, or what was said of the last descriptor.
    pub(crate) fn upload(
        &mut self,
        upload: RelayUpload,
        source: Source,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) -> Reply {
        let (mut refusal, mut reply) = (upload.refusal, Reply::ok("OK"));
        for desc in upload.descriptors {
            reply = self.take(desc, source, config, now, commands);
            if reply.status != 200 {
                refusal = refusal.or(Some(reply.clone()));
            }
        }
        for info in upload.extra_infos {
            if let Err(refused) = self.take_extra_info(info, commands) {
                refusal = refusal.or(Some(refused));
            }
        }
        refusal.unwrap_or(reply)
    }

    fn take_extra_info(
        &mut self,
        info: Arc<ExtraInfo>,
        commands: &mut Vec<Command>,
    ) -> Result<(), Reply> {
        let Some(relay) = self.by_id.get_mut(&info.identity) else {
            let reason = "No corresponding router descriptor for extra-info descriptor";
            return Err(Reply::refused(reason));
        };
        if relay.has_extra_info {
            return Ok(());
        }
        info.check_against(&relay.desc)
            .map_err(|error| uploads::mismatch(&error))?;
        relay.has_extra_info = true;
        commands.push(put(RowKind::ExtraInfo, &info.identity, &info.text));
        commands.push(Command::Serve(DirDocument::ExtraInfo(info.as_ref().into())));
        Ok(())
    }

    fn take(
        &mut self,
        desc: Arc<ServerDescriptor>,
        source: Source,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) -> Reply {
        if let Err(refusal) = uploads::check(&desc, config, now) {
            return refusal;
        }
        if !self.is_pinned_as(&desc) {
            if config.duties.pins_keys {
                return Reply::refused("Ed25519 identity key or RSA identity key has changed.");
            }
            self.unpin(&desc, commands);
        }
        let known = self.by_id.get(&desc.identity);
        if let Some(refusal) = known.and_then(|known| uploads::old(&desc, &known.desc, source)) {
            return refusal;
        }
        match self
            .places
            .room(&desc.identity, *desc.or_address.ip(), config)
        {
            Room::Free => {}
            Room::Of(stranger) => {
                self.remove(&stranger, commands);
            }
            Room::Full(reason) => return Reply::refused(reason),
        }
        let plan = self.insert(desc, now, commands);
        self.plan(plan, source, ReachTimes::new(config), now);
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
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) -> Inserted {
        let id = desc.identity;
        let microdescs = serve_microdescs(&desc, commands);
        commands.push(put(RowKind::Descriptor, &id, &desc.text));
        commands.push(Command::Serve(DirDocument::ServerDesc(
            desc.as_ref().into(),
        )));
        if self.pins.insert(id, desc.ed25519).is_none() {
            commands.push(put(RowKind::KeyPin, &id, &desc.ed25519.to_string()));
        }
        self.pinned.insert(desc.ed25519, id);
        let before = self.by_id.remove(&id);
        let mut replaced = VecDeque::new();
        if let Some(known) = &before {
            replaced.clone_from(&known.replaced);
            replaced.push_back(known.desc.digest);
        }
        if replaced.len() > REPLACED_MAX {
            commands.extend(replaced.pop_front().map(Command::Withdraw));
        }
        let inserted = match &before {
            None => Inserted::New(id),
            Some(known) if known.desc.or_address != desc.or_address => Inserted::Moved(id),
            Some(_) => Inserted::Renewed,
        };
        if !matches!(inserted, Inserted::Renewed) {
            self.places.take(id, *desc.or_address.ip());
        }
        let (history, reached, tested, failures) = match &before {
            Some(known) if inserted == Inserted::Renewed => {
                (known.history, known.reached, known.tested, known.failures)
            }
            Some(known) => (known.history, None, known.tested, 0),
            None => {
                let history = self.histories.remove(&id).unwrap_or(History::new(now));
                (history, history.reached, None, 0)
            }
        };
        let same_ipv6 = before
            .as_ref()
            .filter(|known| known.desc.or_address_v6 == desc.or_address_v6);
        let over_ipv6 = same_ipv6.map_or(OverIpv6::Untested, |known| known.over_ipv6);
        let has_moved = match &before {
            Some(known) if inserted == Inserted::Renewed => known.has_moved,
            Some(known) => known.reached.is_some() || known.has_moved,
            None => false,
        };
        let relay = Relay {
            desc,
            has_extra_info: false,
            microdescs,
            history,
            reached,
            over_ipv6,
            tested,
            failures,
            has_moved,
            replaced,
        };
        self.by_id.insert(id, relay);
        inserted
    }

    /// Plans the test of a relay that has come or has a new address.
    fn plan(&mut self, inserted: Inserted, source: Source, times: ReachTimes, now: SystemTime) {
        let (Inserted::New(id) | Inserted::Moved(id)) = inserted else {
            return;
        };
        let Some(relay) = self.by_id.get(&id) else {
            return;
        };
        let is_stranger = relay.reached.is_none();
        let at = match source {
            Source::Stored if !is_stranger => times.spread(&id, now),
            _ => times.moved(relay.tested, now),
        };
        self.tests_due.plan(id, is_stranger, at);
    }

    /// Starts the tests that are due, and forgets who is gone.
    pub(crate) fn handle_timeout(
        &mut self,
        config: &Config,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) {
        let swept = self.swept.filter(|swept| *swept <= now);
        if swept.is_none_or(|swept| swept + FORGET_EVERY <= now) {
            self.forget(now, commands);
            self.keep_to_the_clock(config, now);
            self.swept = Some(now);
        }
        let times = ReachTimes::new(config);
        while config.duties.tests_reachability
            && let Some(id) = self.tests_due.pop(times, now)
        {
            let Some(relay) = self.by_id.get_mut(&id) else {
                continue;
            };
            relay.tested = Some(now);
            let over_ipv6 = relay.ipv6_address(config).map(SocketAddr::V6);
            let addresses = [Some(relay.desc.or_address.into()), over_ipv6];
            let tests = addresses.into_iter().flatten();
            commands.extend(tests.map(|address| Command::TestReachability {
                address,
                rsa_id: relay.desc.identity,
                ed25519: Some(relay.desc.ed25519).filter(|_| config.duties.tests_link_keys),
            }));
            let is_stranger = relay.reached.is_none();
            self.tests_due.plan(id, is_stranger, now + times.test_every);
        }
    }

    /// If the clock was set back, tests are planned anew.
    fn keep_to_the_clock(&mut self, config: &Config, now: SystemTime) {
        if self.swept.is_none_or(|swept| swept <= now) {
            return;
        }
        let times = ReachTimes::new(config);
        for (id, relay) in &mut self.by_id {
            relay.tested = relay.tested.filter(|tested| *tested <= now);
            let is_stranger = relay.reached.is_none();
            self.tests_due.plan(*id, is_stranger, times.spread(id, now));
        }
    }

    /// Forgets relays that were not heard of for long, and later their histories.
    fn forget(&mut self, now: SystemTime, commands: &mut Vec<Command>) {
        let is_gone = |relay: &Relay| relay.desc.published + FORGET_AGE <= now;
        let gone = self.by_id.iter().filter(|(_, relay)| is_gone(relay));
        let gone: Vec<RsaId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(history) = self.remove(&id, commands)
                && self.histories.len() < RELAYS_MAX
            {
                self.histories.insert(id, history);
            }
        }
        self.histories.retain(|id, history| {
            let is_void = history.recorded + HISTORY_AGE <= now;
            if is_void {
                commands.push(Command::Drop(RowKind::History, id.to_string()));
            }
            !is_void
        });
    }

    /// Removes a relay. Its history, and its pin, stay if it was ever reached.
    fn remove(&mut self, id: &RsaId, commands: &mut Vec<Command>) -> Option<History> {
        let mut relay = self.by_id.remove(id)?;
        // Nobody will test it any more.
        let last = relay.reached.or(relay.history.reached);
        relay
            .history
            .handle_missed(last.unwrap_or(relay.history.recorded));
        self.places.leave(id);
        self.tests_due.cancel(id);
        let replaced = relay.replaced.iter().copied();
        let digests = replaced.chain([relay.desc.digest]);
        commands.extend(digests.map(Command::Withdraw));
        let drop = |kind| Command::Drop(kind, id.to_string());
        commands.extend([RowKind::Descriptor, RowKind::ExtraInfo].map(drop));
        if relay.reached.or(relay.history.reached).is_some() {
            return Some(relay.history);
        }
        self.pins.remove(id);
        self.pinned.remove(&relay.desc.ed25519);
        commands.extend([RowKind::KeyPin, RowKind::History].map(drop));
        None
    }

    /// Removes those of whom the operator says so.
    pub(crate) fn reject(&mut self, rules: &Rules, commands: &mut Vec<Command>) {
        let is_rejected = |relay: &Relay| rules.verdicts(&relay.desc).has(Verdict::Reject);
        let rejected = self.by_id.iter().filter(|(_, relay)| is_rejected(relay));
        let rejected: Vec<RsaId> = rejected.map(|(id, _)| *id).collect();
        for id in rejected {
            if let Some(history) = self.remove(&id, commands)
                && self.histories.len() < RELAYS_MAX
            {
                self.histories.insert(id, history);
            }
        }
    }

    /// For how long the relay has been watched that was watched for longest.
    pub(crate) fn watched_seconds(&self, now: SystemTime) -> u64 {
        let known = self.by_id.values();
        let known = known.map(|relay| relay.history.stats(now).time_known_seconds);
        known.max().unwrap_or(0)
    }

    /// When the next test is due.
    pub(crate) fn next_test(&self, config: &Config, now: SystemTime) -> Option<SystemTime> {
        let next = self.tests_due.next(ReachTimes::new(config), now);
        next.filter(|_| config.duties.tests_reachability)
    }

    /// How a test at this address ended. That of an address which the relay has left says nothing.
    pub(crate) fn handle_reachability(
        &mut self,
        rsa: &RsaId,
        address: SocketAddr,
        reached: bool,
        config: &Config,
        now: SystemTime,
    ) {
        let Some(relay) = self.by_id.get_mut(rsa) else {
            return;
        };
        if address != SocketAddr::V4(relay.desc.or_address) {
            if relay.desc.or_address_v6.map(SocketAddr::V6) == Some(address) {
                relay.over_ipv6 = match reached {
                    true => OverIpv6::Reached(now),
                    false => OverIpv6::Missed,
                };
            }
            return;
        }
        let times = ReachTimes::new(config);
        if reached {
            match std::mem::take(&mut relay.has_moved) {
                true => relay.history.handle_moved(unknown_for(config), now),
                false => relay.history.handle_reached(now),
            }
            relay.reached = Some(now);
            relay.failures = 0;
            self.places.reached(rsa);
            self.tests_due.plan(*rsa, false, now + times.test_every);
        } else {
            relay.failures = relay.failures.saturating_add(1);
            let is_stranger = relay.reached.is_none();
            if is_stranger {
                self.places.failed(rsa, now);
            }
            let at = times.again(relay.failures, now);
            self.tests_due.plan(*rsa, is_stranger, at);
        }
    }

    /// What is known of a relay beside our vote on it, but for whether it is one too many.
    pub(crate) fn own_view(&self, id: &RsaId, config: &Config, now: SystemTime) -> Option<OwnView> {
        let relay = self.by_id.get(id)?;
        let said = |rule: &Rule| RuleSaid {
            verdict: rule.verdict.word(),
            subject: rule.subject.to_string(),
            comment: rule.comment.clone(),
        };
        Some(OwnView {
            published: relay.desc.published,
            is_running: relay.is_running(config, now),
            reached: relay.reached,
            reached_over_ipv6: (relay.ipv6_address(config))
                .map(|_| relay.reached_over_ipv6(config, now).is_some()),
            tested: relay.tested,
            failures: relay.failures,
            uptime_declared_seconds: relay.uptime_seconds(now),
            uptime_measured_seconds: relay.history.uptime_seconds(now),
            is_sybil: false,
            rules: config.rules.of(&relay.desc).map(said).collect(),
        })
    }

    /// Brings all histories up to date and persists them: once a voting round.
    ///
    /// An authority that has not looked at all of them yet (`may_judge`) finds nobody missing.
    pub(crate) fn record_histories(
        &mut self,
        config: &Config,
        may_judge: bool,
        now: SystemTime,
        commands: &mut Vec<Command>,
    ) {
        let times = ReachTimes::new(config);
        for (id, relay) in &mut self.by_id {
            if may_judge && !relay.is_running(config, now) {
                // Gone since the test that it did not pass, at the earliest.
                let since = relay.reached.map(|reached| reached + times.test_every);
                relay.history.handle_missed(since.unwrap_or(now).min(now));
            }
            relay.history.record(now);
            relay.history.reached = relay.reached;
            commands.push(put(RowKind::History, id, &relay.history.encode()));
        }
    }
}

impl Relay {
    /// Whether it gets the flag Running: it can be reached wherever it says it can, as far as this
    /// authority can tell.
    pub(crate) fn is_running(&self, config: &Config, now: SystemTime) -> bool {
        if !config.duties.tests_reachability {
            return !self.desc.is_hibernating;
        }
        let times = ReachTimes::new(config);
        let recent = self
            .reached
            .is_some_and(|reached| reached + times.running_for >= now);
        let is_missed = self.ipv6_address(config).is_some()
            && self.over_ipv6 != OverIpv6::Untested
            && self.reached_over_ipv6(config, now).is_none();
        recent && !is_missed && !self.desc.is_hibernating
    }

    /// Its IPv6 address, if this authority tests those.
    fn ipv6_address(&self, config: &Config) -> Option<SocketAddrV6> {
        self.desc.or_address_v6.filter(|_| config.tests_ipv6)
    }

    /// Its IPv6 address, if it was reached there lately: what is voted for.
    pub(crate) fn reached_over_ipv6(
        &self,
        config: &Config,
        now: SystemTime,
    ) -> Option<SocketAddrV6> {
        let OverIpv6::Reached(reached) = self.over_ipv6 else {
            return None;
        };
        let is_recent = reached + ReachTimes::new(config).running_for >= now;
        self.ipv6_address(config).filter(|_| is_recent)
    }

    /// Seconds since it was started, by its own account.
    pub(crate) fn uptime_seconds(&self, now: SystemTime) -> u64 {
        let since = unix_seconds(now).saturating_sub(unix_seconds(self.desc.published));
        self.desc.uptime_seconds.saturating_add(since)
    }
}

/// How long clients need, on average, to hear of a new address: half an interval until it is in a
/// consensus, half of the time for which that is valid until they have it.
fn unknown_for(config: &Config) -> Duration {
    let timing = &config.timing;
    timing.interval() * (1 + timing.intervals_valid) / 2
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
            let document = DirDocument::MadeMicrodesc(digest, text.into(), desc.identity);
            commands.push(Command::Serve(document));
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
