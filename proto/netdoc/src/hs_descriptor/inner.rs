//! The inner layer: a service's introduction points and what it wants of visitors
//! (rend-spec-v3 2.5.2.2; proposals 324 and 327 for `flow-control` and `pow-params`).
//!
//! As in `tor`, an introduction point that cannot be read is left out, while a bad line before
//! them makes the whole useless; unknown lines are ignored. Each certificate names the
//! descriptor's signing key and is signed by it. What the certificate of an encryption key
//! certifies is not compared: it proves nothing, and `tor` does not look.

use std::fmt::Write as _;
use std::time::SystemTime;

use cepa_crypto::ed25519::{self, Keypair, PublicKey};
use cepa_crypto::{curve25519, encoding};
use cepa_wire::cert::{Cert, CertError, CertKeyType, CertType, UnverifiedCert};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::reader::Reader;

use super::{
    CREATE2_NTOR, FlowControl, HS_CERT_LIFETIME, HsDecryptError, HsEncodeError, HsPlaintext,
    INTRO_POINTS_MAX, IntroPoint, LIMITS, PowParams,
};
use crate::item::{Item, ItemError, Section};
use crate::protover::{Protocols, name};
use crate::{pem, timestamp};

const INTRODUCTION_POINT: &str = "introduction-point";
const NTOR: &str = "ntor";
/// The only kind of authentication at introduction that there is.
const AUTH_ED25519: &str = "ed25519";
const POW_V1: &str = "v1";
const SECONDS_IN_HOUR: u64 = 3600;

/// Reads the decrypted layer; `signing` is the descriptor's signing key.
pub(super) fn parse(
    text: &str,
    signing: &PublicKey,
    now: SystemTime,
) -> Result<HsPlaintext, HsDecryptError> {
    let section = Section::parse(text, LIMITS)?;
    let is_start = |item: &Item<'_>| item.keyword == INTRODUCTION_POINT;
    let header_len = section.items.iter().take_while(|item| !is_start(item));
    let (header, points) = section.items.split_at(header_len.count());
    let header = of_items(text, header);

    let formats = header.required_at(0, "create2-formats")?;
    if !formats.args().any(|format| format == CREATE2_NTOR) {
        return Err(HsDecryptError::Unknown("create2-formats"));
    }
    let auth: Vec<String> = header
        .optional("intro-auth-required")?
        .map(|item| item.args().map(str::to_owned).collect())
        .unwrap_or_default();
    if !auth.is_empty() && !auth.iter().any(|kind| kind == AUTH_ED25519) {
        return Err(HsDecryptError::Unknown("intro-auth-required"));
    }
    let flow_control = header.optional("flow-control")?.map(FlowControl::parse);
    let pow_params = header
        .all("pow-params")
        .find(|item| item.arg(0) == Ok(POW_V1))
        .map(PowParams::parse);
    let mut intro_points = Vec::new();
    for items in points.chunk_by(|_, next| !is_start(next)) {
        let Ok(point) = IntroPoint::parse(&of_items(text, items), signing, now) else {
            continue;
        };
        if intro_points.len() >= INTRO_POINTS_MAX {
            return Err(HsDecryptError::TooManyIntroPoints);
        }
        intro_points.push(point);
    }
    Ok(HsPlaintext {
        intro_auth_required: auth,
        is_single_onion: header.optional("single-onion-service")?.is_some(),
        flow_control: flow_control.transpose()?,
        pow_params: pow_params.transpose()?,
        intro_points,
    })
}

fn of_items<'a>(text: &'a str, items: &[Item<'a>]) -> Section<'a> {
    Section {
        text,
        items: items.to_vec(),
    }
}

/// Why one introduction point is left out.
#[derive(Debug, thiserror::Error)]
enum IntroPointError {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error(transparent)]
    Cert(#[from] CertError),
}

impl IntroPoint {
    fn parse(
        section: &Section<'_>,
        signing: &PublicKey,
        now: SystemTime,
    ) -> Result<Self, IntroPointError> {
        let item = section.required_at(0, INTRODUCTION_POINT)?;
        let bytes = encoding::base64_decode(item.arg(0)?).ok_or_else(|| item.bad_argument(0))?;
        let mut r = Reader::new(&bytes);
        let link_specifiers = LinkSpecifiers::read(&mut r)
            .ok()
            .filter(|_| r.is_empty())
            .ok_or_else(|| item.bad_argument(0))?;
        let auth_cert = section.required("auth-key")?;
        let auth = checked_cert(auth_cert, CertType::HS_INTRO_AUTH, signing, now)?;
        let enc_cert = section.required("enc-key-cert")?;
        checked_cert(enc_cert, CertType::HS_INTRO_ENC, signing, now)?;
        Ok(Self {
            link_specifiers,
            onion_key: ntor_key(section, "onion-key")?,
            auth_key: PublicKey::from(auth.ed25519_key()),
            enc_key: ntor_key(section, "enc-key")?,
        })
    }

    fn encode(
        &self,
        signing: &Keypair,
        expires: SystemTime,
        out: &mut String,
    ) -> Result<(), HsEncodeError> {
        let bad = HsEncodeError::IntroPoint;
        let mut specifiers = Vec::new();
        self.link_specifiers
            .write(&mut specifiers)
            .map_err(|_| bad)?;
        // The sign is not known of a public key alone; all write 0.
        let enc_key = ed25519::public_from_curve25519(&self.enc_key, false).ok_or(bad)?;
        let cert = |cert_type, key: &PublicKey| {
            let key_type = CertKeyType::ED25519;
            let bytes = Cert::make(cert_type, expires, key_type, key.as_bytes(), signing, true);
            pem::encode(pem::ED25519_CERT, &bytes)
        };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{INTRODUCTION_POINT} {}\nonion-key {NTOR} {}\nauth-key\n{}enc-key {NTOR} {}\n\
             enc-key-cert\n{}",
            encoding::base64(&specifiers),
            encoding::base64(self.onion_key.as_bytes()),
            cert(CertType::HS_INTRO_AUTH, &self.auth_key),
            encoding::base64(self.enc_key.as_bytes()),
            cert(CertType::HS_INTRO_ENC, &enc_key),
        );
        Ok(())
    }
}

/// A certificate that names the key which has signed it, as all of descriptors do.
fn checked_cert(
    item: &Item<'_>,
    cert_type: CertType,
    signing: &PublicKey,
    now: SystemTime,
) -> Result<Cert, IntroPointError> {
    let cert = UnverifiedCert::parse(&pem::ed25519_cert(item, pem::ED25519_CERT)?)?;
    let cert = cert.expecting(cert_type)?;
    cert.signer(None)?;
    Ok(cert.check(now, Some(signing.id()))?)
}

/// The key of type `ntor` among the lines of a keyword, exactly one.
fn ntor_key(section: &Section<'_>, keyword: &str) -> Result<curve25519::PublicKey, ItemError> {
    let mut keys = section.all(keyword).filter(|key| key.arg(0) == Ok(NTOR));
    let item = (keys.next()).ok_or_else(|| ItemError::Missing(keyword.to_owned()))?;
    if keys.next().is_some() {
        return Err(ItemError::Repeated(keyword.to_owned()));
    }
    encoding::base64_array::<32>(item.arg(1)?)
        .map(curve25519::PublicKey::from)
        .ok_or_else(|| item.bad_argument(1))
}

impl FlowControl {
    fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        let versions = format!("{}={}", name::FLOW_CTRL, item.arg(0)?);
        let versions = Protocols::parse(&versions).map_err(|_| item.bad_argument(0))?;
        Ok(Self {
            versions,
            sendme_inc: item.arg_as(1)?,
        })
    }

    fn encode(&self) -> String {
        let versions = self.versions.encode();
        let versions = versions.split_once('=').map_or("", |(_, range)| range);
        format!("flow-control {versions} {}\n", self.sendme_inc)
    }
}

impl PowParams {
    fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        let seed = encoding::base64_array(item.arg(1)?).ok_or_else(|| item.bad_argument(1))?;
        let expires = timestamp::parse_joined(item.arg(3)?).map_err(|_| item.bad_argument(3))?;
        Ok(Self {
            seed,
            effort: item.arg_as(2)?,
            expires,
        })
    }

    fn encode(&self) -> String {
        let seed = encoding::base64(&self.seed);
        let expires = timestamp::encode_joined(self.expires);
        format!("pow-params {POW_V1} {seed} {} {expires}\n", self.effort)
    }
}

impl HsPlaintext {
    /// The layer's text, as `tor` writes it; the certificates are made with the signing key.
    pub(super) fn encode(
        &self,
        signing: &Keypair,
        now: SystemTime,
    ) -> Result<String, HsEncodeError> {
        if self.intro_points.len() > INTRO_POINTS_MAX {
            return Err(HsEncodeError::TooManyIntroPoints);
        }
        let mut out = format!("create2-formats {CREATE2_NTOR}\n");
        if !self.intro_auth_required.is_empty() {
            let kinds = self.intro_auth_required.join(" ");
            let _ = writeln!(out, "intro-auth-required {kinds}");
        }
        if self.is_single_onion {
            out.push_str("single-onion-service\n");
        }
        if let Some(flow_control) = &self.flow_control {
            out.push_str(&flow_control.encode());
        }
        if let Some(pow_params) = &self.pow_params {
            out.push_str(&pow_params.encode());
        }
        let hour = timestamp::unix_seconds(now) / SECONDS_IN_HOUR * SECONDS_IN_HOUR;
        let expires = timestamp::from_unix(hour) + HS_CERT_LIFETIME;
        for point in &self.intro_points {
            point.encode(signing, expires, &mut out)?;
        }
        Ok(out)
    }
}
