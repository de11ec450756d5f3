//! Descriptors of onion services, as their directory holds them (rend-spec-v3 2.2.3, 2.2.6, 2.4;
//! `tor`'s hs_cache.c).
//!
//! Held is what is valid, newer than what is held of its blinded key, and near enough on the ring
//! of some period: services and visitors whose consensus is an hour older or newer than ours must
//! find each other here. `tor` looks at no ring. While our own consensus is not fresh, nothing is
//! refused for its place. All is in memory, of bounded size; when that is full, what nobody has
//! asked for goes first, the oldest of it before all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::RsaId;
use cepa_crypto::ed25519::PublicKey;
use cepa_dir::Reply;
use cepa_dir::encoding::Encoding;
use cepa_dir::hsring::{self, HsRing};
use cepa_dir::netview::NetworkView;
use cepa_netdoc::hs_descriptor::{HS_DESCRIPTOR_LEN_MAX, HsDescriptor, HsDescriptorError};
use cepa_wire::Now;

/// Bytes of all descriptors.
pub const HS_DESCRIPTORS_LEN_MAX: usize = 128 << 20;
/// Most descriptors; the least of them has some hundred bytes, and its place as many.
pub const HS_DESCRIPTORS_MAX: usize = 1 << 16;
/// Consensuses whose rings are remembered: a consensus is valid for so many voting intervals.
const DUTIES_MAX: usize = 3;

/// What a relay is responsible for by one consensus.
#[derive(Debug, Clone)]
pub struct HsDuty {
    id: RsaId,
    valid_after: SystemTime,
    fresh_until: SystemTime,
    descriptor_len_max: usize,
    rings: [HsRing; 2],
}

impl HsDuty {
    /// That of the relay of this identity. `None` while its own microdescriptor is missing: then
    /// it cannot know.
    #[must_use]
    pub fn new(view: &NetworkView, id: RsaId) -> Option<Self> {
        let consensus = view.consensus();
        if view.relay(&id).is_none() && consensus.router(&id).is_some() {
            return None;
        }
        let params = &consensus.params;
        let most = i32::try_from(HS_DESCRIPTOR_LEN_MAX).unwrap_or(i32::MAX);
        let len_max = params.value("HSV3MaxDescriptorSize", most, 1, i32::MAX);
        Some(HsDuty {
            id,
            valid_after: consensus.lifetime.valid_after,
            fresh_until: consensus.lifetime.fresh_until,
            descriptor_len_max: usize::try_from(len_max).unwrap_or(HS_DESCRIPTOR_LEN_MAX),
            rings: hsring::store_rings(view),
        })
    }

    fn has(&self, blinded: &PublicKey) -> bool {
        let mut rings = self.rings.iter();
        rings.any(|ring| ring.may_hold(&self.id, blinded))
    }
}

/// A descriptor whose certificate and signature are good.
#[derive(Debug, Clone)]
pub struct HsUpload {
    text: Arc<str>,
    blinded: PublicKey,
    revision: u64,
    lifetime: Duration,
}

impl HsUpload {
    /// Reads the body of an upload. This is the costly part, and needs no store.
    ///
    /// # Errors
    /// The descriptor is malformed, too long, or not signed.
    pub fn parse(body: &[u8], now: SystemTime) -> Result<Self, HsRefusal> {
        let text = std::str::from_utf8(body).map_err(|_| HsRefusal::NotText)?;
        let desc = HsDescriptor::parse(text, now)?;
        Ok(HsUpload {
            text: text.into(),
            blinded: desc.blinded_key,
            revision: desc.revision,
            lifetime: Duration::from_secs(u64::from(desc.lifetime_minutes) * 60),
        })
    }
}

/// Why an upload is refused; the consequence is status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsRefusal {
    /// The body is not text.
    #[error("not text")]
    NotText,
    /// The upload is no valid descriptor.
    #[error(transparent)]
    Descriptor(#[from] HsDescriptorError),
    /// Longer than the network allows.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The relay is not responsible for it.
    #[error("its place on the ring is not here")]
    NotHere,
    /// One of this revision or a later one is held.
    #[error("not newer than what is held")]
    NotNewer,
}

#[derive(Debug)]
struct Held {
    text: Arc<str>,
    revision: u64,
    received: Instant,
    expires: Instant,
    fetches: u64,
}

/// Counts for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct HsDirCounts {
    /// Descriptors held.
    pub descriptors: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Uploads taken, ever.
    pub stored: u64,
    /// Uploads refused, ever.
    pub refused: u64,
    /// Descriptors dropped before their time for want of room, ever.
    pub dropped: u64,
    /// Requests answered with a descriptor, ever.
    pub fetched: u64,
    /// Requests for what is not here, ever.
    pub missed: u64,
}

/// The descriptors of onion services that are held here.
#[derive(Debug)]
pub struct HsDirStore {
    descriptors: BTreeMap<[u8; 32], Held>,
    /// Newest last.
    duties: Vec<HsDuty>,
    counts: HsDirCounts,
    len_max: usize,
    descriptors_max: usize,
}

impl Default for HsDirStore {
    fn default() -> Self {
        HsDirStore {
            descriptors: BTreeMap::new(),
            duties: Vec::new(),
            counts: HsDirCounts::default(),
            len_max: HS_DESCRIPTORS_LEN_MAX,
            descriptors_max: HS_DESCRIPTORS_MAX,
        }
    }
}

impl HsDirStore {
    /// Holds at most so many bytes of descriptors from the next upload on; without a word it is
    /// [`HS_DESCRIPTORS_LEN_MAX`].
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max;
    }

    /// A new consensus, or more of what belongs to the newest.
    pub fn set_duty(&mut self, duty: HsDuty) {
        self.duties
            .retain(|known| known.valid_after != duty.valid_after);
        self.duties.push(duty);
        self.duties.sort_by_key(|duty| duty.valid_after);
        let surplus = self.duties.len().saturating_sub(DUTIES_MAX);
        self.duties.drain(..surplus);
    }

    /// How much there is, and what was done.
    #[must_use]
    pub fn counts(&self) -> HsDirCounts {
        HsDirCounts {
            descriptors: self.descriptors.len(),
            ..self.counts
        }
    }

    /// The reply to who is one hop away, whatever the request: neither who visits nor who hosts
    /// shall have to trust us.
    #[must_use]
    pub fn reply_not_anonymous() -> Reply {
        Reply::status(503, "Onion-service descriptors need a circuit")
    }

    /// Answers a POST.
    pub fn reply_publish(&mut self, upload: Result<HsUpload, HsRefusal>, now: Now) -> Reply {
        match upload.and_then(|upload| self.publish(upload, now)) {
            Ok(()) => Reply::status(200, "HS descriptor stored successfully."),
            Err(refusal) => {
                self.counts.refused += 1;
                tracing::debug!(%refusal, "an onion service's descriptor is refused");
                Reply::status(400, "Invalid HS descriptor. Rejected.")
            }
        }
    }

    /// Answers a GET.
    pub fn reply_fetch(&mut self, blinded: &[u8; 32], now: Now) -> Reply {
        let held = self.descriptors.get_mut(blinded);
        match held.filter(|held| now.mono < held.expires) {
            Some(held) => {
                held.fetches += 1;
                self.counts.fetched += 1;
                Reply::body(held.text.as_bytes().into(), Encoding::Identity)
            }
            None => {
                self.counts.missed += 1;
                Reply::not_found()
            }
        }
    }

    fn publish(&mut self, upload: HsUpload, now: Now) -> Result<(), HsRefusal> {
        if let Some(duty) = self.duties.last() {
            if upload.text.len() >= duty.descriptor_len_max {
                return Err(HsRefusal::TooLong(duty.descriptor_len_max));
            }
            let is_fresh = now.wall < duty.fresh_until;
            if is_fresh && !self.duties.iter().any(|duty| duty.has(&upload.blinded)) {
                return Err(HsRefusal::NotHere);
            }
        }
        let key = *upload.blinded.as_bytes();
        let held = self.descriptors.get(&key);
        if held.is_some_and(|held| now.mono < held.expires && held.revision >= upload.revision) {
            return Err(HsRefusal::NotNewer);
        }
        self.remove(&key);
        self.make_room(upload.text.len(), now);
        self.counts.bytes += upload.text.len();
        self.counts.stored += 1;
        let held = Held {
            text: upload.text,
            revision: upload.revision,
            received: now.mono,
            expires: now.mono + upload.lifetime,
            fetches: 0,
        };
        self.descriptors.insert(key, held);
        Ok(())
    }

    /// So that one more of this length fits: what has expired goes, then, if need be, a tenth,
    /// so that this is not done for each.
    fn make_room(&mut self, len: usize, now: Now) {
        let fits = |store: &Self, part: usize| {
            let bytes_max = store.len_max / 10 * part;
            store.counts.bytes + len <= bytes_max
                && store.descriptors.len() < store.descriptors_max / 10 * part
        };
        if fits(self, 10) {
            return;
        }
        self.expire(now);
        if fits(self, 10) {
            return;
        }
        let held = self.descriptors.iter();
        let mut order: Vec<_> = held
            .map(|(key, held)| (held.fetches, held.received, *key))
            .collect();
        order.sort_unstable();
        for (.., key) in order {
            if fits(self, 9) {
                break;
            }
            self.remove(&key);
            self.counts.dropped += 1;
        }
    }

    /// Forgets what has expired; to be called now and then.
    pub fn expire(&mut self, now: Now) {
        let bytes = &mut self.counts.bytes;
        self.descriptors.retain(|_, held| {
            let stays = now.mono < held.expires;
            *bytes -= if stays { 0 } else { held.text.len() };
            stays
        });
    }

    fn remove(&mut self, key: &[u8; 32]) {
        if let Some(held) = self.descriptors.remove(key) {
            self.counts.bytes -= held.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::Ed25519Id;
    use cepa_crypto::Rng;
    use cepa_crypto::ed25519::Keypair;
    use cepa_crypto::onion::TimePeriod;
    use cepa_netdoc::hs_descriptor::{HsDescriptorBuilder, HsPlaintext};
    use std::time::UNIX_EPOCH;

    use super::*;

    const PERIOD: TimePeriod = TimePeriod {
        number: 5,
        length_minutes: 1440,
    };

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Now {
        Now {
            mono: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    fn text(service: u8, revision: u64, lifetime_minutes: u16, now: Now) -> (String, PublicKey) {
        let identity = Keypair::from_seed(&[service; 32]).expand();
        let blinded = identity.blind(PERIOD);
        let builder = HsDescriptorBuilder {
            identity: &identity.public(),
            blinded: &blinded,
            signing: &Keypair::from_seed(&[7; 32]),
            revision,
            lifetime_minutes,
            plaintext: &HsPlaintext::default(),
            clients: &[],
        };
        let text = builder.encode(now.wall, &mut Rng::from_seed([1; 32]));
        (text.unwrap(), blinded.public())
    }

    fn upload(store: &mut HsDirStore, text: &str, now: Now) -> u16 {
        let upload = HsUpload::parse(text.as_bytes(), now.wall);
        store.reply_publish(upload, now).status
    }

    fn duty(now: Now, hours: u32, srv: u8, id: u8) -> HsDuty {
        let relays = (0..100_u8).map(|n| (RsaId::from([n; 20]), Ed25519Id::from([n; 32])));
        let ring = |number| {
            let period = TimePeriod { number, ..PERIOD };
            HsRing::new(relays.clone(), period, &[srv; 32], 2, 4)
        };
        let hour = Duration::from_secs(3600);
        HsDuty {
            id: RsaId::from([id; 20]),
            valid_after: now.wall + hour * hours,
            fresh_until: now.wall + hour * (hours + 1),
            descriptor_len_max: 50_000,
            rings: [ring(4), ring(5)],
        }
    }

    #[test]
    fn the_newest_revision_is_held_for_its_time() {
        let (start, mut store) = (now(), HsDirStore::default());
        let (first, blinded) = text(1, 5, 180, start);
        let key = blinded.as_bytes();
        assert_eq!(store.reply_fetch(key, start).status, 404);
        assert_eq!(upload(&mut store, &first, start), 200);
        let reply = store.reply_fetch(key, start);
        assert_eq!((reply.status, &*reply.body), (200, first.as_bytes()));
        for (revision, status) in [(5, 400), (4, 400), (6, 200)] {
            let (text, _) = text(1, revision, 60, start);
            assert_eq!(upload(&mut store, &text, start), status);
        }
        let minutes = |n: u64| start + Duration::from_secs(n * 60);
        assert_eq!(store.reply_fetch(key, minutes(59)).status, 200);
        assert_eq!(store.reply_fetch(key, minutes(60)).status, 404);
        // What has expired is no bar, and goes.
        assert_eq!(upload(&mut store, &first, minutes(60)), 200);
        store.expire(minutes(300));
        let counts = store.counts();
        assert_eq!((counts.descriptors, counts.bytes), (0, 0));
        assert_eq!(
            (counts.stored, counts.refused, counts.fetched, counts.missed),
            (3, 2, 2, 2)
        );
    }

    #[test]
    fn what_is_no_descriptor_is_refused() {
        let (now, mut store) = (now(), HsDirStore::default());
        let (good, _) = text(1, 5, 180, now);
        let forged = good.replace("revision-counter 5", "revision-counter 6");
        let cut = &good[..good.len() - 40];
        for text in ["", "hs-descriptor 3\n", &forged, cut] {
            assert_eq!(upload(&mut store, text, now), 400);
        }
        let binary = HsUpload::parse(&[0xFF, 0xFE], now.wall);
        assert_eq!(store.reply_publish(binary, now).status, 400);
        assert_eq!(store.counts().descriptors, 0);
        assert_eq!(HsDirStore::reply_not_anonymous().status, 503);
        // The network may want them shorter.
        let mut short = duty(now, 0, 1, 1);
        short.descriptor_len_max = good.len();
        short.fresh_until = now.wall;
        store.set_duty(short);
        assert_eq!(upload(&mut store, &good, now), 400);
    }

    #[test]
    fn only_what_is_placed_here_is_held_by_this_or_the_last_consensuses() {
        let start = now();
        let hours = |n: u32| start + Duration::from_secs(3600) * n;
        let (text, blinded) = text(1, 5, 180, start);
        let places = |srv| -> Vec<u8> {
            (0..100)
                .filter(|id| duty(start, 0, srv, *id).has(&blinded))
                .collect()
        };
        // Those responsible, and some behind them.
        let relays = duty(start, 0, 1, 0);
        for id in relays.rings[1].responsible(&blinded) {
            assert!(places(1).contains(&id.as_bytes()[0]));
        }
        assert!((9..=32).contains(&places(1).len()), "{:?}", places(1));
        let here = places(1)
            .into_iter()
            .find(|id| !places(2).contains(id))
            .unwrap();
        let mut store = HsDirStore::default();
        let mut publish = |duty: Option<HsDuty>, at: Now| {
            duty.into_iter().for_each(|duty| store.set_duty(duty));
            store.descriptors.clear();
            store.counts.bytes = 0;
            upload(&mut store, &text, at)
        };
        // Without a consensus all is taken.
        assert_eq!(publish(None, start), 200);
        assert_eq!(publish(Some(duty(start, 0, 2, here)), start), 400);
        // No longer fresh: a service may know more.
        assert_eq!(publish(None, hours(1)), 200);
        assert_eq!(publish(Some(duty(start, 1, 1, here)), hours(1)), 200);
        // By an earlier consensus it is still here, for two more.
        assert_eq!(publish(Some(duty(start, 2, 2, here)), hours(2)), 200);
        assert_eq!(publish(Some(duty(start, 3, 2, here)), hours(3)), 200);
        assert_eq!(publish(Some(duty(start, 4, 2, here)), hours(4)), 400);
    }

    #[test]
    fn memory_is_bounded() {
        let (start, mut store) = (now(), HsDirStore::default());
        let len = text(0, 1, 180, start).0.len();
        store.len_max = 10 * len + 100;
        let mut at = start;
        let mut keys = Vec::new();
        for service in 0..40 {
            at = at + Duration::from_secs(1);
            let (text, key) = text(service, 1, 180, start);
            assert_eq!(upload(&mut store, &text, at), 200);
            assert!(store.counts().bytes <= store.len_max);
            assert!(store.counts().descriptors <= 10);
            keys.push(key);
            // Somebody visits the first.
            assert_eq!(store.reply_fetch(keys[0].as_bytes(), at).status, 200);
        }
        let counts = store.counts();
        assert_eq!(counts.dropped as usize, 40 - counts.descriptors);
        let newest = store.reply_fetch(keys[39].as_bytes(), at);
        assert_eq!(newest.status, 200);
        assert_eq!(store.reply_fetch(keys[1].as_bytes(), at).status, 404);
        // By number, too; what has expired goes before anything else.
        store.descriptors_max = 10;
        let late = at + Duration::from_secs(180 * 60);
        let (text, _) = text(50, 1, 180, late);
        assert_eq!(upload(&mut store, &text, late), 200);
        assert_eq!(
            (store.counts().descriptors, store.counts().dropped),
            (1, counts.dropped)
        );
        assert_eq!(store.counts().bytes, text.len());
    }
}
