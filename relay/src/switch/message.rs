//! Relay messages that are for us (tor-spec 5.1.2, 5.4, 6.1, 6.2, 7.3; rend-spec-v3 3.1 to 4.2).
//!
//! A message that makes no sense here, or that we do not know, is dropped, as a peer newer than us
//! may send it; a fault in lengths, windows or SENDMEs ends the circuit, and under CGO an unknown
//! command or a missing stream id as well. DATA counts for the
//! circuit's window whether or not its stream is known.

use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, Command as CellCommand};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, RelayMessage, StreamId};
use tracing::{debug, trace};

use super::Switch;
use super::circuits::Recognised;
use super::context::Context;
use super::padding::Padding;

impl Switch {
    /// A message for us came in this cell, which is in clear now.
    pub(super) fn handle_message(&mut self, recognised: &Recognised, cell: &CellBuf, now: Now) {
        let Recognised { circuit: key, tag } = recognised;
        let key = *key;
        let ctx = &mut Context::new(&mut self.circuits, &mut self.shared, now);
        let Some(relay) = ctx.circuits.relay(key) else {
            return;
        };
        let RelayMessage {
            command,
            stream_id: id,
            data,
        } = match relay.format().read(cell::payload(cell)) {
            Ok(message) => message,
            Err(error) => {
                debug!(%error, "circuit destroyed");
                return ctx.destroy(key, DestroyReason::PROTOCOL);
            }
        };
        let (streams, points) = (&mut self.streams, &mut self.points);
        match command {
            RelayCommand::DATA => {
                ctx.circuits.delivered(key, tag, ctx.shared, now);
                streams.handle_data(key, id, data, ctx);
            }
            RelayCommand::SENDME if id == StreamId::NONE => {
                if ctx.circuits.handle_sendme(key, data, ctx.shared, now) {
                    streams.wake(key, ctx.circuits, &ctx.shared.channels);
                }
            }
            RelayCommand::SENDME => streams.handle_sendme(key, id, ctx),
            RelayCommand::EXTEND2 if id != StreamId::NONE => {
                debug!("EXTEND2 with a stream id dropped");
            }
            RelayCommand::EXTEND2 if cell::command(cell) != CellCommand::RELAY_EARLY => {
                debug!("EXTEND2 outside RELAY_EARLY dropped");
            }
            RelayCommand::EXTEND2 => ctx.circuits.handle_extend2(key, data, ctx.shared),
            // TAP is not spoken, and neither is its way to extend.
            RelayCommand::EXTEND => ctx.destroy(key, DestroyReason::PROTOCOL),
            RelayCommand::TRUNCATE => ctx.circuits.truncate(key, ctx.shared, now),
            RelayCommand::BEGIN | RelayCommand::BEGIN_DIR | RelayCommand::RESOLVE
                if id == StreamId::NONE =>
            {
                debug!(%command, "without a stream id, dropped");
            }
            RelayCommand::BEGIN => streams.handle_begin(key, id, data, ctx),
            RelayCommand::BEGIN_DIR => streams.handle_begin_dir(key, id, ctx),
            RelayCommand::RESOLVE => streams.handle_resolve(key, id, data, ctx),
            RelayCommand::END => streams.handle_end(key, id, data, ctx),
            RelayCommand::ESTABLISH_INTRO => points.handle_establish_intro(key, data, ctx),
            RelayCommand::INTRODUCE1 => points.handle_introduce1(key, data, ctx),
            RelayCommand::ESTABLISH_RENDEZVOUS => {
                points.handle_establish_rendezvous(key, data, ctx);
            }
            RelayCommand::RENDEZVOUS1 => points.handle_rendezvous1(key, data, ctx),
            RelayCommand::XOFF | RelayCommand::XON => {
                streams.handle_flow_message(key, id, command, data, ctx);
            }
            RelayCommand::PADDING_NEGOTIATE => self.padding.handle_negotiate(key, data, ctx),
            RelayCommand::DROP => Padding::handle_drop(key, ctx.circuits),
            _ => trace!(%command, "message dropped"),
        }
    }
}
