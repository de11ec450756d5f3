//! Bandwidth weights: how much of a relay's bandwidth counts in which position of a path
//! (dir-spec 3.8.3, path-spec 2.2).
//!
//! A weight is a share of `bwweightscale`. Without a `bandwidth-weights` line every share is whole,
//! and so are all of a position of which one is missing. Relays that serve the directory have their
//! own shares of each (Wgb, Wmb, Web, Wdb), which authorities leave whole today.

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
}

impl Role {
    /// Whether a relay with these flags may have the role (path-spec 2.2; dir-spec 3.4.1).
    pub fn allows(self, flags: Flags) -> bool {
        flags.contains(Flags::RUNNING | Flags::VALID)
            && match self {
                Self::Guard => flags.contains(Flags::GUARD | Flags::V2_DIR),
                Self::Middle => true,
                Self::Exit => flags.contains(Flags::EXIT) && !flags.contains(Flags::BAD_EXIT),
            }
    }
}

/// The shares of one position, by what else a relay can be; and of these, what is left of a relay
/// that serves the directory, too. All are parts of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    guard: [u64; 2],
    exit: [u64; 2],
    both: [u64; 2],
    neither: [u64; 2],
}

impl Shares {
    /// By the names of the shares of guards, exits, both and neither; a position without a name is
    /// never filled. All are whole if one of them is missing, as `tor` has it.
    fn read(names: [Option<&str>; 4], consensus: &Consensus) -> Self {
        let scale = consensus.params.value("bwweightscale", 10_000, 1, i32::MAX);
        let stated = |name: &str| {
            let value = consensus.bandwidth_weights.value(name, -1, -1, scale);
            u64::try_from(value).ok()
        };
        let whole = scale.unsigned_abs().into();
        let pair = |name: Option<&str>, of_directories: &str| {
            let name = match name {
                Some(name) => stated(name)?,
                None => 0,
            };
            Some([name, name * stated(of_directories)? / whole])
        };
        let [guard, exit, both, neither] = names;
        let read = || {
            Some(Self {
                guard: pair(guard, "Wgb")?,
                exit: pair(exit, "Web")?,
                both: pair(both, "Wdb")?,
                neither: pair(neither, "Wmb")?,
            })
        };
        read().unwrap_or(Self {
            guard: [whole; 2],
            exit: [whole; 2],
            both: [whole; 2],
            neither: [whole; 2],
        })
    }
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
        let read = |names| Shares::read(names, consensus);
        // An exit without the Guard flag is no guard, so that there is no Wge.
        Self {
            guard: read([Some("Wgg"), None, Some("Wgd"), Some("Wgm")]),
            middle: read(["Wmg", "Wme", "Wmd", "Wmm"].map(Some)),
            exit: read(["Weg", "Wee", "Wed", "Wem"].map(Some)),
        }
    }

    /// Bandwidth times share, for a relay with these flags.
    pub(super) fn weigh(&self, role: Role, flags: Flags, bandwidth: u32) -> u64 {
        let shares = match role {
            Role::Guard => &self.guard,
            Role::Middle => &self.middle,
            Role::Exit => &self.exit,
        };
        let is_exit = flags.contains(Flags::EXIT) && !flags.contains(Flags::BAD_EXIT);
        let [plain, directory] = match (flags.contains(Flags::GUARD), is_exit) {
            (true, true) => shares.both,
            (true, false) => shares.guard,
            (false, true) => shares.exit,
            (false, false) => shares.neither,
        };
        let share = match flags.contains(Flags::V2_DIR) {
            true => directory,
            false => plain,
        };
        u64::from(bandwidth).saturating_mul(share)
    }
}
