//! Carries descriptors to their directories, a circuit for each (rend-spec-v3 2.2.6).
//!
//! ```text
//! Upload ─▶ Opening ─ built ─▶ Posted ─┬─ 200 ─▶ taken
//!              └──── ended, late ──────┴───────▶ not taken
//! ```
//!
//! Invariants: each [`Upload`] taken in is answered once to the publisher, unless it is cancelled;
//! at most [`UPLOADS_MAX`] circuits at once, and each for one upload: directories must not learn
//! which descriptors belong together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::circuits::{Context, Part};
use super::descriptor::UploadId;
use super::publisher::{Publisher, Upload};
use crate::names::CircuitName;
use crate::onion::action::LastHop;

/// Circuits of uploads at once, for one service: both descriptors to all of their directories with
/// the usual parameters.
const UPLOADS_MAX: usize = 16;
/// How long an upload may take.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Running {
    id: UploadId,
    /// What is sent when the circuit stands.
    text: Option<Arc<str>>,
    until: Instant,
}

/// The uploads of a service that are under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    running: BTreeMap<CircuitName, Running>,
}

impl Uploads {
    /// Takes from the publisher what may begin, and stops what it does not want any more. True if
    /// other services' uploads stand in the way.
    pub(super) fn advance(&mut self, publisher: &mut Publisher, ctx: &mut Context<'_>) -> bool {
        while let Some(id) = publisher.poll_cancelled() {
            let found = self.running.iter().find(|(_, one)| one.id == id);
            if let Some(circuit) = found.map(|(name, _)| *name) {
                self.running.remove(&circuit);
                ctx.close(circuit);
            }
        }
        while self.running.len() < UPLOADS_MAX {
            if !ctx.circuits.has_room_for_upload() {
                return publisher.has_upload();
            }
            let Some(Upload {
                id, hsdir, text, ..
            }) = publisher.poll_upload()
            else {
                return false;
            };
            let circuit = ctx.open(Part::Upload, LastHop::Listed(hsdir));
            let running = Running {
                id,
                text: Some(text),
                until: ctx.now.mono + UPLOAD_TIME_MAX,
            };
            self.running.insert(circuit, running);
        }
        false
    }

    /// The circuit stands.
    pub(super) fn handle_built(&mut self, circuit: CircuitName, ctx: &mut Context<'_>) {
        let text = self.running.get_mut(&circuit).and_then(|it| it.text.take());
        if let Some(text) = text {
            ctx.upload(circuit, &text);
        }
    }

    /// The directory has answered.
    pub(super) fn handle_reply(
        &mut self,
        circuit: CircuitName,
        status: u16,
        publisher: &mut Publisher,
        ctx: &mut Context<'_>,
    ) {
        if let Some(running) = self.running.remove(&circuit) {
            publisher.handle_uploaded(running.id, status == 200, ctx.now, ctx.rng);
            ctx.close(circuit);
        }
    }

    /// The circuit is gone.
    pub(super) fn handle_ended(
        &mut self,
        circuit: CircuitName,
        publisher: &mut Publisher,
        ctx: &mut Context<'_>,
    ) {
        if let Some(running) = self.running.remove(&circuit) {
            publisher.handle_uploaded(running.id, false, ctx.now, ctx.rng);
        }
    }

    /// Gives up what takes too long.
    pub(super) fn handle_timeout(&mut self, publisher: &mut Publisher, ctx: &mut Context<'_>) {
        let late = |(name, it): (&CircuitName, &Running)| {
            (it.until <= ctx.now.mono).then_some((*name, it.id))
        };
        let late: Vec<(CircuitName, UploadId)> = self.running.iter().filter_map(late).collect();
        for (circuit, id) in late {
            self.running.remove(&circuit);
            ctx.close(circuit);
            publisher.handle_uploaded(id, false, ctx.now, ctx.rng);
        }
    }

    /// When the next upload is late.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running.values().map(|it| it.until).min()
    }
}
