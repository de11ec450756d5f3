//! New circuits: CREATE2 and CREATE_FAST (tor-spec 5.1).
//!
//! CREATE_FAST is answered at once, an ntor onionskin waits for its link's turn, goes out as a job
//! and comes back. A circuit id of the wrong half, or one circuit too many, is answered with
//! DESTROY; an id in use or zero is dropped, as peers do. While a job is out the circuit takes no
//! cells but DESTROY.

use std::sync::Arc;

use cepa_circuit::{
    CircuitKey, Congestion, CongestionPath, OnionskinError, OnionskinJob, OnionskinReply,
};
use cepa_crypto::fast;
use cepa_crypto::layer::Cipher;
use cepa_link::ChannelKey;
use cepa_wire::cell::{self, CellBuf, Command as CellCommand};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast};
use cepa_wire::destroy::DestroyReason;
use tracing::debug;

use super::{OnionskinKind, Onionskins, Pending};
use crate::switch::command::{ChannelClose, Command};
use crate::switch::context::Context;

impl Onionskins {
    pub(crate) fn handle_create2(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        ctx: &mut Context<'_>,
    ) -> Result<(), ChannelClose> {
        if self.is_hibernating {
            ctx.shared
                .refuse_create(channel, cell, DestroyReason::HIBERNATING);
            return Ok(());
        }
        if refuses_circuit(channel, ctx) {
            ctx.shared
                .refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        let job = Create2::read(cell::payload(cell))
            .map_err(|_| OnionskinError::Handshake)
            .and_then(|create| OnionskinJob::new(&create));
        let congestion = &ctx.shared.config.congestion;
        let sendme_inc_cells = congestion.is_enabled.then_some(congestion.sendme_inc_cells);
        let job = match job {
            Ok(job) => {
                debug!(?job, "CREATE2");
                Box::new(job.granting(sendme_inc_cells))
            }
            Err(error) => {
                debug!(%error, "CREATE2 refused");
                ctx.shared
                    .refuse_create(channel, cell, DestroyReason::PROTOCOL);
                return Ok(());
            }
        };
        if !self.has_room(channel, &ctx.shared.config.limits.onionskins) {
            self.counts.dropped(job.handshake_type().into());
            ctx.shared
                .refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        if let Some(circuit) = ctx.circuits.accept(channel, cell, ctx.shared, ctx.now)? {
            let came = ctx.now.mono;
            self.push(channel, Pending { circuit, job, came });
            self.send_out(ctx);
        }
        Ok(())
    }

    pub(crate) fn handle_create_fast(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        ctx: &mut Context<'_>,
    ) -> Result<(), ChannelClose> {
        if refuses_circuit(channel, ctx) {
            ctx.shared
                .refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        let Ok(create) = CreateFast::read(cell::payload(cell)) else {
            return Ok(());
        };
        if self.is_hibernating {
            ctx.shared
                .refuse_create(channel, cell, DestroyReason::HIBERNATING);
            return Ok(());
        }
        let Some(key) = ctx.circuits.accept(channel, cell, ctx.shared, ctx.now)? else {
            return Ok(());
        };
        let (y, derivative, keys) = fast::server(&mut ctx.shared.rng, &create.x);
        let mut reply = cell::new_cell(cell::circ_id(cell), CellCommand::CREATED_FAST);
        CreatedFast { y, derivative }.write(cell::payload_mut(&mut reply));
        if let Some(circuit) = ctx.circuits.circuit_mut(key) {
            circuit.open(Cipher::Tor1, keys, None);
        }
        self.counts.processed(OnionskinKind::Fast);
        debug!("CREATED_FAST");
        if !ctx.shared.channels.queue(channel, &reply, ctx.now) {
            ctx.destroy(key, DestroyReason::RESOURCELIMIT);
        }
        Ok(())
    }

    /// The answer to [`Command::Onionskin`].
    pub(crate) fn handle_reply(
        &mut self,
        key: CircuitKey,
        reply: Result<OnionskinReply, OnionskinError>,
        ctx: &mut Context<'_>,
    ) {
        self.came_back();
        answer_create2(key, reply, ctx);
        self.send_out(ctx);
    }

    /// Asks the outside to answer those whose turn it is, as many as may be out.
    fn send_out(&mut self, ctx: &mut Context<'_>) {
        let limits = ctx.shared.config.limits.onionskins;
        while let Some(pending) = self.pop(&limits) {
            let Pending { circuit, job, came } = pending;
            if !ctx.circuits.contains_key(circuit) {
                continue;
            }
            let kind = job.handshake_type().into();
            if ctx.now.mono.saturating_duration_since(came) > super::WAIT_MAX {
                self.counts.dropped(kind);
                ctx.destroy(circuit, DestroyReason::RESOURCELIMIT);
                continue;
            }
            self.counts.processed(kind);
            self.went_out();
            let wanted = Command::Onionskin { circuit, job };
            ctx.shared.commands.push_back(wanted);
        }
    }
}

fn answer_create2(
    key: CircuitKey,
    reply: Result<OnionskinReply, OnionskinError>,
    ctx: &mut Context<'_>,
) {
    let Some(circuit) = ctx.circuits.circuit_mut(key) else {
        return;
    };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            debug!(%error, "onionskin refused");
            return ctx.destroy(key, DestroyReason::PROTOCOL);
        }
    };
    if circuit.relay.is_some() {
        return;
    }
    let congestion = reply.sendme_inc_cells.map(|sendme_inc_cells| Congestion {
        params: Arc::clone(&ctx.shared.config.congestion),
        sendme_inc_cells,
        path: CongestionPath::Exit,
    });
    debug!(
        has_congestion_control = congestion.is_some(),
        cipher = ?reply.cipher,
        "CREATED2"
    );
    circuit.open(reply.cipher, reply.keys, congestion);
    let previous = circuit.previous;
    let mut cell = cell::new_cell(previous.circ_id, CellCommand::CREATED2);
    let written = Created2 { data: &reply.data }.write(cell::payload_mut(&mut cell));
    if written.is_err() {
        return ctx.destroy(key, DestroyReason::INTERNAL);
    }
    if !ctx.shared.channels.queue(previous.channel, &cell, ctx.now) {
        ctx.destroy(key, DestroyReason::RESOURCELIMIT);
    }
}

/// Whether the address of a channel's peer has asked for too many circuits.
fn refuses_circuit(channel: ChannelKey, ctx: &mut Context<'_>) -> bool {
    let shared = &mut *ctx.shared;
    let Some(link) = shared.channels.get(channel) else {
        return false;
    };
    let (relays, params, rng) = (&shared.relays, &shared.config.dos, &mut shared.rng);
    shared
        .defenses
        .refuses_circuit(link, relays, params, rng, ctx.now)
}
