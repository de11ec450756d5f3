//! Server descriptors: what a relay says of itself (dir-spec.txt section 2.1.1).
//!
//! A [`ServerDescriptor`] only comes out of [`ServerDescriptor::parse`], which checks all that
//! `tor` checks: both signatures, the certificate of the signing key, both cross-certificates of
//! the onion keys, the fingerprint, the family certificates and the presence of each mandatory
//! item. Certificates may have run out: [`ServerDescriptor::expires`] is for the caller's clock.
//! The text is kept as it was read, unknown lines included, to be served again. Relays write
//! theirs with [`DescriptorFields::build`].

mod build;
mod parse;
mod signature;

pub use build::{BuildError, DescriptorFields, DescriptorKeys, sign_descriptor};
pub(crate) use signature::{RouterSignatures, append_signatures};

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::time::{Duration, SystemTime};

use cepa_crypto::{Ed25519Id, RsaId, curve25519, rsa};
use cepa_wire::cert::CertError;

use crate::family::Family;
use crate::item::{ItemError, Limits, split_documents};
use crate::policy::{AddrPolicy, BadPolicy, PortPolicy};
use crate::protover::Protocols;
use crate::timestamp::unix_seconds;

/// Largest descriptor (`tor`'s `MAX_DESCRIPTOR_UPLOAD_SIZE`).
pub const DESCRIPTOR_LIMITS: Limits = Limits {
    bytes_max: 20_000,
    items_max: 4096,
};
/// Most family certificates of a descriptor; more do not fit into one.
pub const FAMILY_CERTS_MAX: usize = 128;

/// Two descriptors further apart differ by more than cosmetics (`tor`'s
/// `ROUTER_MAX_COSMETIC_TIME_DIFFERENCE`).
const COSMETIC_AGE: Duration = Duration::from_secs(2 * 60 * 60);
/// How far the uptime may be from what the time between two descriptors lets expect.
const UPTIME_DRIFT_SECONDS: u64 = 6 * 60 * 60;

/// Why a text is no server descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// An item is missing, repeated, misplaced or malformed.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// The exit policy is malformed.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// The nickname is malformed.
    #[error("malformed nickname")]
    BadNickname,
    /// The ORPort is zero.
    #[error("no ORPort")]
    NoOrPort,
    /// There is no exit policy.
    #[error("no exit policy")]
    NoPolicy,
    /// There is an `accept6` or `reject6` line; `tor` refuses those.
    #[error("accept6 or reject6 line")]
    Ipv6Rule,
    /// A member of the family is neither nickname nor fingerprint.
    #[error("malformed family")]
    BadFamily,
    /// Only one of the TAP onion key and its cross-certificate is there.
    #[error("TAP onion key without its cross-certificate, or the reverse")]
    PartialTapKey,
    /// The fingerprint, or the Ed25519 master key, is not that of the key.
    #[error("{0} does not match its key")]
    Mismatch(&'static str),
    /// A certificate is malformed or of the wrong type.
    #[error("{0}: {1}")]
    BadCert(&'static str, CertError),
    /// A certificate certifies something else.
    #[error("{0} certifies another key")]
    WrongCertifiedKey(&'static str),
    /// A signature does not verify.
    #[error("{0} does not verify")]
    BadSignature(&'static str),
}

/// Bandwidths that a relay claims, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What it is willing to carry over long times.
    pub average: u32,
    /// What it is willing to carry in short intervals.
    pub burst: u32,
    /// The most that the relay has seen itself carry, in bytes a second.
    pub observed: u32,
}

/// Digests of the extra-info document that belongs to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraInfoDigest {
    /// SHA-1 of its signed part.
    pub sha1: [u8; 20],
    /// SHA-256 of the whole document, signatures included.
    pub sha256: Option<[u8; 32]>,
}

/// A server descriptor whose signatures have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDescriptor {
    /// The descriptor as it was read, from `router` to the end of the last signature.
    pub text: String,
    /// SHA-1 of the signed part, by which consensuses and requests name the descriptor.
    pub digest: [u8; 20],
    /// SHA-256 of the same part.
    pub digest_sha256: [u8; 32],
    /// The relay's nickname.
    pub nickname: String,
    /// Its IPv4 address and ORPort.
    pub or_address: SocketAddrV4,
    /// Its DirPort; 0 if it has none.
    pub dir_port: u16,
    /// Its first IPv6 address and ORPort.
    pub or_address_v6: Option<SocketAddrV6>,
    /// SHA-1 of its RSA identity key: its fingerprint.
    pub identity: RsaId,
    /// Its RSA identity key.
    pub identity_key: rsa::PublicKey,
    /// Its Ed25519 master identity.
    pub ed25519: Ed25519Id,
    /// The certificate by which the master identity signs the signing key.
    pub identity_cert: Vec<u8>,
    /// When the first of its certificates runs out.
    pub expires: SystemTime,
    /// The software that the relay says it runs.
    pub platform: Option<String>,
    /// Its subprotocols as it wrote them; votes copy this text.
    pub proto: String,
    /// When the descriptor was made.
    pub published: SystemTime,
    /// Seconds since the relay was started.
    pub uptime_seconds: u64,
    /// Its bandwidths.
    pub bandwidth: Bandwidth,
    /// Its extra-info document.
    pub extra_info_digest: Option<ExtraInfoDigest>,
    /// Whether it caches extra-info documents.
    pub caches_extra_info: bool,
    /// The key of the TAP handshake, which nobody uses but authorities want to see.
    pub tap_onion_key: Option<rsa::PublicKey>,
    /// The key of the ntor handshakes.
    pub ntor_onion_key: curve25519::PublicKey,
    /// The relays that it calls its family.
    pub family: Family,
    /// The family keys that certify it (proposal 321), in the order of the certificates.
    pub family_ids: Vec<Ed25519Id>,
    /// Whether it sleeps and must not be used.
    pub is_hibernating: bool,
    /// Whether it keeps descriptors of onion services.
    pub is_hidden_service_dir: bool,
    /// How the relay's operator can be reached.
    pub contact: Option<String>,
    /// How a bridge wants to be distributed.
    pub bridge_distribution_request: Option<String>,
    /// The relay's exit policy for IPv4.
    pub policy: AddrPolicy,
    /// The ports that it connects to over IPv6; none if missing.
    pub ipv6_policy: Option<PortPolicy>,
    /// Whether it answers directory requests over its ORPort.
    pub is_dir_server: bool,
    /// When the relay was last overloaded.
    pub overload_general: Option<SystemTime>,
    /// Lines that we do not know, without their newline and object.
    pub unknown_lines: Vec<String>,
}

impl ServerDescriptor {
    /// Its subprotocols; nothing if the line is malformed (votes then leave the relay out).
    pub fn protocols(&self) -> Option<Protocols> {
        Protocols::parse(&self.proto).ok()
    }

    /// Whether it accepts connections to an address and port.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        match address.to_canonical() {
            IpAddr::V4(_) => self.policy.allows(address, port),
            IpAddr::V6(_) => self
                .ipv6_policy
                .as_ref()
                .is_some_and(|ports| ports.allows(port)),
        }
    }

    /// Whether it accepts no connection at all, for certain.
    pub fn is_reject_all(&self) -> bool {
        let rejects_v6 = self
            .ipv6_policy
            .as_ref()
            .is_none_or(PortPolicy::is_reject_all);
        rejects_v6 && self.policy.is_reject_all(true, true)
    }

    /// Whether an authority that has one of the two need not take the other: what changed does
    /// not matter to clients (dir-spec.txt section 3.2). As in `tor`, neither the ntor key nor
    /// subprotocols nor certificates count, so that relays change the TAP key with the ntor key.
    pub fn differs_only_cosmetically(&self, other: &Self) -> bool {
        let (old, new) = if self.published <= other.published {
            (self, other)
        } else {
            (other, self)
        };
        old.has_same_place(new)
            && old.has_same_offer(new)
            && old.bandwidth.observed >= new.bandwidth.observed / 2
            && new.bandwidth.observed >= old.bandwidth.observed / 2
            && new.published <= old.published + COSMETIC_AGE
            && old.runs_on_in(new)
    }

    fn has_same_place(&self, other: &Self) -> bool {
        self.or_address == other.or_address
            && self.or_address_v6 == other.or_address_v6
            && self.dir_port == other.dir_port
            && self.nickname.eq_ignore_ascii_case(&other.nickname)
            && self.identity_key.to_der() == other.identity_key.to_der()
            && self.tap_onion_key.as_ref().map(rsa::PublicKey::to_der)
                == other.tap_onion_key.as_ref().map(rsa::PublicKey::to_der)
    }

    fn has_same_offer(&self, other: &Self) -> bool {
        same_text(self.platform.as_deref(), other.platform.as_deref())
            && same_text(self.contact.as_deref(), other.contact.as_deref())
            && self.is_hibernating == other.is_hibernating
            && self.policy == other.policy
            && self.family == other.family
            && self.is_dir_server == other.is_dir_server
            && self.bandwidth.average == other.bandwidth.average
            && self.bandwidth.burst == other.bandwidth.burst
    }

    /// Whether `newer`'s uptime is about what it must be if the relay was not restarted.
    fn runs_on_in(&self, newer: &Self) -> bool {
        let between = unix_seconds(newer.published).saturating_sub(unix_seconds(self.published));
        let expected = self.uptime_seconds.saturating_add(between);
        let drift = expected.abs_diff(newer.uptime_seconds);
        drift <= UPTIME_DRIFT_SECONDS
            || drift <= self.uptime_seconds / 20
            || drift <= newer.uptime_seconds / 20
    }
}

fn same_text(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        (None, None) => true,
        _ => false,
    }
}

/// One document of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadPart<'a> {
    /// Whether it is an extra-info document instead of a descriptor.
    pub is_extra_info: bool,
    /// Its text, to the end of its last signature; an annotation before it belongs to it.
    pub text: &'a str,
}

/// Cuts the body of an upload into descriptors and extra-info documents, as `tor` does: each from
/// its first line to the end of its RSA signature. What stands between and behind is nobody's; a
/// document that does not end is the last.
pub fn split_upload(body: &str) -> impl Iterator<Item = UploadPart<'_>> {
    const SIGNATURE: &str = "\nrouter-signature";
    const END: &str = "\n-----END SIGNATURE-----\n";
    let mut rest = body;
    std::iter::from_fn(move || {
        let (start, is_extra_info) = start_of_document(rest)?;
        rest = rest.get(start..)?;
        let signature = rest.find(SIGNATURE);
        let end = signature.and_then(|at| Some(at + rest.get(at..)?.find(END)? + END.len()));
        let (text, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        Some(UploadPart {
            is_extra_info,
            text,
        })
    })
}

/// Where the next document starts, and whether it is an extra-info.
fn start_of_document(text: &str) -> Option<(usize, bool)> {
    let (mut at, mut annotation) = (0, None);
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches([' ', '\t', '\r']);
        let start = at + line.len() - bare.len();
        at += line.len();
        if bare.starts_with('@') {
            annotation = annotation.or(Some(start));
        }
        let is_extra_info = bare.starts_with("extra-info ");
        if is_extra_info || bare.starts_with("router ") {
            return Some((annotation.unwrap_or(start), is_extra_info));
        }
    }
    None
}

/// Cuts a text of several descriptors, as `/tor/server/…` serves them.
pub fn split_descriptors(text: &str) -> impl Iterator<Item = &str> {
    split_documents(text, &["router"])
}

#[cfg(test)]
pub(crate) mod tests;
