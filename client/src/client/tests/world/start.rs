//! Worlds to begin with: from a seed, with rules, with what was kept of an earlier run.

use super::super::bridges::DrawnBridge;
use super::*;

/// An authority, five guards, two exits to the web, and others that are neither.
fn relays(count: u8, rng: &mut Rng) -> (Vec<DrawnRelay>, BTreeMap<RsaId, OnionKeys>) {
    let mut keys = BTreeMap::new();
    let mut relays: Vec<DrawnRelay> = Vec::new();
    for n in 1..=count {
        let mut relay = DrawnRelay::new(n, rng);
        if n == 1 || n > 6 {
            relay.flags.remove(Flags::GUARD);
        }
        if n > 1 {
            relay.flags.insert(Flags::HS_DIR);
        }
        if n == 7 || n == 8 {
            relay.flags.insert(Flags::EXIT);
            relay.policy = Some("accept 80,443");
        }
        let secret = curve25519::SecretKey::generate(rng);
        relay.ntor = *secret.public().as_bytes();
        let (rsa, ed, ntor) = (relay.rsa, relay.ed, vec![secret]);
        keys.insert(rsa, OnionKeys { rsa, ed, ntor });
        relays.push(relay);
    }
    (relays, keys)
}

impl World {
    pub(crate) fn start(with_fallback: bool) -> Self {
        Self::make(
            with_fallback,
            Rules::default(),
            SavedState::default(),
            start(),
        )
    }

    pub(crate) fn start_with(state: SavedState, now: Now) -> Self {
        Self::make(false, Rules::default(), state, now)
    }

    /// With rules on paths.
    pub(crate) fn ruled(rules: Rules) -> Self {
        let mut world = Self::make(false, rules, SavedState::default(), start());
        world.run();
        world
    }

    fn make(with_fallback: bool, rules: Rules, state: SavedState, now: Now) -> Self {
        let config = ClientConfig {
            rules,
            ..ClientConfig::default()
        };
        Self::drawn((42, 8), with_fallback, config, state, now)
    }

    /// With bridges that may be reached, whether there are lines of them or not.
    pub(crate) fn bridged(bridges: Vec<DrawnBridge>, config: ClientConfig, now: Now) -> Self {
        Self::made((42, 8), false, config, SavedState::default(), now, bridges)
    }

    fn drawn(
        draw: (u8, u8),
        with_fallback: bool,
        config: ClientConfig,
        state: SavedState,
        now: Now,
    ) -> Self {
        Self::made(draw, with_fallback, config, state, now, Vec::new())
    }

    fn made(
        (seed, count): (u8, u8),
        with_fallback: bool,
        config: ClientConfig,
        state: SavedState,
        now: Now,
        bridges: Vec<DrawnBridge>,
    ) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let (relays, mut keys) = relays(count, &mut rng);
        keys.extend(bridges.iter().map(DrawnBridge::keys));
        let documents = Documents::new(&relays, "", now);
        let config = ClientConfig {
            fallbacks: (with_fallback.then(|| &relays[3]).into_iter())
                .map(|relay| Directory {
                    rsa: relay.rsa,
                    ed: Some(relay.ed),
                    or: SocketAddr::from((relay.ip, 5000)),
                })
                .collect(),
            ..config
        };
        let network = Arc::new(drawn::network(&relays[0]));
        let client = Client::new(config, network, state, rng.fork(), now).unwrap();
        let net = FakeNetwork {
            relays,
            keys,
            dead: BTreeSet::new(),
            liars: BTreeSet::new(),
            bridges: bridges.into_iter().map(DrawnBridge::told).collect(),
            frozen: BTreeSet::new(),
            refusing: BTreeSet::new(),
            held: BTreeMap::new(),
            is_down: false,
            channels: BTreeMap::new(),
            circuits: BTreeMap::new(),
            streams: Vec::new(),
            documents,
            certificate: drawn::certificate(now),
            documents_served: 0,
            ends: BTreeMap::new(),
            address: [1, 2, 3, 4],
            silent: BTreeSet::new(),
            begins: Vec::new(),
            last_begin: Vec::new(),
            received: Vec::new(),
            inbox: Vec::new(),
            padding: Vec::new(),
            handshakes: 0,
            onion: onion::OnionRelays::default(),
            rng,
        };
        World {
            client,
            net,
            now,
            statuses: Vec::new(),
            saved: Vec::new(),
            events: Vec::new(),
            visitors: Vec::new(),
            published: Vec::new(),
            answers: BTreeMap::new(),
            request_next: 0,
            link_version: 4,
            rules: IsolationRules::default(),
        }
    }

    /// Bootstrapped.
    pub(crate) fn ready() -> Self {
        World::start(false).bootstrapped()
    }

    /// Bootstrapped, with other relays and other luck for each seed.
    pub(crate) fn ready_from(seed: u8) -> Self {
        World::drawn_as((seed, 8), ClientConfig::default())
    }

    /// Bootstrapped, with such settings, from a seed and a number of relays.
    pub(crate) fn drawn_as(draw: (u8, u8), config: ClientConfig) -> Self {
        World::drawn(draw, false, config, SavedState::default(), start()).bootstrapped()
    }

    /// The same, with what was kept.
    pub(crate) fn restarted(
        draw: (u8, u8),
        config: ClientConfig,
        state: SavedState,
        now: Now,
    ) -> Self {
        World::drawn(draw, false, config, state, now).bootstrapped()
    }

    pub(crate) fn bootstrapped(mut self) -> Self {
        let world = &mut self;
        world.run();
        assert_eq!(
            world.client.bootstrap().percent,
            100,
            "{}",
            world.client.bootstrap()
        );
        self
    }
}
