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
use cepa_link::{AcceptError, ChannelKey};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, Command as CellCommand};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast};
use cepa_wire::destroy::DestroyReason;
use tracing::debug;

use super::Switch;
use super::circuit::{CIRCUITS_MAX, Circuit, Leg, Place, Side};
use super::command::ChannelClose;
use super::onionskins::{OnionskinKind, Pending};

impl Switch {
    pub(super) fn handle_create2(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        now: Now,
    ) -> Result<(), ChannelClose> {
        if self.is_hibernating {
            self.refuse_create(channel, cell, DestroyReason::HIBERNATING);
            return Ok(());
        }
        if self.refuses_circuit(channel, now) {
            self.refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        let job = Create2::read(cell::payload(cell))
            .map_err(|_| OnionskinError::Handshake)
            .and_then(|create| OnionskinJob::new(&create));
        let congestion = &self.config.congestion;
        let sendme_inc_cells = congestion.is_enabled.then_some(congestion.sendme_inc_cells);
        let job = match job {
            Ok(job) => {
                debug!(?job, "CREATE2");
                Box::new(job.granting(sendme_inc_cells))
            }
            Err(error) => {
                debug!(%error, "CREATE2 refused");
                self.refuse_create(channel, cell, DestroyReason::PROTOCOL);
                return Ok(());
            }
        };
        let limits = &self.config.limits.onionskins;
        if !self.onionskins.has_room(channel, limits) {
            let kind = job.handshake_type().into();
            self.onionskins.counts.dropped(kind);
            self.refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        if let Some(circuit) = self.accept(channel, cell, now)? {
            let came = now.mono;
            let pending = Pending { circuit, job, came };
            self.onionskins.push(channel, pending);
            self.next_onionskins(now);
        }
        Ok(())
    }

    pub(super) fn handle_create_fast(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        now: Now,
    ) -> Result<(), ChannelClose> {
        if self.refuses_circuit(channel, now) {
            self.refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            return Ok(());
        }
        let Ok(create) = CreateFast::read(cell::payload(cell)) else {
            return Ok(());
        };
        if self.is_hibernating {
            self.refuse_create(channel, cell, DestroyReason::HIBERNATING);
            return Ok(());
        }
        let Some(circuit) = self.accept(channel, cell, now)? else {
            return Ok(());
        };
        let (y, derivative, keys) = fast::server(&mut self.rng, &create.x);
        let mut reply = cell::new_cell(cell::circ_id(cell), CellCommand::CREATED_FAST);
        CreatedFast { y, derivative }.write(cell::payload_mut(&mut reply));
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.open(Cipher::Tor1, keys, None);
        }
        self.onionskins.counts.processed(OnionskinKind::Fast);
        debug!("CREATED_FAST");
        if !self.queue(channel, &reply, now) {
            self.destroy(circuit, DestroyReason::RESOURCELIMIT, now);
        }
        Ok(())
    }

    /// The answer to [`super::Command::Onionskin`].
    pub fn handle_onionskin(
        &mut self,
        key: CircuitKey,
        reply: Result<OnionskinReply, OnionskinError>,
        now: Now,
    ) {
        self.onionskins.came_back();
        self.answer_create2(key, reply, now);
        self.next_onionskins(now);
    }

    fn answer_create2(
        &mut self,
        key: CircuitKey,
        reply: Result<OnionskinReply, OnionskinError>,
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                debug!(%error, "onionskin refused");
                return self.destroy(key, DestroyReason::PROTOCOL, now);
            }
        };
        if circuit.relay.is_some() {
            return;
        }
        let congestion = reply.sendme_inc_cells.map(|sendme_inc_cells| Congestion {
            params: Arc::clone(&self.config.congestion),
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
            return self.destroy(key, DestroyReason::INTERNAL, now);
        }
        if !self.queue(previous.channel, &cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, now);
        }
    }

    /// Takes the id of a CREATE cell for a new circuit; `None` if it was refused or dropped.
    fn accept(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        now: Now,
    ) -> Result<Option<CircuitKey>, ChannelClose> {
        let circ_id = cell::circ_id(cell);
        let limits = &self.config.limits;
        let circuits_max = limits.circuits_max.min(CIRCUITS_MAX - 1);
        let link = self
            .channels
            .link_mut(channel)
            .ok_or(ChannelClose::Unknown)?;
        let is_full = self.circuits.len() >= circuits_max
            || link.accepted >= limits.circuits_per_channel_max
            || !self.ledger.takes_circuits(link.accepted);
        let circuit = Circuit::new(Leg { channel, circ_id });
        let key = self.circuits.insert(Box::new(circuit));
        let place = Place {
            worker: self.worker,
            circuit: key,
            side: Side::Previous,
        };
        let accepted = if is_full {
            Err(AcceptError::TooMany)
        } else {
            link.channel.accept(circ_id, place.pack())
        };
        let Err(error) = accepted else {
            link.accepted += 1;
            link.idle_since = None;
            return Ok(Some(key));
        };
        self.circuits.remove(key);
        debug!(%error, at = ?now.wall, "circuit refused");
        match error {
            AcceptError::WrongHalf => {
                self.refuse_create(channel, cell, DestroyReason::PROTOCOL);
            }
            AcceptError::TooMany => {
                self.refuse_create(channel, cell, DestroyReason::RESOURCELIMIT);
            }
            AcceptError::Zero | AcceptError::InUse => {}
        }
        Ok(None)
    }

    /// Answers a CREATE cell with DESTROY. If its id names a circuit, it is dropped instead: the
    /// DESTROY would hit that one.
    pub(super) fn refuse_create(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        reason: DestroyReason,
    ) {
        let circ_id = cell::circ_id(cell);
        let is_free = |link: &super::channels::Link| link.channel.circuit(circ_id).is_none();
        if circ_id != cell::CircId::NONE && self.channels.get(channel).is_some_and(is_free) {
            let queued = self.channels.queue_refusal(channel, circ_id, reason);
            if queued.is_err() {
                self.close_unread(channel);
            }
        }
    }
}
