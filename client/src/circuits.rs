//! The circuits of a client, the links under them, and what is learnt of both (path-spec 2;
//! guard-spec 4.7, 4.8).
//!
//! ```text
//! launch, open ─▶ Choice ─path─▶ Pool ─▶ Links ─▶ plane ─built, gone─▶ Event ─▶ whose it is
//! ```
//!
//! Directory, onion services and streams ask for circuits, and find theirs in the [`Pool`]. Nothing
//! here knows what they do with them: what became of a circuit is told by [`Event`].

pub(crate) mod build_times;
mod building;
pub(crate) mod by_hand;
mod ending;
pub(crate) mod links;
pub(crate) mod overrides;
pub(crate) mod padding;
pub(crate) mod path_bias;
pub(crate) mod pool;
pub(crate) mod room;
mod silence;
pub(crate) mod status;
pub(crate) mod upkeep;

use std::collections::VecDeque;
use std::time::Duration;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::Rng;
use cepa_dir::NetworkView;
use cepa_link::{ChannelKey, Established};
use cepa_netdoc::params::Params;
use cepa_wire::Now;

use crate::command::{Command, Saved, SavedState};
use crate::context::Context;
use crate::names::{CircuitId, CircuitName, LinkId};

use crate::plane::{CircuitClose, Plane};
use crate::select::choice::Choice;
use crate::status::{CircuitEnd, LinkEnd};
use build_times::BuildTimes;
use links::Links;
use padding::PaddingParams;
use path_bias::PathBias;
use pool::Pool;
use upkeep::Upkeep;

/// What became of a circuit, for the machine whose it is.
#[derive(Debug)]
pub(crate) enum Event {
    /// All hops stand, of a directory's circuit or of one with a name.
    Built(CircuitId, CircuitKey),
    /// It is not in the pool any more; the name that it was bound to, and why it is gone, if that
    /// was somebody else's doing.
    Gone(CircuitId, Option<CircuitName>, Option<CircuitClose>),
    /// It is too late to be of use to its name, and is not bound to it any more.
    Late(CircuitId, CircuitName),
    /// It has a name, all hops stand, and its time has come.
    Due(CircuitId, CircuitName),
}

/// All circuits of a client, and all that decides what becomes of them.
#[derive(Debug)]
pub(crate) struct Circuits {
    pub(crate) pool: Pool,
    pub(crate) choice: Choice,
    pub(crate) build_times: BuildTimes,
    pub(crate) path_bias: PathBias,
    pub(crate) links: Links,
    padding: PaddingParams,
    pub(crate) upkeep: Upkeep,
    events: VecDeque<Event>,
    /// The network is left alone: no circuit is begun.
    pub(crate) is_off: bool,
    /// What is a controller's of the next circuit.
    making: Option<pool::ByHand>,
    /// Whether anything came from the network lately, as was told.
    pub(crate) is_live: bool,
}

impl Circuits {
    /// None yet.
    pub(crate) fn new(choice: Choice, dirty_max: Option<Duration>, now: Now) -> Self {
        let mut pool = Pool::default();
        pool.dirty_max = dirty_max;
        Circuits {
            pool,
            choice,
            build_times: BuildTimes::new(now),
            path_bias: PathBias::default(),
            links: Links::default(),
            padding: PaddingParams::read(&Params::new()),
            upkeep: Upkeep::new(now),
            events: VecDeque::new(),
            is_off: false,
            making: None,
            is_live: true,
        }
    }

    /// Takes what was kept of build times, path bias and vanguards. What is damaged is learnt or
    /// drawn anew.
    pub(crate) fn restore(&mut self, saved: &SavedState, rng: &mut Rng, now: Now) {
        let build_times = saved.build_times.as_deref();
        match build_times.map(|text| BuildTimes::parse(text, rng, now)) {
            Some(Ok(read)) => self.build_times.replace(read),
            Some(Err(error)) => tracing::warn!("{error}; they are learnt anew"),
            None => {}
        }
        match saved.path_bias.as_deref().map(PathBias::parse) {
            Some(Ok(read)) => self.path_bias = read,
            Some(Err(line)) => tracing::warn!("line {line} of the kept path bias is damaged"),
            None => {}
        }
        let vanguards = saved.vanguards.as_deref().unwrap_or_default();
        for line in self.choice.vanguards.restore(vanguards, now) {
            tracing::error!(
                "line {line} of the kept vanguards is damaged: another takes its place"
            );
        }
    }

    /// What became of a circuit, in order.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A consensus is in force: guards are seen to, and all that its parameters decide.
    pub(crate) fn handle_consensus(&mut self, ctx: &mut Context<'_>) {
        let Some(view) = ctx.view else { return };
        let params = view.params();
        self.choice.handle_consensus(view, ctx.rng, ctx.now);
        self.padding = PaddingParams::read(params);
        let circuit_padding = padding::of_circuits(params, ctx.config.circuit_padding);
        ctx.plane.set_circuit_padding(circuit_padding);
        let sendme = params.value("sendme_accept_min_version", 0, 0, u8::MAX.into());
        ctx.plane.set_sendme_min(u8::try_from(sendme).unwrap_or(0));
        overrides::handle_params(self, params);
        self.handle_relays(ctx.view);
    }

    /// More relays can be used, or others.
    pub(crate) fn handle_relays(&mut self, view: Option<&NetworkView>) {
        if let Some(view) = view {
            self.choice.review(view);
            self.upkeep.note_view(view);
        }
    }

    /// A link stands: whoever waits for it is begun. `None` if nobody waits for it any more.
    pub(crate) fn link_opened(
        &mut self,
        link: LinkId,
        established: Established,
        ctx: &mut Context<'_>,
    ) -> Option<ChannelKey> {
        let relay = self.links.relay_of(link)?;
        self.build_times.heard(ctx.now);
        let addr = established.peer_addr;
        let channel = ctx.plane.add_channel(established, ctx.now);
        self.links.opened(relay, addr, channel, ctx.now);
        self.supersede_silent(&relay, ctx);
        padding::negotiate(channel, ctx);
        for circuit in self.pool.waiting_for(&relay) {
            self.begin(circuit, channel, ctx);
        }
        Some(channel)
    }

    /// A link cannot be opened: its guard is blamed, and whoever waits for it is dropped.
    pub(crate) fn link_failed(&mut self, link: LinkId, ctx: &mut Context<'_>) {
        let Some(relay) = self.links.failed(link) else {
            return;
        };
        self.choice.guards.handle_unreachable(&relay, ctx.now);
        for circuit in self.pool.waiting_for(&relay) {
            self.drop_circuit(circuit, CircuitEnd::NoLink, ctx);
        }
    }

    /// The connection under a channel is gone.
    pub(crate) fn link_closed(&mut self, channel: ChannelKey) {
        self.links.closed(channel, LinkEnd::Broken);
    }

    /// The circuit of a stream.
    pub(crate) fn of_stream(&self, stream: StreamKey, plane: &Plane) -> Option<CircuitId> {
        self.pool.by_key(plane.stream_circuit(stream)?)
    }

    /// Has the shell keep what has changed.
    pub(crate) fn save_changes(&mut self, ctx: &mut Context<'_>) {
        overrides::drop_guards(self, ctx);
        let (guards, vanguards) = (&mut self.choice.guards, &mut self.choice.vanguards);
        let saved = [
            guards
                .take_changed()
                .then(|| Saved::Guards(guards.encode())),
            self.path_bias
                .take_changed()
                .then(|| Saved::PathBias(self.path_bias.encode())),
            vanguards
                .take_changed()
                .then(|| Saved::Vanguards(vanguards.encode(ctx.now))),
            self.build_times
                .take_changed()
                .then(|| Saved::BuildTimes(self.build_times.encode())),
        ];
        let saved = saved.into_iter().flatten();
        ctx.commands.extend(saved.map(Command::Save));
    }

    /// An exit has answered, or a stream has failed for a reason that is the circuit's.
    pub(crate) fn note_answer(&mut self, stream: StreamKey, answered: bool, plane: &Plane) {
        let id = self.of_stream(stream, plane);
        if let Some(entry) = id.and_then(|id| self.pool.entry_mut(id)) {
            entry.answered = Some(answered);
        }
    }
}
