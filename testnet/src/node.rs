//! What a node of a network is: its role, and whose program runs it.
//!
//! `tor:relay=2` in the arguments of `cepa testnet up` is a [`Share`]: so many nodes of a role that
//! a peer's program runs.

use std::str::FromStr;

/// The program that a node runs: ours or a peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Ours.
    Cepa,
    /// Debian's `tor`.
    Tor,
}

impl Program {
    /// All programs, ours first.
    pub const ALL: [Self; 2] = [Self::Cepa, Self::Tor];

    /// Its name in `testnet.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cepa => "cepa",
            Self::Tor => "tor",
        }
    }

    /// What the nicknames of its nodes begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Cepa => "",
            Self::Tor => "tor",
        }
    }
}

/// The role of a node in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A directory authority.
    Authority,
    /// A relay that is no exit.
    Relay,
    /// A relay that is an exit.
    Exit,
    /// A relay that is in no consensus.
    Bridge,
    /// A client.
    Client,
    /// A client that hosts an onion service.
    Onion,
}

impl Role {
    /// All of them, in the order of a plan.
    pub const ALL: [Self; 6] = [
        Self::Authority,
        Self::Relay,
        Self::Exit,
        Self::Bridge,
        Self::Client,
        Self::Onion,
    ];

    /// Whether it carries cells of others: it has an OR port and an identity.
    pub fn is_relay(self) -> bool {
        self.is_listed() || self == Self::Bridge
    }

    /// Whether it is in the consensus.
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Authority | Self::Relay | Self::Exit)
    }

    /// What the nicknames of its nodes have before their number.
    pub fn word(self) -> &'static str {
        match self {
            Self::Authority => "auth",
            _ => self.name(),
        }
    }

    /// Its name in `testnet.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Relay => "relay",
            Self::Exit => "exit",
            Self::Bridge => "bridge",
            Self::Client => "client",
            Self::Onion => "onion",
        }
    }
}

/// What a bridge's traffic is made to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Nothing: `obfs4`, by a program of others.
    Obfs4,
    /// Visits of a web site: `webtunnel`.
    Webtunnel,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Obfs4, Self::Webtunnel];

    /// Its name in bridge lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Obfs4 => "obfs4",
            Self::Webtunnel => "webtunnel",
        }
    }
}

/// A text that is no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected obfs4 or webtunnel")]
pub struct NotATransport;

impl FromStr for Transport {
    type Err = NotATransport;

    fn from_str(text: &str) -> Result<Self, NotATransport> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or(NotATransport)
    }
}

/// How many nodes of each role a program runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directory authorities, which are relays, too.
    pub authorities: u16,
    /// Relays that are no exits.
    pub relays: u16,
    /// Relays that are exits.
    pub exits: u16,
    /// Relays that are in no consensus; the clients go over them.
    pub bridges: u16,
    /// Clients.
    pub clients: u16,
    /// Onion services, a process each; they serve the page.
    pub onion_services: u16,
}

impl Counts {
    /// How many nodes of a role there are.
    pub fn of(&self, role: Role) -> u16 {
        match role {
            Role::Authority => self.authorities,
            Role::Relay => self.relays,
            Role::Exit => self.exits,
            Role::Bridge => self.bridges,
            Role::Client => self.clients,
            Role::Onion => self.onion_services,
        }
    }

    /// So many more of a role.
    pub fn add(&mut self, role: Role, count: u16) {
        let number = match role {
            Role::Authority => &mut self.authorities,
            Role::Relay => &mut self.relays,
            Role::Exit => &mut self.exits,
            Role::Bridge => &mut self.bridges,
            Role::Client => &mut self.clients,
            Role::Onion => &mut self.onion_services,
        };
        *number = number.saturating_add(count);
    }
}

/// So many nodes of a role that a peer's program runs: `tor:relay=2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The role of these nodes.
    pub role: Role,
    /// The number of these nodes.
    pub count: u16,
}

/// A text that is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected tor:ROLE=N, where ROLE is authority, relay, exit, bridge, client or onion")]
pub struct NotAShare;

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let (role, count) = text
            .strip_prefix("tor:")
            .and_then(|rest| rest.split_once('='))
            .ok_or(NotAShare)?;
        let role = Role::ALL.into_iter().find(|one| one.name() == role);
        Ok(Self {
            role: role.ok_or(NotAShare)?,
            count: count.parse().map_err(|_| NotAShare)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_tor_and_of_a_role() {
        let share = |role, count| Ok(Share { role, count });
        assert_eq!("tor:relay=2".parse(), share(Role::Relay, 2));
        assert_eq!("tor:authority=0".parse(), share(Role::Authority, 0));
        for wrong in [
            "",
            "tor",
            "tor:relay",
            "tor:relay=",
            "cepa:relay=1",
            "tor:hub=1",
        ] {
            assert_eq!(wrong.parse::<Share>(), Err(NotAShare), "{wrong}");
        }
    }
}
