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

impl serde::Serialize for OnionAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
    /// The number of the period, counted from the epoch.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::ed25519::Keypair;
    use hex_literal::hex;
    use proptest::prelude::*;

    /// C tor's (`hs_build_address.py`): the key of RFC 8032's first test.
    const KEY: [u8; 32] = hex!("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const ADDRESS: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion";
    const PERIOD: TimePeriod = TimePeriod {
        number: 42,
        length_minutes: 1440,
    };

    #[test]
    fn addresses_of_peers() {
        let address = OnionAddress::new(&PublicKey::from(KEY)).unwrap();
        assert_eq!(address.to_string(), ADDRESS);
        // rend-spec-v3 section 6.
        for text in [
            "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
            "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
            "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
        ] {
            let address: OnionAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(text.to_uppercase().parse(), Ok(address));
            assert_eq!(text[..ADDRESS_LEN].parse(), Ok(address));
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let error = |text: &str| text.parse::<OnionAddress>().unwrap_err();
        assert_eq!(error("blah"), OnionAddressError::Length);
        assert_eq!(error(&format!("a{ADDRESS}")), OnionAddressError::Length);
        assert_eq!(error(&"?".repeat(56)), OnionAddressError::Base32);
        assert_eq!(error(&"\u{e4}".repeat(28)), OnionAddressError::Base32);
        // C tor's (`test_hs_common.c`).
        for text in [
            "l5satjgud6gucryazcyvyvhuxhr74u6ygigiuyixe3a6ysis67ororad",
            "btojiu7nu5y5iwut64eufevogqdw4wmqzugnoluw232r4t3ecsfv37ad",
        ] {
            assert_eq!(error(text), OnionAddressError::Checksum);
        }
        assert_eq!(
            error(&ADDRESS.replace("sid.", "sie.")),
            OnionAddressError::Version(4)
        );
    }

    /// The identity is y = 1; (0, -1) has order 2; the sum with it has a torsion component.
    #[test]
    fn keys_with_torsion_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let order2 = hex!("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        let mut no_point = [0; 32];
        no_point[0] = 2;
        // -A - (0, -1): y negated, x kept, hence -y and the sign of x.
        let mut shifted = KEY;
        let mut borrow = 0i16;
        let p = hex!("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        for (byte, minuend) in shifted.iter_mut().zip(p) {
            let difference = i16::from(minuend) - i16::from(*byte) - borrow;
            borrow = i16::from(difference < 0);
            *byte = difference.rem_euclid(256) as u8;
        }
        for bytes in [neutral, order2, no_point, shifted] {
            let key = PublicKey::from(bytes);
            assert_eq!(OnionAddress::new(&key), Err(OnionAddressError::Key));
            let mut address = [VERSION; ADDRESS_BYTES];
            address[..32].copy_from_slice(&bytes);
            address[32..34].copy_from_slice(&checksum(&key));
            let text = encoding::base32_lower(&address);
            assert_eq!(text.parse::<OnionAddress>(), Err(OnionAddressError::Key));
        }
        assert!(PublicKey::from(shifted).is_point());
    }

    #[test]
    fn hosts_have_labels_before_the_address() {
        let address: OnionAddress = ADDRESS.parse().unwrap();
        for host in [
            ADDRESS.to_owned(),
            format!("{ADDRESS}."),
            format!("www.A-b.{}", ADDRESS.to_uppercase()),
        ] {
            assert_eq!(OnionAddress::of_host(&host), Some(Ok(address)));
        }
        let wrong = Some(Err(OnionAddressError::Length));
        assert_eq!(OnionAddress::of_host(".onion"), wrong);
        assert_eq!(OnionAddress::of_host(&format!("{ADDRESS}.onion")), wrong);
        for host in ["", "onion", "example.com", &ADDRESS[..56], "\u{e4}\u{e4}"] {
            assert_eq!(OnionAddress::of_host(host), None);
        }
    }

    /// C tor's (`hs_indexes.py`); the disaster value was computed with Python.
    #[test]
    fn places_on_the_ring() {
        let key = PublicKey::from([0x42; 32]);
        assert_eq!(
            hs_index(&key, 1, PERIOD),
            hex!("37e5cbbd56a22823714f18f1623ece5983a0d64c78495a8cfab854245e5f9a8a")
        );
        assert_eq!(
            hsdir_index(&key.id(), &[0x43; 32], PERIOD),
            hex!("db475361014a09965e7e5e4d4a25b8f8d4b8f16cb1d8a7e95eed50249cc1a2d5")
        );
        assert_eq!(
            disaster_srv(PERIOD),
            hex!("8ceceee08eb4f1d74cab263116e8aebc2845a6a386104aa9144237584c856531")
        );
        assert_eq!(PERIOD.next().previous(), PERIOD);
    }

    /// A folder of C tor's; the blinded keys were computed with big integers in Python, the
    /// subcredential with stem.
    #[test]
    fn blinded_keys_of_a_period() {
        let file = include_bytes!("../testdata/hs_ed25519_secret_key");
        let identity = crate::key_file::read_hs_secret_key(file).unwrap();
        let period = TimePeriod {
            number: 19000,
            ..PERIOD
        };
        let blinded = identity.blind(period);
        let public = hex!("1fb4d0e6488db605714cc18028f8eb4d41e5c0bdb4de0833db2c3b8e1760b6b9");
        assert_eq!(*blinded.public().as_bytes(), public);
        assert_eq!(
            *blinded.to_bytes(),
            hex!(
                "368e76e189796356ad6b94c2e9830cc36d0d22538e8f5e38288191469a3fdb06"
                "ff7d0d66de2f2933559ed1e384e871dfec7b7f32c73b8768f400e3f882275885"
            )
        );
        let address = OnionAddress::new(&identity.public()).unwrap();
        assert_eq!(address.blind(period), blinded.public());
        assert_eq!(
            subcredential(address.key(), &blinded.public()),
            hex!("a438f9ed07a19ef4cc873f88a721b577620a245ff5d5c10a9c640f39af328764")
        );
        assert_eq!(
            *crate::ope::key(&blinded),
            hex!("47453215ef8f931cc823ed3a8e981933170ce939d9192cf63c8433c732dc926c")
        );
    }

    proptest! {
        #[test]
        fn an_address_comes_back(seed: [u8; 32], at in 0..ADDRESS_LEN, other in 1u8..32) {
            let key = Keypair::from_seed(&seed).public();
            let text = OnionAddress::new(&key).unwrap().to_string();
            prop_assert_eq!(*text.parse::<OnionAddress>().unwrap().key(), key);
            prop_assert!(text[1..].parse::<OnionAddress>().is_err());
            const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
            let mut typo = text.into_bytes();
            let digit = ALPHABET.iter().position(|c| *c == typo[at]).unwrap();
            typo[at] = ALPHABET[digit ^ usize::from(other)];
            let typo = String::from_utf8(typo).unwrap();
            // Two bytes of checksum catch all but one mistake in 65536.
            if let Ok(address) = typo.parse::<OnionAddress>() {
                prop_assert_ne!(address.key(), &key);
            }
        }

        #[test]
        fn a_blinded_key_signs(seed: [u8; 32], number: u64, length_minutes: u64) {
            let period = TimePeriod { number, length_minutes };
            let mut rng = Rng::from_seed(seed);
            let identity = Keypair::generate(&mut rng).expand();
            let blinded = identity.blind(period);
            let public = blind(&identity.public(), period).unwrap();
            prop_assert_eq!(blinded.public(), public);
            prop_assert!(public.is_torsion_free() && public != identity.public());
            prop_assert_eq!(public.verify(b"m", &blinded.sign(b"m")), Ok(()));
            prop_assert!(identity.public().verify(b"m", &blinded.sign(b"m")).is_err());
            prop_assert_ne!(identity.blind(period.next()).public(),
                identity.blind(period.previous()).public());
        }

        #[test]
        fn any_text_and_key_is_read_without_panic(text in ".*", key: [u8; 32]) {
            let _ = (text.parse::<OnionAddress>(), OnionAddress::of_host(&text));
            let _ = (blind(&key.into(), PERIOD), OnionAddress::new(&key.into()));
        }
    }
}
