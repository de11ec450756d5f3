//! What is posted to the other authorities, again and again to those who missed it.
//!
//! A vote that does not arrive costs its author a round, and an authority that restarts misses what
//! was posted meanwhile. Each post is tried a few times more, spread over the time in which it is
//! still of use; what is not there after half of that is asked for by the others anyway.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, SystemTime};

use crate::schedule::Schedule;

/// How often something is posted to one authority, at most.
const POSTS_MAX: u32 = 8;

/// What is posted in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Posted {
    /// Our vote.
    Vote,
    /// Our signatures.
    Signatures,
}

/// A post that failed.
#[derive(Debug, Clone, Copy)]
struct Missed {
    /// When it is tried again; none while it is on its way, or if it is not.
    at: Option<SystemTime>,
    posts: u32,
}

/// The posts of a round that failed.
#[derive(Debug, Default)]
pub(crate) struct Posts(BTreeMap<(Posted, SocketAddrV4), Missed>);

impl Posts {
    /// How a post ended: the HTTP status, 0 if there was no answer.
    pub(crate) fn handle(
        &mut self,
        (what, to): (Posted, SocketAddrV4),
        status: u16,
        schedule: &Schedule,
        now: SystemTime,
    ) {
        // A refusal stays one: whoever says 400 has read it, or does not want it any more.
        if status != 0 && status < 500 {
            self.0.remove(&(what, to));
            return;
        }
        let (from, until) = match what {
            Posted::Vote => (schedule.vote, schedule.fetch_votes),
            Posted::Signatures => (schedule.compute, schedule.publish),
        };
        let whole = until.duration_since(from).unwrap_or_default();
        let at = now + (whole / POSTS_MAX).max(Duration::from_millis(1));
        let first = Missed { at: None, posts: 1 };
        let missed = self.0.entry((what, to)).or_insert(first);
        missed.at = (missed.posts < POSTS_MAX && at < until).then_some(at);
        missed.posts = missed.posts.saturating_add(1);
    }

    /// When something is posted again.
    pub(crate) fn next(&self) -> Option<SystemTime> {
        self.0.values().filter_map(|missed| missed.at).min()
    }

    /// What is to be posted again by now, and to whom.
    pub(crate) fn take_due(&mut self, now: SystemTime) -> Vec<(Posted, SocketAddrV4)> {
        let is_due = |missed: &Missed| missed.at.is_some_and(|at| at <= now);
        let due = self.0.iter_mut().filter(|(_, missed)| is_due(missed));
        due.map(|(which, missed)| {
            missed.at = None;
            *which
        })
        .collect()
    }
}
