//! Bandwidth weights: how much of a relay's bandwidth counts in which position of a path
//! (dir-spec 3.8.3, path-spec 2.2).
//!
//! A weight is a share of `bwweightscale`. Without a `bandwidth-weights` line every share is whole.

use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::routerstatus::Flags;

/// The position that a relay is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The first hop.
    Guard,
    /// Any hop between.
    Middle,
    /// The last hop of a path to the outside.
    Exit,
    /// A relay that serves directory documents; weighted as a middle.
    Directory,
}

impl Role {
    /// Whether a relay with these flags may have the role (path-spec 2.2; dir-spec 3.4.1).
    pub fn allows(self, flags: Flags) -> bool {
        flags.contains(Flags::RUNNING | Flags::VALID)
            && match self {
                Self::Guard => flags.contains(Flags::GUARD | Flags::V2_DIR),
                Self::Middle => true,
                Self::Exit => flags.contains(Flags::EXIT) && !flags.contains(Flags::BAD_EXIT),
                Self::Directory => flags.contains(Flags::V2_DIR),
            }
    }
}

/// The shares of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    guard: u64,
    exit: u64,
    both: u64,
    neither: u64,
}

/// The shares of all positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weights {
    guard: Shares,
    middle: Shares,
    exit: Shares,
}

impl Weights {
    pub(super) fn of(consensus: &Consensus) -> Self {
        let scale = consensus.params.value("bwweightscale", 10_000, 1, i32::MAX);
        let share = |name: &str| {
            let stated = consensus.bandwidth_weights.value(name, scale, 0, scale);
            u64::try_from(stated).unwrap_or_default()
        };
        // An exit without the Guard flag is no guard, so that there is no Wge.
        Self {
            guard: Shares {
                guard: share("Wgg"),
                exit: 0,
                both: share("Wgd"),
                neither: share("Wgm"),
            },
            middle: Shares {
                guard: share("Wmg"),
                exit: share("Wme"),
                both: share("Wmd"),
                neither: share("Wmm"),
            },
            exit: Shares {
                guard: share("Weg"),
                exit: share("Wee"),
                both: share("Wed"),
                neither: share("Wem"),
            },
        }
    }

    /// Bandwidth times share, for a relay with these flags.
    pub(super) fn weigh(&self, role: Role, flags: Flags, bandwidth: u32) -> u64 {
        let shares = match role {
            Role::Guard => &self.guard,
            Role::Middle | Role::Directory => &self.middle,
            Role::Exit => &self.exit,
        };
        let is_exit = flags.contains(Flags::EXIT) && !flags.contains(Flags::BAD_EXIT);
        let share = match (flags.contains(Flags::GUARD), is_exit) {
            (true, true) => shares.both,
            (true, false) => shares.guard,
            (false, true) => shares.exit,
            (false, false) => shares.neither,
        };
        u64::from(bandwidth).saturating_mul(share)
    }
}
