//! Keeps the introduction points of a service (rend-spec-v3 3.1, 2.5.4; numbers as `tor` has them).
//!
//! ```text
//! choose (wanted, at first some more) ─▶ open ─▶ ESTABLISH_INTRO ─▶ stands ─▶ listed
//!    ▲                                      └─ lost: the same, RETRIES times, then another
//!    └── replaced: old, used up, or gone from the consensus; the old one is kept while there
//!        are descriptors that name it
//! ```
//!
//! Points are shared by the descriptors of both periods. Invariants: no relay twice among those
//! that are not retiring; a point with a circuit is found by that circuit; when as many stand as
//! are wanted, circuits beyond are closed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_crypto::RsaId;
use cepa_dir::{NetworkView, Relay, Role};
use cepa_netdoc::hs_descriptor::IntroPoint;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::establish_intro::{DosParams, EstablishIntro, IntroEstablished};
use cepa_wire::relay::RelayCommand;

use super::circuits::{Context, Network, Part};
use super::config::DosLimits;
use super::point::{Age, Point, Stage};
use crate::names::CircuitName;
use crate::onion::action::{Ending, LastHop};
use crate::select::paths::onion::is_intro_point;
use crate::status::IntroPointStatus;

/// Tries to reach a point again before another takes its place
/// (`tor`: `MAX_INTRO_POINT_CIRCUIT_RETRIES`).
const RETRIES: u32 = 3;
/// A point that has stood so long has all of its retries again.
const STEADY: Duration = Duration::from_secs(5 * 60);
/// How long a relay that failed is not chosen (`tor`: `INTRO_CIRC_RETRY_PERIOD`).
const SHUN: Duration = Duration::from_secs(5 * 60);
/// How long it is not chosen even if there is no other; then it is looked again.
const SHUN_MIN: Duration = Duration::from_secs(10);
/// How long a relay may take to answer ESTABLISH_INTRO.
const ESTABLISH_MAX: Duration = Duration::from_secs(15);
/// A point is replaced so long before its time is over.
const OVERLAP: Duration = Duration::from_secs(5 * 60);
/// How long descriptors that name a point are used (rend-spec-v3 2.4, `descriptor-lifetime`).
const RETIREMENT: Duration = Duration::from_secs(180 * 60);
/// Retiring points that are kept, times those wanted.
const RETIRING_MAX: usize = 2;
/// How long publishing waits for all points, if some stand.
const SLOW: Duration = Duration::from_secs(3);
/// The first wait when no circuit can be built at all; it doubles up to [`OUTAGE_MAX`].
const OUTAGE_MIN: Duration = Duration::from_millis(500);
/// The longest such wait.
const OUTAGE_MAX: Duration = Duration::from_secs(60);

/// Whether fewer points stand than are wanted, although more are coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// No.
    None,
    /// Publishing waits for them until then.
    Until(Instant),
    /// They are too slow to be waited for.
    Slow,
}

/// The introduction points of a service.
#[derive(Debug)]
pub(super) struct IntroPoints {
    wanted: usize,
    dos: Option<DosLimits>,
    points: Vec<Point>,
    /// Relays that failed, and when.
    shunned: BTreeMap<RsaId, Instant>,
    /// Whether as many as wanted have stood once: no more extra ones from then on.
    is_settled: bool,
    lack: Lack,
    /// Circuits that failed in a row, none of a point's fault.
    outages: u32,
    outage_until: Option<Instant>,
    /// No relay is left to choose, until then or the next consensus.
    exhausted_until: Option<Instant>,
}

impl IntroPoints {
    /// So many are wanted, with these limits.
    pub(super) fn new(wanted: usize, dos: Option<DosLimits>) -> Self {
        IntroPoints {
            wanted,
            dos,
            points: Vec::new(),
            shunned: BTreeMap::new(),
            is_settled: false,
            lack: Lack::None,
            outages: 0,
            outage_until: None,
            exhausted_until: None,
        }
    }

    /// So many are wanted from now on, with these limits for those that are still to come.
    pub(super) fn want(&mut self, wanted: usize, dos: Option<DosLimits>) {
        self.wanted = wanted;
        self.dos = dos;
    }

    /// The point behind a circuit.
    pub(super) fn find(&mut self, circuit: CircuitName) -> Option<&mut Point> {
        let mut points = self.points.iter_mut();
        points.find(|point| point.circuit() == Some(circuit))
    }

    /// Those that descriptors are to name now. None if it is better to wait a little.
    pub(super) fn listing(&self) -> Option<Vec<IntroPoint>> {
        if matches!(self.lack, Lack::Until(_)) {
            return None;
        }
        let listed = |age: Age| {
            let points = self.points.iter();
            points.filter(move |point| point.is_listed() && point.age == age)
        };
        let all = listed(Age::Fresh).chain(listed(Age::Aging));
        let points: Vec<IntroPoint> = all.take(self.wanted).map(Point::described).collect();
        (!points.is_empty()).then_some(points)
    }

    /// There is a consensus: what it does not list any more is replaced.
    pub(super) fn handle_network(&mut self, view: &NetworkView) {
        self.exhausted_until = None;
        // Not by the view: what it does not know yet, such as a new microdescriptor, will come.
        let routers = &view.consensus().routers;
        for point in &mut self.points {
            let is_listed = routers.iter().any(|it| it.rsa_id == point.relay);
            if point.age == Age::Fresh && !is_listed {
                point.age = Age::Aging;
            }
        }
    }

    /// Does what is due: replaces, chooses and opens.
    pub(super) fn advance(&mut self, network: &Network, ctx: &mut Context<'_>) {
        self.expire(ctx);
        self.settle(ctx);
        if self.outage_until.is_none_or(|until| until <= ctx.now.mono) {
            self.outage_until = None;
            self.choose(network, ctx);
            self.open(ctx);
        }
        self.note_lack(ctx);
    }

    fn open(&mut self, ctx: &mut Context<'_>) {
        for point in &mut self.points {
            if matches!(point.stage, Stage::Waiting(at) if at <= ctx.now.mono) {
                point.tries += 1;
                let circuit = ctx.open(Part::Intro, LastHop::Listed(point.relay));
                point.stage = Stage::Opening(circuit);
            }
        }
    }

    /// Ends what has lasted its time.
    fn expire(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.mono;
        self.shunned.retain(|_, since| *since + SHUN > now);
        if self.exhausted_until.is_some_and(|until| until <= now) {
            self.exhausted_until = None;
        }
        for point in &mut self.points {
            if point.age == Age::Fresh && point.replaced_at <= now + OVERLAP {
                point.age = Age::Aging;
            }
        }
        let late = |point: &Point| match (point.age, point.stage) {
            (Age::Retiring(until), stage) => until <= now || matches!(stage, Stage::Waiting(_)),
            (_, Stage::Establishing(_, until)) => until <= now,
            _ => false,
        };
        let mut lost = Vec::new();
        self.points.retain_mut(|point| {
            if !late(point) {
                return true;
            }
            let circuit = point.circuit();
            circuit.into_iter().for_each(|name| ctx.close(name));
            let is_retiring = matches!(point.age, Age::Retiring(_));
            if !is_retiring {
                lost.push(point.relay);
                retry(point, now);
            }
            !is_retiring
        });
        if !lost.is_empty() {
            self.give_up(now);
        }
    }

    /// Closes what is too much, and retires what has been replaced.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        let is_standing = |point: &&Point| point.age == Age::Fresh && point.stands();
        if self.points.iter().filter(is_standing).count() < self.wanted {
            return;
        }
        self.is_settled = true;
        let until = ctx.now.mono + RETIREMENT;
        let mut left = self.wanted;
        self.points.retain_mut(|point| match point.age {
            Age::Fresh if point.stands() && left > 0 => {
                left -= 1;
                true
            }
            Age::Fresh | Age::Aging if point.is_listed() && point.stands() => {
                point.age = Age::Retiring(until);
                true
            }
            Age::Fresh | Age::Aging => {
                let circuit = point.circuit();
                circuit.into_iter().for_each(|name| ctx.close(name));
                false
            }
            Age::Retiring(_) => true,
        });
        self.bound_retiring(ctx);
    }

    fn bound_retiring(&mut self, ctx: &mut Context<'_>) {
        let is_retiring = |point: &&Point| matches!(point.age, Age::Retiring(_));
        let retiring = self.points.iter().filter(is_retiring).count();
        let mut excess = retiring.saturating_sub(self.wanted * RETIRING_MAX);
        // The oldest stand first.
        self.points.retain(|point| {
            let goes = excess > 0 && is_retiring(&point);
            if goes {
                excess -= 1;
                let circuit = point.circuit();
                circuit.into_iter().for_each(|name| ctx.close(name));
            }
            !goes
        });
    }

    /// Chooses as many as are missing.
    fn choose(&mut self, network: &Network, ctx: &mut Context<'_>) {
        let view = &network.view;
        let extra = view.params().value("hs_intro_num_extra", 2, 0, 128);
        let extra = usize::try_from(extra).unwrap_or_default().min(self.wanted);
        let target = self.wanted + if self.is_settled { 0 } else { extra };
        while self.count(Age::Fresh) < target && self.exhausted_until.is_none() {
            let Some(relay) = self.draw(network, ctx) else {
                self.exhausted_until = Some(ctx.now.mono + SHUN_MIN);
                return;
            };
            let point = Point::new(relay, view.params(), ctx.now, ctx.rng);
            self.points.push(point);
        }
    }

    fn count(&self, age: Age) -> usize {
        self.points.iter().filter(|point| point.age == age).count()
    }

    fn draw<'v>(&self, network: &'v Network, ctx: &mut Context<'_>) -> Option<&'v Relay> {
        let (view, now) = (&network.view, ctx.now.mono);
        let is_other = |relay: &Relay| {
            relay.ed25519_id.is_some()
                && is_intro_point(relay)
                && network.permits.of(&relay.rsa_id).any
                && !self.points.iter().any(|it| it.relay == relay.rsa_id)
        };
        let is_free = |relay: &Relay| !self.shunned.contains_key(&relay.rsa_id) && is_other(relay);
        let is_forgiven = |relay: &Relay| {
            let failed = self.shunned.get(&relay.rsa_id);
            failed.is_none_or(|since| *since + SHUN_MIN <= now) && is_other(relay)
        };
        let good = Flags::FAST | Flags::STABLE;
        let is_good = |relay: &Relay| relay.flags.contains(good) && is_free(relay);
        view.choose(ctx.rng, Role::Middle, is_good)
            .or_else(|| view.choose(ctx.rng, Role::Middle, is_free))
            .or_else(|| view.choose(ctx.rng, Role::Middle, is_forgiven))
    }

    /// Notes whether there are too few, as long as more can be had.
    fn note_lack(&mut self, ctx: &Context<'_>) {
        let now = ctx.now.mono;
        let listed = self.points.iter().filter(|point| point.is_listed());
        let is_coming = |point: &Point| point.age == Age::Fresh && !point.is_listed();
        let lacks = listed.count() < self.wanted && self.points.iter().any(is_coming);
        self.lack = match self.lack {
            _ if !lacks => Lack::None,
            Lack::None => Lack::Until(now + SLOW),
            Lack::Until(at) if at <= now => Lack::Slow,
            as_before => as_before,
        };
    }

    /// The circuit stands: asks the relay to be a point.
    pub(super) fn handle_built(
        &mut self,
        circuit: CircuitName,
        kh: &[u8; 20],
        ctx: &mut Context<'_>,
    ) {
        self.outages = 0;
        self.outage_until = None;
        let dos = self.dos;
        let until = ctx.now.mono + ESTABLISH_MAX;
        let Some(point) = self.find(circuit) else {
            return;
        };
        point.stage = Stage::Establishing(circuit, until);
        let dos = dos.filter(|_| point.takes_dos()).map(|it| DosParams {
            rate_per_s: it.rate.into(),
            burst: it.burst.into(),
        });
        let body = EstablishIntro::make(&point.auth, kh, dos);
        ctx.send(circuit, RelayCommand::ESTABLISH_INTRO, body);
    }

    /// INTRO_ESTABLISHED came: the point stands.
    pub(super) fn handle_established(
        &mut self,
        circuit: CircuitName,
        body: &[u8],
        ctx: &Context<'_>,
    ) {
        if IntroEstablished::read(body).is_err() {
            return;
        }
        if let Some(point) = self.find(circuit)
            && matches!(point.stage, Stage::Establishing(..))
        {
            point.established(circuit, ctx.now);
        }
    }

    /// The circuit is gone.
    pub(super) fn handle_ended(&mut self, circuit: CircuitName, ending: Ending, ctx: &Context<'_>) {
        let now = ctx.now.mono;
        if ending == Ending::NoPath {
            let wait = OUTAGE_MIN.saturating_mul(1 << self.outages.min(16));
            self.outages = self.outages.saturating_add(1);
            self.outage_until = Some(now + wait.min(OUTAGE_MAX));
        }
        if let Some(point) = self.find(circuit) {
            if ending == Ending::NoPath && point.is_listed() {
                // Not its fault: it was reached before.
                point.tries = point.tries.saturating_sub(1);
            }
            retry(point, now);
            self.give_up(now);
        }
    }

    /// Drops points that were tried often enough, and those that retire without a circuit.
    fn give_up(&mut self, now: Instant) {
        let shunned = &mut self.shunned;
        self.points.retain(|point| {
            let is_lost = matches!(point.stage, Stage::Waiting(_));
            let is_retired = is_lost && matches!(point.age, Age::Retiring(_));
            let is_hopeless = is_lost && point.tries > RETRIES;
            if is_hopeless {
                shunned.insert(point.relay, now);
            }
            !is_retired && !is_hopeless
        });
    }

    /// When [`IntroPoints::advance`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let outage = self.outage_until;
        let of = |point: &Point| {
            let stage = match point.stage {
                Stage::Waiting(at) => Some(outage.map_or(at, |until| until.max(at))),
                Stage::Establishing(_, until) => Some(until),
                Stage::Opening(_) | Stage::Standing(_) => None,
            };
            let age = match point.age {
                Age::Fresh => point.replaced_at.checked_sub(OVERLAP),
                Age::Aging => None,
                Age::Retiring(until) => Some(until),
            };
            stage.into_iter().chain(age).min()
        };
        let points = self.points.iter().filter_map(of);
        let slow = match self.lack {
            Lack::Until(at) => Some(at),
            Lack::None | Lack::Slow => None,
        };
        let others = [slow, outage, self.exhausted_until];
        points.chain(others.into_iter().flatten()).min()
    }

    /// How many points stand.
    pub(super) fn standing(&self) -> usize {
        self.points.iter().filter(|point| point.stands()).count()
    }

    /// How all points stand.
    pub(super) fn statuses(&self) -> Vec<IntroPointStatus> {
        self.points.iter().map(Point::status).collect()
    }
}

/// Plans the next try: at once, then after one second, two, four.
fn retry(point: &mut Point, now: Instant) {
    if point
        .stood
        .take()
        .is_some_and(|since| since + STEADY <= now)
    {
        point.tries = 0;
    }
    let wait = match point.tries {
        0 | 1 => Duration::ZERO,
        tries => Duration::from_secs(1 << (tries - 2).min(5)),
    };
    point.stage = Stage::Waiting(now + wait);
}
