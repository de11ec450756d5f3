//! Authorities under a clock of the test: their keys, the relays that publish, the messages that
//! the test carries between them or loses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_crypto::{curve25519, rsa};
use cepa_netdoc::descriptor::{Bandwidth, DescriptorFields, DescriptorKeys, sign_descriptor};
use cepa_netdoc::family::Family;
use cepa_netdoc::policy::AddrPolicy;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use super::super::*;
use crate::posts::Posted;
use crate::schedule::Timing;
use cepa_dir::DirAuthority;

/// Midnight of some day.
pub(super) const START: u64 = 20_000 * 86_400;
pub(super) const RELAYS: usize = 4;

pub(super) struct RelayKeys {
    pub(super) identity: rsa::Keypair,
    pub(super) tap: rsa::Keypair,
    pub(super) ntor: curve25519::SecretKey,
    pub(super) master: Keypair,
    pub(super) signing: ExpandedKeypair,
}

pub(super) static RELAY_KEYS: LazyLock<Vec<RelayKeys>> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([1; 32]);
    let mut keys = || RelayKeys {
        identity: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        tap: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        ntor: curve25519::SecretKey::generate(&mut rng),
        master: Keypair::generate(&mut rng),
        signing: Keypair::generate(&mut rng).expand(),
    };
    (0..RELAYS).map(|_| keys()).collect()
});

/// Identity and signing keys of the authorities.
pub(super) static AUTHORITY_KEYS: LazyLock<Vec<[rsa::Keypair; 2]>> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([2; 32]);
    let mut key = || rsa::Keypair::generate(1024, &mut rng).unwrap();
    (0..3).map(|_| [key(), key()]).collect()
});

pub(super) fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START) + Duration::from_millis(millis)
}

pub(super) fn timing() -> Timing {
    Timing {
        interval_secs: 20,
        vote_secs: 4,
        dist_secs: 4,
        intervals_valid: 3,
        offset_secs: 0,
    }
}

pub(super) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, u8::try_from(index + 1).unwrap(), 0, 1)
}

/// The descriptor of relay `index`, changed by the test.
pub(super) fn descriptor(
    index: usize,
    published: SystemTime,
    f: impl Fn(&mut DescriptorFields),
) -> String {
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
    let keys = descriptor_keys(index, &signing_cert);
    fields.build(&keys).unwrap()
}

fn descriptor_keys(index: usize, signing_cert: &[u8]) -> DescriptorKeys<'_> {
    let keys = &RELAY_KEYS[index];
    DescriptorKeys {
        identity: &keys.identity,
        tap_onion: Some(&keys.tap),
        ntor_onion: &keys.ntor,
        signing: &keys.signing,
        signing_cert,
    }
}

/// A descriptor with other lines, signed anew, whatever they say.
pub(super) fn signed_again(index: usize, text: &str, change: impl Fn(&str) -> String) -> String {
    let unsigned = text.split("router-sig-ed25519 ").next().unwrap();
    sign_descriptor(&change(unsigned), &descriptor_keys(index, &[]))
}

pub(super) fn config() -> Config {
    let known = AUTHORITY_KEYS
        .iter()
        .enumerate()
        .map(|(index, [identity, _])| DirAuthority {
            nickname: format!("auth{index}"),
            v3_identity: identity.public().id(),
            rsa_id: RsaId::from([u8::try_from(index).unwrap(); 20]),
            ed25519_id: None,
            dir_addr: SocketAddrV4::new(Ipv4Addr::LOCALHOST, u16::try_from(index + 1).unwrap()),
            or_addr: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001),
            or_addr_v6: None,
        });
    Config {
        first_vote_after_relays: Some(RELAYS),
        method_max: crate::config::METHOD_MAX,
        ..Config::testing(known.collect(), "nobody".into(), timing())
    }
}

pub(super) fn keys(index: usize) -> Keys {
    let [identity, signing] = &AUTHORITY_KEYS[index];
    let text = AuthCert::build(identity, signing, None, at(0), at(5_000_000_000));
    Keys {
        cert: AuthCert::parse(&text).unwrap(),
        signing: rsa::Keypair::from_pem(&signing.to_pem()).unwrap(),
        legacy: None,
    }
}

/// The world around one authority.
pub(super) struct Place {
    pub(super) authority: Option<Authority>,
    pub(super) rows: BTreeMap<(RowKind, String), Row>,
    pub(super) votes: BTreeMap<RsaId, Arc<str>>,
    pub(super) signatures: Option<Arc<str>>,
    pub(super) descriptors: BTreeMap<[u8; 20], String>,
    pub(super) consensuses: Vec<ConsensusText>,
}

pub(super) struct World {
    pub(super) places: Vec<Place>,
    pub(super) millis: u64,
    pub(super) mono: Instant,
}

/// What one authority wants of another.
pub(super) enum Wish {
    Vote(usize, Arc<str>),
    Votes(usize, Vec<RsaId>),
    Signatures(usize, Arc<str>),
    FetchSignatures(usize),
    Descriptors(usize, Vec<[u8; 20]>),
    Test(RsaId, SocketAddr),
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no clock but this to start from"
)]
pub(super) fn some_instant() -> Instant {
    Instant::now()
}

impl World {
    pub(super) fn new(millis: u64) -> Self {
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

    pub(super) fn now(&self) -> Now {
        let mono = self.mono + Duration::from_millis(self.millis);
        Now {
            mono,
            wall: at(self.millis),
        }
    }

    pub(super) fn start(&mut self, index: usize) {
        let (now, place) = (self.now(), &mut self.places[index]);
        let rows = place.rows.values().cloned().collect();
        let rng = Rng::from_seed([u8::try_from(index).unwrap(); 32]);
        place.authority = Some(Authority::restore(config(), keys(index), rows, rng, now));
        self.settle();
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.places[index].authority = None;
    }

    pub(super) fn upload(&mut self, index: usize, text: &str) -> Option<Reply> {
        let now = self.now();
        let authority = self.places[index].authority.as_mut();
        let reply = authority.map(|authority| authority.handle_descriptor(text, now));
        self.settle();
        reply
    }

    pub(super) fn upload_all(&mut self) {
        let published = at(self.millis / 1000 * 1000);
        for relay in 0..RELAYS {
            let text = descriptor(relay, published, |_| {});
            for index in 0..3 {
                self.upload(index, &text);
            }
        }
    }

    /// Lets everything happen that needs no time.
    pub(super) fn settle(&mut self) {
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

    pub(super) fn grant(&mut self, from: usize, wish: Wish, now: Now) {
        let is_up = |place: &Place| place.authority.is_some();
        match wish {
            Wish::Vote(to, body) => {
                let there = self.places[to].authority.as_mut();
                let status = there.map_or(0, |there| there.handle_vote(&body, now).status);
                self.answer(from, to, Posted::Vote, status);
            }
            Wish::Signatures(to, body) => {
                let there = self.places[to].authority.as_mut();
                let status = there.map_or(0, |there| there.handle_signatures(&body, now).status);
                self.answer(from, to, Posted::Signatures, status);
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
                    authority.handle_read_descriptors(crate::read_descriptors(&body), now)
                });
            }
            Wish::Test(id, address) => {
                self.with(from, |authority| {
                    authority.handle_reachability(&id, address, true, now)
                });
            }
            Wish::Votes(..) | Wish::FetchSignatures(_) | Wish::Descriptors(..) => {}
        }
    }

    /// Tells the sender of a post how it ended.
    fn answer(&mut self, from: usize, to: usize, what: Posted, status: u16) {
        let now = self.now();
        let there = &config().authorities[to];
        let port = there.dir_addr;
        self.with(from, |authority| {
            authority.handle_posted(what, port, status, now)
        });
    }

    pub(super) fn with(&mut self, index: usize, f: impl FnOnce(&mut Authority)) {
        if let Some(authority) = &mut self.places[index].authority {
            f(authority);
        }
    }

    /// Runs until `millis`, each authority being woken when it wants to be.
    pub(super) fn run_until(&mut self, millis: u64) {
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
    pub(super) fn consensus(&self, index: usize, flavour: Flavour) -> &ConsensusText {
        let all = &self.places[index].consensuses;
        let mut found = all
            .iter()
            .rev()
            .filter(|text| text.consensus().flavour == flavour);
        found.next().expect("a consensus")
    }

    pub(super) fn starts(&self, index: usize) -> Vec<u64> {
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
    pub(super) fn drain(&mut self, index: usize, wishes: &mut Vec<(usize, Wish)>) {
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
                Command::TestReachability {
                    rsa_id, address, ..
                } => Wish::Test(rsa_id, address),
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

    pub(super) fn serve(&mut self, document: DirDocument) {
        match document {
            DirDocument::NextVote(vote) => {
                self.votes
                    .insert(vote.vote().author(), Arc::clone(vote.text()));
            }
            DirDocument::NextSignatures(text) => self.signatures = Some(text),
            DirDocument::CurrentVotes(_) => self.votes.clear(),
            DirDocument::Consensus(text) => self.consensuses.push(text),
            DirDocument::ServerDesc(desc) => {
                self.descriptors.insert(desc.digest, desc.text.to_string());
            }
            _ => {}
        }
    }
}

pub(super) fn booted() -> World {
    let mut world = World::new(7_300);
    (0..3).for_each(|index| world.start(index));
    world.upload_all();
    world
}

pub(super) fn signers(text: &ConsensusText) -> usize {
    let certs: Vec<AuthCert> = (0..3).map(|index| keys(index).cert).collect();
    let trusted = config().v3_identities();
    text.signers(&certs, &trusted, at(0)).good.len()
}
