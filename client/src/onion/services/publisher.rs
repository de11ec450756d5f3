//! Keeps the descriptors of a service at the directories of the ring, and needs no circuits for it
//! (rend-spec-v3 2.2; 2.2.4.2 for the two that overlap).
//!
//! ```text
//! handle_rings  ─▶ descriptors of two periods ─┐
//! set_points    ─▶ a new text of each ─────────┼─▶ poll_upload ─▶ (outside) ─▶ handle_uploaded
//! handle_timeout ▶ the hour, retries ──────────┘   poll_cancelled ─▶ (outside)
//! ```
//!
//! Invariants: there is a descriptor for each ring and no other; nothing is uploaded before there
//! are introduction points; an upload that was cancelled is not awaited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use cepa_crypto::ed25519::{ExpandedKeypair, PublicKey};
use cepa_crypto::onion::{OnionAddress, TimePeriod, subcredential};
use cepa_crypto::{Rng, RsaId, curve25519};
use cepa_dir::hsring::HsRing;
use cepa_netdoc::hs_descriptor::IntroPoint;
use cepa_wire::Now;

use super::descriptor::{Content, Descriptor, UploadId};
use crate::status::DescriptorStatus;

/// A descriptor to be brought to a directory.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its name, for [`Publisher::handle_uploaded`].
    pub id: UploadId,
    /// The directory that is to have the descriptor.
    pub hsdir: RsaId,
    /// The period that it is for.
    pub period: TimePeriod,
    /// The blinded key that it is found by.
    pub blinded: PublicKey,
    /// The text of the descriptor.
    pub text: Arc<str>,
}

/// The descriptors of one service.
#[derive(Debug)]
pub struct Publisher {
    identity: ExpandedKeypair,
    public: PublicKey,
    clients: Vec<curve25519::PublicKey>,
    /// Addresses in whose descriptors our introduction points stand, too.
    masters: Vec<OnionAddress>,
    /// What introductions may be bound to.
    subcredentials: Vec<[u8; 32]>,
    points: Vec<IntroPoint>,
    /// Cells of a SENDME, if congestion control is offered.
    congestion: Option<u8>,
    descriptors: BTreeMap<TimePeriod, Descriptor>,
    cancelled: VecDeque<UploadId>,
    uploads: u64,
}

impl Publisher {
    /// A publisher for a service that these clients may visit, or everyone if there are none.
    pub fn new(identity: &ExpandedKeypair, clients: Vec<curve25519::PublicKey>) -> Self {
        Publisher {
            identity: ExpandedKeypair::from_bytes(&identity.to_bytes()),
            public: identity.public(),
            clients,
            masters: Vec::new(),
            subcredentials: Vec::new(),
            points: Vec::new(),
            congestion: None,
            descriptors: BTreeMap::new(),
            cancelled: VecDeque::new(),
            uploads: 0,
        }
    }

    /// Lets these clients visit, or everyone if there are none.
    pub fn set_clients(&mut self, clients: Vec<curve25519::PublicKey>, now: Now) {
        if clients == self.clients {
            return;
        }
        self.clients = clients;
        self.renew(now);
    }

    /// Introductions may also be bound to the descriptors of these addresses: another program,
    /// such as onionbalance, writes our introduction points into them.
    pub fn set_masters(&mut self, masters: Vec<OnionAddress>) {
        if masters != self.masters {
            self.masters = masters;
            self.bind();
        }
    }

    /// Finds what introductions may be bound to.
    fn bind(&mut self) {
        let descriptors = self.descriptors.values();
        self.subcredentials = descriptors.map(Descriptor::subcredential).collect();
        // Whoever writes the descriptors of a master may be in the period before or after ours, as
        // his clock and his consensus have it.
        let mut periods = BTreeSet::new();
        for period in self.descriptors.keys() {
            periods.extend([period.previous(), *period, period.next()]);
        }
        for master in &self.masters {
            let of_period =
                |period: &TimePeriod| subcredential(master.key(), &master.blind(*period));
            self.subcredentials.extend(periods.iter().map(of_period));
        }
    }

    /// Takes the rings of a consensus in which services store.
    pub fn handle_rings(&mut self, rings: &[HsRing], now: Now, rng: &mut Rng) {
        let known: Vec<TimePeriod> = self.descriptors.keys().copied().collect();
        let cancelled = &mut self.cancelled;
        self.descriptors.retain(|period, descriptor| {
            let stays = rings.iter().any(|ring| ring.period() == *period);
            if !stays {
                cancelled.extend(descriptor.uploading());
            }
            stays
        });
        for ring in rings {
            let period = ring.period();
            let descriptor = self.descriptors.entry(period).or_insert_with(|| {
                let mut fresh = Descriptor::new(&self.identity, period, rng);
                if !self.points.is_empty() {
                    fresh.renew(now);
                }
                fresh
            });
            let responsible = ring.responsible(&descriptor.blinded());
            cancelled.extend(descriptor.place(&responsible, now));
        }
        if self.descriptors.keys().ne(&known) {
            self.bind();
        }
        self.handle_timeout(now, rng);
    }

    /// Offers visitors congestion control, or does not.
    pub fn offer_congestion(&mut self, congestion: Option<u8>, now: Now) {
        if congestion == self.congestion {
            return;
        }
        self.congestion = congestion;
        self.renew(now);
    }

    /// All descriptors are to say something else.
    fn renew(&mut self, now: Now) {
        if !self.points.is_empty() {
            for descriptor in self.descriptors.values_mut() {
                descriptor.renew(now);
            }
        }
    }

    /// Takes the introduction points that stand. If there are none, what was uploaded stays.
    pub fn set_points(&mut self, points: Vec<IntroPoint>, now: Now, rng: &mut Rng) {
        let keys = |points: &[IntroPoint]| {
            let mut keys: Vec<PublicKey> = points.iter().map(|point| point.auth_key).collect();
            keys.sort_unstable();
            keys
        };
        if points.is_empty() || keys(&points) == keys(&self.points) {
            return;
        }
        self.points = points;
        self.renew(now);
        self.handle_timeout(now, rng);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut Rng) {
        if self.points.is_empty() {
            return;
        }
        let content = Content {
            identity: &self.public,
            clients: &self.clients,
            points: &self.points,
            congestion: self.congestion,
        };
        for descriptor in self.descriptors.values_mut() {
            self.cancelled
                .extend(descriptor.advance(&content, now, rng));
        }
    }

    /// When [`Publisher::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.points.is_empty() {
            return None;
        }
        let descriptors = self.descriptors.values();
        descriptors.filter_map(Descriptor::poll_timeout).min()
    }

    /// The next upload that can begin.
    pub fn poll_upload(&mut self) -> Option<Upload> {
        let id = UploadId(self.uploads);
        let begin = |descriptor: &mut Descriptor| {
            let (hsdir, text) = descriptor.begin(id)?;
            Some(Upload {
                id,
                hsdir,
                period: descriptor.period(),
                blinded: descriptor.blinded(),
                text,
            })
        };
        let upload = self.descriptors.values_mut().find_map(begin)?;
        self.uploads += 1;
        Some(upload)
    }

    /// Whether there is an upload that can begin.
    pub fn has_upload(&self) -> bool {
        self.descriptors.values().any(Descriptor::has_due)
    }

    /// The next upload that is not wanted any more.
    pub fn poll_cancelled(&mut self) -> Option<UploadId> {
        self.cancelled.pop_front()
    }

    /// An upload is over: the directory took it, or did not.
    pub fn handle_uploaded(&mut self, id: UploadId, is_taken: bool, now: Now, rng: &mut Rng) {
        for descriptor in self.descriptors.values_mut() {
            if descriptor.finish(id, is_taken, now, rng) {
                return;
            }
        }
    }

    /// The text of the first descriptor that there is.
    pub fn text(&self) -> Option<&str> {
        self.descriptors.values().find_map(Descriptor::text)
    }

    /// Whether visitors may expect to find it, whichever of the periods they are in.
    pub fn stands(&self) -> bool {
        !self.descriptors.is_empty() && self.descriptors.values().all(Descriptor::stands)
    }

    /// What introductions may be bound to: a subcredential for each descriptor, ours first.
    pub fn subcredentials(&self) -> &[[u8; 32]] {
        &self.subcredentials
    }

    /// How the descriptors of both periods stand, for the operator.
    pub fn statuses(&self) -> Vec<DescriptorStatus> {
        self.descriptors.values().map(Descriptor::status).collect()
    }
}
