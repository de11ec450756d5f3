//! Streams that a controller attaches, redirects and closes (control-spec 3.13 to 3.15).
//!
//! A stream that is left to a controller waits for it, no longer than any other may take
//! (`SocksTimeout`): then its application hears that there was no time.

use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksRequest, SocksStatus, SocksVersion};

use super::request::{Request, Rewritten, State, Via, rewrite};
use super::{Streams, shown};
use crate::by_hand::ByHandError;
use crate::circuits::{Circuits, by_hand};
use crate::command::Command;
use crate::context::Context;
use crate::names::{CircuitId, RequestId};
use crate::onion::Onion;
use crate::status::{StreamChange, StreamEnd};

impl Streams {
    /// Puts a stream on a circuit, to leave it at a hop (counted from 1) or at its end; without a
    /// circuit, the client looks for one.
    pub(crate) fn attach_by_hand(
        &mut self,
        id: RequestId,
        to: Option<(CircuitId, Option<u8>)>,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> Result<(), ByHandError> {
        let is_open = self.open.values().any(|(status, _)| status.id == id);
        let request = self.by_id.get(&id);
        let request = request.ok_or(match is_open {
            true => ByHandError::NotManaged,
            false => ByHandError::NoStream,
        })?;
        if let Some((circuit, _)) = to
            && circuits.pool.entry(circuit).is_none()
        {
            return Err(ByHandError::NoCircuit);
        }
        if request.state == State::Waiting && !request.is_left {
            return Err(ByHandError::NotManaged);
        }
        self.take_back(id, onion, circuits, ctx);
        let Some((circuit, hop)) = to else {
            self.rewrite(id, ctx);
            self.leave_to_us(id, ctx);
            return Ok(());
        };
        let key = by_hand::open(circuits, circuit, hop, ctx)?;
        self.rewrite(id, ctx);
        let request = self.by_id.get(&id);
        if request.is_some_and(|request| matches!(request.via, Via::Onion(..))) {
            let end = StreamEnd::CannotAttach;
            self.take(id, StreamChange::Failed(end), ctx.listener);
            self.refuse(id, SocksStatus::GENERAL_FAILURE, ctx);
            return Err(ByHandError::NotAttached);
        }
        let at = hop.map(|hop| usize::from(hop) - 1);
        self.attach(id, (circuit, key, at), circuits, ctx);
        let request = self.by_id.get(&id);
        match request.is_some_and(|request| request.state != State::Waiting) {
            true => Ok(()),
            false => Err(ByHandError::NotAttached),
        }
    }

    /// A stream waits for a controller, wherever it was: what was asked for it ends.
    fn take_back(
        &mut self,
        id: RequestId,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(request) = self.by_id.get_mut(&id) else {
            return;
        };
        let state = request.state;
        request.wait();
        request.leave();
        request.is_left = true;
        if let State::Attached { stream, .. } = state {
            self.by_stream.remove(&stream);
            self.close(stream, EndReason::TIMEOUT, onion, circuits, ctx);
        }
    }

    /// A stream leads to what its address stands for, which may be another than before.
    fn rewrite(&mut self, id: RequestId, ctx: &mut Context<'_>) {
        let host = self.by_id.get(&id).map(|request| &request.status.host);
        let mapped = host.and_then(|host| self.map.rewrite(host));
        self.show_mapped(id, mapped, ctx);
        self.aim(id, ctx);
    }

    /// Tells that a stream leads to another address than was asked for.
    pub(super) fn show_mapped(
        &mut self,
        id: RequestId,
        mapped: Option<Host>,
        ctx: &mut Context<'_>,
    ) {
        if let (Some(host), Some(request)) = (mapped, self.by_id.get_mut(&id)) {
            request.status.host = host;
            let status = Some(&request.status);
            ctx.listener.tell_stream(StreamChange::Mapped, status);
        }
    }

    /// It is the client that looks for a stream's circuit from now on.
    fn leave_to_us(&mut self, id: RequestId, ctx: &Context<'_>) {
        if let Some(request) = self.by_id.get_mut(&id) {
            request.is_left = false;
            request.forget_late(Some(ctx.now));
        }
    }

    /// A stream that waits for a circuit waits for a controller, if one wants that.
    pub(super) fn leave_to_controller(&mut self, id: RequestId, ctx: &mut Context<'_>) {
        if !self.leaves_streams {
            return;
        }
        if let Some(request) = self.by_id.get_mut(&id) {
            request.is_left = true;
            let status = Some(&request.status);
            ctx.listener.tell_stream(StreamChange::Left, status);
        }
    }

    /// A stream is to lead elsewhere when it is attached next.
    pub(crate) fn redirect_by_hand(
        &mut self,
        id: RequestId,
        host: Host,
        port: Option<u16>,
        onion: &mut Onion,
        ctx: &mut Context<'_>,
    ) -> Result<(), ByHandError> {
        if let Some((status, _)) = self.open.values_mut().find(|(status, _)| status.id == id) {
            (status.host, status.port) = (host, port.unwrap_or(status.port));
            return Ok(());
        }
        let request = self.by_id.get_mut(&id).ok_or(ByHandError::NoStream)?;
        let status = &mut request.status;
        (status.host, status.port) = (host, port.unwrap_or(status.port));
        if request.state == State::Waiting {
            let visit = request.visit();
            self.aim(id, ctx);
            self.cancel_visit(visit, onion, ctx.now);
        }
        Ok(())
    }

    /// A request leads to where its status says, whatever it was about before.
    pub(super) fn aim(&mut self, id: RequestId, ctx: &mut Context<'_>) {
        let Some(Request { status, .. }) = self.by_id.get(&id) else {
            return;
        };
        let socks = SocksRequest {
            version: SocksVersion::V5,
            command: status.command,
            address: status.host.clone(),
            port: status.port,
            auth: status.auth.clone(),
        };
        match rewrite(&socks, allows_internal(ctx)) {
            Rewritten::Ask(target, via) => {
                if let Some(request) = self.by_id.get_mut(&id) {
                    (request.target, request.via) = (target, via);
                }
            }
            Rewritten::Refuse(status) => {
                let status = shown(status, ctx.config);
                self.refuse(id, status, ctx);
            }
            Rewritten::Answer(answers) => {
                let done = StreamEnd::Ours(EndReason::DONE);
                self.take(id, StreamChange::Closed(done), ctx.listener);
                let request = id;
                ctx.commands
                    .push_back(Command::SocksResolved { request, answers });
            }
        }
    }

    /// Ends a stream, for a reason that its application hears.
    pub(crate) fn close_by_hand(
        &mut self,
        id: RequestId,
        reason: EndReason,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> Result<(), ByHandError> {
        let end = StreamEnd::Ours(reason);
        let mut open = self.open.iter_mut();
        if let Some((key, (_, ended))) = open.find(|(_, (status, _))| status.id == id) {
            ended.get_or_insert(end);
            // Whoever serves it notices, and closes it.
            if ctx.plane.stream_end(*key).is_none() {
                ctx.plane.fail_stream(*key, reason, ctx.now);
            }
            return Ok(());
        }
        let visit = self.by_id.get(&id).ok_or(ByHandError::NoStream)?.visit();
        let request = self.take(id, StreamChange::Failed(end), ctx.listener);
        if let Some(State::Attached { stream, .. }) = request.map(|request| request.state) {
            self.close(stream, reason, onion, circuits, ctx);
        }
        let status = SocksStatus::from(reason);
        self.refuse(id, status, ctx);
        self.cancel_visit(visit, onion, ctx.now);
        Ok(())
    }
}

/// Whether connections to internal addresses are asked for.
pub(super) fn allows_internal(ctx: &Context<'_>) -> bool {
    let rejects = ctx.config.reject_internal;
    !rejects.unwrap_or(!ctx.network.is_testing)
}
