//! Padding machines that hide the set-up of a visitor's circuits (padding-spec 3.3; proposal 302).
//!
//! ```text
//!            client                              second hop
//! HIDE_INTRO START ───────────────────────────▶  OK, 7 to 9 DROP 1 to 10 ms apart, STOP
//! HIDE_REND  START, one DROP within 1 ms ─────▶  OK, one DROP within 1 ms
//! ```
//!
//! What `tor` drives with general state machines comes down to this: so many cells, so long apart.
//! [`PaddingMachine`] is one end of one; [`PaddingSchedule`] knows which circuit of many is due;
//! [`PaddingParams`] and [`PaddingBudget`] say how much the consensus allows. Counts are small and
//! known beforehand, so that a peer who asks again and again gets no more than its own cells are
//! worth tenfold.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_wire::circuit_padding::MachineType;

use crate::CircuitKey;

/// DROP cells of a relay's HIDE_INTRO: from here (`tor` draws a real number up to 10, and rounds
/// it down),
const INTRO_CELLS_MIN: u64 = 7;
/// and below here.
const INTRO_CELLS_END: u64 = 10;
/// How far they are apart: from here,
const INTRO_APART_MIN_US: u64 = 1000;
/// and below here.
const INTRO_APART_END_US: u64 = 10_000;
/// Within how long HIDE_REND sends its cell.
const REND_WITHIN_US: u64 = 1000;

/// What the consensus allows (padding-spec 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddingParams {
    /// `circpad_padding_disabled`: no machine is begun, and none goes on.
    pub is_disabled: bool,
    /// `circpad_padding_reduced`: clients begin only machines that cost little; none of these do.
    pub is_reduced: bool,
    /// `circpad_global_allowed_cells`: up to so many padding cells the share does not matter.
    pub allowed_cells: u64,
    /// `circpad_global_max_padding_pct`: the share of padding in all cells; 0 for any.
    pub share_max_pct: u64,
    /// `circpad_max_circ_queued_cells`: a circuit with more cells in its queue gets none.
    pub queued_cells_max: usize,
}

impl PaddingParams {
    /// Those of a consensus; `value` looks one up: its name, default and bounds.
    pub fn read(value: impl Fn(&str, i32, i32, i32) -> i32) -> Self {
        let count = |name, default, max| value(name, default, 0, max).unsigned_abs();
        PaddingParams {
            is_disabled: count("circpad_padding_disabled", 0, 1) == 1,
            is_reduced: count("circpad_padding_reduced", 0, 1) == 1,
            allowed_cells: count("circpad_global_allowed_cells", 0, 65_534).into(),
            share_max_pct: count("circpad_global_max_padding_pct", 0, 100).into(),
            queued_cells_max: count("circpad_max_circ_queued_cells", 1000, 50_000) as usize,
        }
    }
}

impl Default for PaddingParams {
    /// Those of a consensus that says nothing.
    fn default() -> Self {
        PaddingParams::read(|_, default, _, _| default)
    }
}

/// How much of what was sent is padding.
#[derive(Debug, Clone, Copy, Default)]
pub struct PaddingBudget {
    padding_cells: u64,
    other_cells: u64,
}

impl PaddingBudget {
    /// A cell is sent.
    pub fn note(&mut self, is_padding: bool) {
        match is_padding {
            true => self.padding_cells += 1,
            false => self.other_cells += 1,
        }
    }

    /// Whether one more padding cell may be sent.
    #[must_use]
    pub fn allows(&self, params: &PaddingParams) -> bool {
        if params.share_max_pct == 0 || self.padding_cells < params.allowed_cells {
            return true;
        }
        let all = self.padding_cells.saturating_add(self.other_cells).max(1);
        self.padding_cells.saturating_mul(100) / all <= params.share_max_pct
    }
}

/// One end of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddingMachine {
    /// Its kind.
    pub machine: MachineType,
    /// Which of the circuit's it is; from 1 on, or 0 if the client does not count.
    pub counter: u32,
    cells_left: u8,
    due: Option<Instant>,
}

impl PaddingMachine {
    /// A relay's end; `None` for a kind that is not known.
    #[must_use]
    pub fn at_relay(
        machine: MachineType,
        counter: u32,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Self> {
        let cells = match machine {
            MachineType::HIDE_INTRO => {
                INTRO_CELLS_MIN + rng.below(INTRO_CELLS_END - INTRO_CELLS_MIN)
            }
            MachineType::HIDE_REND => 1,
            _ => return None,
        };
        let cells = u8::try_from(cells).expect("a few cells");
        Some(Self::new(machine, counter, cells, rng, now))
    }

    /// A client's end; `None` for a kind that is not known.
    #[must_use]
    pub fn at_client(
        machine: MachineType,
        counter: u32,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Self> {
        let cells = match machine {
            MachineType::HIDE_INTRO => 0,
            MachineType::HIDE_REND => 1,
            _ => return None,
        };
        Some(Self::new(machine, counter, cells, rng, now))
    }

    fn new(machine: MachineType, counter: u32, cells: u8, rng: &mut Rng, now: Instant) -> Self {
        let mut new = PaddingMachine {
            machine,
            counter,
            cells_left: cells,
            due: None,
        };
        new.draw(rng, now);
        new
    }

    /// When its next DROP cell is due; `None` if it has sent them all.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A DROP cell is sent, or would have been.
    pub fn sent(&mut self, rng: &mut Rng, now: Instant) {
        self.cells_left = self.cells_left.saturating_sub(1);
        self.draw(rng, now);
    }

    /// Stops the machine: it sends no more.
    pub fn end(&mut self) {
        (self.cells_left, self.due) = (0, None);
    }

    /// Whether a message is about this one.
    #[must_use]
    pub fn is_meant(&self, machine: MachineType, counter: u32) -> bool {
        let is_counted = counter != 0 && self.counter != 0;
        self.machine == machine && (!is_counted || self.counter == counter)
    }

    /// Whether the relay says when its end is over, and both forget the machine.
    #[must_use]
    pub fn tells_end(&self) -> bool {
        self.machine == MachineType::HIDE_INTRO
    }

    fn draw(&mut self, rng: &mut Rng, now: Instant) {
        let within_us = match self.machine {
            MachineType::HIDE_INTRO => INTRO_APART_MIN_US..INTRO_APART_END_US,
            _ => 0..REND_WITHIN_US,
        };
        self.due = (self.cells_left > 0).then(|| {
            let us = within_us.start + rng.below(within_us.end - within_us.start);
            now + Duration::from_micros(us)
        });
    }
}

/// The circuits of a plane by when their machines are due. A circuit that is gone, or whose machine
/// is due at another time, is for the plane to see; it should be in here once at most.
#[derive(Debug, Default)]
pub struct PaddingSchedule {
    queue: BinaryHeap<Reverse<(Instant, CircuitKey)>>,
}

impl PaddingSchedule {
    /// Adds a circuit.
    pub fn push(&mut self, due: Instant, circuit: CircuitKey) {
        self.queue.push(Reverse((due, circuit)));
    }

    /// When the padding of the first circuit is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one that is due out.
    pub fn pop_due(&mut self, now: Instant) -> Option<CircuitKey> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((_, circuit))| circuit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use slotmap::SlotMap;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        Instant::now()
    }

    /// The pauses before each cell that a machine sends, in microseconds.
    fn pauses(mut machine: PaddingMachine, rng: &mut Rng, start: Instant) -> Vec<u128> {
        let mut now = start;
        let mut pauses = Vec::new();
        while let Some(due) = machine.due() {
            pauses.push(due.duration_since(now).as_micros());
            now = due;
            machine.sent(rng, now);
        }
        pauses
    }

    #[test]
    fn machines_send_what_tor_sends() {
        let (mut rng, now) = (Rng::from_seed([1; 32]), start());
        let mut lengths = BTreeSet::new();
        for _ in 0..100 {
            let intro = PaddingMachine::at_relay(MachineType::HIDE_INTRO, 1, &mut rng, now);
            let pauses = pauses(intro.unwrap(), &mut rng, now);
            assert!(pauses.iter().all(|us| (1000..10_000).contains(us)));
            lengths.insert(pauses.len());
        }
        assert_eq!(lengths, BTreeSet::from([7, 8, 9]));
        for end in [PaddingMachine::at_relay, PaddingMachine::at_client] {
            let rend = end(MachineType::HIDE_REND, 1, &mut rng, now).unwrap();
            let pauses = pauses(rend, &mut rng, now);
            assert_eq!(pauses.len(), 1);
            assert!(pauses[0] < 1000);
            assert!(end(MachineType(2), 1, &mut rng, now).is_none());
        }
        let intro = PaddingMachine::at_client(MachineType::HIDE_INTRO, 1, &mut rng, now);
        assert_eq!(intro.unwrap().due(), None);
    }

    #[test]
    fn a_stop_is_for_one_machine_or_for_any() {
        let (mut rng, now) = (Rng::from_seed([1; 32]), start());
        let mut intro = PaddingMachine::at_relay(MachineType::HIDE_INTRO, 2, &mut rng, now);
        let intro = intro.as_mut().unwrap();
        assert!(intro.is_meant(MachineType::HIDE_INTRO, 2));
        assert!(intro.is_meant(MachineType::HIDE_INTRO, 0));
        assert!(!intro.is_meant(MachineType::HIDE_INTRO, 1));
        assert!(!intro.is_meant(MachineType::HIDE_REND, 2));
        assert!(intro.due().is_some());
        intro.end();
        assert_eq!(intro.due(), None);
    }

    #[test]
    fn the_share_of_padding_is_bounded_past_what_is_free() {
        let read = |name: &str, default, _, _| match name {
            "circpad_global_allowed_cells" => 10,
            "circpad_global_max_padding_pct" => 20,
            _ => default,
        };
        let params = PaddingParams::read(read);
        let mut budget = PaddingBudget::default();
        for _ in 0..10 {
            assert!(budget.allows(&params));
            budget.note(true);
        }
        assert!(!budget.allows(&params));
        assert!(budget.allows(&PaddingParams::default()), "no limit");
        for _ in 0..37 {
            budget.note(false);
        }
        assert!(!budget.allows(&params), "21 of 100");
        (0..3).for_each(|_| budget.note(false));
        assert!(budget.allows(&params), "20 of 100");
    }

    #[test]
    fn the_first_that_is_due_comes_first() {
        let mut keys: SlotMap<CircuitKey, ()> = SlotMap::with_key();
        let (now, mut schedule) = (start(), PaddingSchedule::default());
        let [late, early] = [3, 1].map(|ms| {
            let key = keys.insert(());
            schedule.push(now + Duration::from_millis(ms), key);
            key
        });
        assert_eq!(schedule.pop_due(now), None);
        assert_eq!(schedule.next(), Some(now + Duration::from_millis(1)));
        let then = now + Duration::from_millis(5);
        assert_eq!(schedule.pop_due(then), Some(early));
        assert_eq!(schedule.pop_due(then), Some(late));
        assert_eq!(schedule.next(), None);
    }
}
