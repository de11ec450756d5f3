//! What a controller does by hand ([`crate::by_hand`]).

use std::time::Duration;

use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_netdoc::hs_descriptor::HsDescriptor;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;

use super::Client;
use crate::by_hand::{ByHandError, HandUse, Manners};
use crate::circuits::by_hand;
use crate::names::{CircuitId, RequestId};

impl Client {
    /// The client in the hands of a controller, now.
    pub fn controller(&mut self, now: Now) -> Controller<'_> {
        Controller { client: self, now }
    }
}

/// A client in the hands of a controller.
#[derive(Debug)]
pub struct Controller<'a> {
    client: &'a mut Client,
    now: Now,
}

impl Controller<'_> {
    /// What the client does of itself from now on. Streams that wait for a controller go on
    /// waiting.
    pub fn set_manners(self, manners: Manners) {
        let now = self.now;
        self.client.streams.leaves_streams = manners.leaves_streams;
        self.client
            .circuits
            .upkeep
            .build_nothing_ahead(manners.builds_nothing_ahead);
        self.client.settle(now);
    }

    /// How long circuits that are begun from now on take new streams after their first; none: ten
    /// minutes (`MaxCircuitDirtiness`).
    pub fn set_circuit_dirtiness(self, max: Option<Duration>) {
        self.client.circuits.pool.dirty_max = max;
    }

    /// Whether applications are told from now on why an onion service could not be visited
    /// (`ExtendedErrors` of a port).
    pub fn set_onion_errors(self, is_told: bool) {
        self.client.shared.config.onion_errors = is_told;
    }

    /// Begins a circuit over these relays, or over three that are drawn (EXTENDCIRCUIT 0).
    ///
    /// # Errors
    /// If a relay is not known, or if there is no room or no way for another circuit.
    pub fn make_circuit(self, path: &[RsaId], usage: HandUse) -> Result<CircuitId, ByHandError> {
        let now = self.now;
        self.client.wake(now);
        let (_, _, circuits, ctx) = &mut self.client.split(now);
        let made = by_hand::make(circuits, path, usage, ctx);
        self.client.settle(now);
        made
    }

    /// Adds relays to a circuit (EXTENDCIRCUIT).
    ///
    /// # Errors
    /// If there is no such circuit or relay, if the circuit is not to be had, or too long then.
    pub fn extend_circuit(self, circuit: CircuitId, path: &[RsaId]) -> Result<(), ByHandError> {
        let now = self.now;
        let (_, _, circuits, ctx) = &mut self.client.split(now);
        let extended = by_hand::extend(circuits, circuit, path, ctx);
        self.client.settle(now);
        extended
    }

    /// Puts a circuit to another use (SETCIRCUITPURPOSE).
    ///
    /// # Errors
    /// If there is no such circuit, or if it is one of the client's own.
    pub fn set_circuit_use(self, circuit: CircuitId, usage: HandUse) -> Result<(), ByHandError> {
        let now = self.now;
        let (_, _, circuits, ctx) = &mut self.client.split(now);
        let set = by_hand::set_use(circuits, circuit, usage, ctx);
        self.client.settle(now);
        set
    }

    /// Closes a circuit, only if it has no streams where that is said (CLOSECIRCUIT).
    ///
    /// # Errors
    /// If there is no such circuit.
    pub fn close_circuit(self, circuit: CircuitId, is_if_unused: bool) -> Result<(), ByHandError> {
        let now = self.now;
        let (_, _, circuits, ctx) = &mut self.client.split(now);
        let closed = by_hand::close(circuits, circuit, is_if_unused, ctx);
        self.client.settle(now);
        closed
    }

    /// Puts a stream on a circuit, to leave it at a hop (counted from 1) or at its end; without a
    /// circuit the client looks for one (ATTACHSTREAM).
    ///
    /// # Errors
    /// If either is not there or not open, or if they do not fit.
    pub fn attach_stream(
        self,
        stream: RequestId,
        to: Option<(CircuitId, Option<u8>)>,
    ) -> Result<(), ByHandError> {
        let now = self.now;
        let (streams, onion, circuits, ctx) = &mut self.client.split(now);
        let attached = streams.attach_by_hand(stream, to, onion, circuits, ctx);
        self.client.settle(now);
        attached
    }

    /// Has a stream lead elsewhere when it is attached next (REDIRECTSTREAM).
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn redirect_stream(
        self,
        stream: RequestId,
        host: Host,
        port: Option<u16>,
    ) -> Result<(), ByHandError> {
        let now = self.now;
        let (streams, onion, _, ctx) = &mut self.client.split(now);
        let redirected = streams.redirect_by_hand(stream, host, port, onion, ctx);
        self.client.settle(now);
        redirected
    }

    /// Fetches a descriptor of each of these directories, or of one of those that are responsible
    /// (HSFETCH); the outcome is told as events.
    ///
    /// # Errors
    /// If there are too many fetches and uploads by hand.
    pub fn fetch_descriptor(
        self,
        address: OnionAddress,
        servers: &[RsaId],
    ) -> Result<(), ByHandError> {
        let now = self.now;
        self.client.wake(now);
        let has_room = self.client.onion.courier.fetch(address, servers, now);
        self.client.settle(now);
        has_room.then_some(()).ok_or(ByHandError::TooMany)
    }

    /// Uploads a descriptor to each of these directories, or to all that are responsible (HSPOST);
    /// the outcome is told as events.
    ///
    /// # Errors
    /// If it is no descriptor, or if there are too many fetches and uploads by hand.
    pub fn post_descriptor(
        self,
        address: OnionAddress,
        text: &str,
        servers: &[RsaId],
    ) -> Result<(), ByHandError> {
        let now = self.now;
        let read = HsDescriptor::parse(text, now.wall);
        let read = read.map_err(|_| ByHandError::BadDescriptor)?;
        self.client.wake(now);
        let (courier, text) = (&mut self.client.onion.courier, text.to_owned());
        let has_room = courier.post(address, &read.blinded_key, text, servers, now);
        self.client.settle(now);
        has_room.then_some(()).ok_or(ByHandError::TooMany)
    }

    /// Gives up all guards of the set in use and takes others (DROPGUARDS). No new stream goes over
    /// a circuit that was built before; streams that are open stay.
    pub fn drop_guards(self) {
        let now = self.now;
        let (_, _, circuits, ctx) = &mut self.client.split(now);
        circuits.choice.guards.give_up_all();
        circuits.handle_consensus(ctx);
        circuits.pool.wear_out_all(now);
        self.client.settle(now);
    }

    /// Forgets how long circuits take (DROPTIMEOUTS).
    pub fn drop_timeouts(self) {
        let now = self.now;
        self.client.circuits.build_times.forget();
        self.client.settle(now);
    }

    /// Comes to rest until somebody wants something, or wakes (the signals DORMANT and ACTIVE).
    pub fn set_dormant(self, is_dormant: bool) {
        let now = self.now;
        match is_dormant {
            true => self.client.dormancy.rest(),
            false => self.client.wake(now),
        }
        self.client.settle(now);
    }

    /// Ends a stream of an application (CLOSESTREAM).
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn end_stream(self, stream: RequestId, reason: EndReason) -> Result<(), ByHandError> {
        let now = self.now;
        let (streams, onion, circuits, ctx) = &mut self.client.split(now);
        let ended = streams.close_by_hand(stream, reason, onion, circuits, ctx);
        self.client.settle(now);
        ended
    }
}
