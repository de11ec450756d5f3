//! Reading a server descriptor (dir-spec.txt section 2.1.1), with the demands of `tor` 0.4.9.
//!
//! First the items are read, each checked for how often it may occur; then the keys and
//! certificates are held against each other; the expensive signatures come last, those of
//! Ed25519 in one batch. Nothing of a descriptor gets out if one of them is wrong.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::SystemTime;

use cepa_crypto::ed25519::{self, BatchItem};
use cepa_crypto::{Ed25519Id, RsaId, curve25519, encoding, rsa};
use cepa_wire::cert::{CertType, UnverifiedCert};

use super::signature::{RouterSignatures, batch_item};
use super::{
    Bandwidth, DESCRIPTOR_LIMITS, DescriptorError, ExtraInfoDigest, FAMILY_CERTS_MAX,
    ServerDescriptor,
};
use crate::family::{Family, FamilyMember, is_nickname};
use crate::item::{ARGS_MAX, Item, ItemError, Section};
use crate::pem;
use crate::policy::{AddrPolicy, PortPolicy};

const NTOR_CROSSCERT: &str = "ntor-onion-key-crosscert";
const TAP_CROSSCERT: &str = "onion-key-crosscert";
const FAMILY_CERT: &str = "family-cert";

/// All keywords that the fields below stand for.
const KEYWORDS: [&str; 34] = [
    "router",
    "identity-ed25519",
    "master-key-ed25519",
    "bandwidth",
    "platform",
    "published",
    "fingerprint",
    "hibernating",
    "uptime",
    "onion-key",
    TAP_CROSSCERT,
    "ntor-onion-key",
    NTOR_CROSSCERT,
    "signing-key",
    "accept",
    "reject",
    "ipv6-policy",
    "overload-general",
    "router-sig-ed25519",
    "router-signature",
    "contact",
    "bridge-distribution-request",
    "family",
    "caches-extra-info",
    "extra-info-digest",
    "hidden-service-dir",
    "or-address",
    "tunnelled-dir-server",
    "proto",
    FAMILY_CERT,
    "accept6",
    "reject6",
    "allow-single-hop-exits",
    "eventdns",
];

/// What the first line says.
struct RouterLine {
    nickname: String,
    or_address: SocketAddrV4,
    dir_port: u16,
}

impl ServerDescriptor {
    /// Reads and checks one descriptor; blank lines behind it are ignored.
    pub fn parse(text: &str) -> Result<Self, DescriptorError> {
        let section = Section::parse(text, DESCRIPTOR_LIMITS)?;
        let router = router_line(section.required_at(0, "router")?)?;
        let signatures = RouterSignatures::read(&section)?;
        let identity_key = pem::relay_identity(section.required("signing-key")?)?;
        let keys = OnionKeys::read(&section, &signatures)?;
        let families = family_certs(&section, signatures.master)?;
        check_identities(&section, &identity_key, signatures.master)?;
        let (policy, ipv6_policy) = policies(&section)?;

        let others: Vec<BatchItem<'_>> = families
            .iter()
            .map(|(id, cert)| batch_item(cert, *id))
            .chain([batch_item(&keys.ntor_cert, keys.ntor_signer)])
            .collect();
        signatures.verify_ed25519(&others)?;
        keys.verify_tap(&identity_key.id(), &signatures.master)?;
        signatures.verify_rsa(&identity_key)?;

        let start = section.items.first().map_or(0, |item| item.start);
        Ok(Self {
            text: text
                .get(start..signatures.end)
                .unwrap_or_default()
                .to_owned(),
            digest: signatures.sha1,
            digest_sha256: signatures.sha256,
            nickname: router.nickname,
            or_address: router.or_address,
            dir_port: router.dir_port,
            or_address_v6: section.all("or-address").find_map(ipv6_address),
            identity: identity_key.id(),
            identity_key,
            ed25519: signatures.master,
            expires: expires(&signatures, &keys, &families),
            identity_cert: signatures.cert_bytes,
            platform: line(&section, "platform")?,
            proto: section.required("proto")?.args_text.to_owned(),
            published: section.required("published")?.timestamp(0)?,
            uptime_seconds: section
                .optional("uptime")?
                .map_or(Ok(0), |item| item.arg_as(0))?,
            bandwidth: bandwidth(section.required("bandwidth")?)?,
            extra_info_digest: section
                .optional("extra-info-digest")?
                .and_then(extra_info_digest),
            caches_extra_info: section.optional("caches-extra-info")?.is_some(),
            tap_onion_key: keys.tap.map(|(key, _)| key),
            ntor_onion_key: keys.ntor,
            family: family(&section)?,
            family_ids: families.iter().map(|(id, _)| *id).collect(),
            is_hibernating: match section.optional("hibernating")? {
                Some(item) => item.arg(0)? != "0",
                None => false,
            },
            is_hidden_service_dir: section.optional("hidden-service-dir")?.is_some(),
            contact: line(&section, "contact")?,
            bridge_distribution_request: line(&section, "bridge-distribution-request")?,
            policy,
            ipv6_policy,
            is_dir_server: router.dir_port != 0
                || section.optional("tunnelled-dir-server")?.is_some(),
            overload_general: section
                .optional("overload-general")?
                .and_then(|item| item.timestamp(1).ok()),
            unknown_lines: unknown_lines(&section),
        })
    }
}

/// When the first certificate of a descriptor runs out.
fn expires(
    signatures: &RouterSignatures,
    keys: &OnionKeys,
    families: &[(Ed25519Id, UnverifiedCert)],
) -> SystemTime {
    let certs = families.iter().map(|(_, cert)| cert);
    let others = certs.chain([&keys.ntor_cert]);
    others
        .map(|cert| cert.unchecked().expires())
        .fold(signatures.cert.unchecked().expires(), std::cmp::min)
}

fn router_line(item: &Item<'_>) -> Result<RouterLine, DescriptorError> {
    let nickname = Some(item.arg(0)?).filter(|name| is_nickname(name));
    let or_port: u16 = item.arg_as(2)?;
    if or_port == 0 {
        return Err(DescriptorError::NoOrPort);
    }
    Ok(RouterLine {
        nickname: nickname.ok_or(DescriptorError::BadNickname)?.to_owned(),
        or_address: SocketAddrV4::new(item.arg_as::<Ipv4Addr>(1)?, or_port),
        dir_port: item.arg(3).and_then(|_| item.arg_as(4))?,
    })
}

/// The onion keys and what cross-certifies them.
struct OnionKeys {
    ntor: curve25519::PublicKey,
    ntor_cert: UnverifiedCert,
    ntor_signer: Ed25519Id,
    tap: Option<(rsa::PublicKey, Vec<u8>)>,
}

impl OnionKeys {
    fn read(section: &Section<'_>, signatures: &RouterSignatures) -> Result<Self, DescriptorError> {
        let ntor_item = section.required("ntor-onion-key")?;
        let ntor: [u8; 32] =
            encoding::base64_array(ntor_item.arg(0)?).ok_or_else(|| ntor_item.bad_argument(0))?;
        let ntor =
            curve25519::PublicKey::from_bytes(&ntor).ok_or_else(|| ntor_item.bad_argument(0))?;
        let cross = section.required(NTOR_CROSSCERT)?;
        let sign_bit = match cross.arg(0)? {
            "0" => false,
            "1" => true,
            _ => return Err(cross.bad_argument(0).into()),
        };
        let signer = ed25519::public_from_curve25519(&ntor, sign_bit)
            .ok_or(DescriptorError::BadSignature(NTOR_CROSSCERT))?
            .id();
        let bad_cert = |error| DescriptorError::BadCert(NTOR_CROSSCERT, error);
        let cert = UnverifiedCert::parse(&pem::ed25519_cert(cross, pem::ED25519_CERT)?)
            .and_then(|cert| cert.expecting(CertType::NTOR_CROSS))
            .map_err(bad_cert)?;
        if cert.unchecked().ed25519_key() != signatures.master {
            return Err(DescriptorError::WrongCertifiedKey(NTOR_CROSSCERT));
        }
        let ntor_signer = cert.signer(Some(signer)).map_err(bad_cert)?;
        let tap = match (
            section.optional("onion-key")?,
            section.optional(TAP_CROSSCERT)?,
        ) {
            (Some(key), Some(cross)) => Some((
                pem::relay_tap_key(key)?,
                cross.object_bytes("CROSSCERT", 512)?,
            )),
            (None, None) => None,
            _ => return Err(DescriptorError::PartialTapKey),
        };
        Ok(Self {
            ntor,
            ntor_cert: cert,
            ntor_signer,
            tap,
        })
    }

    /// Checks that the TAP key has signed both identities.
    fn verify_tap(&self, identity: &RsaId, master: &Ed25519Id) -> Result<(), DescriptorError> {
        let Some((key, signature)) = &self.tap else {
            return Ok(());
        };
        let signed = [identity.as_bytes().as_slice(), master.as_bytes()].concat();
        // The specification lets more bytes follow these 52; nobody has ever signed more.
        (key.verify_digest(&signed, signature))
            .map_err(|_| DescriptorError::BadSignature(TAP_CROSSCERT))
    }
}

/// Checks that both identities are what the lines say that they are.
fn check_identities(
    section: &Section<'_>,
    identity_key: &rsa::PublicKey,
    master: Ed25519Id,
) -> Result<(), DescriptorError> {
    let item = section.required("master-key-ed25519")?;
    if item.arg_as::<Ed25519Id>(0)? != master {
        return Err(DescriptorError::Mismatch("master-key-ed25519"));
    }
    if let Some(item) = section.optional("fingerprint")? {
        let hex: String = item.args().collect();
        if encoding::hex_array(&hex) != Some(*identity_key.id().as_bytes()) {
            return Err(DescriptorError::Mismatch("fingerprint"));
        }
    }
    Ok(())
}

/// The family certificates, each with the family key that must have signed it.
fn family_certs(
    section: &Section<'_>,
    master: Ed25519Id,
) -> Result<Vec<(Ed25519Id, UnverifiedCert)>, DescriptorError> {
    let mut families = Vec::new();
    for item in section.all(FAMILY_CERT) {
        if families.len() >= FAMILY_CERTS_MAX {
            return Err(ItemError::Repeated(FAMILY_CERT.to_owned()).into());
        }
        let bad_cert = |error| DescriptorError::BadCert(FAMILY_CERT, error);
        let cert = UnverifiedCert::parse(&pem::ed25519_cert(item, "FAMILY CERT")?)
            .and_then(|cert| cert.expecting(CertType::FAMILY_ID))
            .map_err(bad_cert)?;
        if cert.unchecked().ed25519_key() != master {
            return Err(DescriptorError::WrongCertifiedKey(FAMILY_CERT));
        }
        families.push((cert.signer(None).map_err(bad_cert)?, cert));
    }
    Ok(families)
}

fn family(section: &Section<'_>) -> Result<Family, DescriptorError> {
    let Some(item) = section.optional("family")? else {
        return Ok(Family::default());
    };
    // `tor` lets the `$` of an identity be missing elsewhere, but not here.
    let is_known = |word: &str| match FamilyMember::parse(word) {
        FamilyMember::Id(_) => word.starts_with('$'),
        FamilyMember::Nickname(_) => true,
        FamilyMember::Other(_) => false,
    };
    if item.args().nth(ARGS_MAX).is_some() || !item.args().all(is_known) {
        return Err(DescriptorError::BadFamily);
    }
    Ok(Family::parse(item.args_text))
}

fn policies(section: &Section<'_>) -> Result<(AddrPolicy, Option<PortPolicy>), DescriptorError> {
    let mut policy = AddrPolicy::default();
    for item in &section.items {
        match item.keyword {
            "accept" | "reject" => policy.push_descriptor_rule(item.keyword, item.arg(0)?)?,
            "accept6" | "reject6" => return Err(DescriptorError::Ipv6Rule),
            _ => {}
        }
    }
    if policy.rules().is_empty() {
        return Err(DescriptorError::NoPolicy);
    }
    let ipv6_policy = section.optional("ipv6-policy")?;
    Ok((
        policy,
        ipv6_policy
            .map(|item| PortPolicy::parse(item.args_text))
            .transpose()?,
    ))
}

fn bandwidth(item: &Item<'_>) -> Result<Bandwidth, DescriptorError> {
    let bytes = |index| {
        let bytes: u32 = item.arg_as(index)?;
        // `tor` reads signed numbers of 32 bits, and no average of zero.
        let is_valid = bytes <= i32::MAX.unsigned_abs() && (index > 0 || bytes > 0);
        if is_valid {
            Ok(bytes)
        } else {
            Err(item.bad_argument(index))
        }
    };
    Ok(Bandwidth {
        average: bytes(0)?,
        burst: bytes(1)?,
        observed: bytes(2)?,
    })
}

/// The digests of the extra-info document; a malformed line counts as none, as in `tor`.
fn extra_info_digest(item: &Item<'_>) -> Option<ExtraInfoDigest> {
    let sha1 = encoding::hex_array(item.arg(0).ok()?)?;
    let sha256 = item.arg(1).ok().and_then(encoding::base64_array);
    Some(ExtraInfoDigest { sha1, sha256 })
}

fn ipv6_address(item: &Item<'_>) -> Option<std::net::SocketAddrV6> {
    match item.arg_as(0) {
        Ok(SocketAddr::V6(address)) if address.port() != 0 => Some(address),
        _ => None,
    }
}

fn line(section: &Section<'_>, keyword: &str) -> Result<Option<String>, ItemError> {
    Ok(section
        .optional(keyword)?
        .map(|item| item.args_text.to_owned()))
}

fn unknown_lines(section: &Section<'_>) -> Vec<String> {
    let unknown = section
        .items
        .iter()
        .filter(|item| !KEYWORDS.contains(&item.keyword));
    let lines = unknown.map(|item| section.text.get(item.start..item.line_end));
    lines
        .map(|line| line.unwrap_or_default().trim_end().to_owned())
        .collect()
}
