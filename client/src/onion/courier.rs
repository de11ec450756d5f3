//! Descriptors that a controller has fetched and uploaded (HSFETCH and HSPOST: control-spec 3.25,
//! 3.26), beside visits and hosted services.
//!
//! ```text
//! fetch, post ─▶ Errand ─Open─▶ Built ─Request─▶ Reply ─▶ over
//!                  ▲ the next directory of a fetch  │
//!                  └────────────── no, late, gone ──┘
//! ```
//!
//! Invariants: one circuit an errand at a time; what is fetched is told, and of use to visits;
//! there are [`ERRANDS_MAX`] errands at most.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, RsaId};
use cepa_dir::hsring::{HsRing, fetch_ring, store_rings};
use cepa_dir::{DirRequest, NetworkView};
use cepa_wire::Now;

use super::action::{Action, Event, LastHop, Purpose};
use crate::names::{CircuitName, Owner};
use crate::select::shuffle;
use crate::status::DescriptorTransfer;

/// Most errands at a time.
pub(crate) const ERRANDS_MAX: usize = 256;
/// How long a circuit may take to come to stand.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// What a directory is asked for, or given.
#[derive(Debug, Clone)]
enum Kind {
    Fetch([u8; 32]),
    Post(String),
}

/// One errand, which is at one directory.
#[derive(Debug)]
struct Errand {
    address: OnionAddress,
    kind: Kind,
    hsdir: RsaId,
    /// Directories to be asked if this one does not have it, the next one last.
    left: Vec<RsaId>,
    is_asked: bool,
    until: Instant,
}

/// All errands of controllers.
#[derive(Debug)]
pub(crate) struct Courier {
    errands: BTreeMap<CircuitName, Errand>,
    next: u64,
    fetch_ring: Option<HsRing>,
    store_rings: Vec<HsRing>,
    actions: VecDeque<Action>,
    /// Those that came to no directory.
    failed: VecDeque<DescriptorTransfer>,
    rng: Rng,
}

impl Courier {
    pub(super) fn new(rng: Rng) -> Self {
        Courier {
            errands: BTreeMap::new(),
            next: 0,
            fetch_ring: None,
            store_rings: Vec::new(),
            actions: VecDeque::new(),
            failed: VecDeque::new(),
            rng,
        }
    }

    /// Fetches a descriptor of each of these directories; where there are none, of one after the
    /// other of those that are responsible. False if there are too many errands.
    pub(crate) fn fetch(&mut self, address: OnionAddress, servers: &[RsaId], now: Now) -> bool {
        let Some(ring) = &self.fetch_ring else {
            let key = address.key();
            return self.fail_at_once(address, Kind::Fetch(*key.as_bytes()));
        };
        let blinded = address.blind(ring.period());
        let kind = Kind::Fetch(*blinded.as_bytes());
        if servers.is_empty() {
            let mut all = ring.responsible(&blinded);
            shuffle(&mut all, &mut self.rng);
            return self.has_room(1) && self.begin(address, kind, all, now);
        }
        self.each(address, &kind, servers, now)
    }

    /// Uploads a descriptor to each of these directories; where there are none, to those that are
    /// responsible. False if there are too many errands.
    pub(crate) fn post(
        &mut self,
        address: OnionAddress,
        blinded: &PublicKey,
        text: String,
        servers: &[RsaId],
        now: Now,
    ) -> bool {
        let kind = Kind::Post(text);
        if !servers.is_empty() {
            return self.each(address, &kind, servers, now);
        }
        let mut rings = self.store_rings.iter();
        let its = rings.find(|ring| address.blind(ring.period()) == *blinded);
        let ring = its.or(self.store_rings.first());
        let all = ring.map(|ring| ring.responsible(blinded));
        match all.filter(|all| !all.is_empty()) {
            Some(all) => self.each(address, &kind, &all, now),
            None => self.fail_at_once(address, kind),
        }
    }

    fn has_room(&self, more: usize) -> bool {
        self.errands.len() + more <= ERRANDS_MAX
    }

    fn each(&mut self, address: OnionAddress, kind: &Kind, servers: &[RsaId], now: Now) -> bool {
        let has_room = self.has_room(servers.len());
        if has_room {
            for server in servers {
                self.begin(address, kind.clone(), vec![*server], now);
            }
        }
        has_room
    }

    /// There is nobody to go to.
    fn fail_at_once(&mut self, address: OnionAddress, kind: Kind) -> bool {
        let has_room = self.failed.len() < ERRANDS_MAX;
        if has_room {
            self.failed.push_back(transfer(address, &kind, None));
        }
        has_room
    }

    /// Goes to the last of these directories.
    fn begin(&mut self, address: OnionAddress, kind: Kind, mut left: Vec<RsaId>, now: Now) -> bool {
        let Some(hsdir) = left.pop() else {
            return self.fail_at_once(address, kind);
        };
        let circuit = CircuitName {
            owner: Owner::Controllers,
            number: self.next,
        };
        self.next += 1;
        let purpose = match kind {
            Kind::Fetch(_) => Purpose::Fetch,
            Kind::Post(_) => Purpose::Upload,
        };
        let errand = Errand {
            address,
            kind,
            hsdir,
            left,
            is_asked: false,
            until: now.mono + OPEN_MAX,
        };
        self.errands.insert(circuit, errand);
        self.actions.push_back(Action::Open {
            circuit,
            purpose,
            last: LastHop::Listed(hsdir),
        });
        true
    }

    /// A directory does not do: the next one.
    fn go_on(&mut self, errand: Errand, now: Now) {
        if !errand.is_asked {
            let failed = transfer(errand.address, &errand.kind, Some(errand.hsdir));
            self.failed.push_back(failed);
        }
        if !errand.left.is_empty() {
            self.begin(errand.address, errand.kind, errand.left, now);
        }
    }

    /// The service that a circuit is for.
    pub(super) fn address_of(&self, circuit: CircuitName) -> Option<OnionAddress> {
        Some(self.errands.get(&circuit)?.address)
    }

    pub(super) fn handle_event(&mut self, event: Event<'_>, now: Now) {
        match event {
            Event::Network(view, _) => self.handle_network(view),
            Event::Built { circuit, .. } => {
                let Some(errand) = self.errands.get_mut(&circuit) else {
                    return;
                };
                errand.is_asked = true;
                let (request, body) = match &errand.kind {
                    Kind::Fetch(blinded) => (DirRequest::HsDescriptor(*blinded), Vec::new()),
                    Kind::Post(text) => (DirRequest::PostHsDescriptor, text.clone().into_bytes()),
                };
                self.actions.push_back(Action::Request {
                    circuit,
                    request,
                    body,
                });
            }
            Event::Reply { circuit, reply } => {
                if let Some(errand) = self.errands.remove(&circuit) {
                    self.actions.push_back(Action::Close { circuit });
                    if reply.status != 200 {
                        self.go_on(errand, now);
                    }
                }
            }
            Event::Ended { circuit, .. } => {
                if let Some(errand) = self.errands.remove(&circuit) {
                    self.go_on(errand, now);
                }
            }
            Event::Message { .. } => {}
        }
    }

    fn handle_network(&mut self, view: &NetworkView) {
        self.fetch_ring = Some(fetch_ring(view));
        self.store_rings = store_rings(view).into();
    }

    /// The next thing that is asked of the client.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next descriptor that came to no directory, or from none.
    pub(super) fn poll_failed(&mut self) -> Option<DescriptorTransfer> {
        self.failed.pop_front()
    }

    /// When [`Courier::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // An answer has a time of its own.
        let open = self.errands.values().filter(|errand| !errand.is_asked);
        open.map(|errand| errand.until).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        let is_late = |errand: &Errand| !errand.is_asked && errand.until <= now.mono;
        let late = self.errands.iter().filter(|(_, errand)| is_late(errand));
        for circuit in late.map(|(circuit, _)| *circuit).collect::<Vec<_>>() {
            self.actions.push_back(Action::Close { circuit });
            if let Some(errand) = self.errands.remove(&circuit) {
                self.go_on(errand, now);
            }
        }
    }
}

fn transfer(address: OnionAddress, kind: &Kind, hsdir: Option<RsaId>) -> DescriptorTransfer {
    DescriptorTransfer {
        address: Some(address),
        hsdir,
        is_upload: matches!(kind, Kind::Post(_)),
        blinded: match kind {
            Kind::Fetch(blinded) if hsdir.is_some() => Some(*blinded),
            _ => None,
        },
        text: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::onion::TimePeriod;

    use super::*;
    use crate::drawn::start;
    use crate::onion::action::Ending;

    fn ring() -> HsRing {
        let period = TimePeriod {
            number: 7,
            length_minutes: 1440,
        };
        HsRing::new([], period, &[0; 32], 2, 3)
    }

    fn address() -> OnionAddress {
        let keys = cepa_crypto::ed25519::Keypair::generate(&mut Rng::from_seed([8; 32]));
        OnionAddress::new(&keys.expand().public()).unwrap()
    }

    fn opened(courier: &mut Courier) -> Vec<(CircuitName, LastHop)> {
        let actions = std::iter::from_fn(|| courier.poll_action());
        let opened = actions.filter_map(|action| match action {
            Action::Open { circuit, last, .. } => Some((circuit, last)),
            _ => None,
        });
        opened.collect()
    }

    #[test]
    fn each_server_is_asked_and_what_fails_is_told() {
        let (mut courier, now) = (Courier::new(Rng::from_seed([1; 32])), start());
        assert!(courier.fetch(address(), &[], now));
        assert!(courier.poll_failed().is_some(), "there is no network yet");
        courier.fetch_ring = Some(ring());
        let servers = [1, 2].map(|n| RsaId::from([n; 20]));
        assert!(courier.fetch(address(), &servers, now));
        let open = opened(&mut courier);
        assert_eq!(open.len(), 2);
        let ending = Ending::NoPath;
        let (circuit, _) = open[0];
        courier.handle_event(Event::Ended { circuit, ending }, now);
        let failed = courier.poll_failed().unwrap();
        assert_eq!(failed.hsdir, Some(servers[0]));
        courier.handle_timeout(now + OPEN_MAX);
        assert_eq!(courier.poll_failed().unwrap().hsdir, Some(servers[1]));
        assert_eq!(courier.poll_timeout(), None);
    }

    #[test]
    fn errands_have_a_bound() {
        let (mut courier, now) = (Courier::new(Rng::from_seed([1; 32])), start());
        courier.fetch_ring = Some(ring());
        let servers = [RsaId::from([1; 20])];
        for _ in 0..ERRANDS_MAX {
            assert!(courier.fetch(address(), &servers, now));
        }
        assert!(!courier.fetch(address(), &servers, now));
    }
}
