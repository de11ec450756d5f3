//! Cells of a channel, one after the other, and who handles which (tor-spec 3, 5, 6).
//!
//! Cells for circuits that are not known are dropped, as they may cross a DESTROY of ours; so are
//! commands that are not known.

use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CellMut, Command};
use cepa_wire::destroy::DestroyReason;

use super::Switch;
use super::command::ChannelClose;
use super::context::Context;

impl Switch {
    /// Handles the whole cells at the front of `buf`, which are decrypted in place, and returns how
    /// many bytes they took. An error closes the channel; it is gone already.
    pub fn handle_cells(
        &mut self,
        channel: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        if !self.shared.channels.contains_key(channel) {
            return Err(ChannelClose::Unknown);
        }
        let mut consumed = 0;
        let mut rest = buf;
        while let Some((cell, len)) = cell::split_cell_mut(rest) {
            let handled = match cell {
                CellMut::Fixed(cell) => self.handle_cell(channel, cell, now),
                CellMut::Variable(cell) => check_variable(cell.command),
            };
            self.settle(now);
            if let Err(reason) = handled {
                self.channel_closed(channel, now);
                return Err(reason);
            }
            consumed += len;
            rest = rest.get_mut(len..).unwrap_or_default();
        }
        self.limit_memory(now);
        Ok(consumed)
    }

    fn handle_cell(
        &mut self,
        channel: ChannelKey,
        cell: &mut CellBuf,
        now: Now,
    ) -> Result<(), ChannelClose> {
        let (circuits, shared) = (&mut self.circuits, &mut self.shared);
        match cell::command(cell) {
            Command::RELAY | Command::RELAY_EARLY => {
                let recognised = circuits.handle_relay_cell(channel, cell, shared, now);
                if let Some(recognised) = recognised {
                    self.handle_message(&recognised, cell, now);
                }
            }
            Command::CREATE2 => {
                let ctx = &mut Context::new(circuits, shared, now);
                self.onionskins.handle_create2(channel, cell, ctx)?;
            }
            Command::CREATE_FAST => {
                let ctx = &mut Context::new(circuits, shared, now);
                self.onionskins.handle_create_fast(channel, cell, ctx)?;
            }
            Command::CREATE => {
                shared.refuse_create(channel, cell, DestroyReason::PROTOCOL);
            }
            Command::CREATED2 | Command::CREATED | Command::CREATED_FAST => {
                circuits.handle_from_next(channel, cell, shared, now);
            }
            Command::DESTROY => circuits.handle_destroy(channel, cell, shared, now),
            Command::PADDING_NEGOTIATE => {
                let (padding, rng) = (shared.config.padding, &mut shared.rng);
                let channels = &mut shared.channels;
                channels.handle_padding_negotiate(channel, cell, padding, rng);
            }
            // NETINFO on an open link is dropped, as all that is not known.
            _ => {}
        }
        Ok(())
    }
}

/// Of the variable cells, those of the handshake may not come on an open link (tor-spec 4);
/// VPADDING, and what is not known, are ignored.
fn check_variable(command: Command) -> Result<(), ChannelClose> {
    match command {
        Command::VERSIONS | Command::CERTS | Command::AUTH_CHALLENGE | Command::AUTHENTICATE => {
            Err(ChannelClose::Unexpected(command))
        }
        _ => Ok(()),
    }
}
