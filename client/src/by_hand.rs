//! What a controller may do by hand with circuits and streams (control-spec 3.10, 3.11, 3.13 to
//! 3.17), and why it cannot.
//!
//! The machines of a client go on beside it: what a controller does not take over they do.

/// What a circuit is for that a controller has made, or put to another use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandUse {
    /// For any stream that it fits, if it has hops enough.
    General,
    /// For streams that the controller attaches, and no others.
    Controller,
}

/// What a client does of itself, which a controller may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manners {
    /// New streams wait until a controller attaches them (`__LeaveStreamsUnattached`).
    pub leaves_streams: bool,
    /// No circuits are built ahead (`__DisablePredictedCircuits`).
    pub builds_nothing_ahead: bool,
}

/// Why something cannot be done by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ByHandError {
    /// There is no such circuit.
    #[error("there is no such circuit")]
    NoCircuit,
    /// There is no such stream.
    #[error("there is no such stream")]
    NoStream,
    /// Nothing is known of the relay of this index in the path but that it is listed.
    #[error("there is no descriptor of relay {0} of the path")]
    NoDescriptor(usize),
    /// There is no room for the circuit, no path for it, or no network.
    #[error("the circuit cannot be begun")]
    NotBegun,
    /// The circuit can have no such hops.
    #[error("the circuit cannot be extended")]
    NotExtended,
    /// The circuit is one of the client's own, for documents or for an onion service.
    #[error("the circuit belongs to the client")]
    NotYours,
    /// The stream is open, or it is the client that looks for its circuit.
    #[error("the stream is not the controller's")]
    NotManaged,
    /// Not all hops of the circuit stand, or it must not be used while a better guard may be had.
    #[error("the circuit is not open")]
    NotOpen,
    /// A stream would leave the circuit at its first hop.
    #[error("the stream would have one hop")]
    OneHop,
    /// The circuit is shorter than that.
    #[error("the circuit has no such hop")]
    NoHop,
    /// There are too many fetches and uploads by hand.
    #[error("there are too many fetches and uploads")]
    TooMany,
    /// It is no descriptor of an onion service.
    #[error("it is no descriptor")]
    BadDescriptor,
    /// The stream cannot go over the circuit.
    #[error("the stream cannot be attached")]
    NotAttached,
}
