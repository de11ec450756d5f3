//! The far ends of circuits, without the circuits: directories that keep descriptors, points that
//! agree to introduce.
//!
//! A circuit to a relay that is up stands at the next tick; one to a relay that is down fails
//! there. When a relay goes, the circuits that end at it are closed, and its descriptors are lost.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_client::onion::{Action, CircuitName, Ending, Event, LastHop, Purpose};
use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::{Rng, RsaId, curve25519};
use cepa_dir::fetch::Reply;
use cepa_dir::{DirRequest, NetworkView};
use cepa_relay::{HsDirStore, HsDuty, HsUpload};
use cepa_wire::Now;
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};
use cepa_wire::relay::RelayCommand;

/// What an end is about to tell.
enum Told {
    Built,
    Message(RelayCommand, &'static [u8]),
    Reply(Reply),
    Ended(Ending),
}

/// The circuits of one machine.
pub(super) struct Ends {
    open: BTreeMap<CircuitName, RsaId>,
    opening: VecDeque<(CircuitName, LastHop)>,
    requests: VecDeque<(CircuitName, DirRequest, Vec<u8>)>,
    told: VecDeque<(CircuitName, Told)>,
    has_introduced: bool,
    rng: Rng,
}

impl Ends {
    pub(super) fn new(rng: Rng) -> Self {
        Ends {
            open: BTreeMap::new(),
            opening: VecDeque::new(),
            requests: VecDeque::new(),
            told: VecDeque::new(),
            has_introduced: false,
            rng,
        }
    }

    /// Whether a visitor has got so far as to open a circuit to an introduction point.
    pub(super) fn has_introduced(&self) -> bool {
        self.has_introduced
    }

    pub(super) fn handle_action(&mut self, action: Action) {
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => {
                self.has_introduced |= purpose == Purpose::Introduce;
                self.opening.push_back((circuit, last));
            }
            Action::Send {
                circuit, command, ..
            } => match command {
                RelayCommand::ESTABLISH_INTRO => self.told.push_back((
                    circuit,
                    Told::Message(RelayCommand::INTRO_ESTABLISHED, &[0]),
                )),
                RelayCommand::ESTABLISH_RENDEZVOUS => self.told.push_back((
                    circuit,
                    Told::Message(RelayCommand::RENDEZVOUS_ESTABLISHED, &[]),
                )),
                _ => {}
            },
            Action::Request {
                circuit,
                request,
                body,
            } => self.requests.push_back((circuit, request, body)),
            Action::Close { circuit } => {
                self.open.remove(&circuit);
                self.opening.retain(|(name, _)| *name != circuit);
                self.requests.retain(|(name, ..)| *name != circuit);
                self.told.retain(|(name, _)| *name != circuit);
            }
            Action::Join { .. } => {}
        }
    }

    /// Circuits to these relays are closed.
    pub(super) fn lose(&mut self, gone: &[RsaId]) {
        let open = std::mem::take(&mut self.open);
        for (circuit, last) in open {
            if gone.contains(&last) {
                self.told.push_back((circuit, Told::Ended(Ending::Closed)));
            } else {
                self.open.insert(circuit, last);
            }
        }
    }

    /// Lets what is under way come to its end, and tells of it.
    pub(super) fn tick(
        &mut self,
        up: &[RsaId],
        directories: &mut Directories,
        now: Now,
        mut tell: impl FnMut(Event<'_>, Now),
    ) {
        for (circuit, last) in std::mem::take(&mut self.opening) {
            let told = match self.reach(last, up) {
                Some(last) => {
                    self.open.insert(circuit, last);
                    Told::Built
                }
                None => Told::Ended(Ending::LastHop),
            };
            self.told.push_back((circuit, told));
        }
        for (circuit, request, body) in std::mem::take(&mut self.requests) {
            let last = self.open.get(&circuit);
            let told = match last {
                Some(last) => Told::Reply(directories.answer(last, &request, &body, now)),
                None => Told::Ended(Ending::Closed),
            };
            self.told.push_back((circuit, told));
        }
        for (circuit, told) in std::mem::take(&mut self.told) {
            let spec = hop_spec(self.open.get(&circuit));
            let event = match told {
                Told::Built => Event::Built {
                    circuit,
                    last: &spec,
                    kh: &[0; 20],
                },
                Told::Message(command, body) => Event::Message {
                    circuit,
                    command,
                    body,
                },
                Told::Reply(reply) => Event::Reply { circuit, reply },
                Told::Ended(ending) => Event::Ended { circuit, ending },
            };
            tell(event, now);
        }
    }

    fn reach(&mut self, last: LastHop, up: &[RsaId]) -> Option<RsaId> {
        match last {
            LastHop::Listed(id) => up.binary_search(&id).is_ok().then_some(id),
            LastHop::Told(spec) => {
                let id = spec.link_specifiers.rsa_id()?;
                up.binary_search(&id).is_ok().then_some(id)
            }
            LastHop::Any(but) => {
                let fitting: Vec<_> = up.iter().filter(|id| !but.contains(id)).collect();
                let drawn = self.rng.below(fitting.len().max(1) as u64) as usize;
                fitting.get(drawn).map(|id| **id)
            }
        }
    }
}

/// A relay as it could be told to a peer; nobody goes there.
fn hop_spec(last: Option<&RsaId>) -> HopSpec {
    let rsa = last.copied().unwrap_or(RsaId::from([0; 20]));
    let somewhere = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 9001);
    let specifiers = vec![LinkSpecifier::Ipv4(somewhere), LinkSpecifier::Rsa(rsa)];
    HopSpec {
        link_specifiers: LinkSpecifiers(specifiers),
        key: HopKey::Ntor {
            rsa,
            onion_key: curve25519::PublicKey::from([9; 32]),
        },
        congestion: None,
    }
}

/// What all relays keep.
#[derive(Default)]
pub(super) struct Directories {
    stores: BTreeMap<RsaId, HsDirStore>,
    uploads: u64,
    refused: u64,
}

impl Directories {
    /// How many uploads there were, and how many of them were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.uploads, self.refused)
    }

    /// These relays keep nothing over a restart.
    pub(super) fn restart(&mut self, gone: &[RsaId]) {
        for id in gone {
            self.stores.remove(id);
        }
    }

    /// A relay hears of a consensus.
    pub(super) fn handle_network(&mut self, relay: RsaId, view: &NetworkView) {
        if let Some(duty) = HsDuty::new(view, relay) {
            self.stores.entry(relay).or_default().set_duty(duty);
        }
    }

    /// Whether a relay would give a descriptor.
    pub(super) fn has(&mut self, relay: &RsaId, blinded: &PublicKey, now: Now) -> bool {
        let store = self.stores.get_mut(relay);
        store.is_some_and(|store| store.reply_fetch(blinded.as_bytes(), now).status == 200)
    }

    fn answer(&mut self, relay: &RsaId, request: &DirRequest, body: &[u8], now: Now) -> Reply {
        let store = self.stores.entry(*relay).or_default();
        let reply = match request {
            DirRequest::PostHsDescriptor => {
                let reply = store.reply_publish(HsUpload::parse(body, now.wall), now);
                self.uploads += 1;
                self.refused += u64::from(reply.status != 200);
                reply
            }
            DirRequest::HsDescriptor(blinded) => store.reply_fetch(blinded, now),
            _ => return Reply::failed(),
        };
        Reply {
            status: reply.status,
            body: reply.body.to_vec(),
        }
    }
}
