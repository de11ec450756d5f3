//! An input read as a script: steps of one byte each, with what they need behind them.
//!
//! Whatever the bytes are they make some script, so that no input is wasted; an end in the middle
//! of a step gives zeros, as does each further read.

#![allow(dead_code, reason = "a module of several targets, none of which uses all of it")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Instant, UNIX_EPOCH};

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_link::{Established, PeerIdentity};
use cepa_wire::Now;

/// Steps of one run at most: more of them find nothing new, and take time.
const STEPS_MAX: usize = 400;

/// The steps that are left.
pub struct Script<'a> {
    rest: &'a [u8],
    steps: usize,
}

impl<'a> Script<'a> {
    /// All of an input.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            steps: 0,
        }
    }

    /// The next step, unless it was the last.
    pub fn step(&mut self) -> Option<u8> {
        self.steps += 1;
        if self.steps > STEPS_MAX || self.rest.is_empty() {
            return None;
        }
        Some(self.byte())
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// The next bytes, up to 510, behind a byte that is half of their count.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()) * 2;
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// One of a list, if it has any.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let at = usize::from(self.byte());
        list.get(at.checked_rem(list.len())?).copied()
    }
}

/// Some instant, and the same wall clock in each run.
pub fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: UNIX_EPOCH,
    }
}

/// The identities of relay `n`.
pub fn identity(n: u8) -> PeerIdentity {
    PeerIdentity {
        rsa: RsaId::from([n; 20]),
        ed: Ed25519Id::from([n; 32]),
    }
}

/// An open link.
pub fn link(initiator: bool, peer: Option<PeerIdentity>, n: u8) -> Established {
    let peer_addr = SocketAddr::from(([127, n, 0, 1], 9001));
    Established {
        version: 5,
        initiator,
        peer,
        peer_addr,
        peer_addrs: vec![peer_addr.ip()],
        my_addr_seen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        clock_skew_secs: None,
        canonical: true,
    }
}
