//! Whether a guard lets too few circuits come to stand (path-spec 7).
//!
//! A guard that fails circuits to relays that are not its friends makes the client build others,
//! until both ends are the adversary's. So for each guard it is counted how many circuits of those
//! with two hops came to stand and lasted, and how many of those that were used answered; the
//! shares are measured against the limits of the consensus, and the operator is told once each
//! time one is crossed. Counts are scaled down as they grow, and kept.
//!
//! A circuit to which a stream was attached counts as used; it has answered if the exit said
//! anything that only it can say. One that we close without an answer is not counted, as it is not
//! probed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cepa_crypto::RsaId;
use cepa_netdoc::params::Params;

use super::pool::{Entry, Purpose};
use crate::overrides::PathBiasOverrides;
use crate::plane::CircuitClose;
use crate::select::guards::Guards;

/// Guards whose counts are kept.
const GUARDS_MAX: usize = 256;
/// Changes after which the counts are kept again.
const UNSAVED_MAX: u32 = 20;
/// The first line of the text form.
const HEADER: &str = "path-bias 1";
/// Most of any count.
const COUNT_MAX: f64 = 1e9;

/// The parameters `pb_*` of the consensus (path-spec 7.4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PathBiasParams {
    circuits_min: f64,
    notice: f64,
    warn: f64,
    extreme: f64,
    scale_circuits: f64,
    uses_min: f64,
    notice_use: f64,
    extreme_use: f64,
    scale_uses: f64,
    scale: f64,
    /// A guard that is extreme is used no more.
    drops: bool,
}

impl PathBiasParams {
    /// What a consensus says.
    pub(crate) fn read(params: &Params) -> Self {
        let count = |name, default, min| f64::from(params.value(name, default, min, i32::MAX));
        let share = |name, default| f64::from(params.value(name, default, 0, 100)) / 100.0;
        let divisor = params.value("pb_scalefactor", 2, 1, 10);
        let factor = params.value("pb_multfactor", 1, 1, divisor);
        PathBiasParams {
            circuits_min: count("pb_mincircs", 150, 5),
            notice: share("pb_noticepct", 70),
            warn: share("pb_warnpct", 50),
            extreme: share("pb_extremepct", 30),
            scale_circuits: count("pb_scalecircs", 300, 10),
            uses_min: count("pb_minuse", 20, 3),
            notice_use: share("pb_noticeusepct", 80),
            extreme_use: share("pb_extremeusepct", 60),
            scale_uses: count("pb_scaleuse", 100, 10),
            scale: f64::from(factor) / f64::from(divisor),
            drops: params.value("pb_dropguards", 0, 0, 1) == 1,
        }
    }

    /// The same where an operator says otherwise.
    pub(crate) fn overridden(self, overrides: &PathBiasOverrides) -> Self {
        let count = |said: Option<u32>, else_| said.map_or(else_, f64::from);
        let share = |said: Option<f64>, else_| said.unwrap_or(else_);
        PathBiasParams {
            circuits_min: count(overrides.circuits_min, self.circuits_min),
            notice: share(overrides.notice, self.notice),
            warn: share(overrides.warn, self.warn),
            extreme: share(overrides.extreme, self.extreme),
            scale_circuits: count(overrides.scale_circuits, self.scale_circuits),
            uses_min: count(overrides.uses_min, self.uses_min),
            notice_use: share(overrides.notice_use, self.notice_use),
            extreme_use: share(overrides.extreme_use, self.extreme_use),
            scale_uses: count(overrides.scale_uses, self.scale_uses),
            scale: self.scale,
            drops: overrides.drops.unwrap_or(self.drops),
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Level {
    /// As it should be.
    #[default]
    Fine,
    /// Worth a line in the log.
    Notice,
    /// Worth a warning.
    Warn,
    /// The guard may be hostile, or its network useless.
    Extreme,
}

/// What is counted of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Counts {
    /// Circuits that had two hops.
    pub(crate) attempts: f64,
    /// Of them, those that came to stand, and were not closed on us.
    pub(crate) successes: f64,
    /// Circuits that streams were attached to.
    pub(crate) use_attempts: f64,
    /// Of them, those that answered.
    pub(crate) use_successes: f64,
    told: Level,
    told_use: Level,
}

/// Something that happened to a circuit by a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasEvent {
    /// Its second hop stands.
    Begun,
    /// It stands.
    Built,
    /// It stood, and was closed on us.
    Collapsed,
    /// It was used, and answered or not.
    Used {
        /// Whether it answered.
        answered: bool,
    },
}

/// The counts of all guards.
#[derive(Debug)]
pub(crate) struct PathBias {
    params: PathBiasParams,
    guards: BTreeMap<RsaId, Counts>,
    unsaved: u32,
}

impl Default for PathBias {
    fn default() -> Self {
        PathBias {
            params: PathBiasParams::read(&Params::new()),
            guards: BTreeMap::new(),
            unsaved: 0,
        }
    }
}

impl PathBias {
    /// Reads what [`PathBias::encode`] wrote; the number of a line that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, usize> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(1);
        }
        let mut read = PathBias::default();
        for (at, line) in lines.take(GUARDS_MAX) {
            let (id, counts) = parse_line(line).ok_or(at + 1)?;
            read.guards.insert(id, counts);
        }
        Ok(read)
    }

    /// A line each guard: its identity, circuits begun and built, used and answered.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (id, counts) in &self.guards {
            let Counts {
                attempts,
                successes,
                use_attempts,
                use_successes,
                ..
            } = counts;
            let _ = writeln!(
                text,
                "{id} {attempts:.2} {successes:.2} {use_attempts:.2} {use_successes:.2}"
            );
        }
        text
    }

    /// There is another consensus, and these are the guards.
    pub(crate) fn set(&mut self, params: PathBiasParams, guards: &[RsaId]) {
        self.params = params;
        self.guards.retain(|id, _| guards.contains(id));
    }

    /// The guards that are so bad that they are to be used no more: none, unless that is wanted.
    pub(crate) fn dropped(&self) -> Vec<RsaId> {
        let params = &self.params;
        let is_dropped = |counts: &Counts| {
            let few = |done: f64, of: f64, min: f64, share: f64| of >= min && done / of < share;
            let Counts {
                attempts,
                successes,
                use_attempts,
                use_successes,
                ..
            } = *counts;
            few(successes, attempts, params.circuits_min, params.extreme)
                || few(
                    use_successes,
                    use_attempts,
                    params.uses_min,
                    params.extreme_use,
                )
        };
        // It is asked after each event, and hardly ever wanted.
        if !params.drops {
            return Vec::new();
        }
        let bad = self.guards.iter().filter(|(_, counts)| is_dropped(counts));
        bad.map(|(id, _)| *id).collect()
    }

    /// What is known of the guards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RsaId, &Counts)> {
        self.guards.iter()
    }

    /// Whether there is something to keep.
    pub(crate) fn take_changed(&mut self) -> bool {
        let is_due = self.unsaved >= UNSAVED_MAX;
        if is_due {
            self.unsaved = 0;
        }
        is_due
    }

    /// Counts something that happened to a circuit, if its first hop is a guard of ours.
    pub(super) fn note(&mut self, entry: &Entry, event: BiasEvent, guards: &Guards) {
        let guard = entry.first;
        let is_counted = !matches!(entry.purpose, Purpose::Directory)
            && !entry.is_path_given()
            && guards.sampled().any(|one| one == guard);
        if !is_counted {
            return;
        }
        match self.count(guard, event) {
            None | Some(Level::Fine) => {}
            Some(Level::Notice) => {
                tracing::info!("guard {guard} lets fewer circuits succeed than others do");
            }
            Some(Level::Warn) => {
                tracing::warn!("guard {guard} fails many circuits: it may be overloaded");
            }
            Some(Level::Extreme) => {
                tracing::warn!("guard {guard} fails most circuits: it may be hostile");
            }
        }
    }

    /// A circuit that stood was closed on us.
    pub(super) fn note_collapse(&mut self, entry: &Entry, reason: CircuitClose, guards: &Guards) {
        let is_theirs = matches!(
            reason,
            CircuitClose::Destroyed(_) | CircuitClose::Truncated(..) | CircuitClose::Violation(_)
        );
        // One for onion services may have lost a last hop that is no relay of the path.
        if !is_theirs || !entry.is_general() {
            return;
        }
        if entry.answered == Some(false) {
            self.note(entry, BiasEvent::Used { answered: false }, guards);
        }
        self.note(entry, BiasEvent::Collapsed, guards);
    }

    /// A circuit is forgotten.
    pub(super) fn note_end(&mut self, entry: &Entry, guards: &Guards) {
        if entry.answered == Some(true) && entry.is_general() {
            self.note(entry, BiasEvent::Used { answered: true }, guards);
        }
    }

    /// Counts what happened; how bad the guard is, if it is worse than was told before.
    pub(crate) fn count(&mut self, guard: RsaId, event: BiasEvent) -> Option<Level> {
        if self.guards.len() >= GUARDS_MAX && !self.guards.contains_key(&guard) {
            return None;
        }
        self.unsaved += 1;
        let params = &self.params;
        let counts = self.guards.entry(guard).or_default();
        match event {
            BiasEvent::Begun => counts.attempts += 1.0,
            BiasEvent::Built => counts.successes += 1.0,
            BiasEvent::Collapsed => counts.successes = (counts.successes - 1.0).max(0.0),
            BiasEvent::Used { answered } => {
                counts.use_attempts += 1.0;
                counts.use_successes += f64::from(u8::from(answered));
            }
        }
        counts.successes = counts.successes.min(counts.attempts);
        let told = counts.judge(params);
        counts.scale(params);
        told
    }
}

impl Counts {
    fn judge(&mut self, params: &PathBiasParams) -> Option<Level> {
        let mut told = None;
        if self.attempts >= params.circuits_min {
            let level = match self.successes / self.attempts {
                share if share < params.extreme => Level::Extreme,
                share if share < params.warn => Level::Warn,
                share if share < params.notice => Level::Notice,
                _ => Level::Fine,
            };
            told = (level > self.told).then_some(level);
            self.told = level;
        }
        if self.use_attempts >= params.uses_min {
            let level = match self.use_successes / self.use_attempts {
                share if share < params.extreme_use => Level::Extreme,
                share if share < params.notice_use => Level::Notice,
                _ => Level::Fine,
            };
            told = told.max((level > self.told_use).then_some(level));
            self.told_use = level;
        }
        told
    }

    /// What is long ago counts less (path-spec 7.3).
    fn scale(&mut self, params: &PathBiasParams) {
        if self.attempts > params.scale_circuits {
            self.attempts *= params.scale;
            self.successes *= params.scale;
        }
        if self.use_attempts > params.scale_uses {
            self.use_attempts *= params.scale;
            self.use_successes *= params.scale;
        }
    }
}

fn parse_line(line: &str) -> Option<(RsaId, Counts)> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let mut count = || {
        let count: f64 = words.next()?.parse().ok()?;
        (0.0..=COUNT_MAX).contains(&count).then_some(count)
    };
    let counts = Counts {
        attempts: count()?,
        successes: count()?,
        use_attempts: count()?,
        use_successes: count()?,
        ..Counts::default()
    };
    let is_sound =
        counts.successes <= counts.attempts && counts.use_successes <= counts.use_attempts;
    (words.next().is_none() && is_sound).then_some((id, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: [u8; 20] = [7; 20];

    /// What is told while so many circuits of a hundred come to stand.
    fn told(built_of_100: u32, circuits: u32) -> Vec<Level> {
        let (mut bias, guard) = (PathBias::default(), RsaId::from(GUARD));
        let mut told = Vec::new();
        for n in 0..circuits {
            told.extend(bias.count(guard, BiasEvent::Begun));
            if (n * 37) % 100 < built_of_100 {
                told.extend(bias.count(guard, BiasEvent::Built));
            }
        }
        told
    }

    #[test]
    fn a_guard_that_fails_circuits_is_told() {
        assert_eq!(told(75, 2000), []);
        assert_eq!(told(0, 149), [], "too few to say");
        assert_eq!(told(60, 2000).first(), Some(&Level::Notice));
        assert_eq!(told(40, 2000).first(), Some(&Level::Warn));
        assert_eq!(told(10, 2000), [Level::Extreme], "told once");
    }

    #[test]
    fn circuits_that_are_closed_on_us_count_as_failed() {
        let (mut bias, guard) = (PathBias::default(), RsaId::from(GUARD));
        let mut told = Vec::new();
        for n in 0..150 {
            told.extend(bias.count(guard, BiasEvent::Begun));
            told.extend(bias.count(guard, BiasEvent::Built));
            if n % 3 == 0 {
                told.extend(bias.count(guard, BiasEvent::Collapsed));
            }
        }
        assert_eq!(told, [Level::Notice]);
    }

    #[test]
    fn circuits_that_do_not_answer_are_told() {
        let (mut bias, guard) = (PathBias::default(), RsaId::from(GUARD));
        let mut told = Vec::new();
        for n in 0..40 {
            let answered = n % 10 < 7;
            told.extend(bias.count(guard, BiasEvent::Used { answered }));
        }
        assert_eq!(told.first(), Some(&Level::Notice));
    }

    #[test]
    fn an_operator_says_when_and_what_follows() {
        let (mut bias, guard) = (PathBias::default(), RsaId::from(GUARD));
        let overrides = PathBiasOverrides {
            circuits_min: Some(10),
            notice: Some(0.95),
            warn: Some(0.5),
            extreme: Some(0.3),
            drops: Some(true),
            scale_circuits: Some(40),
            uses_min: Some(5),
            notice_use: Some(0.9),
            extreme_use: Some(0.3),
            scale_uses: Some(20),
        };
        let params = PathBiasParams::read(&Params::new()).overridden(&overrides);
        bias.set(params, &[guard]);
        let mut told = Vec::new();
        for n in 0..60_u32 {
            told.extend(bias.count(guard, BiasEvent::Begun));
            if n % 10 != 0 {
                told.extend(bias.count(guard, BiasEvent::Built));
            }
        }
        assert_eq!(told.first(), Some(&Level::Notice), "{told:?}");
        assert!(bias.guards[&guard].attempts <= 40.0, "scaled");
        assert_eq!(bias.dropped(), []);
        for _ in 0..10 {
            bias.count(guard, BiasEvent::Used { answered: false });
        }
        assert_eq!(bias.dropped(), [guard]);
        let kept = PathBiasOverrides {
            drops: Some(false),
            ..overrides
        };
        bias.set(
            PathBiasParams::read(&Params::new()).overridden(&kept),
            &[guard],
        );
        assert_eq!(bias.dropped(), []);
    }

    #[test]
    fn counts_are_scaled_and_kept() {
        let (mut bias, guard) = (PathBias::default(), RsaId::from(GUARD));
        for _ in 0..301 {
            bias.count(guard, BiasEvent::Begun);
            bias.count(guard, BiasEvent::Built);
        }
        let counts = bias.guards[&guard];
        assert!((counts.attempts - 150.5).abs() < 0.1, "{counts:?}");
        assert!((counts.successes / counts.attempts) > 0.99);
        assert!(bias.take_changed() && !bias.take_changed());
        let text = bias.encode();
        let read = PathBias::parse(&text).unwrap();
        assert_eq!(read.encode(), text);
        for (text, line) in [
            ("", 1),
            ("path-bias 1\nx 1 1 1 1\n", 2),
            (
                "path-bias 1\n0707070707070707070707070707070707070707 1 2 0 0\n",
                2,
            ),
            (
                "path-bias 1\n0707070707070707070707070707070707070707 1 NaN 0 0\n",
                2,
            ),
            (
                "path-bias 1\n0707070707070707070707070707070707070707 1 1 0\n",
                2,
            ),
        ] {
            assert_eq!(PathBias::parse(text).err(), Some(line), "{text:?}");
        }
        bias.set(PathBiasParams::read(&Params::new()), &[]);
        assert_eq!(bias.iter().count(), 0);
    }
}
