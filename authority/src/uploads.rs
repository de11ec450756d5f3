//! Which descriptors an authority takes (dir-spec 3.2, 4.1; `tor`: process_descs.c).
//!
//! All signatures must hold (`cepa_netdoc`), the descriptor must be of its time, its address and
//! its software one that may be used. One that differs from the relay's last one in nothing that
//! matters is answered with 200, but the last one is kept. Unlike `tor`, which answers 200 even to
//! what it cannot read, whatever is refused gets 400 and the reason.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_netdoc::descriptor::{ServerDescriptor, split_descriptors};
use cepa_netdoc::extrainfo::{ExtraInfo, split_extra_infos};
use cepa_netdoc::microdesc::{self, Microdesc};
use cepa_netdoc::policy::is_internal;

use crate::command::Reply;
use crate::compute::version_numbers;
use crate::config::{Config, METHODS};
use crate::relays::AGE_MAX;
use crate::vote;

/// A descriptor may be from so far in the future (`tor`: ROUTER_ALLOW_SKEW).
const FUTURE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// A cosmetic change is taken only this long after the last one.
const COSMETIC_AGE: Duration = Duration::from_secs(2 * 60 * 60);
/// The oldest `tor` that is taken.
const TOR_VERSION_MIN: [u32; 4] = [0, 4, 8, 0];

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

/// A descriptor that was read, its signatures verified, and the extra-info that belongs to it, if
/// it was there.
#[derive(Debug, Clone)]
pub struct RelayUpload {
    /// The descriptor.
    pub(crate) desc: Arc<ServerDescriptor>,
    /// Its extra-info.
    pub(crate) extra_info: Option<Arc<ExtraInfo>>,
}

impl RelayUpload {
    /// Reads the body of a POST to `/tor/`. This is the costly part, and needs no authority: it is
    /// a job beside its loop.
    ///
    /// # Errors
    /// The refusal of what is malformed or badly signed.
    pub fn read(body: &str) -> Result<Self, Reply> {
        let (desc, extra_info) = read(body)?;
        Ok(RelayUpload {
            desc: Arc::new(desc),
            extra_info: extra_info.map(Arc::new),
        })
    }
}

fn read(body: &str) -> Result<(ServerDescriptor, Option<ExtraInfo>), Reply> {
    if body.starts_with('\u{feff}') {
        return Err(Reply::refused("descriptor(s) or extrainfo(s) had BOM."));
    }
    // The extra-info stands behind the descriptor in the same body (dir-spec 4.1).
    let end = body.find("\nextra-info ").map_or(body.len(), |at| at + 1);
    let (descriptors, extra_infos) = body.split_at(end);
    let Some(text) = split_descriptors(descriptors).next() else {
        return Err(Reply::refused("No descriptors found in your POST."));
    };
    let desc = ServerDescriptor::parse(text)
        .map_err(|error| Reply::refused(format!("Malformed descriptor: {error}")))?;
    let extra_info = split_extra_infos(extra_infos)
        .next()
        .and_then(|text| ExtraInfo::parse(text).ok())
        .filter(|info| info.check_against(&desc).is_ok());
    Ok((desc, extra_info))
}

/// What makes a descriptor unacceptable by itself.
pub(crate) fn check(
    desc: &ServerDescriptor,
    config: &Config,
    now: SystemTime,
) -> Result<(), Reply> {
    let refuse = |reason: &str| Err(Reply::refused(reason));
    if config.rejected.contains(&desc.identity) {
        return refuse("Fingerprint and/or ed25519 identity is marked rejected");
    }
    if desc.tap_onion_key.is_none() {
        return refuse("Missing TAP key in descriptor.");
    }
    if let Some(version) = desc
        .platform
        .as_deref()
        .and_then(|text| text.strip_prefix("Tor "))
    {
        match version_numbers(version) {
            None => return refuse("Malformed platform string."),
            Some(numbers) if numbers < TOR_VERSION_MIN => {
                return refuse("Tor version is insecure or unsupported. Please upgrade!");
            }
            Some(_) => {}
        }
    }
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
    vote::check(desc)
        .map_err(|reason| Reply::refused(format!("Rejected: not fit for a vote: {reason}")))?;
    for method in METHODS {
        let text = microdesc::from_descriptor(desc, method);
        if let Some(Err(error)) = text.map(|text| Microdesc::parse(&text)) {
            return refuse(&format!("Rejected: not fit for a microdescriptor: {error}"));
        }
    }
    Ok(())
}

/// The reply to a descriptor that does not replace the one that is known; none if it does.
pub(crate) fn old(
    desc: &ServerDescriptor,
    known: &ServerDescriptor,
    source: Source,
) -> Option<Reply> {
    let is_soon = desc.published < known.published + COSMETIC_AGE;
    let is_cosmetic = source == Source::Relay && is_soon && desc.differs_only_cosmetically(known);
    let is_old = desc.digest == known.digest || desc.published < known.published;
    (is_old || is_cosmetic).then(|| Reply {
        is_not_new: true,
        ..Reply::ok("Not replacing the earlier descriptor")
    })
}
