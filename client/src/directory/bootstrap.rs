//! What decides how far a client is (control-spec 5.5).
//!
//! The status only moves forward until the client is done. What is missing decides the phase: it is
//! derived from facts ([`Facts`]), so that no step can be forgotten.

use crate::status::bootstrap::{BootstrapStatus, Phase};

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

    /// Moves a status on to what the facts say; true if that is further than before.
    pub(crate) fn advance(&self, status: &mut BootstrapStatus) -> bool {
        let phase = self.phase();
        let percent = phase.percent(self.descriptors_percent);
        let further = percent > status.percent;
        if further {
            *status = BootstrapStatus { percent, phase };
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
        assert!(!facts.advance(&mut status));
        facts.connecting = true;
        assert!(facts.advance(&mut status) && status.percent == 5);
        facts.connected = true;
        facts.asking = true;
        assert!(facts.advance(&mut status) && status.phase == Phase::RequestingStatus);
        facts.has_consensus = true;
        assert!(facts.advance(&mut status) && status.percent == 45);
        facts.descriptors_percent = 50;
        assert!(facts.advance(&mut status) && status.percent == 62);
        facts.has_enough = true;
        assert!(facts.advance(&mut status) && status.percent == 75);
        facts.has_circuit = true;
        assert!(facts.advance(&mut status));
        assert_eq!(status.to_string(), "Bootstrapped 100% (done): Done");
        assert!(!Facts::default().advance(&mut status) && status.percent == 100);
    }
}
