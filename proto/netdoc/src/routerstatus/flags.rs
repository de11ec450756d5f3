//! The flags of a router status, its `s` line (dir-spec 3.4.1).
//!
//! A set of bits for the flags that this program knows. Their order is the alphabet's, the order
//! of the line. Flags that nobody here knows are kept as words beside the set
//! ([`super::RouterStatus::flags_unknown`]), so that documents round-trip.

use std::fmt;
use std::ops::BitOr;

/// A set of known flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

/// Each flag with its word, in the order of the alphabet.
const NAMES: [(Flags, &str); 14] = [
    (Flags::AUTHORITY, "Authority"),
    (Flags::BAD_EXIT, "BadExit"),
    (Flags::EXIT, "Exit"),
    (Flags::FAST, "Fast"),
    (Flags::GUARD, "Guard"),
    (Flags::HS_DIR, "HSDir"),
    (Flags::MIDDLE_ONLY, "MiddleOnly"),
    (Flags::NO_ED_CONSENSUS, "NoEdConsensus"),
    (Flags::RUNNING, "Running"),
    (Flags::STABLE, "Stable"),
    (Flags::STALE_DESC, "StaleDesc"),
    (Flags::SYBIL, "Sybil"),
    (Flags::V2_DIR, "V2Dir"),
    (Flags::VALID, "Valid"),
];

impl Flags {
    /// The empty set of flags.
    pub const NONE: Self = Self(0);
    /// A directory authority.
    pub const AUTHORITY: Self = Self(1);
    /// Not to be used as an exit.
    pub const BAD_EXIT: Self = Self(1 << 1);
    /// Useful for general-purpose exits.
    pub const EXIT: Self = Self(1 << 2);
    /// Suitable for circuits of high bandwidth.
    pub const FAST: Self = Self(1 << 3);
    /// Suitable as an entry guard.
    pub const GUARD: Self = Self(1 << 4);
    /// An onion-service directory.
    pub const HS_DIR: Self = Self(1 << 5);
    /// Only to be used in the middle of a circuit.
    pub const MIDDLE_ONLY: Self = Self(1 << 6);
    /// Its Ed25519 identity is not agreed upon.
    pub const NO_ED_CONSENSUS: Self = Self(1 << 7);
    /// Usable at present.
    pub const RUNNING: Self = Self(1 << 8);
    /// Suitable for circuits that live long.
    pub const STABLE: Self = Self(1 << 9);
    /// Its descriptor is too old and should be uploaded again.
    pub const STALE_DESC: Self = Self(1 << 10);
    /// Suspected to be part of an attack by many relays.
    pub const SYBIL: Self = Self(1 << 11);
    /// Serves directory documents.
    pub const V2_DIR: Self = Self(1 << 12);
    /// Validated by the authorities.
    pub const VALID: Self = Self(1 << 13);

    /// The flag of a word, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        let at = NAMES
            .binary_search_by(|(_, known)| (*known).cmp(name))
            .ok()?;
        NAMES.get(at).map(|(flag, _)| *flag)
    }

    /// Whether all flags of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the flags of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes the flags of `other` out.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Adds or takes out the flags of `other`.
    pub const fn set(&mut self, other: Self, on: bool) {
        if on {
            self.insert(other)
        } else {
            self.remove(other)
        }
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words of the flags, in the order of the alphabet.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl serde::Serialize for Flags {
    /// By their names.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order_and_round_trip() {
        assert!(NAMES.windows(2).all(|pair| pair[0].1 < pair[1].1));
        for (flag, name) in NAMES {
            assert_eq!(Flags::from_name(name), Some(flag));
            assert_eq!(flag.to_string(), name);
        }
        assert_eq!(Flags::from_name("Named"), None);
        let mut set = Flags::VALID | Flags::EXIT;
        assert_eq!(set.to_string(), "Exit Valid");
        set.remove(Flags::EXIT);
        assert!(set.contains(Flags::VALID) && !set.contains(Flags::EXIT | Flags::VALID));
        assert!(Flags::NONE.is_empty() && Flags::NONE.to_string().is_empty());
    }
}
