//! Introduction points (rend-spec-v3 3.1, 3.2; proposal 305; `tor`'s hs_intropoint.c).
//!
//! A service proves its auth key on a circuit that ends here; INTRODUCE1 for that key from another
//! circuit goes to it unchanged, as INTRODUCE2, and is answered. A client gets one introduction a
//! circuit, and none on a circuit that comes straight from it. A service may ask for a limit on how
//! many reach it; what exceeds that is refused here. Every fault closes the circuit, but for an
//! INTRODUCE1 that is malformed or finds nobody: its client is told, and may extend elsewhere.

use std::time::Instant;

use cepa_circuit::{CircuitKey, RelayCircuit};
use cepa_limits::{DosRule, Meter, Rate};
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::establish_intro::{
    DosParams, EstablishIntro, EstablishIntroError, IntroEstablished,
};
use cepa_wire::introduce::{Introduce, IntroduceAck, IntroduceError, IntroduceStatus};
use cepa_wire::relay::{RelayCommand, StreamId};
use tracing::debug;

use super::Switch;
use super::circuit::Next;
use super::counts::{PointAction, PointCell};
use super::point::{AuthKey, CircuitPlace, PointItem, PointKey};

/// What a circuit needs to be an introduction point.
#[derive(Debug)]
pub(super) struct IntroPoint {
    pub(super) auth_key: AuthKey,
    limiter: Option<Limiter>,
    /// The auth key's home knows it.
    pub(super) is_established: bool,
}

/// How many introductions a service gets.
#[derive(Debug)]
struct Limiter {
    rate: Rate,
    meter: Meter,
}

impl Limiter {
    /// `None`: nothing is limited.
    fn new(asked: DosParams) -> Option<Self> {
        let (rate, burst) = asked.limit()?;
        Some(Limiter {
            rate: Rate::new(rate, burst)?,
            meter: Meter::default(),
        })
    }

    fn lets_through(&mut self, now: Instant) -> bool {
        self.meter.take(self.rate, now)
    }
}

/// Why an ESTABLISH_INTRO is refused; the consequence is DESTROY with reason 1 (PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum EstablishRefused {
    #[error("the circuit does not end here, or is a point already")]
    NotEnd,
    #[error(transparent)]
    Invalid(#[from] EstablishIntroError),
}

impl Switch {
    pub(super) fn handle_establish_intro(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        match self.check_establish_intro(key, data) {
            Ok(point) => {
                let point_key = PointKey::Intro(point.auth_key);
                if let Some(circuit) = self.circuits.get_mut(key) {
                    circuit.next = Next::Intro(Box::new(point));
                }
                let item = PointItem::Register {
                    key: point_key,
                    circuit: self.place(key),
                };
                self.tell(self.home(&point_key), item, now);
            }
            Err(refused) => {
                debug!(%refused, "ESTABLISH_INTRO refused");
                let action = match refused {
                    EstablishRefused::NotEnd => PointAction::UnsuitableCircuit,
                    EstablishRefused::Invalid(_) => PointAction::Malformed,
                };
                self.point_counts.count(PointCell::EstablishIntro, action);
                self.destroy(key, DestroyReason::PROTOCOL, now);
            }
        }
    }

    fn check_establish_intro(
        &self,
        key: CircuitKey,
        data: &[u8],
    ) -> Result<IntroPoint, EstablishRefused> {
        let circuit = self.circuits.get(key).ok_or(EstablishRefused::NotEnd)?;
        if !matches!(circuit.next, Next::None) {
            return Err(EstablishRefused::NotEnd);
        }
        let establish = EstablishIntro::read(data)?;
        establish.verify(&circuit.kh)?;
        let asked = establish.dos.or(self.config.points.intro_dos);
        Ok(IntroPoint {
            auth_key: *establish.auth_key.as_bytes(),
            limiter: asked.and_then(Limiter::new),
            is_established: false,
        })
    }

    pub(super) fn intro_established(&mut self, key: CircuitKey, now: Now) {
        let mut body = Vec::with_capacity(1);
        IntroEstablished.write(&mut body);
        self.send_message(
            key,
            RelayCommand::INTRO_ESTABLISHED,
            StreamId::NONE,
            &body,
            now,
        );
    }

    pub(super) fn handle_introduce1(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        let is_direct = self.previous_peer(key).is_none();
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let is_used = !matches!(circuit.next, Next::None) || circuit.has_introduced;
        circuit.has_introduced = true;
        let introduce = Introduce::read(data);
        let refused = match introduce {
            _ if is_direct => Some(PointAction::SingleHop),
            _ if is_used => Some(PointAction::CircuitReused),
            Err(IntroduceError::Legacy) => Some(PointAction::Malformed),
            _ => None,
        };
        if let Some(action) = refused {
            debug!(action = action.label(), "INTRODUCE1 refused");
            self.point_counts.count(PointCell::Introduce1, action);
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        }
        let client = self.place(key);
        let Ok(introduce) = introduce else {
            let action = PointAction::Malformed;
            return self.end_introduce(client, IntroduceStatus::BAD_FORMAT, action, now);
        };
        let auth_key = *introduce.auth_key.as_bytes();
        let home = self.home(&PointKey::Intro(auth_key));
        let item = PointItem::Introduce {
            auth_key,
            client,
            body: data.to_vec(),
        };
        self.tell(home, item, now);
    }

    /// The auth key's home: whose circuit is it?
    pub(super) fn introduce(
        &mut self,
        auth_key: &AuthKey,
        client: CircuitPlace,
        body: Vec<u8>,
        now: Now,
    ) {
        let Some(CircuitPlace { worker, circuit }) = self.points.intro(auth_key) else {
            let action = PointAction::UnknownService;
            return self.end_introduce(client, IntroduceStatus::UNKNOWN_ID, action, now);
        };
        let item = PointItem::Introduced {
            circuit,
            client,
            body,
        };
        self.tell(worker, item, now);
    }

    /// The service's worker: INTRODUCE2, if the service wants that many.
    pub(super) fn introduced(
        &mut self,
        key: CircuitKey,
        client: CircuitPlace,
        body: &[u8],
        now: Now,
    ) {
        let format = self.circuit_relay(key).map(RelayCircuit::format);
        let next = self.circuits.get_mut(key).map(|circuit| &mut circuit.next);
        let (Some(Next::Intro(point)), Some(format)) = (next, format) else {
            let action = PointAction::CircuitDead;
            return self.end_introduce(client, IntroduceStatus::UNKNOWN_ID, action, now);
        };
        // What came in one cell need not fit one of the service's.
        if body.len() > format.data_max(RelayCommand::INTRODUCE2) {
            let action = PointAction::Malformed;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, now);
        }
        let limiter = point.limiter.as_mut();
        if limiter.is_some_and(|limiter| !limiter.lets_through(now.mono)) {
            self.dos_counts.count(DosRule::Introduce2Rejected);
            let action = PointAction::RateLimited;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, now);
        }
        if !self.send_message(key, RelayCommand::INTRODUCE2, StreamId::NONE, body, now) {
            let action = PointAction::CircuitDead;
            return self.end_introduce(client, IntroduceStatus::CANT_RELAY, action, now);
        }
        self.end_introduce(client, IntroduceStatus::SUCCESS, PointAction::Success, now);
    }

    /// Counts what became of an INTRODUCE1, and answers it.
    fn end_introduce(
        &mut self,
        client: CircuitPlace,
        status: IntroduceStatus,
        action: PointAction,
        now: Now,
    ) {
        self.point_counts.count(PointCell::Introduce1, action);
        let CircuitPlace { worker, circuit } = client;
        self.tell(worker, PointItem::Acknowledge { circuit, status }, now);
    }

    /// The client's worker: INTRODUCE_ACK.
    pub(super) fn acknowledge(&mut self, key: CircuitKey, status: IntroduceStatus, now: Now) {
        let mut body = Vec::with_capacity(3);
        IntroduceAck { status }.write(&mut body);
        self.send_message(key, RelayCommand::INTRODUCE_ACK, StreamId::NONE, &body, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    fn limiter(rate_per_s: u64, burst: u64) -> Option<Limiter> {
        Limiter::new(DosParams { rate_per_s, burst })
    }

    #[test]
    fn the_limiter_is_exact() {
        let start = now();
        let mut limiter = limiter(4, 10).unwrap();
        let mut let_through = |at: Duration, asked: usize| {
            let asked = 0..asked;
            asked.filter(|_| limiter.lets_through(start + at)).count()
        };
        let ms = Duration::from_millis;
        assert_eq!(let_through(ms(0), 100), 10);
        assert_eq!(let_through(ms(249), 100), 0);
        assert_eq!(let_through(ms(250), 100), 1);
        assert_eq!(let_through(ms(1249), 100), 3);
        assert_eq!(let_through(ms(3000), 100), 8);
        // Asked all the time, the rate is kept; rested, no more than the burst is saved up.
        let hour = Duration::from_secs(3600);
        let asked: usize = (0..36_000)
            .map(|n| let_through(hour + ms(100) * n, 5))
            .sum();
        assert_eq!(asked, 10 + 4 * 3600 - 1);
        assert_eq!(let_through(hour * 10, 100), 10);
    }

    #[test]
    fn what_makes_no_sense_limits_nothing() {
        for (rate, burst) in [(0, 5), (5, 0), (5, 4), (1 << 31, 1 << 31), (1, u64::MAX)] {
            assert!(limiter(rate, burst).is_none());
        }
        let mut widest = limiter(1, (1 << 31) - 1).unwrap();
        assert!(widest.lets_through(now()));
        let mut fastest = limiter((1 << 31) - 1, (1 << 31) - 1).unwrap();
        assert!(fastest.lets_through(now()));
    }
}
