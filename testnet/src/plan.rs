//! The plan of a network: how many nodes of which role and program, and each one's name, address
//! and ports.
//!
//! Each relay has an IPv4 address in a /16 of its own (127.1.0.1, 127.2.0.1, ...), so that no path
//! with two relays of one /16 (path-spec 2.2) is a real rule here, too. All relays share one OR
//! port and one directory port; what listens for people is on 127.0.0.1. The same arguments give
//! the same plan.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use crate::node::{Counts, Program, Role, Transport};

/// Relays of all kinds, at most: one a /16 of 127/8, but for 127.0 and 127.255.
pub const RELAYS_MAX: u16 = 254;
/// Clients, at most.
pub const CLIENTS_MAX: u16 = 100;
/// Seconds of a day, which each voting interval divides (dir-spec 1.4).
const DAY_SECS: u32 = 86_400;
/// The shortest voting interval that peers accept, in seconds.
const INTERVAL_SECS_MIN: u32 = 10;
/// Seconds that the first voting interval of `tor`'s authorities divides.
const TOR_INTERVAL_DIVIDES_SECS: u32 = 1800;
/// The shortest and the longest delay of votes or signatures, in seconds.
const VOTE_DELAY_SECS: (u32, u32) = (2, 300);

/// Offsets of ports from the plan's first one.
const OR_PORT: u16 = 0;
const DIR_PORT: u16 = 1;
const PAGE_PORT: u16 = 2;
const SPARE_PORT: u16 = 3;
const TRANSPORT_PORTS: u16 = 4;
const TOR_SOCKS_PORT: u16 = 48;
const ARTI_SOCKS_PORT: u16 = 49;
const CLIENT_SOCKS_PORT: u16 = 50;

/// Onion services, at most.
pub const ONION_SERVICES_MAX: u16 = 100;

/// A network on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The nodes that run our program.
    pub ours: Counts,
    /// The nodes that run Debian's `tor`.
    pub tor: Counts,
    /// Seconds from one consensus to the next.
    pub interval_secs: u32,
    /// How long bytes take from node to node, on top of what the machine needs.
    pub delay: Duration,
    /// The first port; the plan uses 150 from there.
    pub base_port: u16,
    /// Consensus parameters to vote for, besides those that such a network needs.
    pub more_params: BTreeMap<String, i32>,
    /// The transports of our bridges, by which the clients reach them; none: by their own ports.
    pub transports: Vec<Transport>,
    /// Whether paths may have two relays of one /16; each node of a plan has one of its own.
    pub shared_subnets: bool,
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
    /// Nobody would speak a transport.
    #[error("expected bridges for the transports")]
    NoBridge,
    /// There are no more addresses.
    #[error("expected at most {RELAYS_MAX} relays and bridges in all, authorities included")]
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
    /// `tor` authorities refuse their configuration.
    #[error(
        "with authorities of tor, expected an interval that divides {TOR_INTERVAL_DIVIDES_SECS} \
         seconds"
    )]
    BadTorInterval,
    /// The last port would be beyond 65535.
    #[error("expected a first port up to 65385")]
    BadPort,
}

/// One node of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's role.
    pub role: Role,
    /// The program that the node runs.
    pub program: Program,
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
            ours: Counts {
                authorities: 3,
                relays: 6,
                exits: 2,
                bridges: 0,
                clients: 1,
                onion_services: 0,
            },
            tor: Counts::default(),
            interval_secs: 20,
            delay: Duration::ZERO,
            base_port: 5000,
            more_params: BTreeMap::new(),
            transports: Vec::new(),
            shared_subnets: false,
        }
    }
}

impl Plan {
    /// Whether it can be.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.count(Role::Authority) == 0 {
            return Err(PlanError::NoAuthority);
        }
        if self.relays_in_all() < 3 || self.count(Role::Exit) == 0 {
            return Err(PlanError::TooFewRelays);
        }
        let bridges = self.count(Role::Bridge);
        if bridges == 0 && !self.transports.is_empty() {
            return Err(PlanError::NoBridge);
        }
        if self.relays_in_all() + bridges > usize::from(RELAYS_MAX) {
            return Err(PlanError::TooManyRelays);
        }
        if self.count(Role::Client) > usize::from(CLIENTS_MAX) {
            return Err(PlanError::TooManyClients);
        }
        if self.count(Role::Onion) > usize::from(ONION_SERVICES_MAX) {
            return Err(PlanError::TooManyOnionServices);
        }
        if self.interval_secs < INTERVAL_SECS_MIN || !DAY_SECS.is_multiple_of(self.interval_secs) {
            return Err(PlanError::BadInterval);
        }
        let divides = TOR_INTERVAL_DIVIDES_SECS.is_multiple_of(self.interval_secs);
        if self.tor.authorities > 0 && !divides {
            return Err(PlanError::BadTorInterval);
        }
        match self.base_port.checked_add(CLIENT_SOCKS_PORT + CLIENTS_MAX) {
            Some(_) if self.base_port > 0 => Ok(()),
            _ => Err(PlanError::BadPort),
        }
    }

    /// All nodes: authorities, then relays, exits, bridges, clients and onion services; of each
    /// role first ours, then those of `tor`.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for role in Role::ALL {
            let mut place_of_role = 0;
            for program in Program::ALL {
                for number in 1..=self.counts(program).of(role) {
                    let name = format!("{}{}{number}", program.prefix(), role.word());
                    nodes.push(self.node(role, program, name, nodes.len(), place_of_role));
                    place_of_role += 1;
                }
            }
        }
        nodes
    }

    fn node(
        &self,
        role: Role,
        program: Program,
        nickname: String,
        place: usize,
        place_of_role: u16,
    ) -> Node {
        // `check` bounds the places of relays to 254.
        let net = u8::try_from(place + 1).unwrap_or(u8::MAX);
        let at = |offset| address(Ipv4Addr::new(127, net, 0, 1), self.port(offset));
        Node {
            role,
            program,
            nickname,
            or: role.is_relay().then(|| at(OR_PORT)),
            dir: (role == Role::Authority).then(|| at(DIR_PORT)),
            socks: (role == Role::Client).then(|| self.local(CLIENT_SOCKS_PORT + place_of_role)),
        }
    }

    /// How many nodes of each role a program runs.
    pub fn counts(&self, program: Program) -> &Counts {
        match program {
            Program::Cepa => &self.ours,
            Program::Tor => &self.tor,
        }
    }

    /// How many nodes of a role there are.
    pub fn count(&self, role: Role) -> usize {
        Program::ALL
            .into_iter()
            .map(|program| usize::from(self.counts(program).of(role)))
            .sum()
    }

    /// How many relays the consensus lists, authorities and exits among them.
    pub fn relays_in_all(&self) -> usize {
        let roles = Role::ALL.into_iter().filter(|role| role.is_listed());
        roles.map(|role| self.count(role)).sum()
    }

    /// Whether a program other than ours takes part.
    pub fn has_tor(&self) -> bool {
        self.tor != Counts::default()
    }

    /// How long votes, and then signatures, may take to arrive, in seconds: a fifth of the
    /// interval, as `tor` takes at most a half for both.
    pub fn vote_delay_secs(&self) -> u32 {
        let (shortest, longest) = VOTE_DELAY_SECS;
        (self.interval_secs / 5).clamp(shortest, longest)
    }

    /// The address of the page that is fetched to see whether the network works.
    pub fn page(&self) -> SocketAddr {
        self.local(PAGE_PORT)
    }

    /// A port that no node has, on any address: for what users want of their nodes besides.
    pub fn spare_port(&self) -> u16 {
        self.port(SPARE_PORT)
    }

    /// Where a transport of a bridge listens; none of a node that is no bridge.
    pub fn transport_at(&self, node: &Node, transport: Transport) -> Option<SocketAddr> {
        let or = node.or.filter(|_| node.role == Role::Bridge)?;
        let offset = TRANSPORT_PORTS + u16::from(transport == Transport::Webtunnel);
        Some(SocketAddr::new(or.ip(), self.port(offset)))
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
    /// (docs/protocol.md section 7); 5 to 1440.
    pub fn params(&self) -> BTreeMap<String, i32> {
        let minutes = (24 * self.interval_secs / 60).clamp(5, 1440);
        let minutes = i32::try_from(minutes).unwrap_or(1440);
        let mut params = BTreeMap::from([("hsdir_interval".to_owned(), minutes)]);
        params.extend(self.more_params.clone());
        params
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

    fn plan(ours: [u16; 3], tor: [u16; 3]) -> Plan {
        let counts = |[authorities, relays, exits]: [u16; 3]| Counts {
            authorities,
            relays,
            exits,
            ..Counts::default()
        };
        Plan {
            ours: counts(ours),
            tor: counts(tor),
            ..Plan::default()
        }
    }

    #[test]
    fn programs_share_a_plan() {
        let names = |plan: Plan| -> Vec<String> {
            assert_eq!(plan.check(), Ok(()));
            plan.nodes().into_iter().map(|node| node.nickname).collect()
        };
        assert_eq!(
            names(plan([1, 1, 0], [1, 1, 1])),
            ["auth1", "torauth1", "relay1", "torrelay1", "torexit1"]
        );
        assert_eq!(names(plan([0, 0, 0], [1, 1, 1])).len(), 3);
    }

    #[test]
    fn impossible_plans_are_refused() {
        let refused = |plan: Plan| plan.check().unwrap_err();
        let with_interval = |interval_secs, plan| Plan {
            interval_secs,
            ..plan
        };
        assert_eq!(refused(plan([0, 6, 2], [0, 1, 1])), PlanError::NoAuthority);
        assert_eq!(refused(plan([3, 6, 0], [0, 1, 0])), PlanError::TooFewRelays);
        assert_eq!(
            refused(plan([3, 200, 2], [0, 100, 0])),
            PlanError::TooManyRelays
        );
        assert_eq!(
            refused(with_interval(7, Plan::default())),
            PlanError::BadInterval
        );
        assert_eq!(
            refused(with_interval(16, plan([2, 6, 2], [1, 0, 0]))),
            PlanError::BadTorInterval
        );
        assert_eq!(
            with_interval(16, plan([2, 6, 2], [0, 1, 0])).check(),
            Ok(())
        );
        assert_eq!(
            refused(Plan {
                base_port: 65_500,
                ..Plan::default()
            }),
            PlanError::BadPort
        );
    }

    proptest! {
        #[test]
        fn no_port_is_used_twice_and_no_slash_16_is_shared(
            authorities in 1..9_u16,
            relays in 2..100_u16,
            exits in 1..40_u16,
            clients in 0..50_u16,
            onion_services in 0..50_u16,
            tor_relays in 0..100_u16,
            tor_clients in 0..50_u16,
        ) {
            let ours = Counts { authorities, relays, exits, bridges: 3, clients, onion_services };
            let tor = Counts { relays: tor_relays, clients: tor_clients, ..Counts::default() };
            let plan = Plan { ours, tor, ..Plan::default() };
            prop_assert_eq!(plan.check(), Ok(()));
            let mut ports = BTreeSet::from([plan.page(), plan.tor_socks(), plan.arti_socks()]);
            let (mut nets, mut names) = (BTreeSet::new(), BTreeSet::new());
            for node in plan.nodes() {
                let of_transports = Transport::ALL.map(|one| plan.transport_at(&node, one));
                let own = [node.or, node.dir, node.socks].into_iter().chain(of_transports);
                for addr in own.flatten() {
                    prop_assert!(ports.insert(addr));
                }
                if let Some(SocketAddr::V4(or)) = node.or {
                    prop_assert!(nets.insert(or.ip().octets()[1]));
                }
                prop_assert!(names.insert(node.nickname));
            }
        }
    }
}
