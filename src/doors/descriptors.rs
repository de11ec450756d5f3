//! How many descriptors this process may open, and how many of them are for connections.
//!
//! At start the soft limit is raised to the hard one (`RLIMIT_NOFILE`). What the process needs for
//! itself is set apart: files, the store, signals, DNS, its own connections. Where little is left,
//! that is said, with the number and what to do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for strangers: files, the store, sockets of the runtime, name look-ups,
/// a client's links.
const OWN: usize = 40;
/// More than so many are not asked for: a connection costs memory, too.
const LIMIT_MAX: u64 = 1 << 17;
/// With fewer, a node can be filled by a few visitors.
const ENOUGH: usize = 4000;
/// What an operator can do.
pub(super) const REMEDY: &str = "raise LimitNOFILE= of its unit, or `ulimit -Hn`";

/// The descriptors of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    limit: usize,
}

impl Descriptors {
    /// Raises the limit as far as it goes, and says so where that is not far.
    #[must_use]
    pub fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        let has = current.unwrap_or(LIMIT_MAX);
        let limit = match has < wanted {
            true => {
                let raised = setrlimit(
                    Resource::Nofile,
                    Rlimit {
                        current: Some(wanted),
                        maximum,
                    },
                );
                raised.map_or(has, |()| wanted)
            }
            false => has,
        };
        let descriptors = Self {
            limit: usize::try_from(limit.min(LIMIT_MAX)).unwrap_or(usize::MAX),
        };
        let connections = descriptors.connections_max();
        if connections < ENOUGH {
            tracing::warn!(
                limit,
                connections,
                "few descriptors: so many connections at once; {REMEDY} to {} or more",
                ENOUGH + OWN
            );
        }
        descriptors
    }

    /// Connections at once, in and out.
    #[must_use]
    pub fn connections_max(self) -> usize {
        self.limit.saturating_sub(OWN).max(self.limit / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_the_process_itself() {
        let of = |limit| Descriptors { limit }.connections_max();
        assert_eq!((of(64), of(40), of(1024)), (24, 10, 984));
    }

    #[test]
    fn the_soft_limit_is_the_hard_one_or_enough() {
        let raised = Descriptors::raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        assert!(current.is_none_or(|current| current >= wanted));
        assert!(raised.connections_max() < LIMIT_MAX as usize);
    }
}
