//! The plan of a network: how many nodes of which role, and each one's name, address and ports.
//!
//! Each relay has an IPv4 address in a /16 of its own (127.1.0.1, 127.2.0.1, ...), so that no path
//! with two relays of one /16 (path-spec 2.2) is a real rule here, too. All relays share one OR
//! port and one directory port; what listens for people is on 127.0.0.1. The same arguments give
//! the same plan.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Relays of all kinds, at most: one a /16 of 127/8, but for 127.0 and 127.255.
pub const RELAYS_MAX: u16 = 254;
/// Clients, at most.
pub const CLIENTS_MAX: u16 = 100;
/// Seconds of a day, which each voting interval divides (dir-spec 1.4).
const DAY_SECS: u32 = 86_400;
/// The shortest voting interval that peers accept, in seconds.
const INTERVAL_SECS_MIN: u32 = 10;

/// Offsets of ports from the plan's first one.
const OR_PORT: u16 = 0;
const DIR_PORT: u16 = 1;
const PAGE_PORT: u16 = 2;
const TOR_SOCKS_PORT: u16 = 48;
const ARTI_SOCKS_PORT: u16 = 49;
const CLIENT_SOCKS_PORT: u16 = 50;

/// Onion services, at most.
pub const ONION_SERVICES_MAX: u16 = 100;

/// A network on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Directory authorities, which are relays, too.
    pub authorities: u16,
    /// Relays that are no exits.
    pub relays: u16,
    /// Relays that are exits.
    pub exits: u16,
    /// Clients.
    pub clients: u16,
    /// Onion services, a process each; they serve the page.
    pub onion_services: u16,
    /// Seconds from one consensus to the next.
    pub interval_secs: u32,
    /// How long bytes take from node to node, on top of what the machine needs.
    pub delay: Duration,
    /// The first port; the plan uses 150 from there.
    pub base_port: u16,
}

/// Why a plan cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nobody would vote.
    #[error("expected at least 1 authority")]
    NoAuthority,
    /// Paths have three hops, the last of them an exit.
    #[error("expected at least 3 relays in all, authorities included, and 1 exit among them")]
    TooFewRelays,
    /// There are no more addresses.
    #[error("expected at most {RELAYS_MAX} relays in all, authorities included")]
    TooManyRelays,
    /// There are no more ports.
    #[error("expected at most {CLIENTS_MAX} clients")]
    TooManyClients,
    /// More processes than are of use.
    #[error("expected at most {ONION_SERVICES_MAX} onion services")]
    TooManyOnionServices,
    /// Peers would refuse the consensus.
    #[error("expected an interval of at least {INTERVAL_SECS_MIN} seconds that divides a day")]
    BadInterval,
    /// The last port would be beyond 65535.
    #[error("expected a first port up to 65385")]
    BadPort,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A directory authority.
    Authority,
    /// A relay that is no exit.
    Relay,
    /// A relay that is an exit.
    Exit,
    /// A client.
    Client,
    /// A client that hosts an onion service.
    Onion,
}

impl Role {
    /// Whether it carries cells of others: it has an OR port and an identity.
    pub fn is_relay(self) -> bool {
        matches!(self, Self::Authority | Self::Relay | Self::Exit)
    }

    /// Its name in `testnet.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Relay => "relay",
            Self::Exit => "exit",
            Self::Client => "client",
            Self::Onion => "onion",
        }
    }
}

/// One node of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Its nickname, which is also the name of its folder.
    pub nickname: String,
    /// Its OR port; clients and onion services have none.
    pub or: Option<SocketAddr>,
    /// Its directory port; only authorities have one.
    pub dir: Option<SocketAddr>,
    /// Its SOCKS port; only clients have one.
    pub socks: Option<SocketAddr>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            authorities: 3,
            relays: 6,
            exits: 2,
            clients: 1,
            onion_services: 0,
            interval_secs: 20,
            delay: Duration::ZERO,
            base_port: 5000,
        }
    }
}

impl Plan {
    /// Whether it can be.
    pub fn check(&self) -> Result<(), PlanError> {
        let relays = u32::from(self.authorities) + u32::from(self.relays) + u32::from(self.exits);
        if self.authorities == 0 {
            return Err(PlanError::NoAuthority);
        }
        if relays < 3 || self.exits == 0 {
            return Err(PlanError::TooFewRelays);
        }
        if relays > u32::from(RELAYS_MAX) {
            return Err(PlanError::TooManyRelays);
        }
        if self.clients > CLIENTS_MAX {
            return Err(PlanError::TooManyClients);
        }
        if self.onion_services > ONION_SERVICES_MAX {
            return Err(PlanError::TooManyOnionServices);
        }
        if self.interval_secs < INTERVAL_SECS_MIN || !DAY_SECS.is_multiple_of(self.interval_secs) {
            return Err(PlanError::BadInterval);
        }
        match self.base_port.checked_add(CLIENT_SOCKS_PORT + CLIENTS_MAX) {
            Some(_) if self.base_port > 0 => Ok(()),
            _ => Err(PlanError::BadPort),
        }
    }

    /// All nodes: authorities, then relays, exits, clients and onion services.
    pub fn nodes(&self) -> Vec<Node> {
        let kinds = [
            (Role::Authority, self.authorities, "auth"),
            (Role::Relay, self.relays, "relay"),
            (Role::Exit, self.exits, "exit"),
            (Role::Client, self.clients, "client"),
            (Role::Onion, self.onion_services, "onion"),
        ];
        let mut nodes = Vec::new();
        for (role, count, name) in kinds {
            for number in 1..=count {
                nodes.push(self.node(role, number, name, nodes.len()));
            }
        }
        nodes
    }

    fn node(&self, role: Role, number: u16, name: &str, place: usize) -> Node {
        // `check` bounds the places of relays to 254.
        let net = u8::try_from(place + 1).unwrap_or(u8::MAX);
        let at = |offset| address(Ipv4Addr::new(127, net, 0, 1), self.port(offset));
        Node {
            role,
            nickname: format!("{name}{number}"),
            or: role.is_relay().then(|| at(OR_PORT)),
            dir: (role == Role::Authority).then(|| at(DIR_PORT)),
            socks: (role == Role::Client)
                .then(|| self.local(CLIENT_SOCKS_PORT + number.saturating_sub(1))),
        }
    }

    /// How many relays there are, authorities and exits among them.
    pub fn relays_in_all(&self) -> usize {
        usize::from(self.authorities) + usize::from(self.relays) + usize::from(self.exits)
    }

    /// Where the page to fetch is.
    pub fn page(&self) -> SocketAddr {
        self.local(PAGE_PORT)
    }

    /// The SOCKS port of the `torrc` that is written.
    pub fn tor_socks(&self) -> SocketAddr {
        self.local(TOR_SOCKS_PORT)
    }

    /// The SOCKS port of the `arti.toml` that is written.
    pub fn arti_socks(&self) -> SocketAddr {
        self.local(ARTI_SOCKS_PORT)
    }

    /// The consensus parameters to vote for.
    ///
    /// `hsdir_interval` is the length of onion services' time period in minutes: 24 voting
    /// intervals in a test network of `tor`'s, which other peers learn by this parameter alone
    /// (PROTOCOL-NOTES 7); 5 to 1440.
    pub fn params(&self) -> BTreeMap<String, i32> {
        let minutes = (24 * self.interval_secs / 60).clamp(5, 1440);
        let minutes = i32::try_from(minutes).unwrap_or(1440);
        BTreeMap::from([("hsdir_interval".to_owned(), minutes)])
    }

    fn local(&self, offset: u16) -> SocketAddr {
        address(Ipv4Addr::LOCALHOST, self.port(offset))
    }

    fn port(&self, offset: u16) -> u16 {
        self.base_port.saturating_add(offset)
    }
}

fn address(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_default_is_as_promised() {
        let plan = Plan::default();
        assert_eq!(plan.check(), Ok(()));
        let nodes = plan.nodes();
        assert_eq!(nodes.len(), 12);
        assert_eq!(nodes[0].nickname, "auth1");
        assert_eq!(nodes[0].dir, Some("127.1.0.1:5001".parse().unwrap()));
        assert_eq!(nodes[10].or, Some("127.11.0.1:5000".parse().unwrap()));
        assert_eq!(nodes[11].socks, Some("127.0.0.1:5050".parse().unwrap()));
        assert_eq!(plan.params().get("hsdir_interval"), Some(&8));
    }

    #[test]
    fn impossible_plans_are_refused() {
        let plan = Plan::default();
        let refused = |plan: Plan| plan.check().unwrap_err();
        assert_eq!(
            refused(Plan {
                authorities: 0,
                ..plan.clone()
            }),
            PlanError::NoAuthority
        );
        assert_eq!(
            refused(Plan {
                exits: 0,
                ..plan.clone()
            }),
            PlanError::TooFewRelays
        );
        assert_eq!(
            refused(Plan {
                relays: 300,
                ..plan.clone()
            }),
            PlanError::TooManyRelays
        );
        assert_eq!(
            refused(Plan {
                interval_secs: 7,
                ..plan.clone()
            }),
            PlanError::BadInterval
        );
        assert_eq!(
            refused(Plan {
                base_port: 65_500,
                ..plan
            }),
            PlanError::BadPort
        );
    }

    proptest! {
        #[test]
        fn no_port_is_used_twice_and_no_slash_16_is_shared(
            authorities in 1..9_u16,
            relays in 2..200_u16,
            exits in 1..40_u16,
            clients in 0..100_u16,
            onion_services in 0..100_u16,
        ) {
            let sizes = Plan { authorities, relays, exits, clients, ..Plan::default() };
            let plan = Plan { onion_services, ..sizes };
            prop_assert_eq!(plan.check(), Ok(()));
            let mut ports = BTreeSet::from([plan.page(), plan.tor_socks(), plan.arti_socks()]);
            let mut nets = BTreeSet::new();
            for node in plan.nodes() {
                for addr in [node.or, node.dir, node.socks].into_iter().flatten() {
                    prop_assert!(ports.insert(addr));
                }
                if let Some(SocketAddr::V4(or)) = node.or {
                    prop_assert!(nets.insert(or.ip().octets()[1]));
                }
            }
        }
    }
}
