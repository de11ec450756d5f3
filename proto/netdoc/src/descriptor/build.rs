//! Writing a server descriptor, its lines in the order of `tor` 0.4.9 (dir-spec.txt section
//! 2.1.1).
//!
//! What a caller gives is checked for what would break a line or be refused by all readers;
//! the result is signed and complete. The TAP key is a dummy that no handshake uses, but
//! today's authorities refuse descriptors without one.

use std::fmt::Write as _;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::time::{Duration, SystemTime};

use cepa_crypto::ed25519::{self, ExpandedKeypair};
use cepa_crypto::{Ed25519Id, RsaId, curve25519, encoding, rsa};
use cepa_wire::cert::{Cert, CertError, CertKeyType, CertType, UnverifiedCert};

use super::{Bandwidth, DESCRIPTOR_LIMITS, ExtraInfoDigest, append_signatures};
use crate::family::{Family, is_nickname};
use crate::pem;
use crate::policy::AddrPolicy;
use crate::protover::Protocols;
use crate::timestamp;

/// How long the ntor key's cross-certificate lasts, as `tor`'s (the life of an onion key).
const NTOR_CROSSCERT_LIFE: Duration = Duration::from_secs(28 * 24 * 60 * 60);

/// Why a descriptor cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A text that would not stay on its line, or is empty.
    #[error("{0} is not fit for a line of a document")]
    BadLine(&'static str),
    /// The certificate of the signing key is malformed, or of another key.
    #[error("certificate of the signing key: {0}")]
    BadCert(#[from] CertError),
    /// The certificate certifies another signing key.
    #[error("certificate of another signing key")]
    OtherSigningKey,
    /// The document would be longer than readers allow.
    #[error("document is too long")]
    TooLong,
}

/// What a relay says of itself; the keys come in [`DescriptorKeys`].
#[derive(Clone, Debug)]
pub struct DescriptorFields {
    /// Nickname, 1 to 19 letters and digits.
    pub nickname: String,
    /// IPv4 address and ORPort.
    pub or_address: SocketAddrV4,
    /// DirPort; 0 for all but authorities.
    pub dir_port: u16,
    /// IPv6 address and ORPort.
    pub or_address_v6: Option<SocketAddrV6>,
    /// Software; authorities look at it only if it starts with `Tor `.
    pub platform: String,
    /// Subprotocols.
    pub protocols: Protocols,
    /// The time at which the descriptor is made.
    pub published: SystemTime,
    /// Seconds since the relay was started.
    pub uptime_seconds: u64,
    /// Bandwidths; the average must not be zero.
    pub bandwidth: Bandwidth,
    /// Digests of the extra-info document that is uploaded with it.
    pub extra_info_digest: Option<ExtraInfoDigest>,
    /// Whether it caches extra-info documents.
    pub caches_extra_info: bool,
    /// The relays that it calls its family.
    pub family: Family,
    /// Certificates by family keys, as bytes.
    pub family_certs: Vec<Vec<u8>>,
    /// Whether it sleeps.
    pub is_hibernating: bool,
    /// Whether it keeps descriptors of onion services.
    pub is_hidden_service_dir: bool,
    /// How the relay's operator can be reached.
    pub contact: Option<String>,
    /// How a bridge wants to be distributed; for bridges only.
    pub bridge_distribution_request: Option<String>,
    /// The relay's exit policy.
    pub policy: AddrPolicy,
    /// Whether it answers directory requests over its ORPort.
    pub is_dir_server: bool,
    /// When the relay was last overloaded.
    pub overload_general: Option<SystemTime>,
}

/// The keys of a relay that its documents name or are signed with.
#[derive(Clone, Copy, Debug)]
pub struct DescriptorKeys<'a> {
    /// The RSA identity key.
    pub identity: &'a rsa::Keypair,
    /// The dummy TAP key; change it together with the ntor key.
    pub tap_onion: Option<&'a rsa::Keypair>,
    /// The key of the ntor handshakes.
    pub ntor_onion: &'a curve25519::SecretKey,
    /// The signing key, in the form in which it is kept on disk.
    pub signing: &'a ed25519::ExpandedKeypair,
    /// The certificate of type 4 by which the master identity, named in it, signs that key.
    pub signing_cert: &'a [u8],
}

impl DescriptorKeys<'_> {
    /// The master identity that the certificate of the signing key names.
    pub fn master(&self) -> Result<Ed25519Id, BuildError> {
        let cert = UnverifiedCert::parse(self.signing_cert)?.expecting(CertType::ID_SIGNING)?;
        if cert.unchecked().ed25519_key() != self.signing.public().id() {
            return Err(BuildError::OtherSigningKey);
        }
        Ok(cert.signer(None)?)
    }
}

/// A descriptor's text, up to its signatures, with the signatures: whatever the text says, which
/// need not be anything that [`DescriptorFields::build`] would write.
pub fn sign_descriptor(unsigned: &str, keys: &DescriptorKeys<'_>) -> String {
    let mut text = unsigned.to_owned();
    append_signatures(&mut text, keys.signing, keys.identity);
    text
}

impl DescriptorFields {
    /// Writes and signs the descriptor.
    pub fn build(&self, keys: &DescriptorKeys<'_>) -> Result<String, BuildError> {
        let master = keys.master()?;
        self.check()?;
        let mut text = String::with_capacity(4096);
        self.push_head(&mut text, keys, &master);
        self.push_keys(&mut text, keys, &master);
        self.push_tail(&mut text, keys);
        append_signatures(&mut text, keys.signing, keys.identity);
        if text.len() > DESCRIPTOR_LIMITS.bytes_max {
            return Err(BuildError::TooLong);
        }
        Ok(text)
    }

    fn check(&self) -> Result<(), BuildError> {
        let contact = self.contact.as_deref();
        let bridge = self.bridge_distribution_request.as_deref();
        if !is_nickname(&self.nickname) {
            return Err(BuildError::BadLine("nickname"));
        }
        for (name, line) in [
            ("platform", Some(&*self.platform)),
            ("contact", contact),
            ("bridge request", bridge),
        ] {
            if line.is_some_and(|line| line.is_empty() || line.contains(char::is_control)) {
                return Err(BuildError::BadLine(name));
            }
        }
        if self.protocols.is_empty() {
            return Err(BuildError::BadLine("proto"));
        }
        if self.bandwidth.average == 0 || self.or_address.port() == 0 {
            return Err(BuildError::BadLine("bandwidth or ORPort"));
        }
        Ok(())
    }

    fn push_head(&self, text: &mut String, keys: &DescriptorKeys<'_>, master: &Ed25519Id) {
        let Bandwidth {
            average,
            burst,
            observed,
        } = self.bandwidth;
        push(
            text,
            format_args!(
                "router {} {} {} 0 {}\nidentity-ed25519\n{}master-key-ed25519 {master}\n",
                self.nickname,
                self.or_address.ip(),
                self.or_address.port(),
                self.dir_port,
                pem::encode(pem::ED25519_CERT, keys.signing_cert),
            ),
        );
        if let Some(address) = self.or_address_v6 {
            push(
                text,
                format_args!("or-address [{}]:{}\n", address.ip(), address.port()),
            );
        }
        push(
            text,
            format_args!(
                "platform {}\nproto {}\npublished {}\nfingerprint {}\nuptime {}\n\
             bandwidth {average} {burst} {observed}\n",
                self.platform,
                self.protocols,
                timestamp::encode(self.published),
                spaced_fingerprint(&keys.identity.public().id()),
                self.uptime_seconds,
            ),
        );
        if let Some(ExtraInfoDigest { sha1, sha256 }) = &self.extra_info_digest {
            push(
                text,
                format_args!("extra-info-digest {}", encoding::hex_upper(sha1)),
            );
            if let Some(sha256) = sha256 {
                push(text, format_args!(" {}", encoding::base64_unpadded(sha256)));
            }
            text.push('\n');
        }
        push_if(text, self.caches_extra_info, "caches-extra-info\n");
    }

    fn push_keys(&self, text: &mut String, keys: &DescriptorKeys<'_>, master: &Ed25519Id) {
        let identity = keys.identity.public();
        if let Some(tap) = keys.tap_onion {
            push(text, format_args!("onion-key\n{}", tap.public().to_pem()));
        }
        push(text, format_args!("signing-key\n{}", identity.to_pem()));
        if let Some(tap) = keys.tap_onion {
            let signed = [identity.id().as_bytes().as_slice(), master.as_bytes()].concat();
            let cross = pem::encode("CROSSCERT", &tap.sign_digest(&signed));
            push(text, format_args!("onion-key-crosscert\n{cross}"));
        }
        let (ntor, sign_bit) = ExpandedKeypair::for_curve25519(keys.ntor_onion);
        let cross = Cert::make_expanded(
            CertType::NTOR_CROSS,
            self.published + NTOR_CROSSCERT_LIFE,
            CertKeyType::ED25519,
            master.as_bytes(),
            &ntor,
            false,
        );
        push(
            text,
            format_args!(
                "ntor-onion-key-crosscert {}\n{}",
                u8::from(sign_bit),
                pem::encode(pem::ED25519_CERT, &cross),
            ),
        );
    }

    fn push_tail(&self, text: &mut String, keys: &DescriptorKeys<'_>) {
        if !self.family.is_empty() {
            push(text, format_args!("family {}\n", self.family));
        }
        push_if(text, self.is_hibernating, "hibernating 1\n");
        push_if(text, self.is_hidden_service_dir, "hidden-service-dir\n");
        for cert in &self.family_certs {
            push(
                text,
                format_args!("family-cert\n{}", pem::encode("FAMILY CERT", cert)),
            );
        }
        if let Some(contact) = &self.contact {
            push(text, format_args!("contact {contact}\n"));
        }
        if let Some(method) = &self.bridge_distribution_request {
            push(text, format_args!("bridge-distribution-request {method}\n"));
        }
        let ntor = encoding::base64_unpadded(keys.ntor_onion.public().as_bytes());
        push(
            text,
            format_args!("ntor-onion-key {ntor}\n{}", self.policy.encode_descriptor()),
        );
        let ipv6_policy = self.policy.summary_ipv6();
        if !ipv6_policy.is_reject_all() {
            push(text, format_args!("ipv6-policy {ipv6_policy}\n"));
        }
        push_if(text, self.is_dir_server, "tunnelled-dir-server\n");
        if let Some(time) = self.overload_general {
            push(
                text,
                format_args!("overload-general 1 {}\n", timestamp::encode(time)),
            );
        }
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(line);
}

fn push_if(text: &mut String, condition: bool, line: &str) {
    if condition {
        text.push_str(line);
    }
}

/// A fingerprint in groups of four digits.
fn spaced_fingerprint(id: &RsaId) -> String {
    let groups = id.as_bytes().chunks(2).map(encoding::hex_upper);
    groups.collect::<Vec<_>>().join(" ")
}
