//! How far a client is, in the words that users of `tor` know (control-spec 5.5).

use std::fmt;

/// A phase of `tor`'s bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has been done yet.
    #[default]
    Starting,
    /// Connecting to a relay.
    Conn,
    /// Connected to a relay; one-hop circuit next.
    OnehopCreate,
    /// Asking for the consensus.
    RequestingStatus,
    /// Checking it needs certificates of the authorities.
    LoadingKeys,
    /// Asking for microdescriptors.
    RequestingDescriptors,
    /// Microdescriptors come in.
    LoadingDescriptors,
    /// Paths can be chosen.
    EnoughDirinfo,
    /// The first circuit is being built.
    CircuitCreate,
    /// A circuit stands.
    Done,
}

impl Phase {
    /// The phase's tag, by which programs know it.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Conn => "conn",
            Phase::OnehopCreate => "onehop_create",
            Phase::RequestingStatus => "requesting_status",
            Phase::LoadingKeys => "loading_keys",
            Phase::RequestingDescriptors => "requesting_descriptors",
            Phase::LoadingDescriptors => "loading_descriptors",
            Phase::EnoughDirinfo => "enough_dirinfo",
            Phase::CircuitCreate => "circuit_create",
            Phase::Done => "done",
        }
    }

    /// The phase in words for people.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Phase::Starting => "Starting",
            Phase::Conn => "Connecting to a relay",
            Phase::OnehopCreate => "Establishing an encrypted directory connection",
            Phase::RequestingStatus => "Asking for networkstatus consensus",
            Phase::LoadingKeys => "Loading authority key certs",
            Phase::RequestingDescriptors => "Asking for relay descriptors",
            Phase::LoadingDescriptors => "Loading relay descriptors",
            Phase::EnoughDirinfo => "Loaded enough directory info to build circuits",
            Phase::CircuitCreate => "Establishing a Tor circuit",
            Phase::Done => "Done",
        }
    }

    pub(crate) fn percent(self, descriptors_percent: u8) -> u8 {
        match self {
            Phase::Starting => 0,
            Phase::Conn => 5,
            Phase::OnehopCreate => 20,
            Phase::RequestingStatus => 25,
            Phase::LoadingKeys => 40,
            Phase::RequestingDescriptors => 45,
            Phase::LoadingDescriptors => 50 + descriptors_percent.min(100) / 4,
            Phase::EnoughDirinfo => 75,
            Phase::CircuitCreate => 95,
            Phase::Done => 100,
        }
    }
}

/// How far a client is: a phase, and how much of all that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BootstrapStatus {
    /// How much is done, from 0 to 100.
    pub percent: u8,
    /// The phase that the client is in.
    pub phase: Phase,
}

impl fmt::Display for BootstrapStatus {
    /// As `tor` logs it: `Bootstrapped 100% (done): Done`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, phase) = (self.percent, self.phase);
        write!(
            f,
            "Bootstrapped {percent}% ({}): {}",
            phase.tag(),
            phase.summary()
        )
    }
}
