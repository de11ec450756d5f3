//! Microdescriptors: what clients need of a descriptor, made by the authorities (dir-spec.txt
//! section 3.3, with the consensus methods 32 to 37 of `tor` 0.4.9).
//!
//! A microdescriptor is not signed: SHA-256 of its exact text stands in the consensus, so that
//! [`from_descriptor`] must give the very bytes that `tor` makes of the same descriptor.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cepa_crypto::{Ed25519Id, curve25519, digest, encoding};

use crate::descriptor::{FAMILY_CERTS_MAX, ServerDescriptor};
use crate::family::Family;
use crate::item::{ItemError, Limits, Section, split_documents};
use crate::policy::PortPolicy;

/// Largest microdescriptor; the family of a descriptor is all that can make it long.
pub const MICRODESC_LIMITS: Limits = Limits {
    bytes_max: 32 * 1024,
    items_max: 256,
};
/// The first consensus method that puts families by key into microdescriptors.
pub const METHOD_FAMILY_IDS: u32 = 35;
/// The first that makes microdescriptors of relays without a TAP key.
pub const METHOD_TAP_OPTIONAL: u32 = 36;
/// The first that leaves TAP keys and families by list out.
pub const METHOD_WITHOUT_TAP: u32 = 37;
/// Most family identities: those of a descriptor.
pub const FAMILY_IDS_MAX: usize = FAMILY_CERTS_MAX;

/// Why a text is no microdescriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MicrodescError {
    /// An item is missing, repeated, misplaced or malformed.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// A key is malformed.
    #[error("malformed key in {0}")]
    BadKey(&'static str),
}

/// A microdescriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Microdesc {
    /// SHA-256 of the text, by which consensuses and requests name it.
    pub digest: [u8; 32],
    /// The key of the ntor handshakes.
    pub ntor_onion_key: curve25519::PublicKey,
    /// The relay's master identity.
    pub ed25519: Option<Ed25519Id>,
    /// The relays that it calls its family.
    pub family: Family,
    /// The families that it is certified for, as words (`ed25519:` and a key).
    pub family_ids: BTreeSet<String>,
    /// The ports that it connects to over IPv4.
    pub policy: PortPolicy,
    /// The ports that it connects to over IPv6.
    pub ipv6_policy: PortPolicy,
}

impl Microdesc {
    /// Reads one microdescriptor. The digest is that of the whole text.
    pub fn parse(text: &str) -> Result<Self, MicrodescError> {
        let section = Section::parse(text, MICRODESC_LIMITS)?;
        section.required_at(0, "onion-key")?;
        let ntor: [u8; 32] = encoding::base64_array(section.required("ntor-onion-key")?.arg(0)?)
            .ok_or(MicrodescError::BadKey("ntor-onion-key"))?;
        let mut ed25519 = None;
        for item in section
            .all("id")
            .filter(|item| item.arg(0) == Ok("ed25519"))
        {
            let id = item.arg_as(1).map_err(|_| MicrodescError::BadKey("id"))?;
            if ed25519.replace(id).is_some() {
                return Err(ItemError::Repeated("id".to_owned()).into());
            }
        }
        let family = section.optional("family")?;
        let family_ids = section.optional("family-ids")?;
        Ok(Self {
            digest: digest::sha256(text.as_bytes()),
            ntor_onion_key: curve25519::PublicKey::from_bytes(&ntor)
                .ok_or(MicrodescError::BadKey("ntor-onion-key"))?,
            ed25519,
            family: family.map_or_else(Family::default, |item| Family::parse(item.args_text)),
            family_ids: (family_ids.into_iter())
                .flat_map(|item| item.args().take(FAMILY_IDS_MAX).map(str::to_owned))
                .collect(),
            policy: policy(&section, "p")?,
            ipv6_policy: policy(&section, "p6")?,
        })
    }

    /// The digest as it stands in consensuses, votes and requests: base64 without padding.
    pub fn digest_base64(&self) -> String {
        encoding::base64_unpadded(&self.digest)
    }

    /// Whether two relays are of one family by certificate: both name the same family key.
    pub fn shares_family_id(&self, other: &Self) -> bool {
        !self.family_ids.is_disjoint(&other.family_ids)
    }
}

/// A port list; one that is missing, or that nobody can read, allows nothing (as in `tor`).
fn policy(section: &Section<'_>, keyword: &str) -> Result<PortPolicy, MicrodescError> {
    let item = section.optional(keyword)?;
    let ports = item.and_then(|item| PortPolicy::parse(item.args_text).ok());
    Ok(ports.unwrap_or_else(PortPolicy::reject_all))
}

/// Writes the microdescriptor of a descriptor by a consensus method from 32 on. A relay without
/// a TAP key has none before method 36.
pub fn from_descriptor(descriptor: &ServerDescriptor, method: u32) -> Option<String> {
    let tap = match &descriptor.tap_onion_key {
        None if method < METHOD_TAP_OPTIONAL => return None,
        Some(key) if method < METHOD_WITHOUT_TAP => key.to_pem(),
        _ => String::new(),
    };
    let ntor = encoding::base64_unpadded(descriptor.ntor_onion_key.as_bytes());
    let mut text = format!("onion-key\n{tap}ntor-onion-key {ntor}\n");
    let mut push = |keyword: &str, rest: &dyn std::fmt::Display| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{keyword} {rest}");
    };
    if method < METHOD_WITHOUT_TAP && !descriptor.family.is_empty() {
        push(
            "family",
            &descriptor.family.canonical_with(descriptor.identity),
        );
    }
    if method >= METHOD_FAMILY_IDS && !descriptor.family_ids.is_empty() {
        let ids: BTreeSet<String> = descriptor.family_ids.iter().map(family_id).collect();
        push("family-ids", &ids.into_iter().collect::<Vec<_>>().join(" "));
    }
    let policy = descriptor.policy.summary_ipv4().encode();
    let reject_all = PortPolicy::reject_all().encode();
    if policy != reject_all {
        push("p", &policy);
    }
    if let Some(ipv6_policy) = &descriptor.ipv6_policy {
        let ipv6_policy = ipv6_policy.encode();
        if ipv6_policy != reject_all {
            push("p6", &ipv6_policy);
        }
    }
    push("id", &format_args!("ed25519 {}", descriptor.ed25519));
    Some(text)
}

/// The word for a family key in `family-ids` lines.
pub fn family_id(key: &Ed25519Id) -> String {
    format!("ed25519:{key}")
}

/// Cuts a text of several microdescriptors, as `/tor/micro/…` serves them.
pub fn split_microdescs(text: &str) -> impl Iterator<Item = &str> {
    split_documents(text, &["onion-key"])
}

// That what we make is what `tor` makes is tested beside the descriptors.
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOR_MICRODESCS: &str = include_str!("../../../tests/vectors/netdoc/tor-microdescs.txt");

    #[test]
    fn variations_are_read() {
        let key = "ntor-onion-key UvLRTC3JJ/cNH+r+dV1EJQEcPCw0UTWyS7aXFnY3kVQ";
        // The TAP key may be missing, the padding present, policies of a later form.
        let text = format!("onion-key\n{key}=\nid rsa1024 x\np mostly 80\nnew x\n");
        let microdesc = Microdesc::parse(&text).unwrap();
        assert!(microdesc.ed25519.is_none() && microdesc.policy.is_reject_all());
        for text in [
            String::new(),
            format!("{key}\n"),
            format!("onion-key\n{key}A\n"),
            format!("onion-key\n{key}\n{key}\n"),
            format!("onion-key\n{key}\nid ed25519 short\n"),
            format!(
                "onion-key\n{key}\nid ed25519 {0}\nid ed25519 {0}\n",
                "A".repeat(43)
            ),
        ] {
            assert!(Microdesc::parse(&text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn changed_bytes_change_the_digest(at in 0..700usize, byte in 0u8..0x7f) {
            let mut bytes = split_microdescs(TOR_MICRODESCS).next().unwrap().as_bytes().to_vec();
            prop_assume!(at < bytes.len() && bytes[at] != byte);
            bytes[at] = byte;
            if let Ok(microdesc) = Microdesc::parse(std::str::from_utf8(&bytes).unwrap()) {
                prop_assert_ne!(
                    microdesc.digest_base64(), "hCaQ/QjfKaNGzyjfWyuLZQIREcL8y8KfgZc4Pza/z1A"
                );
            }
        }

        #[test]
        fn truncation_is_survived(len in 0..TOR_MICRODESCS.len()) {
            for text in split_microdescs(&TOR_MICRODESCS[..len]) {
                let _ = Microdesc::parse(text);
            }
        }
    }
}
