//! Whether the relay at the other end of a channel still answers.
//!
//! ```text
//!      asked, or quiet for long         no answer           a fresh link stands
//! heard ─────────────────────▶ probed ───────────▶ suspect ─────────────────────▶ dead
//!   ▲                            │                    │ └───── none does, for long ──▲
//!   └─────────── any cell ───────┴──── any cell ──────┘
//! ```
//!
//! A path that has begun to drop packets looks as if the relay had nothing to say, and the kernel
//! waits a quarter of an hour before it says otherwise; a box on the way may even answer for the
//! relay. So what is sent is expected to be followed by something. A silence alone proves nothing
//! (the far end of a stream may be slow), so the relay is asked: CREATE_FAST is answered at once
//! by every relay, and costs it little. What the protocol leaves open; all bounds are ours.

use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_link::channel::ControlFull;
use cepa_link::{AllocateError, Channel, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{self, CircId, Command};
use cepa_wire::create::CreateFast;
use cepa_wire::relay::RelayCommand;

/// How long what was sent may be followed by silence before the relay is asked.
pub(crate) const PROBE_AFTER: Duration = Duration::from_millis(1500);
/// How long a channel may be quiet while streams or services of ours depend on it.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(15);
/// How long the answer may take on a fast path; on a slow one, twice as long as it ever took.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// The longest wait for the answer, however slow the path is.
const SUSPECT_AFTER_MAX: Duration = Duration::from_secs(10);
/// How long after the question a silent channel is dead, if a fresh link to the relay stands.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(5);
/// The same if none does: the network may be down, and come back.
pub(crate) const DEAD_ALONE_AFTER: Duration = Duration::from_secs(60);
/// Names the circuit of a question: no circuit of the plane's.
const NOBODY: CircuitRef = CircuitRef(0);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The relay is to be asked because of what was sent.
    Ask,
    /// It is to be asked if anything depends on the channel.
    AskIfUsed,
    /// It has not answered.
    Suspect,
    /// It will not answer.
    Dead,
}

/// What a silence has come to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The relay does not answer: others are better used.
    Suspect,
    /// Nothing will come any more.
    Dead {
        /// Whether anything ever came.
        has_spoken: bool,
    },
}

/// How far the doubt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    Asked,
    Suspect,
    Dead,
}

/// The silence of one channel.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When a cell last came, or the channel was opened, or its use was looked at.
    quiet_since: Instant,
    /// When something was first sent since a cell last came.
    sent_at: Option<Instant>,
    doubt: Doubt,
    /// When the relay was asked.
    asked_at: Instant,
    probe: Option<CircId>,
    /// The longest that an answer took.
    slowest: Duration,
    /// A cell has come at all.
    has_spoken: bool,
    /// A fresh link to the same relay stands.
    is_superseded: bool,
}

impl Liveness {
    pub(super) fn new(now: Now) -> Self {
        Liveness {
            quiet_since: now.mono,
            sent_at: None,
            doubt: Doubt::None,
            asked_at: now.mono,
            probe: None,
            slowest: Duration::ZERO,
            has_spoken: false,
            is_superseded: false,
        }
    }

    /// Something was sent that a relay answers, or acknowledges sooner or later.
    pub(super) fn sent(&mut self, now: Now) {
        self.sent_at.get_or_insert(now.mono);
    }

    fn suspect_after(&self) -> Duration {
        (2 * self.slowest).clamp(SUSPECT_AFTER, SUSPECT_AFTER_MAX)
    }

    fn next(&self) -> Option<(Instant, Due)> {
        match self.doubt {
            Doubt::None => {
                let quiet = (self.quiet_since + QUIET_MAX, Due::AskIfUsed);
                let asked = self.sent_at.map(|at| (at + PROBE_AFTER, Due::Ask));
                Some(asked.filter(|asked| asked.0 <= quiet.0).unwrap_or(quiet))
            }
            Doubt::Asked => Some((self.asked_at + self.suspect_after(), Due::Suspect)),
            Doubt::Suspect => {
                let after = match self.is_superseded {
                    true => DEAD_AFTER.max(self.suspect_after()),
                    false => DEAD_ALONE_AFTER,
                };
                Some((self.asked_at + after, Due::Dead))
            }
            Doubt::Dead => None,
        }
    }

    /// When [`Liveness::review`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next().map(|(at, _)| at)
    }

    fn due(&self, now: Now) -> Option<Due> {
        let (at, due) = self.next()?;
        (at <= now.mono).then_some(due)
    }

    /// A fresh link to the same relay stands: this one is not waited for much longer.
    pub(super) fn supersede(&mut self) {
        self.is_superseded = true;
    }

    /// Asks the relay if it has been silent for too long, and says if it does not answer.
    pub(super) fn review(
        &mut self,
        channel: &mut Channel,
        is_used: impl FnOnce() -> bool,
        rng: &mut Rng,
        now: Now,
    ) -> Option<Silence> {
        match self.due(now)? {
            Due::AskIfUsed if !is_used() => {
                self.quiet_since = now.mono;
                None
            }
            Due::Ask | Due::AskIfUsed => {
                (self.doubt, self.asked_at) = (Doubt::Asked, now.mono);
                // What cannot be asked for lack of room is as good as asked.
                self.probe = ask(channel, rng).ok();
                None
            }
            Due::Suspect => {
                self.doubt = Doubt::Suspect;
                Some(Silence::Suspect)
            }
            Due::Dead => {
                self.doubt = Doubt::Dead;
                let has_spoken = self.has_spoken;
                Some(Silence::Dead { has_spoken })
            }
        }
    }

    /// A cell came. The circuit of the question, if there was one, and whether it was in doubt.
    pub(super) fn heard(&mut self, now: Now) -> (Option<CircId>, bool) {
        self.quiet_since = now.mono;
        self.sent_at = None;
        self.has_spoken = true;
        let doubt = std::mem::replace(&mut self.doubt, Doubt::None);
        if doubt != Doubt::None {
            let took = now.mono.saturating_duration_since(self.asked_at);
            self.slowest = self.slowest.max(took);
        }
        let was_suspect = matches!(doubt, Doubt::Suspect | Doubt::Dead);
        (self.probe.take(), was_suspect)
    }
}

/// Whether something comes back for such a message, sooner or later.
pub(super) fn is_answered(command: RelayCommand) -> bool {
    !matches!(
        command,
        RelayCommand::SENDME
            | RelayCommand::END
            | RelayCommand::XON
            | RelayCommand::XOFF
            | RelayCommand::DROP
            | RelayCommand::PADDING_NEGOTIATE
            | RelayCommand::PADDING_NEGOTIATED
    )
}

/// Why a relay could not be asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    #[error(transparent)]
    Full(#[from] ControlFull),
}

/// Sends CREATE_FAST before all else that waits. Nobody keeps the keys.
fn ask(channel: &mut Channel, rng: &mut Rng) -> Result<CircId, AskError> {
    let circ_id = channel.allocate(rng, NOBODY)?;
    let mut create = cell::new_cell(circ_id, Command::CREATE_FAST);
    CreateFast { x: rng.array() }.write(cell::payload_mut(&mut create));
    channel.queue_control(&create).inspect_err(|_| {
        channel.remove(circ_id);
    })?;
    Ok(circ_id)
}
