//! Descriptors of bridges, which no directory has but each bridge its own: fetched from it over one
//! hop, and again every few hours (dir-spec 4.3, `/tor/server/authority`; path-spec 2.3).
//!
//! ```text
//! wanted ─▶ one-hop circuit (CREATE_FAST) ─▶ request ─▶ descriptor ─▶ Choice
//!    ▲─────────── no link, late, of no use: later each time ┘
//! ```
//!
//! Invariants: one fetch a bridge at a time; a bridge whose descriptor is of no use counts as one
//! that cannot be reached, so that the next one is taken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::{Rng, RsaId};
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_dir::request::DescQuery;
use cepa_netdoc::descriptor::{DESCRIPTOR_LIMITS, ServerDescriptor};
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::sources::fast_hop;
use crate::circuits::{self, Circuits};
use crate::command::Command;
use crate::context::Context;
use crate::names::{CircuitId, FetchId};
use crate::plane::StreamTarget;

/// How long a fetch may take in all, a transport that is slow to connect included.
const FETCH_MAX: Duration = Duration::from_secs(90);
/// A descriptor is fetched again after one to three times as long; relays write theirs anew every
/// 18 hours, and when a key changes.
const AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// The least and the most time after a fetch that failed.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30 * 60)];
/// The most in a test network.
const RETRY_MAX_TESTING: Duration = Duration::from_secs(5);

/// When a bridge is asked next.
#[derive(Debug)]
struct Schedule {
    due: Instant,
    /// Fetches that failed one after the other.
    failures: u32,
}

/// A bridge that is being asked.
#[derive(Debug)]
struct Attempt {
    bridge: RsaId,
    circuit: CircuitId,
    stream: Option<StreamKey>,
    until: Instant,
}

/// The fetches of all bridges' descriptors.
#[derive(Debug, Default)]
pub(crate) struct BridgeFetches {
    /// Of all bridges that have been wanted.
    schedules: BTreeMap<RsaId, Schedule>,
    /// Those that are wanted now.
    wanted: Vec<RsaId>,
    attempts: BTreeMap<FetchId, Attempt>,
}

impl BridgeFetches {
    /// Whether a bridge is being asked.
    pub(crate) fn is_asking(&self, bridge: &RsaId) -> bool {
        self.attempts.values().any(|one| one.bridge == *bridge)
    }

    /// The bridge that a fetch is asked of.
    #[cfg(test)]
    pub(crate) fn bridge_of(&self, fetch: FetchId) -> Option<RsaId> {
        self.attempts.get(&fetch).map(|one| one.bridge)
    }

    /// Whether a fetch is one of these.
    pub(crate) fn contains(&self, fetch: FetchId) -> bool {
        self.attempts.contains_key(&fetch)
    }

    /// When [`BridgeFetches::review`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let idle = self.wanted.iter().filter(|id| !self.is_asking(id));
        let due = idle.filter_map(|id| Some(self.schedules.get(id)?.due));
        let late = self.attempts.values().map(|one| one.until);
        due.chain(late).min()
    }

    /// Asks those bridges whose time has come, and gives up those that are late.
    pub(crate) fn review(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let is_late = |one: &Attempt| one.until <= ctx.now.mono;
        let late = self.attempts.iter().filter(|(_, one)| is_late(one));
        for fetch in late.map(|(fetch, _)| *fetch).collect::<Vec<_>>() {
            self.fail(fetch, "it does not answer", circuits, ctx);
        }
        if !circuits.choice.bridges().is_in_use() || circuits.is_off {
            self.wanted.clear();
            return;
        }
        self.wanted = circuits.choice.bridges_wanted(ctx.rng, ctx.now);
        let bridges = circuits.choice.bridges();
        self.schedules.retain(|id, _| bridges.contains(id));
        for id in self.wanted.clone() {
            let schedule = self.schedules.entry(id).or_insert(Schedule {
                due: ctx.now.mono,
                failures: 0,
            });
            if schedule.due <= ctx.now.mono && !self.is_asking(&id) {
                self.begin(id, circuits, ctx);
            }
        }
    }

    /// Everybody is asked at the next review, whatever has failed.
    pub(crate) fn hurry(&mut self, now: Now) {
        for schedule in self.schedules.values_mut().filter(|one| one.failures > 0) {
            schedule.due = now.mono;
        }
    }

    fn begin(&mut self, id: RsaId, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let Some(target) = circuits.choice.bridges().target(&id) else {
            return;
        };
        let (circuit, built) = match circuits.pool.directory(&id) {
            Some((circuit, built)) => (Some(circuit), built),
            None => (circuits.launch_directory(target, fast_hop(), ctx), None),
        };
        let fetch = ctx.new_fetch();
        let attempt = circuit.map(|circuit| Attempt {
            bridge: id,
            circuit,
            stream: None,
            until: ctx.now.mono + FETCH_MAX,
        });
        match attempt {
            Some(attempt) => self.attempts.insert(fetch, attempt),
            None => return self.put_off(id, ctx),
        };
        if let Some(key) = built {
            self.ask(fetch, key, circuits, ctx);
        }
    }

    /// The next fetch of a bridge comes later than the one before.
    fn put_off(&mut self, id: RsaId, ctx: &mut Context<'_>) {
        let [least, most] = RETRY;
        let most = match ctx.network.is_testing {
            true => RETRY_MAX_TESTING,
            false => most,
        };
        if let Some(schedule) = self.schedules.get_mut(&id) {
            let wait = least * 2_u32.saturating_pow(schedule.failures.min(16));
            schedule.failures = schedule.failures.saturating_add(1);
            schedule.due = ctx.now.mono + jittered(wait.min(most), ctx.rng);
        }
    }

    fn fail(&mut self, fetch: FetchId, why: &str, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let Some(attempt) = self.attempts.remove(&fetch) else {
            return;
        };
        if let Some(stream) = attempt.stream {
            ctx.plane.stream_close(stream, EndReason::DONE, ctx.now);
            ctx.commands.push_back(Command::CancelDirRequest { fetch });
        }
        let bridge = circuits.choice.bridges().shown(&attempt.bridge);
        tracing::info!("no descriptor of the bridge {bridge}: {why}");
        // What is known of it stays good for as long as it answers.
        if circuits.choice.bridges().relay(&attempt.bridge).is_none() {
            let guards = &mut circuits.choice.guards;
            guards.handle_unreachable(&attempt.bridge, ctx.now);
        }
        self.put_off(attempt.bridge, ctx);
    }

    fn ask(
        &mut self,
        fetch: FetchId,
        key: CircuitKey,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&fetch) else {
            return;
        };
        let target = &StreamTarget::BeginDir;
        match ctx.plane.open_stream(key, target, ctx.now) {
            Ok(stream) => {
                attempt.stream = Some(stream);
                circuits.pool.used(attempt.circuit, None, ctx.now);
                ctx.commands.push_back(Command::DirRequest {
                    fetch,
                    stream,
                    request: DirRequest::ServerDescs(DescQuery::Own),
                    body: Vec::new(),
                    body_bytes_max: DESCRIPTOR_LIMITS.bytes_max,
                });
            }
            Err(error) => self.fail(fetch, &error.to_string(), circuits, ctx),
        }
    }

    /// A circuit of one hop stands, or is gone.
    pub(crate) fn handle_circuit(
        &mut self,
        event: &circuits::Event,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let (id, key) = match event {
            circuits::Event::Built(id, key) => (*id, Some(*key)),
            circuits::Event::Gone(id, ..) => (*id, None),
            circuits::Event::Late(..) | circuits::Event::Due(..) => return,
        };
        // With a stream, the shell will tell: the reply may have come whole.
        let on = |one: &Attempt| one.circuit == id && one.stream.is_none();
        let found = self.attempts.iter().filter(|(_, one)| on(one));
        for fetch in found.map(|(fetch, _)| *fetch).collect::<Vec<_>>() {
            match key {
                Some(key) => self.ask(fetch, key, circuits, ctx),
                None => self.fail(fetch, "it cannot be reached", circuits, ctx),
            }
        }
    }

    /// A link has proven the identity of a nameless bridge, which has that for a name now.
    pub(crate) fn rename(&mut self, stand_in: RsaId, id: RsaId) {
        for attempt in self.attempts.values_mut() {
            if attempt.bridge == stand_in {
                attempt.bridge = id;
            }
        }
        if let Some(schedule) = self.schedules.remove(&stand_in) {
            self.schedules.entry(id).or_insert(schedule);
        }
        self.wanted.retain(|one| *one != stand_in);
    }

    /// A bridge has answered, or has not. True if that brought the first descriptor of it.
    pub(crate) fn handle_reply(
        &mut self,
        fetch: FetchId,
        reply: Option<Reply>,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> bool {
        let reply = reply.filter(|reply| reply.status == 200);
        let text = reply.and_then(|reply| String::from_utf8(reply.body).ok());
        let Some(bridge) = self.attempts.get(&fetch).map(|one| one.bridge) else {
            return false;
        };
        let read = text.ok_or_else(|| "it serves none".to_owned());
        let read = read.and_then(|text| {
            let descriptor = ServerDescriptor::parse(text.trim_end_matches('\0'));
            let descriptor = descriptor.map_err(|error| error.to_string())?;
            match descriptor.expires > ctx.now.wall {
                true => Ok(descriptor),
                false => Err("its keys have run out".to_owned()),
            }
        });
        let taken = read.and_then(|descriptor| {
            let choice = &mut circuits.choice;
            let taken = choice.bridge_described(&bridge, &descriptor, ctx.rng, ctx.now);
            taken.map_err(|error| error.to_string())
        });
        match taken {
            Ok(is_new) => {
                if let Some(attempt) = self.attempts.remove(&fetch)
                    && let Some(stream) = attempt.stream
                {
                    ctx.plane.stream_close(stream, EndReason::DONE, ctx.now);
                }
                if let Some(schedule) = self.schedules.get_mut(&bridge) {
                    schedule.failures = 0;
                    schedule.due = ctx.now.mono + AGAIN_AFTER + jittered(AGAIN_AFTER, ctx.rng);
                }
                let shown = circuits.choice.bridges().shown(&bridge);
                tracing::info!("the descriptor of the bridge {shown} is there");
                is_new
            }
            Err(why) => {
                self.fail(fetch, &why, circuits, ctx);
                false
            }
        }
    }
}

/// A time between the half of it and one and a half.
fn jittered(time: Duration, rng: &mut Rng) -> Duration {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1);
    time / 2 + Duration::from_millis(rng.below(millis.max(1)))
}
