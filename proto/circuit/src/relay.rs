//! The relay's side of a circuit: one layer of cryptography and one window (tor-spec 5.5, 6, 7.3).
//!
//! ```text
//! from the client:  handle_forward  ->  Here(tag): a message for us   | Onward: to the next hop
//! to the client:    backward (a cell of the next hop) | originate (a message of ours)
//! ```
//!
//! All work is done in place on the 509 bytes of a cell; nothing is allocated. It knows neither
//! channels nor streams: the owner looks those up. Each error is a violation by the client whose
//! consequence is DESTROY with reason 1 (PROTOCOL).

use std::time::Instant;

use cepa_crypto::layer::RelayLayer;
use cepa_crypto::{Rng, tor1};
use cepa_wire::cell::Payload;
use cepa_wire::relay::{RelayCommand, RelayFormat, StreamId};
use cepa_wire::sendme::{Sendme, SendmeError};
use cepa_wire::{TooLong, cell::Command};

use crate::congestion::{Congestion, LocalQueue};
use crate::hop_window::HopWindow;
use crate::window::{SendmeTag, WindowViolation};

/// RELAY_EARLY cells that a client may send on one circuit (tor-spec 5.6).
pub const RELAY_EARLY_CELLS_MAX: u8 = 8;

/// What the client did against the specification; the circuit is to be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayViolation {
    /// A ninth RELAY_EARLY cell (tor-spec 5.6).
    #[error("more than 8 RELAY_EARLY cells")]
    TooManyEarly,
    /// A SENDME that is malformed or of a version that we do not know.
    #[error(transparent)]
    Sendme(#[from] SendmeError),
    /// A SENDME or a DATA cell against the window.
    #[error(transparent)]
    Window(#[from] WindowViolation),
}

/// Where a cell from the client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cell is for us, in clear now. The tag is what a SENDME for it must say.
    Here(SendmeTag),
    /// The cell is for a later hop, one layer lighter now.
    Onward,
}

/// The relay's side of one circuit.
pub struct RelayCircuit {
    layer: RelayLayer,
    window: HopWindow,
    early_cells: u8,
}

impl std::fmt::Debug for RelayCircuit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayCircuit")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl RelayCircuit {
    /// A circuit with the tor1 cipher.
    #[must_use]
    pub fn new(keys: &tor1::Keys) -> Self {
        Self::with_layer(RelayLayer::tor1(keys))
    }

    /// A circuit with the layer that its handshake gave.
    #[must_use]
    pub fn with_layer(layer: RelayLayer) -> Self {
        RelayCircuit {
            layer,
            window: HopWindow::new(None),
            early_cells: 0,
        }
    }

    /// The new circuit with the congestion control that its handshake granted, if it did.
    #[must_use]
    pub fn with_congestion(mut self, congestion: Option<Congestion>) -> Self {
        self.window = HopWindow::new(congestion);
        self
    }

    /// The circuit's window.
    #[must_use]
    pub fn window(&self) -> &HopWindow {
        &self.window
    }

    /// How messages lie in the cells of this circuit.
    #[must_use]
    pub fn format(&self) -> RelayFormat {
        self.layer.cipher().into()
    }

    /// Takes the client's layer off a RELAY or RELAY_EARLY cell.
    pub fn handle_forward(
        &mut self,
        command: Command,
        payload: &mut Payload,
    ) -> Result<Forward, RelayViolation> {
        if command == Command::RELAY_EARLY {
            if self.early_cells == RELAY_EARLY_CELLS_MAX {
                return Err(RelayViolation::TooManyEarly);
            }
            self.early_cells += 1;
        }
        let tag = self.layer.decrypt_forward(command.0, payload);
        Ok(tag.map_or(Forward::Onward, Forward::Here))
    }

    /// Adds our layer to a cell that the next hop sent.
    pub fn backward(&mut self, payload: &mut Payload) {
        self.layer.encrypt_backward(Command::RELAY.0, payload);
    }

    /// Makes `payload` a message of ours to the client, encrypted. A DATA message counts for the
    /// window, whose room ([`RelayCircuit::room_cells`]) the caller has asked before.
    pub fn originate(
        &mut self,
        payload: &mut Payload,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        rng: &mut Rng,
        now: Instant,
    ) -> Result<(), TooLong> {
        self.format()
            .write(payload, command, stream_id, data, rng)?;
        let tag = self.layer.originate_backward(Command::RELAY.0, payload);
        if command == RelayCommand::DATA {
            self.window.packaged(&tag, now);
        }
        Ok(())
    }

    /// DATA cells that may be sent to the client now, over all streams.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        self.window.room_cells()
    }

    /// A DATA cell came, for whatever stream. `true`: a circuit-level SENDME with the tag of this
    /// very cell is to be sent at once.
    #[must_use]
    pub fn delivered(&mut self) -> bool {
        self.window.delivered()
    }

    /// A circuit-level SENDME came, with this data. `queue` is that towards the client.
    pub fn handle_sendme(
        &mut self,
        data: &[u8],
        queue: LocalQueue,
        now: Instant,
    ) -> Result<(), RelayViolation> {
        let sendme = Sendme::read(data)?;
        let tag = match &sendme {
            Sendme::Unauthenticated => None,
            Sendme::Authenticated(tag) => Some(tag.as_bytes()),
        };
        Ok(self.window.handle_sendme(tag, queue, now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::tests::epoch;
    use cepa_wire::relay;

    const STREAM: StreamId = StreamId(5);

    fn pair() -> (RelayCircuit, tor1::HopCrypt, Rng) {
        let mut rng = Rng::from_seed([7; 32]);
        let keys = tor1::Keys::read(&rng.array());
        (RelayCircuit::new(&keys), tor1::HopCrypt::new(&keys), rng)
    }

    #[test]
    fn cells_for_us_and_for_others() {
        let (mut circuit, mut hop, mut rng) = pair();
        let mut payload = [0; 509];
        relay::write(&mut payload, RelayCommand::DROP, STREAM, b"x", &mut rng).unwrap();
        let tag = hop.originate_forward(&mut payload);
        let verdict = circuit.handle_forward(Command::RELAY, &mut payload);
        assert_eq!(verdict, Ok(Forward::Here(tag.into())));
        assert_eq!(relay::data(&payload), Ok(&b"x"[..]));
        let inner: Payload = rng.array();
        payload = inner;
        hop.encrypt_forward(&mut payload);
        let verdict = circuit.handle_forward(Command::RELAY, &mut payload);
        assert_eq!((verdict, payload), (Ok(Forward::Onward), inner));
    }

    #[test]
    fn the_ninth_early_cell_is_one_too_many() {
        let (mut circuit, _, mut rng) = pair();
        for n in 0..9 {
            let verdict = circuit.handle_forward(Command::RELAY_EARLY, &mut rng.array());
            assert_eq!(verdict == Err(RelayViolation::TooManyEarly), n == 8);
        }
    }

    #[test]
    fn sendmes_must_carry_the_tag_of_the_hundredth_cell() {
        let (mut circuit, mut hop, mut rng) = pair();
        let mut payload = [0; 509];
        let mut tag = None;
        for n in 0..100 {
            assert_eq!(circuit.room_cells(), 1000 - n);
            circuit
                .originate(
                    &mut payload,
                    RelayCommand::DATA,
                    STREAM,
                    b"data",
                    &mut rng,
                    epoch(),
                )
                .unwrap();
            tag = hop.decrypt_backward(&mut payload);
        }
        let tag = tag.unwrap();
        let mut data = Vec::new();
        let sendme = Sendme::Authenticated(cepa_wire::sendme::SendmeTag::Tor1(tag));
        sendme.write(&mut data);
        assert_eq!(
            circuit.handle_sendme(&data, LocalQueue::default(), epoch()),
            Ok(())
        );
        assert_eq!(circuit.room_cells(), 1000);
        let early = RelayViolation::Window(WindowViolation::CircuitSendmeEarly);
        assert_eq!(
            circuit.handle_sendme(&data, LocalQueue::default(), epoch()),
            Err(early)
        );
        assert!(matches!(
            circuit.handle_sendme(&[9], LocalQueue::default(), epoch()),
            Err(RelayViolation::Sendme(_))
        ));
    }
}
