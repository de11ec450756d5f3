//! The client's channels, one to a relay, opened when a circuit first needs one (tor-spec 5.3.1).
//!
//! ```text
//! need() ─▶ Opening ──opened()──▶ Open ◀──heard()── suspect() ──▶ Suspect ──closed()──▶ (gone)
//!              └─────failed()──▶ (gone)   └─closed(), idle─▶ (gone)
//! ```
//!
//! Beside a channel that has fallen silent another to the same relay is opened, and used instead. A
//! channel without circuits is closed after [`IDLE`]. There are at most [`LINKS_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::RsaId;
use cepa_link::ChannelKey;
use cepa_wire::Now;

use crate::command::Command;
use crate::names::LinkId;
use crate::select::paths::LinkTarget;
use crate::status::{LinkChange, LinkEnd, LinkState, LinkStatus};

/// How long a channel is kept without a circuit.
pub(crate) const IDLE: Duration = Duration::from_secs(180);
/// Most channels, open and opening: guards and directories of a client are a handful.
pub(crate) const LINKS_MAX: usize = 256;
/// Circuits that a relay may refuse before any has stood. A bound of ours, above what circuits of
/// one moment can make of a relay that is busy for that moment.
pub(crate) const REFUSALS_MAX: u32 = 16;

/// What there is to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A channel.
    Open(ChannelKey),
    /// One is being opened; [`Links::opened`] or [`Links::failed`] will tell.
    Opening,
    /// Too many, or not a bridge where only bridges are connected to.
    Full,
}

/// A channel that stands.
#[derive(Debug)]
struct Open {
    channel: ChannelKey,
    id: LinkId,
    addr: SocketAddr,
    since: SystemTime,
    used_last: Instant,
    /// The relay does not answer over it.
    is_suspect: bool,
}

/// All that leads to a relay, or is to.
#[derive(Debug)]
struct Known {
    target: LinkTarget,
    /// The connection that is being opened, and since when.
    opening: Option<(LinkId, SystemTime)>,
    open: Vec<Open>,
    /// Circuits that the relay itself refused, since one has stood.
    refused: u32,
    /// One has stood while there was a channel.
    has_served: bool,
}

/// All channels of a client, by relay.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_relay: BTreeMap<RsaId, Known>,
    id_last: u64,
    changes: VecDeque<(LinkChange, LinkStatus)>,
    /// No relay is connected to that is not a bridge of the operator's.
    pub(crate) only_bridges: bool,
}

impl Links {
    /// Finds the channel to a relay, or has one opened.
    pub(crate) fn need(
        &mut self,
        target: LinkTarget,
        now: Now,
        commands: &mut impl Extend<Command>,
    ) -> Need {
        if self.only_bridges && target.lines.is_empty() {
            tracing::debug!(relay = %target.rsa, "not a bridge: it is not connected to");
            return Need::Full;
        }
        let known = self.by_relay.get_mut(&target.rsa);
        if let Some(known) = known {
            if let Some(open) = known.open.iter_mut().rev().find(|one| !one.is_suspect) {
                open.used_last = now.mono;
                return Need::Open(open.channel);
            }
            if known.opening.is_some() {
                return Need::Opening;
            }
        }
        let count = |known: &Known| known.open.len() + usize::from(known.opening.is_some());
        if self.by_relay.values().map(count).sum::<usize>() >= LINKS_MAX {
            return Need::Full;
        }
        self.id_last += 1;
        let link = LinkId(self.id_last);
        let known = self.by_relay.entry(target.rsa).or_insert_with(|| Known {
            target: target.clone(),
            opening: None,
            open: Vec::new(),
            refused: 0,
            has_served: false,
        });
        known.opening = Some((link, now.wall));
        let begun = known.opening_status();
        self.changes
            .extend(begun.map(|one| (LinkChange::Launched, one)));
        commands.extend([Command::OpenChannel { link, target }]);
        Need::Opening
    }

    /// A connection stands: the relay that it leads to. `None` if nobody waits for it any more.
    pub(crate) fn relay_of(&self, link: LinkId) -> Option<RsaId> {
        let mut links = self.by_relay.iter();
        let is_it = |known: &Known| known.opening.is_some_and(|(id, _)| id == link);
        let found = links.find(|(_, known)| is_it(known));
        found.map(|(relay, _)| *relay)
    }

    /// The channel to a relay stands.
    pub(crate) fn opened(&mut self, relay: RsaId, addr: SocketAddr, channel: ChannelKey, now: Now) {
        let Some(known) = self.by_relay.get_mut(&relay) else {
            return;
        };
        let Some((id, _)) = known.opening.take() else {
            return;
        };
        let open = Open {
            channel,
            id,
            addr,
            since: now.wall,
            used_last: now.mono,
            is_suspect: false,
        };
        let status = known.status(&open);
        known.open.push(open);
        self.changes.push_back((LinkChange::Connected, status));
    }

    /// A relay has another name from now on.
    pub(crate) fn rename(&mut self, before: RsaId, now: RsaId) {
        let Some(mut renamed) = self.by_relay.remove(&before) else {
            return;
        };
        renamed.target.rsa = now;
        renamed.target.is_nameless = false;
        match self.by_relay.get_mut(&now) {
            // The connection that is being opened under this name serves both.
            Some(known) => {
                known.open.append(&mut renamed.open);
                known.opening = known.opening.or(renamed.opening);
            }
            None => {
                self.by_relay.insert(now, renamed);
            }
        }
    }

    /// A connection failed: the relay that it was for.
    pub(crate) fn failed(&mut self, link: LinkId) -> Option<RsaId> {
        let relay = self.relay_of(link)?;
        let known = self.by_relay.get_mut(&relay)?;
        let failed = known.opening_status();
        known.opening = None;
        self.changes
            .extend(failed.map(|one| (LinkChange::Failed, one)));
        self.tidy(relay);
        Some(relay)
    }

    /// A channel has fallen silent, or has been heard again: the relay that it leads to.
    pub(crate) fn suspect(&mut self, channel: ChannelKey, is_suspect: bool) -> Option<LinkTarget> {
        let mut known = self.by_relay.values_mut();
        known.find_map(|known| {
            let mut open = known.open.iter_mut();
            open.find(|one| one.channel == channel)?.is_suspect = is_suspect;
            Some(known.target.clone())
        })
    }

    /// A first hop stands.
    pub(crate) fn served(&mut self, relay: &RsaId) {
        if let Some(known) = self.by_relay.get_mut(relay) {
            (known.refused, known.has_served) = (0, true);
        }
    }

    /// A relay refused to be a first hop. True if it has done nothing else for
    /// [`REFUSALS_MAX`] circuits: its link is of no more use than none.
    pub(crate) fn refused(&mut self, relay: &RsaId) -> bool {
        let Some(known) = self.by_relay.get_mut(relay) else {
            return false;
        };
        known.refused += 1;
        let is_useless = !known.has_served && known.refused >= REFUSALS_MAX;
        if is_useless {
            known.refused = 0;
        }
        is_useless
    }

    /// The silent channels to a relay.
    pub(crate) fn suspects(&self, relay: &RsaId) -> Vec<ChannelKey> {
        let known = self.by_relay.get(relay).into_iter();
        let open = known.flat_map(|known| &known.open);
        open.filter(|one| one.is_suspect)
            .map(|one| one.channel)
            .collect()
    }

    /// A channel is gone: the relay that it led to.
    pub(crate) fn closed(&mut self, channel: ChannelKey, end: LinkEnd) -> Option<RsaId> {
        let mut links = self.by_relay.iter_mut();
        let (relay, known, open) = links.find_map(|(relay, known)| {
            let place = known.open.iter().position(|one| one.channel == channel)?;
            let open = known.open.remove(place);
            Some((*relay, known, open))
        })?;
        let change = LinkChange::Closed(end);
        self.changes.push_back((change, known.status(&open)));
        self.tidy(relay);
        Some(relay)
    }

    /// Takes out the channels that nobody used for [`IDLE`].
    pub(crate) fn take_idle(
        &mut self,
        circuits: impl Fn(ChannelKey) -> usize,
        now: Now,
    ) -> Vec<ChannelKey> {
        let mut idle = Vec::new();
        for one in self.by_relay.values_mut().flat_map(|known| &mut known.open) {
            if circuits(one.channel) > 0 {
                one.used_last = now.mono;
            }
            if now.mono.saturating_duration_since(one.used_last) >= IDLE {
                idle.push(one.channel);
            }
        }
        for channel in &idle {
            self.closed(*channel, LinkEnd::Idle);
        }
        idle
    }

    /// Takes out all channels.
    pub(crate) fn take_all(&mut self) -> Vec<ChannelKey> {
        let open = self.by_relay.values().flat_map(|known| &known.open);
        let all: Vec<_> = open.map(|one| one.channel).collect();
        for channel in &all {
            self.closed(*channel, LinkEnd::Idle);
        }
        all
    }

    /// All of them; `circuits` says how many there are over a channel.
    pub(crate) fn statuses(&self, circuits: impl Fn(ChannelKey) -> usize) -> Vec<LinkStatus> {
        let of = |known: &Known| {
            let open = known.open.iter().map(|one| LinkStatus {
                circuits: circuits(one.channel),
                ..known.status(one)
            });
            open.chain(known.opening_status()).collect::<Vec<_>>()
        };
        self.by_relay.values().flat_map(of).collect()
    }

    /// What happened to one.
    pub(crate) fn poll_change(&mut self) -> Option<(LinkChange, LinkStatus)> {
        self.changes.pop_front()
    }

    /// True if a channel to any relay stands.
    pub(crate) fn any_open(&self) -> bool {
        self.by_relay.values().any(|known| !known.open.is_empty())
    }

    /// True if a connection to any relay is being opened.
    pub(crate) fn any_opening(&self) -> bool {
        self.by_relay.values().any(|known| known.opening.is_some())
    }

    fn tidy(&mut self, relay: RsaId) {
        if self.by_relay.get(&relay).is_some_and(Known::is_empty) {
            self.by_relay.remove(&relay);
        }
    }
}

impl Known {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.opening.is_none()
    }

    fn status(&self, open: &Open) -> LinkStatus {
        LinkStatus {
            id: open.id,
            rsa: self.target.rsa,
            ed: self.target.ed,
            addr: Some(open.addr),
            state: match open.is_suspect {
                true => LinkState::Silent,
                false => LinkState::Open,
            },
            since: open.since,
            circuits: 0,
        }
    }

    fn opening_status(&self) -> Option<LinkStatus> {
        self.opening.map(|(id, since)| LinkStatus {
            id,
            rsa: self.target.rsa,
            ed: self.target.ed,
            addr: self.target.addrs.first().copied(),
            state: LinkState::Opening,
            since,
            circuits: 0,
        })
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
            lines: Vec::new(),
            is_nameless: false,
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
        let link = LinkId(1);
        assert_eq!(links.relay_of(link), Some(target(1).rsa));
        links.opened(target(1).rsa, target(1).addrs[0], channel, now);
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
        assert_eq!(links.closed(channel, LinkEnd::Idle), None);
        assert_eq!(links.need(target(1), now, &mut commands), Need::Opening);
        assert_eq!(links.failed(LinkId(2)), Some(target(1).rsa));
        assert!(!links.any_open() && !links.any_opening());
    }

    #[test]
    fn beside_a_silent_channel_another_is_opened() {
        let mut keys: SlotMap<ChannelKey, ()> = SlotMap::with_key();
        let (old, fresh) = (keys.insert(()), keys.insert(()));
        let (mut links, mut commands, now) = (Links::default(), Vec::new(), start());
        let relay = target(1).rsa;
        links.need(target(1), now, &mut commands);
        links.opened(relay, target(1).addrs[0], old, now);
        assert_eq!(links.suspect(old, true), Some(target(1)));
        assert_eq!(links.suspects(&relay), [old]);
        for _ in 0..2 {
            assert_eq!(links.need(target(1), now, &mut commands), Need::Opening);
        }
        assert_eq!(commands.len(), 2);
        // It failed: the old one is still there, and may be heard again.
        assert_eq!(links.failed(LinkId(2)), Some(relay));
        links.suspect(old, false);
        assert_eq!(links.need(target(1), now, &mut commands), Need::Open(old));
        links.suspect(old, true);
        links.need(target(1), now, &mut commands);
        links.opened(relay, target(1).addrs[0], fresh, now);
        assert_eq!(links.need(target(1), now, &mut commands), Need::Open(fresh));
        assert_eq!(links.closed(old, LinkEnd::Silent), Some(relay));
        assert!(links.suspects(&relay).is_empty());
        assert_eq!(links.need(target(1), now, &mut commands), Need::Open(fresh));
        assert_eq!(links.closed(fresh, LinkEnd::Broken), Some(relay));
        assert!(!links.any_open() && !links.any_opening());
    }

    #[test]
    fn no_more_than_the_limit() {
        let (mut links, mut commands, now) = (Links::default(), Vec::new(), start());
        let target = |n: u16| {
            let mut rsa = [0; 20];
            rsa[..2].copy_from_slice(&n.to_be_bytes());
            LinkTarget {
                rsa: RsaId::from(rsa),
                ..target(1)
            }
        };
        for n in 0..u16::try_from(LINKS_MAX).unwrap() {
            assert_eq!(links.need(target(n), now, &mut commands), Need::Opening);
        }
        assert_eq!(links.need(target(999), now, &mut commands), Need::Full);
        links.failed(LinkId(1));
        assert_eq!(links.need(target(999), now, &mut commands), Need::Opening);
    }
}
