//! Snapshots of circuits, links and guards, and what is told of them ([`crate::status`]).

use cepa_dir::NetworkView;
use cepa_wire::Now;

use super::Circuits;
use super::pool::{Entry, Pool};
use crate::context::Context;
use crate::names::CircuitId;
use crate::plane::Plane;
use crate::status::{
    CircuitChange, CircuitStatus, Event, GuardsStatus, HopStatus, LinkStatus, Listener,
    NamedVanguard, PathBiasStatus,
};

impl Circuits {
    /// The circuits, the oldest first.
    pub(crate) fn statuses(&self, view: Option<&NetworkView>, plane: &Plane) -> Vec<CircuitStatus> {
        let circuits = self.pool.iter();
        circuits
            .map(|(id, entry)| circuit_status(id, entry, view, plane))
            .collect()
    }

    /// The links, by the relay that they lead to.
    pub(crate) fn link_statuses(&self, plane: &Plane) -> Vec<LinkStatus> {
        self.links
            .statuses(|channel| plane.channel_circuit_count(channel))
    }

    /// The guards and vanguards.
    pub(crate) fn guards_status(&self, view: Option<&NetworkView>, now: Now) -> GuardsStatus {
        let bias = self.path_bias.iter().map(|(guard, counts)| PathBiasStatus {
            guard: *guard,
            attempts: counts.attempts,
            successes: counts.successes,
            use_attempts: counts.use_attempts,
            use_successes: counts.use_successes,
        });
        let (guards, vanguards) = (&self.choice.guards, &self.choice.vanguards);
        let named = vanguards.statuses(now).map(|vanguard| NamedVanguard {
            nickname: nickname(view, &vanguard.id).map(str::to_owned),
            vanguard,
        });
        GuardsStatus {
            selection: guards.selection(),
            sampled: guards.statuses(),
            departures: guards.departures().cloned().collect(),
            path_bias: bias.collect(),
            vanguard_mode: vanguards.mode(),
            vanguards: named.collect(),
        }
    }

    /// Tells what happened to a circuit.
    pub(crate) fn tell(&self, id: CircuitId, change: CircuitChange, ctx: &mut Context<'_>) {
        if ctx.listener.listens()
            && let Some(entry) = self.pool.entry(id)
        {
            let circuit = Box::new(circuit_status(id, entry, ctx.view, ctx.plane));
            ctx.listener.tell(|| Event::Circuit { change, circuit });
        }
    }

    /// Tells what the tables have noted since.
    pub(crate) fn tell_changes(&mut self, listener: &mut Listener) {
        while let Some((change, link)) = self.links.poll_change() {
            let link = Box::new(link);
            listener.tell(|| Event::Link { change, link });
        }
        while let Some((change, guard, nickname)) = self.choice.guards.poll_change() {
            listener.tell(|| Event::Guard {
                change,
                guard,
                nickname,
            });
        }
        if let Some(change) = self.build_times.take_change() {
            let times = self.build_times.status();
            listener.tell(|| Event::BuildTimes { change, times });
        }
        let is_live = !self.build_times.is_silent();
        if std::mem::replace(&mut self.is_live, is_live) != is_live {
            listener.tell(|| Event::Liveness(is_live));
        }
    }
}

/// Tells what circuits have carried since they were last asked.
pub(crate) fn tell_carried(pool: &Pool, plane: &mut Plane, listener: &mut Listener) {
    for (circuit, entry) in pool.iter() {
        let carried = entry.key().and_then(|key| plane.circuit_carried(key));
        if let Some(carried) = carried {
            listener.tell(|| Event::CircuitCarried { circuit, carried });
        }
    }
}

/// The nickname of a relay that the consensus lists.
pub(crate) fn nickname<'a>(
    view: Option<&'a NetworkView>,
    relay: &cepa_crypto::RsaId,
) -> Option<&'a str> {
    let router = view?.consensus().router(relay)?;
    Some(&router.nickname)
}

fn circuit_status(
    id: CircuitId,
    entry: &Entry,
    view: Option<&NetworkView>,
    plane: &Plane,
) -> CircuitStatus {
    let status = entry.key().and_then(|key| plane.circuit_status(key));
    let path = entry.path.iter().take(entry.standing).map(|rsa| HopStatus {
        rsa: *rsa,
        nickname: rsa.and_then(|rsa| nickname(view, &rsa).map(str::to_owned)),
    });
    CircuitStatus {
        id,
        state: entry.state(),
        purpose: entry.shown_purpose(),
        path: path.collect(),
        guard: entry.first,
        hops: entry.path.len(),
        created: entry.created,
        usage: entry.usage(),
        streams: status.map_or(0, |status| status.stream_count),
        isolation: entry.isolation.clone(),
        onion: entry.bound.and_then(|bound| bound.address),
        by_hand: entry.is_path_given(),
    }
}
