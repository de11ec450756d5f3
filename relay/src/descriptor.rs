//! What a relay says of itself: server descriptor and extra-info (dir-spec 2.1).
//!
//! Both are made and signed together and travel in one body. The platform does not start with
//! `Tor `, lest authorities judge our version by theirs; the protocols are what the code does
//! today.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::Ed25519Id;
use cepa_dir::RouterDocument;
use cepa_netdoc::descriptor::{
    Bandwidth, BuildError, DescriptorError, DescriptorFields, ServerDescriptor,
};
use cepa_netdoc::extrainfo::ExtraInfo;
use cepa_netdoc::family::Family;

use cepa_wire::cert::{Cert, CertKeyType, CertType};

use crate::config::RelayConfig;
use crate::exit_policy::ExitPolicy;
use crate::keys::RelayKeys;

/// The subprotocols that this program speaks as a relay, and no more.
pub const PROTOCOLS: &str = "Cons=2 Desc=2-4 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 HSRend=2 \
     Link=4-5 LinkAuth=3 Microdesc=2-3 Padding=2 Relay=2-6";

/// Why a relay cannot describe itself: something in its configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The descriptor cannot be written.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The descriptor can be written, and not be read.
    #[error(transparent)]
    Read(#[from] DescriptorError),
}

/// What a relay says of its work.
pub(crate) struct Work<'a> {
    /// The bandwidth that was seen, in bytes a second.
    pub(crate) observed: u32,
    /// Whether it takes nothing now.
    pub(crate) is_hibernating: bool,
    /// How long it has run.
    pub(crate) uptime: Duration,
    /// Lines of statistics, for the extra-info.
    pub(crate) statistics: &'a [String],
}

/// A relay's descriptor with its extra-info.
#[derive(Debug, Clone)]
pub struct OwnDocuments {
    /// The server descriptor.
    pub descriptor: RouterDocument,
    /// The extra-info document.
    pub extra_info: RouterDocument,
    /// The bandwidth that it work.
    pub observed: u32,
}

impl OwnDocuments {
    /// Makes and signs both.
    pub(crate) fn make(
        config: &RelayConfig,
        policy: &ExitPolicy,
        keys: &RelayKeys,
        work: &Work<'_>,
        published: SystemTime,
    ) -> Result<Self, DescribeError> {
        let is_hibernating = work.is_hibernating;
        // Documents have whole seconds, and both must have the same.
        let seconds = cepa_wire::time::unix_seconds(published);
        let published = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let family_certs = family_certs(config, keys.ed25519_id(), published);
        let keys = keys.descriptor_keys();
        let extra_info = ExtraInfo::build(&config.nickname, published, work.statistics, &keys)?;
        let extra_info = ExtraInfo::parse(&extra_info)?;
        let observed = work.observed.max(config.bandwidth_observed_min);
        let fields = DescriptorFields {
            nickname: config.nickname.clone(),
            or_address: config.or_address,
            dir_port: config.dir_port,
            or_address_v6: config.or_address_v6,
            platform: format!("Cepa {} on {}", config.version, platform_name()),
            protocols: config.protocols.clone(),
            published,
            uptime_seconds: work.uptime.as_secs(),
            bandwidth: Bandwidth {
                average: config.bandwidth_rate.max(1),
                burst: config.bandwidth_burst.max(config.bandwidth_rate).max(1),
                // As with `tor`: nobody is to choose it by what it could carry.
                observed: if is_hibernating { 0 } else { observed },
            },
            extra_info_digest: Some(extra_info.digest),
            caches_extra_info: config.serves_directory,
            // A family's other members would give a bridge away.
            family: match config.is_bridge() {
                true => Family::default(),
                false => config.family.clone(),
            },
            family_certs,
            is_hibernating,
            is_hidden_service_dir: config.serves_directory && !config.is_bridge(),
            contact: config.contact.clone(),
            bridge_distribution_request: config.bridge_distribution.clone(),
            policy: policy.rules().clone(),
            is_dir_server: config.serves_directory,
            overload_general: None,
        };
        // Reading it again gives the digest, and finds out what no authority would take.
        let descriptor = ServerDescriptor::parse(&fields.build(&keys)?)?;
        Ok(OwnDocuments {
            descriptor: (&descriptor).into(),
            extra_info: (&extra_info).into(),
            observed,
        })
    }

    /// What is uploaded: the descriptor, the extra-info behind it.
    #[must_use]
    pub fn body(&self) -> Arc<str> {
        format!("{}{}", self.descriptor.text, self.extra_info.text).into()
    }
}

/// How long a family certifies its members, as with `tor`; new ones come with each descriptor.
const FAMILY_CERT_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// That each of our families has this relay among its members (proposal 321).
fn family_certs(config: &RelayConfig, member: Ed25519Id, published: SystemTime) -> Vec<Vec<u8>> {
    let keys = config.family_keys.iter().filter(|_| !config.is_bridge());
    keys.map(|key| {
        let (kind, expires) = (CertType::FAMILY_ID, published + FAMILY_CERT_LIFE);
        Cert::make_expanded(
            kind,
            expires,
            CertKeyType::ED25519,
            member.as_bytes(),
            key,
            true,
        )
    })
    .collect()
}

fn platform_name() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "freebsd" => "FreeBSD",
        "windows" => "Windows",
        other => other,
    }
}
