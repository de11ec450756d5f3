//! What the machines of a client work with, none of which is theirs: the plane below, the shell
//! and the viewers above, settings, time and chance.

use std::collections::VecDeque;
use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_dir::{NetworkFile, NetworkView};
use cepa_wire::Now;

use crate::command::Command;
use crate::config::ClientConfig;
use crate::names::FetchId;
use crate::plane::Plane;
use crate::status::Listener;

/// What a client keeps for all of its machines.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) network: Arc<NetworkFile>,
    pub(crate) plane: Plane,
    pub(crate) listener: Listener,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) rng: Rng,
    /// The next fetch has this name, whoever asks: the shell tells them apart by it.
    pub(crate) fetch_next: u64,
}

/// What a machine works with while one input is worked off.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The settings of the client.
    pub(crate) config: &'a ClientConfig,
    /// The authorities, and whether this is a test network.
    pub(crate) network: &'a NetworkFile,
    /// The relays for paths, once there is a consensus.
    pub(crate) view: Option<&'a NetworkView>,
    /// Channels, circuits and streams as cells.
    pub(crate) plane: &'a mut Plane,
    /// Who is told what happens.
    pub(crate) listener: &'a mut Listener,
    /// What the shell is to do.
    pub(crate) commands: &'a mut VecDeque<Command>,
    /// Chance.
    pub(crate) rng: &'a mut Rng,
    /// The time.
    pub(crate) now: Now,
    fetch_next: &'a mut u64,
}

impl Shared {
    /// The context of an input that comes now.
    pub(crate) fn at<'a>(&'a mut self, view: Option<&'a NetworkView>, now: Now) -> Context<'a> {
        Context {
            config: &self.config,
            network: &self.network,
            view,
            plane: &mut self.plane,
            listener: &mut self.listener,
            commands: &mut self.commands,
            rng: &mut self.rng,
            now,
            fetch_next: &mut self.fetch_next,
        }
    }
}

impl Context<'_> {
    /// A name for a fetch, used once.
    pub(crate) fn new_fetch(&mut self) -> FetchId {
        let id = FetchId(*self.fetch_next);
        *self.fetch_next += 1;
        id
    }
}
