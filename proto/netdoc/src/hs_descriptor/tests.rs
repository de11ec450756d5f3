//! Descriptors: ours read back, those of `tor` read, hostile ones refused.

use cepa_crypto::Rng;
use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair, PublicKey};
use cepa_crypto::onion::{OnionAddress, TimePeriod};
use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::timestamp::{from_unix, parse as time};

const PERIOD: TimePeriod = TimePeriod {
    number: 16_903,
    length_minutes: 1440,
};

fn now() -> SystemTime {
    from_unix(1_460_546_101)
}

fn flow_control(range: &str, sendme_inc: u8) -> FlowControl {
    FlowControl {
        versions: Protocols::parse(&format!("FlowCtrl={range}")).unwrap(),
        sendme_inc,
    }
}

fn intro_point(rng: &mut Rng) -> IntroPoint {
    let specifiers = LinkSpecifiers::new(
        Some("127.0.0.1:9001".parse().unwrap()),
        rng.array::<20>().into(),
        Some(rng.array::<32>().into()),
        None,
    );
    IntroPoint {
        link_specifiers: specifiers,
        onion_key: *SecretKey::generate(rng).public(),
        auth_key: Keypair::generate(rng).public(),
        enc_key: *SecretKey::generate(rng).public(),
    }
}

/// A service of one period.
struct Service {
    rng: Rng,
    identity: PublicKey,
    blinded: ExpandedKeypair,
    signing: Keypair,
    plaintext: HsPlaintext,
    clients: Vec<SecretKey>,
}

impl Service {
    fn new(seed: u8, intro_points: usize, clients: usize) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let identity = Keypair::generate(&mut rng).expand();
        let plaintext = HsPlaintext {
            intro_points: (0..intro_points).map(|_| intro_point(&mut rng)).collect(),
            ..HsPlaintext::default()
        };
        Self {
            identity: identity.public(),
            blinded: identity.blind(PERIOD),
            signing: Keypair::generate(&mut rng),
            plaintext,
            clients: (0..clients)
                .map(|_| SecretKey::generate(&mut rng))
                .collect(),
            rng,
        }
    }

    fn with_builder<T>(&mut self, write: impl FnOnce(HsDescriptorBuilder<'_>, &mut Rng) -> T) -> T {
        let clients: Vec<_> = self.clients.iter().map(|key| *key.public()).collect();
        let builder = HsDescriptorBuilder {
            identity: &self.identity,
            blinded: &self.blinded,
            signing: &self.signing,
            revision: 7,
            lifetime_minutes: HS_DESCRIPTOR_LIFETIME_MINUTES,
            plaintext: &self.plaintext,
            clients: &clients,
        };
        write(builder, &mut self.rng)
    }

    fn encode(&mut self) -> Result<String, HsEncodeError> {
        self.with_builder(|builder, rng| builder.encode(now(), rng))
    }

    /// A descriptor with this text as its inner layer.
    fn encode_inner(&mut self, inner: &str) -> String {
        self.with_builder(|builder, rng| builder.around(inner, now(), rng))
            .unwrap()
    }

    fn decrypt(&self, text: &str, key: Option<&SecretKey>) -> Result<HsPlaintext, HsDecryptError> {
        let descriptor = HsDescriptor::parse(text, now()).unwrap();
        assert_eq!(descriptor.blinded_key, self.blinded.public());
        assert_eq!(descriptor.signing_key, self.signing.public());
        assert_eq!((descriptor.revision, descriptor.lifetime_minutes), (7, 180));
        descriptor.decrypt(&self.identity, PERIOD, key, now())
    }
}

/// What `tor` 0.4.9.11 wrote in a testing network, fetched from a directory at this time.
const TOR_PERIOD: TimePeriod = TimePeriod {
    number: 4_986_785,
    length_minutes: 6,
};
const TOR_CLIENT_KEY: [u8; 32] =
    hex!("2858f38fa74a996e77e89ad651b2309edc2c6c291bd14a62b2c74607b643f563");

fn tor_decrypt(
    address: &str,
    text: &str,
    key: Option<[u8; 32]>,
) -> Result<HsPlaintext, HsDecryptError> {
    let address: OnionAddress = address.parse().unwrap();
    let now = time("2026-11-21 06:36:55").unwrap();
    let descriptor = HsDescriptor::parse(text, now).unwrap();
    assert_eq!(descriptor.lifetime_minutes, HS_DESCRIPTOR_LIFETIME_MINUTES);
    let key = key.map(|key| SecretKey::from_bytes(&key));
    descriptor.decrypt(address.key(), TOR_PERIOD, key.as_ref(), now)
}

fn check_tor_plaintext(plaintext: &HsPlaintext) {
    assert_eq!(plaintext.flow_control, Some(flow_control("1-2", 31)));
    assert!(!plaintext.is_single_onion && plaintext.pow_params.is_none());
    for point in &plaintext.intro_points {
        assert!(point.link_specifiers.ipv4().unwrap().ip().is_loopback());
        assert!(point.link_specifiers.rsa_id().is_some());
        assert!(point.link_specifiers.ed25519_id().is_some());
    }
}

#[test]
fn a_descriptor_of_tor_is_read() {
    let address = "ae4htyxpjrcge3vdnkrkifg2sf3no77c2vpmrbwckzoevyczl2pvizad.onion";
    let text = include_str!("../../../../tests/vectors/hs/tor-plain.txt");
    let plaintext = tor_decrypt(address, text, None).unwrap();
    assert_eq!(plaintext.intro_points.len(), 3);
    check_tor_plaintext(&plaintext);
}

#[test]
fn a_descriptor_of_tor_for_one_client_is_read() {
    let address = "ibejzrkym3knkrsk4rneqhdr3pukxzodt2kw4trdzsn4usrht7qws5id.onion";
    let text = include_str!("../../../../tests/vectors/hs/tor-auth.txt");
    let plaintext = tor_decrypt(address, text, Some(TOR_CLIENT_KEY)).unwrap();
    assert_eq!(plaintext.intro_points.len(), 5);
    check_tor_plaintext(&plaintext);
    assert_eq!(
        tor_decrypt(address, text, None),
        Err(HsDecryptError::ClientAuthNeeded)
    );
    assert_eq!(
        tor_decrypt(address, text, Some([1; 32])),
        Err(HsDecryptError::ClientAuthWrong)
    );
}

#[test]
fn all_that_a_service_says_is_read_back() {
    let mut service = Service::new(1, 3, 0);
    service.plaintext.intro_auth_required = vec!["ed25519".to_owned()];
    service.plaintext.is_single_onion = true;
    service.plaintext.flow_control = Some(flow_control("1-2", 31));
    service.plaintext.pow_params = Some(PowParams {
        seed: [7; 32],
        effort: 99,
        expires: time("2026-11-21 06:00:00").unwrap(),
    });
    let text = service.encode().unwrap();
    assert_eq!(service.decrypt(&text, None), Ok(service.plaintext.clone()));
    let key = SecretKey::generate(&mut service.rng);
    assert_eq!(
        service.decrypt(&text, Some(&key)),
        Ok(service.plaintext.clone())
    );
}

#[test]
fn client_authorization_has_three_outcomes() {
    let mut service = Service::new(2, 1, 17);
    let text = service.encode().unwrap();
    for key in &service.clients {
        assert_eq!(
            service.decrypt(&text, Some(key)),
            Ok(service.plaintext.clone())
        );
    }
    assert_eq!(
        service.decrypt(&text, None),
        Err(HsDecryptError::ClientAuthNeeded)
    );
    let other = SecretKey::generate(&mut service.rng);
    assert_eq!(
        service.decrypt(&text, Some(&other)),
        Err(HsDecryptError::ClientAuthWrong)
    );
}

#[test]
fn sizes_hide_numbers() {
    let len_of = |intro_points, clients| {
        let text = Service::new(3, intro_points, clients).encode().unwrap();
        let descriptor = HsDescriptor::parse(&text, now()).unwrap();
        let layer = descriptor.superencrypted.len() - cepa_crypto::hs_layer::OVERHEAD;
        assert_eq!(layer % PADDING_MULTIPLE, 0);
        assert!(text.len() < HS_DESCRIPTOR_LEN_MAX);
        layer / PADDING_MULTIPLE
    };
    assert_eq!((len_of(0, 0), len_of(3, 0), len_of(3, 16)), (1, 1, 1));
    assert_eq!((len_of(10, 1), len_of(20, 0), len_of(20, 1)), (2, 3, 3));
    let mut service = Service::new(3, 20, 400);
    assert_eq!(service.encode(), Err(HsEncodeError::TooLong));
}

#[test]
fn at_most_twenty_introduction_points() {
    let mut service = Service::new(4, 21, 0);
    assert_eq!(service.encode(), Err(HsEncodeError::TooManyIntroPoints));
    let last = service.plaintext.intro_points.split_off(20);
    let mut inner = service.plaintext.encode(&service.signing, now()).unwrap();
    let last = HsPlaintext {
        intro_points: last,
        ..HsPlaintext::default()
    };
    let last = last.encode(&service.signing, now()).unwrap();
    inner.push_str(last.strip_prefix("create2-formats 2\n").unwrap());
    let text = service.encode_inner(&inner);
    assert_eq!(
        service.decrypt(&text, None),
        Err(HsDecryptError::TooManyIntroPoints)
    );
    let text = service.encode().unwrap();
    assert_eq!(service.decrypt(&text, None), Ok(service.plaintext.clone()));
}

#[test]
fn a_bad_introduction_point_is_left_out() {
    let mut service = Service::new(5, 3, 0);
    let good = service.plaintext.encode(&service.signing, now()).unwrap();
    let other = Keypair::generate(&mut service.rng);
    let foreign = service.plaintext.encode(&other, now()).unwrap();
    let (header, points) = good.split_once("introduction-point ").unwrap();
    let late = service
        .plaintext
        .encode(&service.signing, now() - HS_CERT_LIFETIME * 2);
    for bad in [
        foreign,
        late.unwrap(),
        good.replace("enc-key ntor", "enc-key other"),
        good.replace("onion-key ntor ", "onion-key ntor A"),
        good.replacen("introduction-point ", "introduction-point AAA", 3),
        good.replace("auth-key\n", "auth-key-other\n"),
    ] {
        let (_, bad) = bad.split_once("introduction-point ").unwrap();
        let inner = format!(
            "{header}unknown line\nintroduction-point {bad}introduction-point {points}more of it\n"
        );
        let text = service.encode_inner(&inner);
        assert_eq!(service.decrypt(&text, None), Ok(service.plaintext.clone()));
    }
}

#[test]
fn what_is_wanted_must_be_known() {
    let mut service = Service::new(6, 0, 0);
    let mut outcome = |inner: &str| {
        let text = service.encode_inner(inner);
        service.decrypt(&text, None)
    };
    let unknown = |what| Err(HsDecryptError::Unknown(what));
    assert_eq!(outcome("create2-formats 2 7\n"), Ok(HsPlaintext::default()));
    assert_eq!(outcome("create2-formats 3\n"), unknown("create2-formats"));
    let auth = "create2-formats 2\nintro-auth-required other\n";
    assert_eq!(outcome(auth), unknown("intro-auth-required"));
    assert!(matches!(outcome("caa x\n"), Err(HsDecryptError::Item(_))));
    let cc = "create2-formats 2\nflow-control 1-2 300\n";
    assert!(matches!(outcome(cc), Err(HsDecryptError::Item(_))));
    let pow = "create2-formats 2\npow-params v2 x\n";
    assert_eq!(outcome(pow), Ok(HsPlaintext::default()));
    let pow = "create2-formats 2\npow-params v1 x 1 2026-11-21T06:00:00\n";
    assert!(matches!(outcome(pow), Err(HsDecryptError::Item(_))));
}

#[test]
fn of_another_service_or_period() {
    let mut service = Service::new(7, 1, 0);
    let text = service.encode().unwrap();
    let descriptor = HsDescriptor::parse(&text, now()).unwrap();
    let decrypt = |identity, period| descriptor.decrypt(identity, period, None, now());
    let other = Service::new(8, 0, 0).identity;
    assert_eq!(
        decrypt(&service.identity, PERIOD.next()),
        Err(HsDecryptError::OtherKey)
    );
    assert_eq!(decrypt(&other, PERIOD), Err(HsDecryptError::OtherKey));
    let none = PublicKey::from([2; 32]);
    assert_eq!(decrypt(&none, PERIOD), Err(HsDecryptError::OtherKey));
}

#[test]
fn the_outer_layer_is_checked() {
    let text = Service::new(9, 1, 0).encode().unwrap();
    let refused = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        HsDescriptor::parse(&changed, now()).unwrap_err()
    };
    let signature = HsDescriptorError::Signature;
    assert_eq!(
        refused("revision-counter 7", "revision-counter 8"),
        signature
    );
    assert_eq!(
        refused("superencrypted\n", "x\nsuperencrypted\n"),
        signature
    );
    assert_eq!(
        refused("descriptor 3", "descriptor 4"),
        HsDescriptorError::Version
    );
    assert_eq!(
        refused("lifetime 180", "lifetime 721"),
        HsDescriptorError::Lifetime(721)
    );
    let late = now() + HS_CERT_LIFETIME + Duration::from_secs(3601);
    assert_eq!(
        HsDescriptor::parse(&text, late),
        Err(HsDescriptorError::Cert(CertError::Expired))
    );
    let long = format!("{text}{}", "x y\n".repeat(10_000));
    let error = HsDescriptor::parse(&long, now()).unwrap_err();
    assert_eq!(error, ItemError::TooLong(HS_DESCRIPTOR_LEN_MAX - 1).into());
}

#[test]
fn truncated_at_every_length() {
    let text = Service::new(10, 0, 0).encode().unwrap();
    // All but the last newline has to be there.
    for len in 0..text.len() - 1 {
        assert!(HsDescriptor::parse(&text[..len], now()).is_err());
    }
    let inner = Service::new(10, 1, 0);
    let text = inner.plaintext.encode(&inner.signing, now()).unwrap();
    for len in 0..text.len() {
        let _ = inner::parse(&text[..len], &inner.signing.public(), now());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn round_trip(seed: u8, points in 0..=20_usize, clients in 0..=40_usize, single: bool) {
        let mut service = Service::new(seed, points, clients);
        service.plaintext.is_single_onion = single;
        let text = service.encode().unwrap();
        let read = service.decrypt(&text, service.clients.last());
        prop_assert_eq!(read, Ok(service.plaintext.clone()));
    }

    #[test]
    fn mutations_of_the_text_are_refused(seed in 0..4_u8, at: usize, to in 1_u8..128) {
        let text = Service::new(seed, 1, 0).encode().unwrap();
        let mut bytes = text.clone().into_bytes();
        let at = at % (bytes.len() - 1);
        bytes[at] ^= to;
        // What is no base64 letter of the signature may be passed over.
        if let Ok(changed) = String::from_utf8(bytes)
            && let Ok(read) = HsDescriptor::parse(&changed, now())
        {
            prop_assert_eq!(read, HsDescriptor::parse(&text, now()).unwrap());
        }
    }

    #[test]
    fn mutations_of_the_layers_do_not_panic(
        inner in "(create2-formats 2\n)?((flow-control|pow-params|introduction-point|auth-key|\
                  enc-key ntor|-----BEGIN ED25519 CERT-----|x) [A-Za-z0-9 =]{0,9}\n){0,9}",
        middle in "(desc-auth-type x25519\n)?((desc-auth-ephemeral-key|auth-client|encrypted) \
                   [A-Za-z0-9 =]{0,60}\n){0,9}",
    ) {
        let _ = inner::parse(&inner, &PublicKey::from([3; 32]), now());
        let _ = middle::Middle::parse(&middle);
    }
}
