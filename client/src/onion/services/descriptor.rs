//! The descriptor of one time period, and which directories have it (rend-spec-v3 2.2.2 to 2.2.6,
//! appendix F.2).
//!
//! ```text
//! a directory:   Due ─▶ Uploading ─┬─ taken ─▶ Held ── new text ─▶ Due
//!                 ▲                └─ refused, lost ─▶ Failed ─┐
//!                 └──────────────── again after a while ───────┘
//! ```
//!
//! Invariants: revision counters only grow, and depend on nothing but the blinded key and the
//! time, so that they also grow over restarts and when `tor` goes on with the same key; a text is
//! never made twice in one second. Only directories that are responsible are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair, PublicKey};
use cepa_crypto::onion::{TimePeriod, subcredential};
use cepa_crypto::{Rng, RsaId, curve25519, ope};
use cepa_netdoc::hs_descriptor::{
    FlowControl, HS_DESCRIPTOR_LIFETIME_MINUTES, HsDescriptorBuilder, HsPlaintext, IntroPoint,
};
use cepa_netdoc::protover::Protocols;
use cepa_wire::Now;

use crate::status::{DescriptorStatus, HsDirStatus};

/// A descriptor is made anew after this long at least (`tor`: `HS_SERVICE_NEXT_UPLOAD_TIME_MIN`).
const RENEW_MIN: Duration = Duration::from_secs(60 * 60);
/// And at most so much later.
const RENEW_SPREAD_SECONDS: u64 = 60 * 60;
/// The first wait after an upload failed; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(2);
/// The longest wait after an upload failed.
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);

/// What we know of flow control: fixed windows, and congestion control.
const FLOW_CONTROL: &str = "FlowCtrl=1-2";

/// Names an upload of a descriptor to one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadId(pub(super) u64);

/// What all descriptors of a service say.
#[derive(Debug)]
pub(super) struct Content<'a> {
    /// The service's identity.
    pub(super) identity: &'a PublicKey,
    /// Who may read it; empty: everyone with the address.
    pub(super) clients: &'a [curve25519::PublicKey],
    /// Where to introduce oneself.
    pub(super) points: &'a [IntroPoint],
    /// Cells of a SENDME, if congestion control is offered (proposal 324, 9).
    pub(super) congestion: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Due,
    Uploading(UploadId),
    Held,
    Failed(Instant),
}

#[derive(Debug)]
struct Directory {
    stage: Stage,
    /// The revision that was sent last.
    offered: u64,
    held: Option<(u64, SystemTime)>,
    failures: u32,
}

/// What was made last.
#[derive(Debug)]
struct Text {
    text: Arc<str>,
    revision: u64,
    unix_seconds: u64,
}

/// Which directories a new text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Renewal {
    /// Those that have none.
    Missing,
    /// All.
    All,
}

/// A service's descriptor of one time period.
#[derive(Debug)]
pub(super) struct Descriptor {
    period: TimePeriod,
    blinded: ExpandedKeypair,
    signing: Keypair,
    subcredential: [u8; 32],
    last: Option<Text>,
    /// A new text is wanted, not before that time.
    renewal: Option<(Renewal, Instant)>,
    next_upload: Option<(Instant, SystemTime)>,
    directories: BTreeMap<RsaId, Directory>,
}

impl Descriptor {
    /// The descriptor of a period: its blinded key and a signing key of its own.
    pub(super) fn new(identity: &ExpandedKeypair, period: TimePeriod, rng: &mut Rng) -> Self {
        let blinded = identity.blind(period);
        Descriptor {
            period,
            subcredential: subcredential(&identity.public(), &blinded.public()),
            blinded,
            signing: Keypair::generate(rng),
            last: None,
            renewal: None,
            next_upload: None,
            directories: BTreeMap::new(),
        }
    }

    /// Its period.
    pub(super) fn period(&self) -> TimePeriod {
        self.period
    }

    /// Its blinded key.
    pub(super) fn blinded(&self) -> PublicKey {
        self.blinded.public()
    }

    /// What introductions by it are bound to.
    pub(super) fn subcredential(&self) -> [u8; 32] {
        self.subcredential
    }

    /// What it says, as it was made last.
    pub(super) fn text(&self) -> Option<&str> {
        self.last.as_ref().map(|last| &*last.text)
    }

    /// Takes the directories that are responsible now; gives the uploads to cancel.
    pub(super) fn place(&mut self, responsible: &[RsaId], now: Now) -> Vec<UploadId> {
        let mut cancelled = Vec::new();
        self.directories.retain(|id, directory| {
            let stays = responsible.contains(id);
            if let (false, Stage::Uploading(upload)) = (stays, directory.stage) {
                cancelled.push(upload);
            }
            stays
        });
        let known = self.directories.len();
        for id in responsible {
            self.directories.entry(*id).or_insert(Directory {
                stage: Stage::Due,
                offered: 0,
                held: None,
                failures: 0,
            });
        }
        // A directory that comes back may have kept the last text, and refuses the same again.
        if self.directories.len() > known && self.last.is_some() {
            self.want(Renewal::Missing, now.mono);
        }
        cancelled
    }

    /// Wants a new text everywhere: what it says has changed.
    pub(super) fn renew(&mut self, now: Now) {
        self.want(Renewal::All, now.mono);
    }

    fn want(&mut self, renewal: Renewal, at: Instant) {
        self.renewal = Some(match self.renewal {
            Some((wanted, before)) => (wanted.max(renewal), before.min(at)),
            None => (renewal, at),
        });
    }

    /// Makes a new text if one is due; gives the uploads to cancel.
    pub(super) fn advance(
        &mut self,
        content: &Content<'_>,
        now: Now,
        rng: &mut Rng,
    ) -> Vec<UploadId> {
        let mut is_refused = false;
        for directory in self.directories.values_mut() {
            if matches!(directory.stage, Stage::Failed(again_at) if again_at <= now.mono) {
                directory.stage = Stage::Due;
                let last = self.last.as_ref();
                is_refused |= last.is_some_and(|last| last.revision == directory.offered);
            }
        }
        let is_old = |(mono, wall): (Instant, SystemTime)| mono <= now.mono || wall <= now.wall;
        if self.next_upload.is_some_and(is_old) {
            self.want(Renewal::All, now.mono);
        }
        // A new text for more of them is one for those who refuse, too; there is one in a second.
        match self.renewal {
            Some((renewal, at)) if at <= now.mono => return self.make(renewal, content, now, rng),
            _ if is_refused => self.outdo(content, now, rng),
            _ => {}
        }
        Vec::new()
    }

    /// Makes another text for those who have refused this one: they may hold one of the same
    /// revision, of a process that was killed within a second. Others keep what they have.
    fn outdo(&mut self, content: &Content<'_>, now: Now, rng: &mut Rng) {
        let unix_seconds = now.unix_seconds();
        let is_older = |last: &Text| last.unix_seconds < unix_seconds;
        if !self.last.as_ref().is_some_and(is_older) {
            return;
        }
        let revision = self.revision(unix_seconds);
        if let Some(text) = self.encode(content, revision, now, rng) {
            self.last = Some(Text {
                text,
                revision,
                unix_seconds,
            });
        }
    }

    fn make(
        &mut self,
        renewal: Renewal,
        content: &Content<'_>,
        now: Now,
        rng: &mut Rng,
    ) -> Vec<UploadId> {
        let unix_seconds = now.unix_seconds();
        if let Some(last) = &self.last
            && last.unix_seconds == unix_seconds
        {
            self.renewal = Some((renewal, now.mono + until_next_second(now)));
            return Vec::new();
        }
        self.renewal = None;
        let revision = self.revision(unix_seconds);
        let Some(text) = self.encode(content, revision, now, rng) else {
            return Vec::new();
        };
        self.last = Some(Text {
            text,
            revision,
            unix_seconds,
        });
        let wait = RENEW_MIN + Duration::from_secs(rng.below(RENEW_SPREAD_SECONDS + 1));
        if renewal == Renewal::All || self.next_upload.is_none() {
            self.next_upload = Some((now.mono + wait, now.wall + wait));
        }
        let mut cancelled = Vec::new();
        for directory in self.directories.values_mut() {
            if renewal == Renewal::Missing && directory.held.is_some() {
                continue;
            }
            if let Stage::Uploading(upload) = directory.stage {
                cancelled.push(upload);
            }
            directory.stage = Stage::Due;
        }
        cancelled
    }

    /// The revision counter of a time (appendix F.2, as `tor` has it): the time since the shared
    /// random value of the period came out, under an order-preserving encryption.
    fn revision(&self, unix_seconds: u64) -> u64 {
        // Where runs are as long as periods, the value came out twelve votes before the period,
        // by which also the period's number is shifted.
        let start = self
            .period
            .number
            .saturating_mul(self.period.length_minutes * 60);
        let seconds = unix_seconds.saturating_sub(start).saturating_add(1);
        let counter = ope::encrypt(&ope::key(&self.blinded), seconds);
        let above = self.last.as_ref().map_or(0, |last| last.revision + 1);
        counter.max(above)
    }

    fn encode(
        &self,
        content: &Content<'_>,
        revision: u64,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Arc<str>> {
        let versions = || Protocols::parse(FLOW_CONTROL).expect("it is a list of versions");
        let flow_control = content.congestion.map(|sendme_inc| FlowControl {
            versions: versions(),
            sendme_inc,
        });
        let plaintext = HsPlaintext {
            flow_control,
            intro_points: content.points.to_vec(),
            ..HsPlaintext::default()
        };
        let builder = HsDescriptorBuilder {
            identity: content.identity,
            blinded: &self.blinded,
            signing: &self.signing,
            revision,
            lifetime_minutes: HS_DESCRIPTOR_LIFETIME_MINUTES,
            plaintext: &plaintext,
            clients: content.clients,
        };
        match builder.encode(now.wall, rng) {
            Ok(text) => Some(text.into()),
            Err(error) => {
                tracing::error!(%error, "an onion-service descriptor cannot be written");
                None
            }
        }
    }

    /// Whether there is a directory to upload to.
    pub(super) fn has_due(&self) -> bool {
        let is_due = |it: &Directory| it.stage == Stage::Due;
        self.last.is_some() && self.directories.values().any(is_due)
    }

    /// The next directory to upload to, with the text; it is then under way as `id`.
    pub(super) fn begin(&mut self, id: UploadId) -> Option<(RsaId, Arc<str>)> {
        let last = self.last.as_ref()?;
        let mut directories = self.directories.iter_mut();
        let (relay, directory) = directories.find(|(_, it)| it.stage == Stage::Due)?;
        directory.stage = Stage::Uploading(id);
        directory.offered = last.revision;
        // In tor's words: programs that wait for a service read them.
        tracing::debug!(
            "Service [scrubbed] {} descriptor of revision {} initiated upload request",
            self.period.number,
            last.revision
        );
        Some((*relay, Arc::clone(&last.text)))
    }

    /// Whether an upload was one of this descriptor's; it is over.
    pub(super) fn finish(&mut self, id: UploadId, is_taken: bool, now: Now, rng: &mut Rng) -> bool {
        let mut directories = self.directories.values_mut();
        let Some(directory) = directories.find(|it| it.stage == Stage::Uploading(id)) else {
            return false;
        };
        if is_taken {
            directory.stage = Stage::Held;
            directory.held = Some((directory.offered, now.wall));
            directory.failures = 0;
        } else {
            let doubled = RETRY_MIN.saturating_mul(1 << directory.failures.min(16));
            let wait = doubled.min(RETRY_MAX);
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            // Between half of it and all of it: directories that failed together do not come
            // back together.
            let wait = Duration::from_millis(millis / 2 + rng.below(millis / 2 + 1));
            directory.failures = directory.failures.saturating_add(1);
            directory.stage = Stage::Failed(now.mono + wait);
        }
        true
    }

    /// The uploads under way.
    pub(super) fn uploading(&self) -> Vec<UploadId> {
        let stages = self.directories.values().map(|directory| directory.stage);
        stages
            .filter_map(|stage| match stage {
                Stage::Uploading(id) => Some(id),
                _ => None,
            })
            .collect()
    }

    /// Whether a visitor may expect to find it: more than half of its directories have it, or
    /// some, and the others have been tried.
    pub(super) fn stands(&self) -> bool {
        let held = self.directories.values().filter(|it| it.held.is_some());
        let held = held.count();
        let is_untried = |it: &Directory| it.held.is_none() && it.failures == 0;
        let is_tried = !self.directories.values().any(is_untried);
        held * 2 > self.directories.len() || (held > 0 && is_tried)
    }

    /// When [`Descriptor::advance`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let retries = self.directories.values().filter_map(|it| match it.stage {
            Stage::Failed(again_at) => Some(again_at),
            _ => None,
        });
        let renewal = self.renewal.map(|(_, at)| at);
        let next = self.next_upload.map(|(mono, _)| mono);
        retries.chain(renewal).chain(next).min()
    }

    /// How it stands.
    pub(super) fn status(&self) -> DescriptorStatus {
        let of = |(relay, it): (&RsaId, &Directory)| HsDirStatus {
            relay: *relay,
            revision: it.held.map(|(revision, _)| revision),
            since: it.held.map(|(_, at)| at),
            is_uploading: matches!(it.stage, Stage::Uploading(_)),
            failures: it.failures,
        };
        DescriptorStatus {
            period: self.period.number,
            period_minutes: self.period.length_minutes,
            revision: self.last.as_ref().map(|last| last.revision),
            next_upload: self.next_upload.map(|(_, wall)| wall),
            hsdirs: self.directories.iter().map(of).collect(),
        }
    }
}

fn until_next_second(now: Now) -> Duration {
    let since = now.wall.duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |it| it.subsec_nanos());
    Duration::from_secs(1).saturating_sub(Duration::from_nanos(nanos.into()))
}
