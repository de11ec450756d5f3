//! One visit: from the request to a circuit with the service at its other end
//! (rend-spec-v3 1.2, 3.2, 4).
//!
//! ```text
//!         ┌─ Rendezvous:      Absent ─▶ Opening ─▶ Asked ─▶ Standing ─┐
//! new ─▶──┤                                                        ├─INTRODUCE1─▶ ... ─▶ ready
//!         └─ Introduction: Fetching ─▶ Choosing ─▶ Opening ─▶ Open ┘
//! ```
//!
//! Both sides go on at the same time. [`Visit::advance`] is called after each change and does what
//! has become possible. Invariants: once INTRODUCE1 was sent, an introduction and the rendezvous
//! circuit whose cookie it names end together unless the point refused, for the service may yet
//! answer to that cookie; a service that does not come soon is looked for anew while it is waited
//! for; the visit ends by [`VISIT_MAX`].

use std::time::{Duration, Instant};

use cepa_circuit::handshake::HopSpec;
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;
use cepa_wire::introduce::{IntroduceAck, IntroduceStatus};
use cepa_wire::relay::RelayCommand;

use super::cache::Opened;
use super::circuits::Role;
use super::introduction::{
    self, ACK_MAX, COME_MAX, Chosen, DOUBT_AFTER, Look, OPEN_MAX, Stage, Tries,
};
use super::memory::IntroFailure;
use super::outcome::VisitError;
use super::rendezvous::{self, Rendezvous};
use super::shared::Shared;
use crate::isolation::Isolation;
use crate::names::{CircuitName, VisitId};
use crate::onion::action::{Ending, LastHop};

/// How long a visit may take in all.
pub(super) const VISIT_MAX: Duration = Duration::from_secs(90);
/// How long a rendezvous circuit stays without a stream (`MaxCircuitDirtiness`).
pub(super) const IDLE_MAX: Duration = Duration::from_secs(600);

/// What a visit needs of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing for now.
    Nothing,
    /// A descriptor with an introduction point that may be tried.
    Descriptor,
    /// A newer descriptor, if there is one; it waits for the service meanwhile.
    Newer,
    /// To be told that it is ready.
    Ready(CircuitName),
    /// To be given up.
    End(VisitError),
}

/// One visit.
#[derive(Debug)]
pub(super) struct Visit {
    id: VisitId,
    pub(super) address: OnionAddress,
    pub(super) isolation: Isolation,
    pub(super) rendezvous: Rendezvous,
    introduction: Stage,
    tries: Tries,
    until: Instant,
    is_announced: bool,
    doubt: Doubt,
}

/// Whether the service is still where its descriptor said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// No doubt, or the directories know nothing newer.
    None,
    /// They are to be asked.
    Raised,
    /// They are being asked.
    Asking,
}

impl Visit {
    pub(super) fn new(
        id: VisitId,
        address: OnionAddress,
        isolation: Isolation,
        now: Instant,
    ) -> Self {
        Visit {
            id,
            address,
            isolation,
            rendezvous: Rendezvous::new(now),
            introduction: Stage::Choosing,
            tries: Tries::default(),
            until: now + VISIT_MAX,
            is_announced: false,
            doubt: Doubt::None,
        }
    }

    /// Whether it waits for a descriptor and can do nothing else.
    pub(super) fn is_fetching(&self) -> bool {
        matches!(self.introduction, Stage::Fetching)
    }

    /// Whether a descriptor is of use to it.
    pub(super) fn wants_descriptor(&self) -> bool {
        self.is_fetching() || self.doubt == Doubt::Asking
    }

    /// When something is due.
    pub(super) fn until(&self) -> Option<Instant> {
        if let rendezvous::Stage::Joined { idle_since, .. } = &self.rendezvous.stage {
            return idle_since.map(|since| since + IDLE_MAX);
        }
        let stages = [self.rendezvous.until(), self.introduction.until()];
        stages.into_iter().flatten().chain([self.until]).min()
    }

    /// Does what has become possible. `opened` is the service's descriptor, if there is one.
    pub(super) fn advance(
        &mut self,
        opened: Option<&Opened>,
        shared: &mut Shared,
        now: Now,
    ) -> Need {
        if let Some(circuit) = self.rendezvous.joined() {
            let is_told = std::mem::replace(&mut self.is_announced, true);
            return if is_told {
                Need::Nothing
            } else {
                Need::Ready(circuit)
            };
        }
        let role = Role::Rendezvous(self.id);
        self.rendezvous.open(role, shared, now.mono);
        if self.rendezvous.has_failed() {
            return Need::End(VisitError::RendezvousFailed);
        }
        if matches!(self.introduction, Stage::Choosing) {
            let chosen = opened.and_then(|it| self.tries.choose(it, shared, now.mono));
            match chosen {
                Some(chosen) => self.open_introduction(chosen, shared, now),
                None if opened.is_none() => return self.fetch(),
                // The service may be about to come back there, or to say where it is.
                None => match self.tries.look(now.mono) {
                    Look::Now => return self.fetch(),
                    Look::At(until) => self.introduction = Stage::Resting { until },
                    Look::No => {
                        let error = self.tries.verdict();
                        return Need::End(error.unwrap_or(VisitError::IntroductionFailed));
                    }
                },
            }
        }
        self.introduce(shared, now);
        if self.doubt == Doubt::Raised {
            self.doubt = Doubt::Asking;
            return Need::Newer;
        }
        Need::Nothing
    }

    fn fetch(&mut self) -> Need {
        self.introduction = Stage::Fetching;
        Need::Descriptor
    }

    /// A descriptor came, or the one that is there is still the newest. If the service has left
    /// the point where it was asked for, it is asked for elsewhere.
    pub(super) fn descriptor_arrived(
        &mut self,
        opened: Option<&Opened>,
        shared: &mut Shared,
        now: Now,
    ) {
        self.doubt = Doubt::None;
        if self.is_fetching() {
            self.introduction = Stage::Choosing;
            return;
        }
        let has_left = self
            .introduction
            .auth_key()
            .zip(opened)
            .is_some_and(|(key, opened)| !opened.lists(&key));
        if has_left {
            let was_asked = matches!(
                self.introduction,
                Stage::Asked { .. } | Stage::Accepted { .. }
            );
            if let Some(circuit) = self.introduction.circuit() {
                shared.circuits.close(circuit);
            }
            self.introduction = Stage::Choosing;
            if was_asked {
                self.rendezvous.renew(shared, now.mono);
            }
        }
    }

    /// No descriptor comes: what there is must do, if there was one.
    pub(super) fn descriptor_failed(&mut self, error: VisitError, is_there: bool) -> Need {
        self.doubt = Doubt::None;
        if !self.is_fetching() {
            return Need::Nothing;
        }
        if is_there {
            self.tries.is_last_resort = true;
            self.introduction = Stage::Choosing;
            return Need::Nothing;
        }
        Need::End(self.tries.verdict().unwrap_or(error))
    }

    /// A circuit stands.
    pub(super) fn built(&mut self, role: Role, last: &HopSpec, shared: &mut Shared, now: Now) {
        match role {
            Role::Rendezvous(_) => self.rendezvous.built(last, shared, now.mono),
            _ => {
                let stage = std::mem::replace(&mut self.introduction, Stage::Choosing);
                self.introduction = match stage {
                    Stage::Opening {
                        circuit, chosen, ..
                    } => Stage::Open { circuit, chosen },
                    other => other,
                };
            }
        }
    }

    /// A message came over one of its circuits. Whether the visit is over, though it was ready.
    pub(super) fn handle_message(
        &mut self,
        role: Role,
        command: RelayCommand,
        body: &[u8],
        shared: &mut Shared,
        now: Now,
    ) -> bool {
        let was_due = match (role, command) {
            (Role::Rendezvous(_), RelayCommand::RENDEZVOUS_ESTABLISHED) => {
                self.rendezvous.established()
            }
            (Role::Rendezvous(_), RelayCommand::RENDEZVOUS2) => self.finish(body, shared, now),
            (Role::Introduction(_), RelayCommand::INTRODUCE_ACK) => {
                self.handle_ack(body, shared, now);
                true
            }
            // Anything else is not for us (padding, or what is yet to be invented).
            _ => true,
        };
        !was_due && self.rendezvous_violated(shared, now)
    }

    /// A circuit is gone. Whether the visit is over, though it was ready.
    pub(super) fn ended(
        &mut self,
        role: Role,
        ending: Ending,
        shared: &mut Shared,
        now: Now,
    ) -> bool {
        if let Role::Rendezvous(_) = role {
            let is_over = self.rendezvous.joined().is_some();
            self.rendezvous.ended(ending, shared, now.mono);
            self.abandon_introduction(shared);
            return is_over;
        }
        match &self.introduction {
            Stage::Opening { chosen, .. } | Stage::Open { chosen, .. } => {
                let auth_key = chosen.auth_key();
                if matches!(ending, Ending::LastHop | Ending::Closed) {
                    let failure = IntroFailure::Unreachable;
                    shared.failures.note(auth_key, failure, now.mono);
                }
                self.tries.was_late |= ending == Ending::Timeout;
                self.tries.was_refused |= ending != Ending::Timeout;
                self.introduction = match ending {
                    Ending::NoPath => Stage::Resting {
                        until: now.mono + rendezvous::PAUSE,
                    },
                    _ => Stage::Choosing,
                };
            }
            Stage::Asked { .. } => {
                self.fail_introduction(IntroFailure::Refused, shared, now);
                self.rendezvous.renew(shared, now.mono);
            }
            _ => {}
        }
        false
    }

    /// Time has passed. [`Need::End`] if it was too much; a ready visit is then idle for too long.
    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) -> Need {
        if self.until().is_none_or(|until| now.mono < until) {
            return Need::Nothing;
        }
        if self.rendezvous.joined().is_some() || now.mono >= self.until {
            return Need::End(self.late_error());
        }
        let meeting_is_late = matches!(
            &self.rendezvous.stage,
            rendezvous::Stage::Opening { until, .. } | rendezvous::Stage::Asked { until, .. }
                if *until <= now.mono
        );
        if meeting_is_late {
            self.rendezvous.lose(shared, now.mono);
        }
        if self.introduction.until().is_some_and(|t| t <= now.mono) {
            self.introduction_is_late(shared, now);
        }
        Need::Nothing
    }

    /// Closes its circuits.
    pub(super) fn close(&mut self, shared: &mut Shared, now: Now) {
        if let Some(circuit) = self.introduction.circuit() {
            shared.circuits.close(circuit);
        }
        self.rendezvous.renew(shared, now.mono);
    }

    fn open_introduction(&mut self, chosen: Chosen, shared: &mut Shared, now: Now) {
        let Some(hop) = introduction::hop(&chosen.point) else {
            return;
        };
        let last = LastHop::Told(Box::new(hop));
        let circuit = shared.circuits.open(Role::Introduction(self.id), last);
        self.introduction = Stage::Opening {
            circuit,
            chosen: Box::new(chosen),
            until: now.mono + OPEN_MAX,
        };
    }

    /// Sends INTRODUCE1 if both circuits stand.
    fn introduce(&mut self, shared: &mut Shared, now: Now) {
        let rendezvous::Stage::Standing { point, .. } = &self.rendezvous.stage else {
            return;
        };
        let Stage::Open { circuit, chosen } = &self.introduction else {
            return;
        };
        let (circuit, auth_key) = (*circuit, chosen.auth_key());
        let Some((handshake, body)) = introduction::introduce1(chosen, point, &mut shared.rng)
        else {
            self.fail_introduction(IntroFailure::Refused, shared, now);
            return;
        };
        let command = RelayCommand::INTRODUCE1;
        shared.circuits.send(circuit, command, body);
        self.introduction = Stage::Asked {
            circuit,
            auth_key,
            handshake: Box::new(handshake),
            until: now.mono + ACK_MAX,
        };
    }

    fn handle_ack(&mut self, body: &[u8], shared: &mut Shared, now: Now) {
        let is_success =
            IntroduceAck::read(body).is_ok_and(|ack| ack.status == IntroduceStatus::SUCCESS);
        match std::mem::replace(&mut self.introduction, Stage::Choosing) {
            Stage::Asked {
                circuit,
                auth_key,
                handshake,
                ..
            } if is_success => {
                shared.circuits.close(circuit);
                self.tries.was_accepted = true;
                self.introduction = Stage::Accepted {
                    auth_key,
                    handshake,
                    until: now.mono + COME_MAX,
                    doubt_at: now.mono + DOUBT_AFTER,
                };
            }
            // Refused, or an answer to what was not asked: the point is no good.
            stage => {
                self.introduction = stage;
                // While the next one is tried, a directory may say where the service is.
                if self.doubt == Doubt::None && !self.tries.was_refused {
                    self.doubt = Doubt::Raised;
                }
                self.fail_introduction(IntroFailure::Refused, shared, now);
            }
        }
    }

    /// Takes RENDEZVOUS2; false if it was not due or does not come from the service.
    fn finish(&mut self, body: &[u8], shared: &mut Shared, now: Now) -> bool {
        let rendezvous::Stage::Standing { circuit, .. } = self.rendezvous.stage else {
            return false;
        };
        let (auth_key, handshake) = match std::mem::replace(&mut self.introduction, Stage::Done) {
            Stage::Asked {
                circuit: introduction,
                auth_key,
                handshake,
                ..
            } => {
                // The service was faster than the answer of the introduction point.
                shared.circuits.close(introduction);
                (auth_key, handshake)
            }
            Stage::Accepted {
                auth_key,
                handshake,
                ..
            } => (auth_key, handshake),
            stage => {
                self.introduction = stage;
                return false;
            }
        };
        let congestion = handshake.congestion;
        let Ok(keys) = handshake.state.finish(body) else {
            self.tries.was_accepted = true;
            self.introduction = Stage::Choosing;
            return false;
        };
        shared.failures.forget(&auth_key);
        let layer = keys.client_layer();
        shared.circuits.join(circuit, layer, congestion);
        self.rendezvous.join(circuit, now.mono);
        true
    }

    /// The rendezvous point said what it must not. Whether the visit is over.
    fn rendezvous_violated(&mut self, shared: &mut Shared, now: Now) -> bool {
        let is_over = self.rendezvous.joined().is_some();
        self.rendezvous.lose(shared, now.mono);
        self.abandon_introduction(shared);
        is_over
    }

    /// Gives the introduction up if it names the rendezvous circuit that is gone.
    fn abandon_introduction(&mut self, shared: &mut Shared) {
        if let Stage::Asked { .. } | Stage::Accepted { .. } = self.introduction {
            if let Some(circuit) = self.introduction.circuit() {
                shared.circuits.close(circuit);
            }
            self.introduction = Stage::Choosing;
        }
    }

    fn fail_introduction(&mut self, failure: IntroFailure, shared: &mut Shared, now: Now) {
        let auth_key = match &self.introduction {
            Stage::Opening { chosen, .. } | Stage::Open { chosen, .. } => chosen.auth_key(),
            Stage::Asked { auth_key, .. } => *auth_key,
            _ => return,
        };
        shared.failures.note(auth_key, failure, now.mono);
        self.tries.was_late |= failure == IntroFailure::TimedOut;
        self.tries.was_refused |= failure != IntroFailure::TimedOut;
        if let Some(circuit) = self.introduction.circuit() {
            shared.circuits.close(circuit);
        }
        self.introduction = Stage::Choosing;
    }

    fn introduction_is_late(&mut self, shared: &mut Shared, now: Now) {
        match &mut self.introduction {
            Stage::Asked { .. } => {
                self.fail_introduction(IntroFailure::TimedOut, shared, now);
                self.rendezvous.renew(shared, now.mono);
            }
            Stage::Accepted {
                until, doubt_at, ..
            } if now.mono < *until => {
                *doubt_at = now.mono + DOUBT_AFTER;
                self.doubt = Doubt::Raised;
            }
            Stage::Accepted { auth_key, .. } => {
                shared
                    .failures
                    .note(*auth_key, IntroFailure::TimedOut, now.mono);
                self.introduction = Stage::Choosing;
                self.rendezvous.lose(shared, now.mono);
            }
            Stage::Opening { circuit, .. } => {
                shared.circuits.close(*circuit);
                self.tries.was_late = true;
                self.introduction = Stage::Choosing;
            }
            Stage::Resting { .. } => self.introduction = Stage::Choosing,
            _ => {}
        }
    }

    /// Why a visit that takes too long fails.
    fn late_error(&self) -> VisitError {
        match &self.introduction {
            Stage::Open { .. } | Stage::Accepted { .. } => VisitError::RendezvousFailed,
            Stage::Fetching => self
                .tries
                .verdict()
                .unwrap_or(VisitError::DescriptorNotFound),
            _ => {
                let verdict = self.tries.verdict();
                verdict.unwrap_or(VisitError::IntroductionTimedOut)
            }
        }
    }
}
