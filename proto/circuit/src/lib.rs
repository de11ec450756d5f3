//! Both ends of a circuit: the origin's and a relay's (tor-spec 5 to 7).
//!
//! A circuit here knows no channel: cells come in and go out as buffers, and the plane that owns it
//! moves them. [`window`] and [`stream`] are shared by both ends; [`origin`] and [`handshake`] are
//! the client's side, [`relay`] and [`onionskin`] a relay's. Nothing allocates for a cell, and
//! nothing here keeps time or draws randomness by itself.

pub mod congestion;
pub mod extensions;
pub mod half_closed;
pub mod handshake;
pub mod hop_window;
pub mod onionskin;
pub mod origin;
pub mod padding;
mod rate;
pub mod relay;
pub mod stream;
pub mod stream_flow;
pub mod window;

pub use congestion::{Congestion, CongestionParams, CongestionPath, LocalQueue};
pub use half_closed::HalfClosed;
pub use hop_window::HopWindow;
pub use onionskin::{OnionKeys, OnionskinError, OnionskinJob, OnionskinReply};
pub use padding::{PaddingBudget, PaddingMachine, PaddingParams, PaddingSchedule};
pub use relay::{Forward, RelayCircuit, RelayViolation};
pub use stream::{Stream, StreamRead, StreamState, StreamViolation};
pub use stream_flow::{FlowMessage, StreamSide};
pub use window::{CircuitWindow, SendmeTag, StreamWindow, WindowViolation};

slotmap::new_key_type! {
    /// Names a circuit to the plane that owns it; a stale key finds nothing.
    pub struct CircuitKey;
    /// Names a stream to the plane that owns it; a stale key finds nothing.
    pub struct StreamKey;
}
