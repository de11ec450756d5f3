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

use cepa_link::channel::ControlFull;
use cepa_link::{AllocateError, Channel, ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{self, CircId, Command};
use cepa_wire::create::CreateFast;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::RelayCommand;

use super::onion::OnionUse;
use super::{Event, Plane};

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

    /// When [`Plane::handle_silence`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next().map(|(at, _)| at)
    }

    fn due(&self, now: Now) -> Option<Due> {
        let (at, due) = self.next()?;
        (at <= now.mono).then_some(due)
    }

    /// A cell came. The circuit of the question, if there was one, and whether it was in doubt.
    fn heard(&mut self, now: Now) -> (Option<CircId>, bool) {
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

impl Plane {
    /// A fresh link to the relay of a suspect channel stands: this one will not be waited for much
    /// longer.
    pub fn supersede_channel(&mut self, key: ChannelKey) {
        if let Some(entry) = self.channels.get_mut(key) {
            entry.liveness.is_superseded = true;
        }
    }

    /// Cells came over a channel.
    pub(super) fn handle_heard(&mut self, key: ChannelKey, now: Now) {
        let Some(entry) = self.channels.get_mut(key) else {
            return;
        };
        let (probe, was_suspect) = entry.liveness.heard(now);
        if let Some(circ_id) = probe {
            entry.channel.remove(circ_id);
            // A queue that is full has more to say than this.
            let queued = entry.channel.queue_destroy(circ_id, DestroyReason::NONE);
            if queued.is_ok() {
                self.ready.channel(key, &mut entry.ready);
            }
        }
        if was_suspect {
            self.events.push_back(Event::ChannelHeard { channel: key });
        }
    }

    /// Asks relays that are silent, and tells of those that do not answer.
    pub(super) fn handle_silence(&mut self, now: Now) {
        let Plane {
            channels,
            circuits,
            ready,
            events,
            rng,
            ..
        } = self;
        for (key, entry) in channels {
            let Some(due) = entry.liveness.due(now) else {
                continue;
            };
            let is_used = || {
                let mut over = circuits.values().filter(|one| one.channel == key);
                over.any(|one| !one.streams.is_empty() || one.onion != OnionUse::None)
            };
            let liveness = &mut entry.liveness;
            match due {
                Due::AskIfUsed if !is_used() => liveness.quiet_since = now.mono,
                Due::Ask | Due::AskIfUsed => {
                    (liveness.doubt, liveness.asked_at) = (Doubt::Asked, now.mono);
                    // What cannot be asked for lack of room is as good as asked.
                    liveness.probe = ask(&mut entry.channel, rng).ok();
                    ready.channel(key, &mut entry.ready);
                }
                Due::Suspect => {
                    liveness.doubt = Doubt::Suspect;
                    events.push_back(Event::ChannelSuspect { channel: key });
                }
                Due::Dead => {
                    liveness.doubt = Doubt::Dead;
                    events.push_back(Event::ChannelDead {
                        channel: key,
                        has_spoken: liveness.has_spoken,
                    });
                }
            }
        }
    }
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
fn ask(channel: &mut Channel, rng: &mut cepa_crypto::Rng) -> Result<CircId, AskError> {
    let circ_id = channel.allocate(rng, NOBODY)?;
    let mut create = cell::new_cell(circ_id, Command::CREATE_FAST);
    CreateFast { x: rng.array() }.write(cell::payload_mut(&mut create));
    channel.queue_control(&create).inspect_err(|_| {
        channel.remove(circ_id);
    })?;
    Ok(circ_id)
}
