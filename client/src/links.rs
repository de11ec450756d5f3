//! The client's channels, one to a relay, opened when a circuit first needs one (tor-spec 5.3.1).
//!
//! ```text
//! need() ─▶ Opening ──opened()──▶ Open ──closed()──▶ (gone)
//!              └─────failed()──▶ (gone)   └─idle─▶ (gone)
//! ```
//!
//! A channel without circuits is closed after [`IDLE`]. There are at most [`LINKS_MAX`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_crypto::RsaId;
use cepa_link::ChannelKey;
use cepa_wire::Now;

use crate::command::{Command, LinkId, LinkTarget};

/// How long a channel is kept without a circuit.
pub(crate) const IDLE: Duration = Duration::from_secs(180);
/// Most channels, open and opening: guards and directories of a client are a handful.
pub(crate) const LINKS_MAX: usize = 256;

/// What there is to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A channel.
    Open(ChannelKey),
    /// One is being opened; [`Links::opened`] or [`Links::failed`] will tell.
    Opening,
    /// Too many.
    Full,
}

#[derive(Debug)]
enum State {
    Opening(LinkId),
    Open {
        channel: ChannelKey,
        used_last: Instant,
    },
}

/// All channels of a client, by relay.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_relay: BTreeMap<RsaId, State>,
    id_next: u64,
}

impl Links {
    /// Finds the channel to a relay, or has one opened.
    pub(crate) fn need(
        &mut self,
        target: LinkTarget,
        now: Now,
        commands: &mut impl Extend<Command>,
    ) -> Need {
        match self.by_relay.get_mut(&target.rsa) {
            Some(State::Open { channel, used_last }) => {
                *used_last = now.mono;
                return Need::Open(*channel);
            }
            Some(State::Opening(_)) => return Need::Opening,
            None => {}
        }
        if self.by_relay.len() >= LINKS_MAX {
            return Need::Full;
        }
        let link = LinkId(self.id_next);
        self.id_next += 1;
        self.by_relay.insert(target.rsa, State::Opening(link));
        commands.extend([Command::OpenChannel { link, target }]);
        Need::Opening
    }

    /// A connection stands: the relay that it leads to. `None` if nobody waits for it any more.
    pub(crate) fn relay_of(&self, link: LinkId) -> Option<RsaId> {
        let mut links = self.by_relay.iter();
        let found = links.find(|(_, state)| matches!(state, State::Opening(id) if *id == link));
        found.map(|(relay, _)| *relay)
    }

    /// The channel to a relay stands.
    pub(crate) fn opened(&mut self, relay: RsaId, channel: ChannelKey, now: Now) {
        let used_last = now.mono;
        self.by_relay
            .insert(relay, State::Open { channel, used_last });
    }

    /// A connection failed: the relay that it was for.
    pub(crate) fn failed(&mut self, link: LinkId) -> Option<RsaId> {
        let relay = self.relay_of(link)?;
        self.by_relay.remove(&relay);
        Some(relay)
    }

    /// A channel is gone: the relay that it led to.
    pub(crate) fn closed(&mut self, channel: ChannelKey) -> Option<RsaId> {
        let mut links = self.by_relay.iter();
        let found = links.find(
            |(_, state)| matches!(state, State::Open { channel: open, .. } if *open == channel),
        );
        let relay = *found?.0;
        self.by_relay.remove(&relay);
        Some(relay)
    }

    /// Takes out the channels that nobody used for [`IDLE`].
    pub(crate) fn take_idle(
        &mut self,
        circuits: impl Fn(ChannelKey) -> usize,
        now: Now,
    ) -> Vec<ChannelKey> {
        let mut idle = Vec::new();
        self.by_relay.retain(|_, state| {
            let State::Open { channel, used_last } = state else {
                return true;
            };
            if circuits(*channel) > 0 {
                *used_last = now.mono;
            }
            let keep = now.mono.saturating_duration_since(*used_last) < IDLE;
            if !keep {
                idle.push(*channel);
            }
            keep
        });
        idle
    }

    /// True if a channel to any relay stands.
    pub(crate) fn any_open(&self) -> bool {
        self.by_relay
            .values()
            .any(|state| matches!(state, State::Open { .. }))
    }

    /// True if a connection to any relay is being opened.
    pub(crate) fn any_opening(&self) -> bool {
        self.by_relay
            .values()
            .any(|state| matches!(state, State::Opening(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::start;
    use slotmap::SlotMap;

    fn target(n: u8) -> LinkTarget {
        LinkTarget {
            rsa: RsaId::from([n; 20]),
            ed: None,
            addrs: vec![([127, n, 0, 1], 5000).into()],
        }
    }

    #[test]
    fn one_channel_to_a_relay() {
        let mut keys: SlotMap<ChannelKey, ()> = SlotMap::with_key();
        let channel = keys.insert(());
        let (mut links, mut commands, now) = (Links::default(), Vec::new(), start());
        assert_eq!(links.need(target(1), now, &mut commands), Need::Opening);
        assert_eq!(links.need(target(1), now, &mut commands), Need::Opening);
        assert_eq!(commands.len(), 1);
        let link = LinkId(0);
        assert_eq!(links.relay_of(link), Some(target(1).rsa));
        links.opened(target(1).rsa, channel, now);
        assert_eq!(links.relay_of(link), None);
        assert_eq!(
            links.failed(link),
            None,
            "a late failure is of no consequence"
        );
        assert_eq!(
            links.need(target(1), now, &mut commands),
            Need::Open(channel)
        );
        assert!(links.take_idle(|_| 1, now + 2 * IDLE).is_empty());
        assert!(links.take_idle(|_| 0, now + 2 * IDLE).is_empty());
        assert_eq!(links.take_idle(|_| 0, now + 3 * IDLE), [channel]);
        assert_eq!(links.closed(channel), None);
        assert_eq!(links.need(target(1), now, &mut commands), Need::Opening);
        assert_eq!(links.failed(LinkId(1)), Some(target(1).rsa));
        assert!(!links.any_open() && !links.any_opening());
    }
}
