//! Which rule empties which hop: what an operator is told at once when there can be no path.

use std::fmt;

use cepa_crypto::Rng;
use cepa_dir::{NetworkView, Relay};
use cepa_netdoc::routerstatus::Flags;

use super::paths::{self, ExitNeed, PathRules};
use super::rules::{Permit, Permits, RelaySet, Rules, Subject};

/// The last hop, in words.
const EXIT: &str = "exit";

/// A hop for which no relay is left, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// The set of this name has no relay that the network could use there.
    Set {
        /// The hop, in words.
        hop: &'static str,
        /// The name of the set.
        set: &'static str,
        /// How many relays of the consensus are in the set.
        listed: usize,
    },
    /// What is excluded, by the sets of these names, leaves none of those that there were.
    Excluded {
        /// The hop, in words.
        hop: &'static str,
        /// The names of the sets.
        sets: &'static str,
        /// How many relays there were before the rule.
        before: usize,
    },
    /// Each hop has relays, but no three of them make a path.
    Near,
}

impl Emptied {
    /// Whether no path of any kind is left.
    #[must_use]
    pub(crate) fn cuts_off(&self) -> bool {
        match self {
            Emptied::Set { hop, .. } | Emptied::Excluded { hop, .. } => *hop != EXIT,
            Emptied::Near => false,
        }
    }
}

impl fmt::Display for Emptied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Emptied::Set { hop, set, listed } => write!(
                f,
                "`{set}` leaves no {hop}: {listed} relays of the network are in it, \
                 and none of them can be one"
            ),
            Emptied::Excluded { hop, sets, before } => {
                write!(
                    f,
                    "{sets} leaves no {hop}: all {before} that there were are excluded"
                )
            }
            Emptied::Near => f.write_str(
                "the rules leave relays for each hop, but no three that may share a path \
                 (other relays, families and networks)",
            ),
        }
    }
}

/// The hops that rules leave empty in a network; none if it has no relay for a hop anyway.
#[must_use]
pub(crate) fn emptied(
    rules: &Rules,
    permits: &Permits,
    view: &NetworkView,
    distinct_subnets: bool,
) -> Vec<Emptied> {
    let mut found = Vec::new();
    if rules.is_free() {
        return found;
    }
    let usable = Flags::RUNNING | Flags::VALID;
    let relays = view.relays().iter();
    let relays: Vec<&Relay> = relays.filter(|one| one.flags.contains(usable)).collect();
    let those = |is: &dyn Fn(&Relay) -> bool| {
        let relays = relays.iter().copied();
        relays.filter(|relay| is(relay)).collect()
    };
    let is_first = |relay: &Relay| rules.unguarded || relay.flags.contains(Flags::GUARD);
    let is_exit = |relay: &Relay| {
        let barred = [Flags::BAD_EXIT, Flags::MIDDLE_ONLY];
        let is_barred = barred.iter().any(|flag| relay.flags.contains(*flag));
        let leads_nowhere = relay.policy().is_reject_all() && relay.policy_v6().is_reject_all();
        !(is_barred || leads_nowhere)
    };
    let hops = [
        Hop {
            name: "first hop",
            candidates: those(&is_first),
            set: ("entry", &rules.entry),
            allows: |permit| permit.first,
        },
        Hop {
            name: "middle hop",
            candidates: those(&|_| true),
            set: ("middle", &rules.middle),
            allows: |permit| permit.middle,
        },
        Hop {
            name: EXIT,
            candidates: those(&is_exit),
            set: ("exit", &rules.exit),
            allows: |permit| permit.exit,
        },
    ];
    for hop in hops {
        let permitted = |relay: &&Relay| (hop.allows)(permits.of(&relay.rsa_id));
        if !hop.candidates.is_empty() && !hop.candidates.iter().any(permitted) {
            found.push(why(rules, permits, view, &hop));
        }
    }
    if found.is_empty() && is_cut_off(rules, permits, view, distinct_subnets) {
        found.push(Emptied::Near);
    }
    found
}

/// A place in a path.
struct Hop<'a> {
    name: &'static str,
    /// What the network has for it.
    candidates: Vec<&'a Relay>,
    /// The set that is for it, with its name.
    set: (&'static str, &'a RelaySet),
    allows: fn(Permit) -> bool,
}

/// Whether there are paths without the rules, and none with them.
fn is_cut_off(
    rules: &Rules,
    permits: &Permits,
    view: &NetworkView,
    distinct_subnets: bool,
) -> bool {
    let finds = |permits: &Permits| {
        let is_first = |relay: &&Relay| {
            let is_guard = rules.unguarded || relay.flags.contains(Flags::GUARD);
            is_guard && permits.of(&relay.rsa_id).first
        };
        let firsts = view.relays().iter().filter(is_first);
        let entries: Vec<_> = firsts.map(|relay| relay.rsa_id).collect();
        let rules = PathRules {
            need: ExitNeed::Any,
            entries: &entries,
            bridges: None,
            permits,
            excluded_exits: &[],
            distinct_subnets,
            long_lived: &paths::LONG_LIVED_PORTS,
        };
        let mut rng = Rng::from_seed([0; 32]);
        paths::choose(view, &rules, &mut rng).is_ok()
    };
    !finds(permits) && finds(&Permits::default())
}

fn why(rules: &Rules, permits: &Permits, view: &NetworkView, hop: &Hop<'_>) -> Emptied {
    let (name, set) = hop.set;
    let listed = |relay: &Relay| {
        let status = view.consensus().router(&relay.rsa_id);
        status.is_some_and(|status| set.contains(&Subject::listed(status), &rules.geoip))
    };
    let candidates = hop.candidates.iter();
    let within: Vec<_> = candidates
        .filter(|relay| set.is_empty() || listed(relay))
        .collect();
    if within.is_empty() {
        let listed = view.relays().iter().filter(|relay| listed(relay)).count();
        let (hop, set) = (hop.name, name);
        return Emptied::Set { hop, set, listed };
    }
    let count = |is: bool| {
        let all = within.iter();
        all.filter(|relay| permits.of(&relay.rsa_id).any == is)
            .count()
    };
    Emptied::Excluded {
        hop: hop.name,
        sets: match (count(false), count(true)) {
            (0, _) => "`exclude_exit`",
            (_, 0) => "`exclude`",
            _ => "`exclude` with `exclude_exit`",
        },
        before: within.len(),
    }
}
