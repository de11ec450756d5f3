//! How far a client is, in the words that users of `tor` know (control-spec 5.5).
//!
//! The status only moves forward until the client is done. What is missing decides the phase: it is
//! derived from facts ([`Facts`]), so that no step can be forgotten.

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

    fn percent(self, descriptors_percent: u8) -> u8 {
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

/// What is there by now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    pub(crate) connecting: bool,
    pub(crate) connected: bool,
    pub(crate) asking: bool,
    pub(crate) wants_certificates: bool,
    pub(crate) has_consensus: bool,
    pub(crate) descriptors_percent: u8,
    pub(crate) has_enough: bool,
    pub(crate) building: bool,
    pub(crate) has_circuit: bool,
}

impl Facts {
    fn phase(&self) -> Phase {
        if self.has_enough {
            return match (self.has_circuit, self.building) {
                (true, _) => Phase::Done,
                (false, true) => Phase::CircuitCreate,
                (false, false) => Phase::EnoughDirinfo,
            };
        }
        if self.has_consensus {
            return match self.descriptors_percent {
                0 => Phase::RequestingDescriptors,
                _ => Phase::LoadingDescriptors,
            };
        }
        match (self.wants_certificates, self.asking) {
            (true, _) => Phase::LoadingKeys,
            (false, true) => Phase::RequestingStatus,
            _ if self.connected => Phase::OnehopCreate,
            _ if self.connecting => Phase::Conn,
            _ => Phase::Starting,
        }
    }
}

impl BootstrapStatus {
    /// Moves on to what the facts say; true if that is further than before.
    pub(crate) fn update(&mut self, facts: &Facts) -> bool {
        let phase = facts.phase();
        let percent = phase.percent(facts.descriptors_percent);
        let further = percent > self.percent;
        if further {
            *self = BootstrapStatus { percent, phase };
        }
        further
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_forward_only() {
        let mut status = BootstrapStatus::default();
        let mut facts = Facts::default();
        assert!(!status.update(&facts));
        facts.connecting = true;
        assert!(status.update(&facts) && status.percent == 5);
        facts.connected = true;
        facts.asking = true;
        assert!(status.update(&facts) && status.phase == Phase::RequestingStatus);
        facts.has_consensus = true;
        assert!(status.update(&facts) && status.percent == 45);
        facts.descriptors_percent = 50;
        assert!(status.update(&facts) && status.percent == 62);
        facts.has_enough = true;
        assert!(status.update(&facts) && status.percent == 75);
        facts.has_circuit = true;
        assert!(status.update(&facts));
        assert_eq!(status.to_string(), "Bootstrapped 100% (done): Done");
        assert!(!status.update(&Facts::default()) && status.percent == 100);
    }
}
