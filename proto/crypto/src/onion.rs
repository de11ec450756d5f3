//! Names and keys of onion services: addresses, blinded keys, places on the hash ring
//! (rend-spec-v3 2.1, 2.2.3, 2.3.1, 6 and appendix A.2).
//!
//! An [`OnionAddress`] holds a key that was checked: a point in canonical form, without torsion,
//! not the neutral one; so blinding it cannot fail. Numbers are hashed as eight bytes,
//! big-endian; lengths of periods are minutes. All hashes are SHA3-256.

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroizing;

use crate::digest::Sha3Running;
use crate::ed25519::{ExpandedKeypair, PublicKey};
use crate::{Ed25519Id, encoding};

/// Characters of an address without `.onion`.
pub const ADDRESS_LEN: usize = 56;

const ADDRESS_BYTES: usize = 35;
const VERSION: u8 = 3;
const SUFFIX: &str = ".onion";
const CHECKSUM_PREFIX: &[u8] = b".onion checksum";

/// The base point of the curve as text, which the blinding factor is hashed from (A.2).
const BASE_POINT: &[u8] = b"(15112221349535400772501151409588531511454012693041857206046113283949\
847762202, 463168356949264781694283940034751631413079938662562256157830336031652518559\
60)";

/// Why a text is no address of an onion service (rend-spec-v3 2.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnionAddressError {
    /// Not 56 characters.
    #[error("an onion address has 56 characters before .onion")]
    Length,
    /// Other characters than letters and the digits 2 to 7.
    #[error("an onion address has only the letters a-z and the digits 2-7")]
    Base32,
    /// Not version 3.
    #[error("onion address of version {0}, not 3")]
    Version(u8),
    /// Mistyped: the checksum does not fit.
    #[error("the checksum of the onion address is wrong (mistyped?)")]
    Checksum,
    /// The key is no point, or has a torsion component.
    #[error("the key in the onion address is not valid")]
    Key,
}

/// The name of a service: its identity key, which was checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OnionAddress(PublicKey);

impl OnionAddress {
    /// The address of an identity key; [`OnionAddressError::Key`] if it is none.
    pub fn new(key: &PublicKey) -> Result<OnionAddress, OnionAddressError> {
        if key.is_torsion_free() {
            Ok(OnionAddress(*key))
        } else {
            Err(OnionAddressError::Key)
        }
    }

    /// The address in a host name, which may have labels before it (`www.….onion`) and a dot at
    /// its end; `None` if the name is not below `.onion`.
    pub fn of_host(host: &str) -> Option<Result<OnionAddress, OnionAddressError>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = strip_onion(host)?;
        let label = name.rsplit_once('.').map_or(name, |(_, label)| label);
        Some(label.parse())
    }

    /// The identity key.
    pub fn key(&self) -> &PublicKey {
        &self.0
    }

    /// The blinded key of a period.
    pub fn blind(&self, period: TimePeriod) -> PublicKey {
        blind(&self.0, period).expect("the key was checked when the address was made")
    }
}

fn checksum(key: &PublicKey) -> [u8; 2] {
    let [first, second, ..] = hash(&[CHECKSUM_PREFIX, key.as_bytes(), &[VERSION]]);
    [first, second]
}

/// The text before `.onion` of any letter case.
fn strip_onion(text: &str) -> Option<&str> {
    let (name, suffix) = text.split_at_checked(text.len().checked_sub(SUFFIX.len())?)?;
    suffix.eq_ignore_ascii_case(SUFFIX).then_some(name)
}

impl FromStr for OnionAddress {
    type Err = OnionAddressError;

    /// Takes 56 characters of any letter case, with or without `.onion`.
    fn from_str(text: &str) -> Result<OnionAddress, OnionAddressError> {
        let name = strip_onion(text).unwrap_or(text);
        if name.len() != ADDRESS_LEN {
            return Err(OnionAddressError::Length);
        }
        let bytes: [u8; ADDRESS_BYTES] = encoding::base32_decode(name)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(OnionAddressError::Base32)?;
        let [key @ .., check0, check1, version] = bytes;
        if version != VERSION {
            return Err(OnionAddressError::Version(version));
        }
        let key = PublicKey::from(key);
        if checksum(&key) != [check0, check1] {
            return Err(OnionAddressError::Checksum);
        }
        OnionAddress::new(&key)
    }
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [VERSION; ADDRESS_BYTES];
        bytes[..32].copy_from_slice(self.0.as_bytes());
        bytes[32..34].copy_from_slice(&checksum(&self.0));
        write!(f, "{}{SUFFIX}", encoding::base32_lower(&bytes))
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A period of time in which blinded keys and places on the ring stay (2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimePeriod {
    /// Which one since the epoch.
    pub number: u64,
    /// How long periods are, in minutes.
    pub length_minutes: u64,
}

impl TimePeriod {
    /// The period after this one.
    #[must_use]
    pub fn next(self) -> TimePeriod {
        TimePeriod {
            number: self.number.saturating_add(1),
            ..self
        }
    }

    /// The period before this one.
    #[must_use]
    pub fn previous(self) -> TimePeriod {
        TimePeriod {
            number: self.number.saturating_sub(1),
            ..self
        }
    }
}

/// The blinding factor `h`, not yet clamped (A.2, without the optional secret).
fn blinding_factor(identity: &PublicKey, period: TimePeriod) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hash(&[
        b"Derive temporary signing key\0",
        identity.as_bytes(),
        BASE_POINT,
        b"key-blind",
        &period.number.to_be_bytes(),
        &period.length_minutes.to_be_bytes(),
    ]))
}

/// The blinded public key of an identity in a period (A.2); `None` if the identity is no point.
pub fn blind(identity: &PublicKey, period: TimePeriod) -> Option<PublicKey> {
    identity.blind_by(&blinding_factor(identity, period))
}

impl ExpandedKeypair {
    /// The blinded key of this identity in a period (A.2). Its 64 bytes are those that C tor
    /// derives.
    pub fn blind(&self, period: TimePeriod) -> ExpandedKeypair {
        self.blind_by(&blinding_factor(&self.public(), period))
    }
}

/// What proves that one knows the identity, for the period of a blinded key (2.1).
pub fn subcredential(identity: &PublicKey, blinded: &PublicKey) -> [u8; 32] {
    let credential = hash(&[b"credential", identity.as_bytes()]);
    hash(&[b"subcredential", &credential, blinded.as_bytes()])
}

/// Where a replica (1 and up) of a descriptor lies on the ring (2.2.3).
pub fn hs_index(blinded: &PublicKey, replica: u64, period: TimePeriod) -> [u8; 32] {
    hash(&[
        b"store-at-idx",
        blinded.as_bytes(),
        &replica.to_be_bytes(),
        &period.length_minutes.to_be_bytes(),
        &period.number.to_be_bytes(),
    ])
}

/// Where a directory lies on the ring of a period and its shared random value (2.2.3).
pub fn hsdir_index(identity: &Ed25519Id, srv: &[u8; 32], period: TimePeriod) -> [u8; 32] {
    hash(&[
        b"node-idx",
        identity.as_bytes(),
        srv,
        &period.number.to_be_bytes(),
        &period.length_minutes.to_be_bytes(),
    ])
}

/// The shared random value of a period for which the consensus has none (2.3.1).
pub fn disaster_srv(period: TimePeriod) -> [u8; 32] {
    hash(&[
        b"shared-random-disaster",
        &period.length_minutes.to_be_bytes(),
        &period.number.to_be_bytes(),
    ])
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut running = Sha3Running::new();
    parts.iter().for_each(|part| running.update(part));
    running.finish()
}
