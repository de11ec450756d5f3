//! The `bandwidth-weights` line (dir-spec 3.8.3): how clients spread their load over positions.
//!
//! From the bandwidths of guards (G), exits (E), both (D) and the rest (M) come the shares of each
//! that go to each position, so that the positions are as evenly loaded as possible. Integer
//! arithmetic truncates towards zero as C's does, and wraps at 64 bits: with a `bwweightscale` that
//! is large enough all authorities get the same nonsense. Invariants of a result without that: the
//! weights of each kind over the positions sum to the scale, and each is between zero and it.

use std::iter::Sum;
use std::num::Wrapping;

use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Bandwidth, Flags};

/// The sum of one kind's weights unless `bwweightscale` says otherwise.
pub(super) const SCALE_DEFAULT: i32 = 10_000;
/// How far sums may be off because of truncation, in units of the scale.
const MARGIN: Num = Wrapping(10);
/// A number of the computation.
type Num = Wrapping<i64>;
const ZERO: Num = Wrapping(0);
const TWO: Num = Wrapping(2);
const THREE: Num = Wrapping(3);
const FOUR: Num = Wrapping(4);

/// Bandwidths of the network by kind of relay, in kilobytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Guards that are no exits.
    pub guards: i64,
    /// Neither guards nor exits.
    pub middles: i64,
    /// Exits that are no guards.
    pub exits: i64,
    /// The bandwidth of relays that are both guards and exits (D).
    pub both: i64,
    /// All, parts that are no guard by GuardFraction left out (as `tor` counts).
    pub total: i64,
}

impl Totals {
    /// What one relay adds.
    pub(super) fn of(w: Bandwidth, flags: Flags) -> Totals {
        let is_exit = flags.contains(Flags::EXIT) && !flags.contains(Flags::BAD_EXIT);
        let is_guard = flags.contains(Flags::GUARD);
        // `tor` keeps it in 32 bits with a sign.
        let bandwidth = i64::from(w.bandwidth.cast_signed());
        let as_guard = w
            .guard_fraction
            .map_or(bandwidth, |part| part_of(bandwidth, part));
        let rest = bandwidth - as_guard;
        let none = Totals {
            total: as_guard,
            ..Totals::default()
        };
        match (is_exit, is_guard) {
            (true, true) => Totals {
                both: as_guard,
                exits: rest,
                ..none
            },
            (true, false) => Totals {
                exits: as_guard,
                ..none
            },
            (false, true) => Totals {
                guards: as_guard,
                middles: rest,
                ..none
            },
            (false, false) => Totals {
                middles: as_guard,
                ..none
            },
        }
    }
}

/// So many percent of a bandwidth, rounded to the nearest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the product is below 2^32"
)]
fn part_of(bandwidth: i64, percent: u8) -> i64 {
    (f64::from(percent) / 100.0 * bandwidth as f64).round() as i64
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(shares: I) -> Totals {
        shares.fold(Totals::default(), |sum, one| Totals {
            guards: sum.guards.saturating_add(one.guards),
            middles: sum.middles.saturating_add(one.middles),
            exits: sum.exits.saturating_add(one.exits),
            both: sum.both.saturating_add(one.both),
            total: sum.total.saturating_add(one.total),
        })
    }
}

/// The weights that decide all others: `gd` is the share of relays that are both in the guard
/// position, and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Weights {
    gg: Num,
    gd: Num,
    mg: Num,
    me: Num,
    md: Num,
    ee: Num,
    ed: Num,
}

/// What is wrong with weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Imbalance {
    /// A sum or a range.
    Sum,
    /// The middle has not as much as the guards.
    Middle,
    /// The exits have not as much as the guards.
    Exits,
}

/// Totals as the arithmetic wants them: none is zero.
#[derive(Clone, Copy)]
struct Load {
    g: Num,
    m: Num,
    e: Num,
    d: Num,
    t: Num,
    /// The scale.
    s: Num,
}

/// The 19 weights of the line; none if no case of dir-spec 3.8.3 balances the network.
#[must_use]
pub fn bandwidth_weights(totals: Totals, scale: i32) -> Option<Params> {
    // One is added to each kind, so that nothing is divided by zero.
    let one = Wrapping(1);
    let load = Load {
        g: Wrapping(totals.guards) + one,
        m: Wrapping(totals.middles) + one,
        e: Wrapping(totals.exits) + one,
        d: Wrapping(totals.both) + one,
        t: Wrapping(totals.total) + Wrapping(4),
        s: Wrapping(i64::from(scale.max(1))),
    };
    if [load.g, load.m, load.e, load.d]
        .iter()
        .any(|kind| *kind < one)
    {
        return None;
    }
    let is_exit_scarce = load.e * THREE < load.t;
    let is_guard_scarce = load.g * THREE < load.t;
    let weights = match (is_exit_scarce, is_guard_scarce) {
        (false, false) => load.none_scarce(),
        (true, true) => load.both_scarce(),
        _ => load.one_scarce(),
    }?;
    Some(weights.line(scale.max(1)))
}

impl Load {
    /// Case 1.
    fn none_scarce(&self) -> Option<Weights> {
        let Load { g, m, e, s, .. } = *self;
        let ee = s * (e + g + m) / (THREE * e);
        let mg = s * (TWO * g - e - m) / (THREE * g);
        let third = s / THREE;
        let weights = Weights {
            gd: third,
            ed: third,
            md: third,
            ee,
            me: s - ee,
            mg,
            gg: s - mg,
        };
        self.check(&weights).is_ok().then_some(weights)
    }

    /// Case 2.
    fn both_scarce(&self) -> Option<Weights> {
        let Load { g, m, e, d, s, .. } = *self;
        let full = Weights {
            gg: s,
            ee: s,
            ..Weights::default()
        };
        if e.min(g) + d < e.max(g) {
            return Some(match e < g {
                true => Weights { ed: s, ..full },
                false => Weights { gd: s, ..full },
            });
        }
        let ed = s * (d - TWO * e + FOUR * g - TWO * m) / (THREE * d);
        let half = (s - ed) / TWO;
        let (ee, me) = (s * (e - g + m) / e, s * (g - m) / e);
        let balanced = Weights {
            ee,
            ed,
            me,
            md: half,
            gd: half,
            ..full
        };
        if self.check(&balanced).is_ok() {
            return Some(balanced);
        }
        let ed = s * (d - TWO * e + g + m) / (THREE * d);
        let md = (s * (d - TWO * m + g + e) / (THREE * d)).max(ZERO);
        let weights = Weights {
            ed,
            md,
            gd: s - ed - md,
            ..full
        };
        match self.check(&weights) {
            Ok(()) | Err(Imbalance::Middle) => Some(weights),
            Err(_) => None,
        }
    }

    /// Case 3.
    fn one_scarce(&self) -> Option<Weights> {
        let Load { g, m, e, d, t, s } = *self;
        let is_guard_scarce = g < e;
        let none = Weights::default();
        if THREE * (e.min(g) + d) < t {
            return Some(if is_guard_scarce {
                let me = if e < m { ZERO } else { s * (e - m) / (TWO * e) };
                Weights {
                    gg: s,
                    gd: s,
                    me,
                    ee: s - me,
                    ..none
                }
            } else {
                let mg = if g < m { ZERO } else { s * (g - m) / (TWO * g) };
                Weights {
                    ee: s,
                    ed: s,
                    mg,
                    gg: s - mg,
                    ..none
                }
            });
        }
        let weights = if is_guard_scarce {
            let gd = s * (d - TWO * g + e + m) / (THREE * d);
            let ee = s * (e + m) / (TWO * e);
            let half = (s - gd) / TWO;
            Weights {
                gg: s,
                gd,
                mg: ZERO,
                ee,
                me: s - ee,
                md: half,
                ed: half,
            }
        } else {
            let ed = s * (d - TWO * e + g + m) / (THREE * d);
            let gg = s * (g + m) / (TWO * g);
            let half = (s - ed) / TWO;
            Weights {
                ee: s,
                ed,
                me: ZERO,
                gg,
                mg: s - gg,
                md: half,
                gd: half,
            }
        };
        self.check(&weights).is_ok().then_some(weights)
    }

    /// Whether sums, ranges and balance hold, within the margin of truncation.
    fn check(&self, w: &Weights) -> Result<(), Imbalance> {
        let Load { g, m, e, d, t, s } = *self;
        let sums = [w.ed + w.md + w.gd, w.mg + w.gg, w.me + w.ee];
        let parts = [w.gg, w.gd, w.mg, w.me, w.md, w.ed, w.ee];
        let is_whole = sums.iter().all(|sum| within(*sum, s, MARGIN));
        if !is_whole || !parts.iter().all(|part| (ZERO..=s).contains(part)) {
            return Err(Imbalance::Sum);
        }
        let margin = MARGIN * t / THREE;
        let guards = w.gg * g + w.gd * d;
        let exits = w.ee * e + w.ed * d;
        let middles = m * s + w.md * d + w.me * e + w.mg * g;
        if !within(guards, exits, margin) {
            return Err(Imbalance::Exits);
        }
        if !within(guards, middles, margin) {
            return Err(Imbalance::Middle);
        }
        Ok(())
    }
}

/// Whether two numbers are so close.
fn within(a: Num, b: Num, margin: Num) -> bool {
    let difference = if a - b >= ZERO { a - b } else { b - a };
    difference <= margin
}

impl Weights {
    fn line(&self, scale: i32) -> Params {
        // What is left of them in 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "as `tor` does")]
        let number = |weight: Num| weight.0 as i32;
        let (gg, gd, mg) = (number(self.gg), number(self.gd), number(self.mg));
        let (me, md) = (number(self.me), number(self.md));
        let (ee, ed) = (number(self.ee), number(self.ed));
        Params::from_iter([
            ("Wbd", md),
            ("Wbe", me),
            ("Wbg", mg),
            ("Wbm", scale),
            ("Wdb", scale),
            ("Web", scale),
            ("Wed", ed),
            ("Wee", ee),
            ("Weg", ed),
            ("Wem", ee),
            ("Wgb", scale),
            ("Wgd", gd),
            ("Wgg", gg),
            ("Wgm", gg),
            ("Wmb", scale),
            ("Wmd", md),
            ("Wme", me),
            ("Wmg", mg),
            ("Wmm", scale),
        ])
    }
}
