//! Which of several samples is used (guard-spec 2): the default one; one for bridges; one for
//! operators whose rules leave few guards, so that a sample drawn under such rules is not mixed
//! with the one that all others have.

use super::GuardParams;

/// An instance of the guards' state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Guards of the consensus.
    Default,
    /// Guards of the consensus that the operator's rules allow, where these are few.
    Restricted,
    /// Bridges of the operator's.
    Bridges,
}

impl Selection {
    /// Its name in the state (guard-spec A.5, `in`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Selection::Default => "default",
            Selection::Restricted => "restricted",
            Selection::Bridges => "bridges",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [
            Selection::Default,
            Selection::Restricted,
            Selection::Bridges,
        ]
        .into_iter()
        .find(|one| one.name() == name)
    }

    /// Which one to use where the rules allow so many of the listed guards. One that is in use is
    /// left only when the share is 5 % off the limit (guard-spec 2.B).
    pub(super) fn choose(
        before: Option<Selection>,
        allowed: usize,
        listed: usize,
        params: &GuardParams,
    ) -> Selection {
        // In ten-thousandths of the listed ones: the limit's percent, times 95, 100 or 105.
        let share_is_below =
            |factor: usize| allowed * 10_000 < listed * params.restricted_percent * factor;
        match before {
            Some(Selection::Default) if !share_is_below(95) => Selection::Default,
            Some(Selection::Restricted) if share_is_below(105) => Selection::Restricted,
            Some(Selection::Default | Selection::Restricted) | Some(Selection::Bridges) | None => {
                match share_is_below(100) {
                    true => Selection::Restricted,
                    false => Selection::Default,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_flap() {
        let params = GuardParams::default();
        let choose = |before, allowed| Selection::choose(before, allowed, 1000, &params);
        assert_eq!(choose(None, 200), Selection::Default);
        assert_eq!(choose(None, 199), Selection::Restricted);
        assert_eq!(choose(Some(Selection::Default), 190), Selection::Default);
        assert_eq!(choose(Some(Selection::Default), 189), Selection::Restricted);
        assert_eq!(
            choose(Some(Selection::Restricted), 209),
            Selection::Restricted
        );
        assert_eq!(choose(Some(Selection::Restricted), 210), Selection::Default);
        assert_eq!(choose(None, 1000), Selection::Default);
        assert_eq!(Selection::choose(None, 0, 0, &params), Selection::Default);
    }
}
