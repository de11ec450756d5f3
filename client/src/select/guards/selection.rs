//! Which of several samples is used (guard-spec 2): the default one; one for bridges; one for
//! operators whose rules leave few guards, so that a sample drawn under such rules is not mixed
//! with the one that all others have.

use serde::{Serialize, Serializer};

use super::GuardParams;
use crate::select::rules::RulesId;

const DEFAULT: &str = "default";
const RESTRICTED: &str = "restricted";
const BRIDGES: &str = "bridges";

/// An instance of the guards' state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Guards of the consensus.
    Default,
    /// Guards of the consensus that the operator's rules allow, where these are few: a sample for
    /// each set of rules, so that none is used up by what other rules allowed.
    Restricted(RulesId),
    /// Bridges of the operator's.
    Bridges,
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl Selection {
    /// Its name in the state (guard-spec A.5, `in`).
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Selection::Default => DEFAULT.to_owned(),
            // `tor` has one for all rules.
            Selection::Restricted(RulesId(0)) => RESTRICTED.to_owned(),
            Selection::Restricted(RulesId(id)) => format!("{RESTRICTED}-{id:016x}"),
            Selection::Bridges => BRIDGES.to_owned(),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            DEFAULT => Some(Selection::Default),
            BRIDGES => Some(Selection::Bridges),
            RESTRICTED => Some(Selection::Restricted(RulesId(0))),
            _ => {
                let id = name.strip_prefix(RESTRICTED)?.strip_prefix('-')?;
                let read = u64::from_str_radix(id, 16).ok()?;
                let selection = Selection::Restricted(RulesId(read));
                (selection.name() == name).then_some(selection)
            }
        }
    }

    /// Which one to use where the rules allow so many of the listed guards. One that is in use is
    /// left only when the share is 5 % off the limit (guard-spec 2.B).
    pub(super) fn choose(
        before: Option<Selection>,
        rules: RulesId,
        (allowed, listed): (usize, usize),
        params: &GuardParams,
    ) -> Selection {
        // In ten-thousandths of the listed ones: the limit's percent, times 95, 100 or 105.
        let share_is_below =
            |factor: usize| allowed * 10_000 < listed * params.restricted_percent * factor;
        match before {
            Some(Selection::Default) if !share_is_below(95) => Selection::Default,
            Some(Selection::Restricted(_)) if share_is_below(105) => Selection::Restricted(rules),
            _ if share_is_below(100) => Selection::Restricted(rules),
            _ => Selection::Default,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_flap() {
        let params = GuardParams::default();
        let rules = RulesId(7);
        let choose = |before, allowed| Selection::choose(before, rules, (allowed, 1000), &params);
        assert_eq!(choose(None, 200), Selection::Default);
        assert_eq!(choose(None, 199), Selection::Restricted(rules));
        assert_eq!(choose(Some(Selection::Default), 190), Selection::Default);
        assert_eq!(
            choose(Some(Selection::Default), 189),
            Selection::Restricted(rules)
        );
        assert_eq!(
            choose(Some(Selection::Restricted(rules)), 209),
            Selection::Restricted(rules)
        );
        assert_eq!(
            choose(Some(Selection::Restricted(rules)), 210),
            Selection::Default
        );
        assert_eq!(choose(None, 1000), Selection::Default);
        assert_eq!(
            Selection::choose(None, rules, (0, 0), &params),
            Selection::Default
        );
    }

    #[test]
    fn each_set_of_rules_has_a_name_in_the_state() {
        for (selection, name) in [
            (Selection::Default, "default"),
            (Selection::Bridges, "bridges"),
            (Selection::Restricted(RulesId(0)), "restricted"),
            (
                Selection::Restricted(RulesId(0xab)),
                "restricted-00000000000000ab",
            ),
        ] {
            assert_eq!(selection.name(), name);
            assert_eq!(Selection::parse(name), Some(selection));
        }
        for wrong in [
            "",
            "restricted-",
            "restricted-ab",
            "restricted-00000000000000AB",
            "x",
        ] {
            assert_eq!(Selection::parse(wrong), None);
        }
    }
}
