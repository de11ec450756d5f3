//! Onion-service descriptors: how visitors find a service's introduction points
//! (rend-spec-v3 2.4, 2.5).
//!
//! ```text
//! HsDescriptor (outer: signed, for directories) ─ superencrypted ─▶ middle (who may read)
//!     ─ encrypted ─▶ HsPlaintext (inner: introduction points)
//! ```
//!
//! A directory needs [`HsDescriptor::parse`] only. A visitor goes on with
//! [`HsDescriptor::decrypt`]; it must know the address and the period. A service writes one with
//! [`HsDescriptorBuilder`]. Everything read is bounded by the text's [`HS_DESCRIPTOR_LEN_MAX`].

mod encode;
mod inner;
mod middle;
mod outer;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use cepa_crypto::{curve25519, ed25519};
use cepa_wire::cert::CertError;
use cepa_wire::linkspec::LinkSpecifiers;

use crate::item::{ItemError, Limits};
use crate::protover::Protocols;

pub use encode::HsDescriptorBuilder;
pub use outer::HsDescriptor;

/// A descriptor is shorter than this, in bytes (rend-spec-v3 2.4; `HSV3MaxDescriptorSize`).
pub const HS_DESCRIPTOR_LEN_MAX: usize = 50_000;
/// Most introduction points of a descriptor (rend-spec-v3 2.5.4).
pub const INTRO_POINTS_MAX: usize = 20;
/// The lifetime that services state, in minutes (rend-spec-v3 2.2.5).
pub const HS_DESCRIPTOR_LIFETIME_MINUTES: u16 = 180;
/// The longest lifetime that is accepted, in minutes (rend-spec-v3 2.4).
pub const HS_DESCRIPTOR_LIFETIME_MINUTES_MAX: u16 = 720;
/// How long the certificates of a descriptor that we write are valid: as long as `tor`'s.
pub const HS_CERT_LIFETIME: Duration = Duration::from_secs(54 * 60 * 60);
/// Clients are listed in multiples of this (rend-spec-v3 2.5.1.4).
pub const AUTH_CLIENTS_MULTIPLE: usize = 16;
/// The middle layer is padded to a multiple of this many bytes (rend-spec-v3 2.5.1.1).
pub const PADDING_MULTIPLE: usize = 10_000;

/// What is walked through of one layer. `tor` bounds the bytes only.
const LIMITS: Limits = Limits {
    bytes_max: HS_DESCRIPTOR_LEN_MAX - 1,
    items_max: 2000,
};
const SIGNATURE_PREFIX: &[u8] = b"Tor onion service descriptor sig v3";
const MESSAGE: &str = "MESSAGE";
/// The only handshake with introduction points that there is: ntor (tor-spec 5.1).
const CREATE2_NTOR: &str = "2";

/// Why a descriptor's outer layer was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HsDescriptorError {
    /// The form of an item.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Not of version 3.
    #[error("not a descriptor of version 3")]
    Version,
    /// The lifetime, in minutes, is above [`HS_DESCRIPTOR_LIFETIME_MINUTES_MAX`].
    #[error("a lifetime of {0} minutes is too long")]
    Lifetime(u16),
    /// The certificate of the signing key.
    #[error("descriptor-signing-key-cert: {0}")]
    Cert(#[from] CertError),
    /// The signature is malformed or wrong.
    #[error("the descriptor's signature is wrong")]
    Signature,
}

/// Why the inner layers could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HsDecryptError {
    /// The descriptor is of another blinded key than the address has in the period.
    #[error("descriptor of another service or period")]
    OtherKey,
    /// The middle layer does not decrypt with the address.
    #[error("the middle layer does not decrypt")]
    Middle,
    /// The service wants client authorization, and no key was given.
    #[error("the service wants client authorization")]
    ClientAuthNeeded,
    /// The given key is not authorized.
    #[error("the client's key is not authorized")]
    ClientAuthWrong,
    /// The form of an item of a decrypted layer.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Something is asked for that we do not know: another kind of client authorization, no ntor,
    /// another kind of introduction.
    #[error("the descriptor wants {0} of an unknown kind")]
    Unknown(&'static str),
    /// More than [`INTRO_POINTS_MAX`] introduction points.
    #[error("too many introduction points")]
    TooManyIntroPoints,
}

/// Why a descriptor could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HsEncodeError {
    /// More than [`INTRO_POINTS_MAX`] introduction points.
    #[error("too many introduction points")]
    TooManyIntroPoints,
    /// An introduction point's link specifiers do not fit, or its encryption key is no point.
    #[error("an introduction point cannot be written")]
    IntroPoint,
    /// It would not be shorter than [`HS_DESCRIPTOR_LEN_MAX`].
    #[error("the descriptor would be too long")]
    TooLong,
}

/// What a service tells its visitors: the innermost layer (rend-spec-v3 2.5.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HsPlaintext {
    /// Kinds of authentication at introduction, of which one is known: `ed25519`. Empty: none.
    pub intro_auth_required: Vec<String>,
    /// Whether the service has given up its own anonymity.
    pub is_single_onion: bool,
    /// What its congestion control speaks, if it has any.
    pub flow_control: Option<FlowControl>,
    /// The puzzle that it sets, if any.
    pub pow_params: Option<PowParams>,
    /// Where to introduce oneself: at most [`INTRO_POINTS_MAX`], in the order of the descriptor.
    /// None: the service does not want to be reached.
    pub intro_points: Vec<IntroPoint>,
}

/// A `flow-control` line (proposal 324).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowControl {
    /// The versions of `FlowCtrl` that the service speaks, and no other name.
    pub versions: Protocols,
    /// Cells of a SENDME on rendezvous circuits. Unchecked: the reader compares it with the
    /// consensus (`cc_sendme_inc`), and does not visit if they are more than 1 apart.
    pub sendme_inc: u8,
}

/// A `pow-params v1` line (proposal 327).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowParams {
    /// The seed of the puzzle.
    pub seed: [u8; 32],
    /// The effort that the service suggests.
    pub effort: u32,
    /// When the seed of the puzzles runs out.
    pub expires: SystemTime,
}

/// An introduction point. Its certificates have been verified, or are made when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntroPoint {
    /// How to reach it, to be sent on verbatim. Which are there is the reader's to check.
    pub link_specifiers: LinkSpecifiers,
    /// Its onion key, for extending to it.
    pub onion_key: curve25519::PublicKey,
    /// The key that names the service's circuit there (`KP_hs_ipt_sid`).
    pub auth_key: ed25519::PublicKey,
    /// The key that introductions are encrypted to (`KP_hss_ntor`).
    pub enc_key: curve25519::PublicKey,
}

/// The text of a decrypted layer: up to the padding, with the newline that may be missing at its
/// end (rend-spec-v3 2.5.1.2).
fn layer_text(mut bytes: Vec<u8>) -> Option<String> {
    bytes.truncate(
        bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len()),
    );
    let mut text = String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.is_empty())?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}
