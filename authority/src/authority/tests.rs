//! Three authorities in one process, under a clock of the test: what one posts or asks for, the
//! others get at once, unless they are dead.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use cepa_crypto::ed25519::Keypair;
use cepa_crypto::{curve25519, rsa};
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::descriptor::{Bandwidth, DescriptorFields, DescriptorKeys};
use cepa_netdoc::family::Family;
use cepa_netdoc::policy::AddrPolicy;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use super::*;
use crate::config::KnownAuthority;
use crate::schedule::Timing;

/// Midnight of some day.
const START: u64 = 20_000 * 86_400;
const RELAYS: usize = 4;

struct RelayKeys {
    identity: rsa::Keypair,
    tap: rsa::Keypair,
    ntor: curve25519::SecretKey,
    master: Keypair,
    signing: Keypair,
}

static RELAY_KEYS: LazyLock<Vec<RelayKeys>> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([1; 32]);
    let mut keys = || RelayKeys {
        identity: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        tap: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        ntor: curve25519::SecretKey::generate(&mut rng),
        master: Keypair::generate(&mut rng),
        signing: Keypair::generate(&mut rng),
    };
    (0..RELAYS).map(|_| keys()).collect()
});

/// Identity and signing keys of the authorities.
static AUTHORITY_KEYS: LazyLock<Vec<[rsa::Keypair; 2]>> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([2; 32]);
    let mut key = || rsa::Keypair::generate(1024, &mut rng).unwrap();
    (0..3).map(|_| [key(), key()]).collect()
});

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START) + Duration::from_millis(millis)
}

fn timing() -> Timing {
    Timing {
        interval_secs: 20,
        vote_secs: 4,
        dist_secs: 4,
        intervals_valid: 3,
    }
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, u8::try_from(index + 1).unwrap(), 0, 1)
}

/// The descriptor of relay `index`, changed by the test.
fn descriptor(index: usize, published: SystemTime, f: impl Fn(&mut DescriptorFields)) -> String {
    let keys = &RELAY_KEYS[index];
    let signing_cert = Cert::make(
        CertType::ID_SIGNING,
        published + Duration::from_secs(30 * 86_400),
        CertKeyType::ED25519,
        keys.signing.public().as_bytes(),
        &keys.master,
        true,
    );
    let policy = if index == 0 {
        "accept *:*"
    } else {
        "reject *:*"
    };
    let mut fields = DescriptorFields {
        nickname: format!("relay{index}"),
        or_address: SocketAddrV4::new(address(index), 9001),
        dir_port: 0,
        or_address_v6: None,
        platform: "Cepa 0.1.0".into(),
        protocols: "Cons=2 Desc=2 Link=4-5 LinkAuth=3 Relay=2-4"
            .parse()
            .unwrap(),
        published,
        uptime_seconds: index as u64,
        bandwidth: Bandwidth {
            average: 1 << 20,
            burst: 1 << 20,
            observed: 0,
        },
        extra_info_digest: None,
        caches_extra_info: false,
        family: Family::default(),
        family_certs: vec![],
        is_hibernating: false,
        is_hidden_service_dir: true,
        contact: None,
        bridge_distribution_request: None,
        policy: AddrPolicy::parse_config([policy]).unwrap(),
        is_dir_server: true,
        overload_general: None,
    };
    f(&mut fields);
    let keys = DescriptorKeys {
        identity: &keys.identity,
        tap_onion: Some(&keys.tap),
        ntor_onion: &keys.ntor,
        signing: &keys.signing,
        signing_cert: &signing_cert,
    };
    fields.build(&keys).unwrap()
}

fn config() -> Config {
    let known = AUTHORITY_KEYS
        .iter()
        .enumerate()
        .map(|(index, [identity, _])| KnownAuthority {
            nickname: format!("auth{index}"),
            v3_identity: identity.public().id(),
            rsa_id: RsaId::from([u8::try_from(index).unwrap(); 20]),
            ip: Ipv4Addr::LOCALHOST,
            dir_port: u16::try_from(index + 1).unwrap(),
            or_port: 9001,
        });
    Config {
        first_vote_after_relays: Some(RELAYS),
        ..Config::testing(known.collect(), "nobody".into(), timing())
    }
}

fn keys(index: usize) -> Keys {
    let [identity, signing] = &AUTHORITY_KEYS[index];
    let text = AuthCert::build(identity, signing, None, at(0), at(400_000_000));
    Keys {
        cert: AuthCert::parse(&text).unwrap(),
        signing: rsa::Keypair::from_pem(&signing.to_pem()).unwrap(),
    }
}

/// The world around one authority.
struct Place {
    authority: Option<Authority>,
    rows: BTreeMap<(RowKind, String), Row>,
    votes: BTreeMap<RsaId, Arc<str>>,
    signatures: Option<Arc<str>>,
    descriptors: BTreeMap<[u8; 20], String>,
    consensuses: Vec<ConsensusText>,
}

struct World {
    places: Vec<Place>,
    millis: u64,
    mono: Instant,
}

/// What one authority wants of another.
enum Wish {
    Vote(usize, Arc<str>),
    Votes(usize, Vec<RsaId>),
    Signatures(usize, Arc<str>),
    FetchSignatures(usize),
    Descriptors(usize, Vec<[u8; 20]>),
    Test(RsaId),
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no clock but this to start from"
)]
fn some_instant() -> Instant {
    Instant::now()
}

impl World {
    fn new(millis: u64) -> Self {
        let place = || Place {
            authority: None,
            rows: BTreeMap::new(),
            votes: BTreeMap::new(),
            signatures: None,
            descriptors: BTreeMap::new(),
            consensuses: Vec::new(),
        };
        let places = (0..3).map(|_| place()).collect();
        World {
            places,
            millis,
            mono: some_instant(),
        }
    }

    fn now(&self) -> Now {
        let mono = self.mono + Duration::from_millis(self.millis);
        Now {
            mono,
            wall: at(self.millis),
        }
    }

    fn start(&mut self, index: usize) {
        let (now, place) = (self.now(), &mut self.places[index]);
        let rows = place.rows.values().cloned().collect();
        let rng = Rng::from_seed([u8::try_from(index).unwrap(); 32]);
        place.authority = Some(Authority::restore(config(), keys(index), rows, rng, now));
        self.settle();
    }

    fn kill(&mut self, index: usize) {
        self.places[index].authority = None;
    }

    fn upload(&mut self, index: usize, text: &str) -> Option<Reply> {
        let now = self.now();
        let authority = self.places[index].authority.as_mut();
        let reply = authority.map(|authority| authority.handle_descriptor(text, now));
        self.settle();
        reply
    }

    fn upload_all(&mut self) {
        let published = at(self.millis / 1000 * 1000);
        for relay in 0..RELAYS {
            let text = descriptor(relay, published, |_| {});
            for index in 0..3 {
                self.upload(index, &text);
            }
        }
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        let now = self.now();
        for _ in 0..50 {
            let mut wishes = Vec::new();
            for (index, place) in self.places.iter_mut().enumerate() {
                place.drain(index, &mut wishes);
            }
            if wishes.is_empty() {
                return;
            }
            for (from, wish) in wishes {
                self.grant(from, wish, now);
            }
        }
        panic!("the authorities do not come to rest");
    }

    fn grant(&mut self, from: usize, wish: Wish, now: Now) {
        let is_up = |place: &Place| place.authority.is_some();
        match wish {
            Wish::Vote(to, body) => {
                if let Some(authority) = &mut self.places[to].authority {
                    authority.handle_vote(&body, now);
                }
            }
            Wish::Signatures(to, body) => {
                if let Some(authority) = &mut self.places[to].authority {
                    authority.handle_signatures(&body, now);
                }
            }
            Wish::Votes(at, of) if is_up(&self.places[at]) => {
                let held = of.iter().filter_map(|id| self.places[at].votes.get(id));
                let body: String = held.map(|text| &**text).collect();
                self.with(from, |authority| authority.handle_fetched_votes(&body, now));
            }
            Wish::FetchSignatures(at) if is_up(&self.places[at]) => {
                if let Some(body) = self.places[at].signatures.clone() {
                    self.with(from, |authority| {
                        authority.handle_fetched_signatures(&body, now)
                    });
                }
            }
            Wish::Descriptors(at, digests) if is_up(&self.places[at]) => {
                let held = digests
                    .iter()
                    .filter_map(|one| self.places[at].descriptors.get(one));
                let body: String = held.map(String::as_str).collect();
                self.with(from, |authority| {
                    authority.handle_fetched_descriptors(&body, now)
                });
            }
            Wish::Test(id) => {
                self.with(from, |authority| {
                    authority.handle_reachability(&id, true, now)
                });
            }
            Wish::Votes(..) | Wish::FetchSignatures(_) | Wish::Descriptors(..) => {}
        }
    }

    fn with(&mut self, index: usize, f: impl FnOnce(&mut Authority)) {
        if let Some(authority) = &mut self.places[index].authority {
            f(authority);
        }
    }

    /// Runs until `millis`, each authority being woken when it wants to be.
    fn run_until(&mut self, millis: u64) {
        while self.millis < millis {
            let authorities = self
                .places
                .iter()
                .filter_map(|place| place.authority.as_ref());
            let next = authorities.filter_map(Authority::poll_timeout).min();
            let next = next.map_or(millis, |next| {
                let since = next.saturating_duration_since(self.mono).as_millis();
                u64::try_from(since).unwrap()
            });
            self.millis = next.clamp(self.millis + 1, millis);
            let now = self.now();
            for place in &mut self.places {
                if let Some(authority) = &mut place.authority
                    && authority.poll_timeout().is_some_and(|due| due <= now.mono)
                {
                    authority.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    /// The last consensus of an authority, in one flavour.
    fn consensus(&self, index: usize, flavour: Flavour) -> &ConsensusText {
        let all = &self.places[index].consensuses;
        let mut found = all
            .iter()
            .rev()
            .filter(|text| text.consensus().flavour == flavour);
        found.next().expect("a consensus")
    }

    fn starts(&self, index: usize) -> Vec<u64> {
        let ns = |text: &&ConsensusText| text.consensus().flavour == Flavour::Ns;
        let start = |text: &ConsensusText| text.consensus().lifetime.valid_after;
        let secs = |text| start(text).duration_since(at(0)).unwrap().as_secs();
        self.places[index]
            .consensuses
            .iter()
            .filter(ns)
            .map(secs)
            .collect()
    }
}

impl Place {
    fn drain(&mut self, index: usize, wishes: &mut Vec<(usize, Wish)>) {
        while let Some(command) = self.authority.as_mut().and_then(Authority::poll_command) {
            let peer = |to: SocketAddrV4| usize::from(to.port() - 1);
            let wish = match command {
                Command::PostVote { to, body } => Wish::Vote(peer(to), body),
                Command::FetchVotes { from, of } => Wish::Votes(peer(from), of),
                Command::PostSignatures { to, body } => Wish::Signatures(peer(to), body),
                Command::FetchSignatures { from } => Wish::FetchSignatures(peer(from)),
                Command::FetchDescriptors { from, digests } => {
                    Wish::Descriptors(peer(from), digests)
                }
                Command::TestReachability { rsa_id, .. } => Wish::Test(rsa_id),
                Command::Put(row) => {
                    self.rows.insert((row.kind, row.key.clone()), row);
                    continue;
                }
                Command::Drop(kind, key) => {
                    self.rows.remove(&(kind, key));
                    continue;
                }
                Command::Serve(document) => {
                    self.serve(document);
                    continue;
                }
                Command::Withdraw(_) => continue,
            };
            wishes.push((index, wish));
        }
    }

    fn serve(&mut self, document: Document) {
        match document {
            Document::NextVote(vote) => {
                self.votes
                    .insert(vote.vote().author(), Arc::clone(vote.text()));
            }
            Document::NextSignatures(text) => self.signatures = Some(text),
            Document::CurrentVotes(_) => self.votes.clear(),
            Document::CurrentConsensus(text) => self.consensuses.push(text),
            Document::Descriptor(desc) => {
                self.descriptors.insert(desc.digest, desc.text.clone());
            }
            _ => {}
        }
    }
}

fn booted() -> World {
    let mut world = World::new(7_300);
    (0..3).for_each(|index| world.start(index));
    world.upload_all();
    world
}

fn signers(text: &ConsensusText) -> usize {
    let certs: Vec<AuthCert> = (0..3).map(|index| keys(index).cert).collect();
    let trusted = config().v3_identities();
    text.signers(&certs, &trusted, at(0)).good.len()
}

#[test]
fn a_new_network_votes_as_soon_as_its_relays_are_there() {
    let world = booted();
    let first = world.consensus(0, Flavour::Ns);
    let consensus: &Consensus = first.consensus();
    assert_eq!(world.starts(0), [0]);
    assert_eq!(consensus.routers.len(), RELAYS);
    for flavour in [Flavour::Ns, Flavour::Microdesc] {
        let text = world.consensus(0, flavour);
        assert_eq!(signers(text), 3);
        for index in 1..3 {
            assert_eq!(world.consensus(index, flavour).text(), text.text());
        }
    }
    for router in &consensus.routers {
        let wanted = Flags::FAST | Flags::GUARD | Flags::HS_DIR | Flags::RUNNING | Flags::STABLE;
        assert!(
            router.flags.contains(wanted | Flags::V2_DIR | Flags::VALID),
            "{router:?}"
        );
        assert_eq!(
            router.flags.contains(Flags::EXIT),
            router.nickname == "relay0"
        );
    }
    assert_eq!(consensus.params.lookup("hsdir_interval"), Some(8));
}

#[test]
fn rounds_follow_the_grid_after_the_first() {
    let mut world = booted();
    world.run_until(65_000);
    for index in 0..3 {
        assert_eq!(world.starts(index), [0, 20, 40, 60]);
        assert_eq!(
            world.consensus(index, Flavour::Ns).text(),
            world.consensus(0, Flavour::Ns).text()
        );
    }
}

#[test]
fn two_of_three_go_on_and_the_third_comes_back() {
    let mut world = booted();
    world.run_until(13_000);
    world.kill(2);
    world.run_until(45_000);
    assert_eq!(world.starts(0), [0, 20, 40]);
    assert_eq!(signers(world.consensus(0, Flavour::Microdesc)), 2);
    world.start(2);
    // What it has of itself: its descriptors, and the consensus that it had seen.
    assert_eq!(
        world.places[2].authority.as_ref().unwrap().relays_known(),
        RELAYS
    );
    world.run_until(61_000);
    assert_eq!(world.starts(0), [0, 20, 40, 60]);
    assert_eq!(signers(world.consensus(0, Flavour::Ns)), 3);
    assert_eq!(
        world.consensus(2, Flavour::Ns).text(),
        world.consensus(0, Flavour::Ns).text()
    );
}

#[test]
fn a_late_authority_joins_the_first_vote() {
    let mut world = World::new(3_000);
    world.start(0);
    world.start(1);
    world.upload_all();
    assert!(world.starts(0).is_empty());
    world.run_until(4_500);
    world.start(2);
    world.upload_all();
    assert_eq!(world.starts(2), [0]);
    assert_eq!(signers(world.consensus(1, Flavour::Ns)), 3);
}

#[test]
fn two_of_three_make_the_first_consensus_without_the_third() {
    let mut world = World::new(3_000);
    world.start(0);
    world.start(1);
    world.upload_all();
    world.run_until(19_000);
    assert_eq!(world.starts(0), [0]);
    assert_eq!(world.starts(1), [0]);
}

#[test]
fn an_authority_that_missed_uploads_fetches_them() {
    let mut world = booted();
    let text = descriptor(3, at(9_000), |fields| fields.nickname = "renamed".into());
    world.millis = 9_000;
    for index in 0..2 {
        assert_eq!(
            world.upload(index, &text).map(|reply| reply.status),
            Some(200)
        );
    }
    world.run_until(33_000);
    world.run_until(61_000);
    let named = |router: &cepa_netdoc::routerstatus::RouterStatus| router.nickname == "renamed";
    assert!(
        world
            .consensus(2, Flavour::Ns)
            .consensus()
            .routers
            .iter()
            .any(named)
    );
    let own = &world.places[2].rows;
    let texts = own.values().filter(|row| row.kind == RowKind::Descriptor);
    let mut texts = texts.map(|row| String::from_utf8(row.bytes.clone()).unwrap());
    assert!(texts.any(|held| held == text));
}

#[test]
fn there_are_never_two_votes_of_one_authority_for_one_interval() {
    let mut world = booted();
    world.run_until(32_500);
    let id = keys(1).cert.identity;
    let before = world.places[1]
        .votes
        .get(&id)
        .cloned()
        .expect("it has voted for 40");
    world.kill(1);
    world.places[1].votes.clear();
    world.run_until(33_000);
    world.start(1);
    world.run_until(45_000);
    // It comes too late to vote again, and had it voted, it would have been the same vote.
    let votes = world.places[1].votes.get(&id);
    assert!(votes.is_none_or(|vote| *vote == before));
    assert!(world.starts(0).contains(&40));
}

#[test]
fn garbage_is_refused_and_does_no_harm() {
    let mut world = booted();
    world.run_until(32_500);
    let now = world.now();
    let vote = world.places[0].votes.values().next().unwrap().to_string();
    let authority = world.places[2].authority.as_mut().unwrap();
    let forged = vote.replacen("w Bandwidth=0", "w Bandwidth=9", 1);
    let cut = &vote[..vote.len() / 2];
    for body in ["", "network-status-version 3\n", cut, &forged, "\0\0"] {
        assert_eq!(authority.handle_vote(body, now).status, 400, "{body:.40}");
        authority.handle_fetched_votes(body, now);
        assert_ne!(authority.handle_signatures(body, now).status, 200);
        authority.handle_fetched_signatures(body, now);
    }
    world.settle();
    world.run_until(41_000);
    assert_eq!(world.starts(2), [0, 20, 40]);
    // A vote for an interval that is over.
    let now = world.now();
    let authority = world.places[2].authority.as_mut().unwrap();
    assert_eq!(authority.handle_vote(&vote, now).status, 400);
}

#[test]
fn uploads_are_taken_or_refused_with_a_reason() {
    let mut world = World::new(100_000_000);
    world.start(0);
    let published = at(100_000_000);
    let hour = Duration::from_secs(3600);
    let good = descriptor(1, published, |_| {});
    let mut status = |text: &str| {
        world
            .upload(0, text)
            .map(|reply| (reply.status, reply.is_not_new))
    };
    assert_eq!(status(&good), Some((200, false)));
    assert_eq!(status(&good), Some((200, true)));
    let cosmetic = descriptor(1, published + hour, |fields| fields.uptime_seconds += 3600);
    assert_eq!(status(&cosmetic), Some((200, true)));
    let moved = descriptor(1, published + hour, |fields| {
        fields.or_address = "127.0.0.9:99".parse().unwrap();
    });
    assert_eq!(status(&moved), Some((200, false)));
    let platform =
        |platform: &str| descriptor(2, published, |fields| fields.platform = platform.into());
    assert_eq!(
        status(&platform("Tor 0.4.7.9 on Linux")),
        Some((400, false))
    );
    assert_eq!(status(&platform("Tor abc on Linux")), Some((400, false)));
    let refused = [
        "",
        "router",
        "\u{feff}router x",
        &good[..good.len() - 20],
        &good.replacen("relay1", "relay2", 1),
        &descriptor(2, published + 13 * hour, |_| {}),
        &descriptor(2, published - 25 * hour, |_| {}),
    ];
    for text in refused {
        assert_eq!(status(text).map(|one| one.0), Some(400), "{text:.60}");
    }
    assert_eq!(
        status(&platform("Tor 0.4.9.11 on Linux")),
        Some((200, false))
    );
    assert_eq!(
        world.places[0].authority.as_ref().unwrap().relays_known(),
        2
    );
}

/// The public network's way: hourly, by the grid, a limit on relays of one address.
#[test]
fn a_public_network_says_who_runs_only_after_half_an_hour() {
    let (now, relays) = (at(0), RELAYS);
    let mono = some_instant();
    let clock = |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: now + Duration::from_secs(secs),
    };
    let config = Config {
        allows_private_addresses: true,
        ..Config::new(config().authorities, "nobody".into())
    };
    let rng = Rng::from_seed([4; 32]);
    let mut authority = Authority::restore(config, keys(0), Vec::new(), rng, clock(0));
    let vote_at = |authority: &mut Authority, secs: u64| {
        authority.handle_timeout(clock(secs));
        let commands = std::iter::from_fn(|| authority.poll_command());
        let posted = commands.filter_map(|command| match command {
            Command::PostVote { body, .. } => Some(body),
            _ => None,
        });
        VoteText::parse(posted.last().expect("it votes")).unwrap()
    };
    for relay in 0..relays {
        let text = descriptor(relay, now, |fields| {
            fields.or_address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001 + relay as u16);
            fields.bandwidth.observed = 100_000 * (relay as u32 + 1);
        });
        assert_eq!(authority.handle_descriptor(&text, clock(1000)).status, 200);
    }
    let id = |relay: usize| RELAY_KEYS[relay].identity.public().id();
    (1..relays).for_each(|relay| authority.handle_reachability(&id(relay), true, clock(1000)));
    let has = |vote: &VoteText, relay: usize, flag: Flags| {
        vote.vote()
            .router(&id(relay))
            .is_some_and(|router| router.status.flags.contains(flag))
    };
    let knows = |vote: &VoteText| vote.vote().known_flags.contains(&"Running".to_owned());
    let early = vote_at(&mut authority, 3000);
    assert!(knows(&early) && has(&early, 3, Flags::RUNNING));
    // Two may share an address: those that are Running and carry most.
    for (relay, is_sybil) in [(0, true), (1, true), (2, false), (3, false)] {
        assert_eq!(has(&early, relay, Flags::SYBIL), is_sybil, "{relay}");
        assert_eq!(has(&early, relay, Flags::VALID), !is_sybil, "{relay}");
    }
    assert!(has(&early, 3, Flags::FAST) && !has(&early, 3, Flags::HS_DIR));
    // Nobody reached them for 45 minutes.
    let later = vote_at(&mut authority, 6600);
    assert!(!has(&later, 3, Flags::RUNNING) && has(&later, 3, Flags::VALID));
    let rows = std::iter::empty();
    let rng = Rng::from_seed([5; 32]);
    let config = authority.config.clone();
    let mut young = Authority::restore(config, keys(0), rows.collect(), rng, clock(2000));
    assert!(!knows(&vote_at(&mut young, 3000)));
}

#[test]
fn a_run_of_rounds_makes_one_shared_random_value() {
    let mut world = booted();
    world.run_until(490_000);
    let value = world
        .consensus(0, Flavour::Ns)
        .consensus()
        .shared_rand_current;
    assert_eq!(value.expect("all have shown their numbers").reveals, 3);
    for index in 1..3 {
        let text = world.consensus(index, Flavour::Ns);
        assert_eq!(text.text(), world.consensus(0, Flavour::Ns).text());
    }
}

#[test]
fn signatures_of_strangers_take_no_place() {
    let mut world = booted();
    world.run_until(33_000);
    let now = world.now();
    let text = world.consensus(0, Flavour::Ns).clone();
    let of = |start: u64, signatures| {
        let mut lifetime = text.consensus().lifetime;
        lifetime.valid_after = at(start);
        let detached = DetachedSignatures {
            consensus_digest: *text.sha1(),
            lifetime,
            microdesc_digest: None,
            ns: signatures,
            microdesc: Vec::new(),
        };
        detached.encode()
    };
    let good = text.consensus().signatures.clone();
    let mut wrong = good.clone();
    wrong.iter_mut().for_each(|one| one.signature.reverse());
    let authority = world.places[1].authority.as_mut().unwrap();
    for body in [of(40_000, wrong), of(80_000, good.clone())] {
        assert_eq!(authority.handle_signatures(&body, now).status, 400);
    }
    assert!(authority.early_signatures.is_empty());
    let early = authority.handle_signatures(&of(40_000, good), now);
    assert_eq!((early.status, authority.early_signatures.len()), (200, 3));
    world.run_until(41_000);
    assert_eq!(world.starts(1), [0, 20, 40]);
}

#[test]
fn a_consensus_of_the_past_or_of_others_is_not_restored() {
    let mut world = booted();
    let rows: Vec<Row> = world.places[0].rows.values().cloned().collect();
    let (now, millis) = (world.now(), world.millis);
    let restored = |rows: &[Row], now| {
        let rng = Rng::from_seed([7; 32]);
        Authority::restore(config(), keys(0), rows.to_vec(), rng, now)
            .consensus
            .is_some()
    };
    assert!(restored(&rows, now));
    world.millis = millis + 60_000;
    assert!(!restored(&rows, world.now()));
    let foreign = rows.iter().filter(|row| row.kind != RowKind::Certificate);
    let foreign: Vec<Row> = foreign.cloned().collect();
    assert!(!restored(&foreign, now));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_rounds() {
    let mut world = booted();
    world.run_until(33_000);
    let mono = world.now().mono;
    let authority = world.places[0].authority.as_mut().unwrap();
    let wall = at(0) - Duration::from_secs(86_400);
    authority.handle_timeout(Now { mono, wall });
    let interval = Duration::from_secs(20);
    assert!(authority.next.valid_after <= wall + interval * 2);
    assert!(
        authority
            .poll_timeout()
            .is_some_and(|due| due <= mono + interval * 2)
    );
}
