//! Which descriptors an authority takes (dir-spec 3.2, 4.1; `tor`: process_descs.c).
//!
//! All signatures must hold (`cepa_netdoc`), the descriptor must be of its time, its address and
//! its software one that may be used. One that differs from the relay's last one in nothing that
//! matters is answered with 200, but the last one is kept. Unlike `tor`, which answers 200 even to
//! what it cannot read, whatever is refused gets 400 and the reason; what else stands in the same
//! upload is taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_netdoc::descriptor::{ServerDescriptor, split_upload};
use cepa_netdoc::extrainfo::{EXTRA_INFO_LIMITS, ExtraInfo, ExtraInfoMismatch};
use cepa_netdoc::microdesc::{self, Microdesc};
use cepa_netdoc::policy::is_internal;

use crate::command::Reply;
use crate::compute::Version;
use crate::config::{Config, METHODS};
use crate::rules::{Subject, Verdict};
use crate::voted::{self, AGE_MAX};

/// A descriptor may be from so far in the future (`tor`: ROUTER_ALLOW_SKEW).
const FUTURE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// A cosmetic change is taken only this long after the last one.
const COSMETIC_AGE: Duration = Duration::from_secs(2 * 60 * 60);
/// Documents of one upload that are looked at: a descriptor and its extra-info, as a rule.
const PARTS_MAX: usize = 16;
/// A version must be shorter than this (`tor`'s buffer for one).
const VERSION_LEN_MAX: usize = 127;

/// Where a descriptor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The relay itself.
    Relay,
    /// Another authority, which has taken it already.
    Taken,
    /// An earlier run.
    Stored,
}

/// What was read of an upload, with its signatures verified.
#[derive(Debug, Clone, Default)]
pub struct RelayUpload {
    /// The descriptors that could be read.
    pub(crate) descriptors: Vec<Arc<ServerDescriptor>>,
    /// The extra-info documents that could be read.
    pub(crate) extra_infos: Vec<Arc<ExtraInfo>>,
    /// Why the first of the others could not.
    pub(crate) refusal: Option<Reply>,
}

impl RelayUpload {
    /// Reads the body of a POST to `/tor/`. This is the costly part, and needs no authority: it is
    /// a job beside its loop.
    ///
    /// # Errors
    /// The refusal if nothing in it could be read.
    pub fn read(body: &str) -> Result<Self, Reply> {
        if body.starts_with('\u{feff}') {
            return Err(Reply::refused("descriptor(s) or extrainfo(s) had BOM."));
        }
        let mut upload = RelayUpload::default();
        for part in split_upload(body).take(PARTS_MAX) {
            let read = match part.is_extra_info {
                true => read_extra_info(part.text).map(|info| upload.extra_infos.push(info)),
                false => read_descriptor(part.text).map(|desc| upload.descriptors.push(desc)),
            };
            if let Err(reason) = read {
                let refusal = Reply::refused(reason);
                upload.refusal.get_or_insert(refusal);
            }
        }
        let is_empty = upload.descriptors.is_empty() && upload.extra_infos.is_empty();
        match upload.refusal {
            Some(refusal) if is_empty => Err(refusal),
            None if is_empty => Err(Reply::refused("No descriptors found in your POST.")),
            _ => Ok(upload),
        }
    }
}

fn read_descriptor(text: &str) -> Result<Arc<ServerDescriptor>, String> {
    if !text.ends_with('\n') {
        return Err("Malformed descriptor: it does not end".to_owned());
    }
    match ServerDescriptor::parse(text) {
        Ok(desc) => Ok(Arc::new(desc)),
        Err(error) => Err(format!("Malformed descriptor: {error}")),
    }
}

fn read_extra_info(text: &str) -> Result<Arc<ExtraInfo>, String> {
    if text.len() > EXTRA_INFO_LIMITS.bytes_max {
        return Err("Extrainfo document was too large".to_owned());
    }
    match ExtraInfo::parse(text) {
        Ok(info) => Ok(Arc::new(info)),
        Err(error) => Err(format!("Malformed extra-info: {error}")),
    }
}

/// What is said of an extra-info that is not the one that its descriptor announces.
pub(crate) fn mismatch(error: &ExtraInfoMismatch) -> Reply {
    Reply::refused(match error {
        ExtraInfoMismatch::OtherRelay => "Extrainfo nickname or identity did not match routerinfo",
        ExtraInfoMismatch::OtherDigest => {
            "Neither digest256 or digest matched digest from routerdesc"
        }
        ExtraInfoMismatch::OtherTime => "Extrainfo published time did not match routerdesc",
        ExtraInfoMismatch::BadSignature => "Extrainfo signature did not verify",
    })
}

/// What makes a descriptor unacceptable by itself.
pub(crate) fn check(
    desc: &ServerDescriptor,
    config: &Config,
    now: SystemTime,
) -> Result<(), Reply> {
    let refuse = |reason: &str| Err(Reply::refused(reason));
    let mut rules = config.rules.of(desc);
    if let Some(rule) = rules.find(|rule| rule.verdict == Verdict::Reject) {
        return refuse(match rule.subject {
            Subject::Rsa(_) | Subject::Ed25519(_) => {
                "Fingerprint and/or ed25519 identity is marked rejected"
            }
            _ => "Suspicious relay address range",
        });
    }
    check_platform(
        desc.platform.as_deref().unwrap_or_default(),
        &config.tor_version_min,
    )?;
    if desc.published > now + FUTURE_MAX {
        return refuse("Rejected: Your clock is set too far in the future.");
    }
    if desc.published + AGE_MAX < now || desc.expires < now {
        return refuse("Rejected: Server is expired, or your clock is too far in the past.");
    }
    let (ipv4, ipv6) = (desc.or_address.ip(), desc.or_address_v6);
    let is_private = is_internal((*ipv4).into())
        || ipv6.is_some_and(|address| is_internal((*address.ip()).into()));
    if is_private && !config.allows_private_addresses {
        return refuse("Rejected: Address is a private address.");
    }
    // What is taken is voted for, and whoever gets the vote must be able to read it.
    voted::check(desc)
        .map_err(|reason| Reply::refused(format!("Rejected: not fit for a vote: {reason}")))?;
    for method in METHODS {
        let text = microdesc::from_descriptor(desc, method);
        if let Some(Err(error)) = text.map(|text| Microdesc::parse(&text)) {
            return refuse(&format!("Rejected: not fit for a microdescriptor: {error}"));
        }
    }
    Ok(())
}

/// The version of a `tor`, in whose platform it stands behind the first word; others have none.
fn check_platform(platform: &str, oldest: &str) -> Result<(), Reply> {
    const BLANKS: [char; 3] = [' ', '\t', '\r'];
    let Some(rest) = platform.strip_prefix("Tor ") else {
        return Ok(());
    };
    let rest = rest.trim_start_matches(BLANKS);
    let word_end = |text: &str| text.find([' ', '\t', '\r', '#']).unwrap_or(text.len());
    let mut end = word_end(rest);
    let behind = rest.get(end..).unwrap_or_default();
    let next = behind.trim_start_matches(BLANKS);
    if next.starts_with("(r") || next.starts_with("(git-") {
        end += behind.len() - next.len() + word_end(next);
    }
    let version = rest.get(..end).filter(|text| text.len() < VERSION_LEN_MAX);
    match version.and_then(Version::parse) {
        None => Err(Reply::refused("Malformed platform string.")),
        Some(version) if version.is_before(oldest) => {
            let reason = "Tor version is insecure or unsupported. Please upgrade!";
            Err(Reply::refused(reason))
        }
        Some(_) => Ok(()),
    }
}

/// The reply to a descriptor that does not replace the one that is known; none if it does.
pub(crate) fn old(
    desc: &ServerDescriptor,
    known: &ServerDescriptor,
    source: Source,
) -> Option<Reply> {
    let is_soon = desc.published < known.published + COSMETIC_AGE;
    let is_cosmetic = source == Source::Relay && is_soon && desc.differs_only_cosmetically(known);
    // Of two descriptors of one second the first stays.
    let is_old = desc.published <= known.published;
    (is_old || is_cosmetic).then(|| Reply {
        is_not_new: true,
        ..Reply::ok("Not replacing the earlier descriptor")
    })
}
