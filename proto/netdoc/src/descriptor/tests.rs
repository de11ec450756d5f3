//! Tests of server descriptors: documents of a running `tor` 0.4.9, and our own.

use std::net::IpAddr;
use std::sync::LazyLock;

use cepa_crypto::Rng;
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_wire::cert::{Cert, CertKeyType, CertType};
use proptest::prelude::*;

use super::*;
use crate::microdesc::{self, Microdesc, split_microdescs};
use crate::timestamp;

/// A relay with exit policy, family and IPv6, and an authority, as an authority served them.
const TOR_DESCRIPTORS: &str = include_str!("../../../../tests/vectors/netdoc/tor-descriptors.txt");
/// The same relay with a family key.
const TOR_FAMILY: &str = include_str!("../../../../tests/vectors/netdoc/tor-family-descriptor.txt");
const TOR_FAMILY_MICRODESC: &str =
    include_str!("../../../../tests/vectors/netdoc/tor-family-microdesc.txt");
const TOR_MICRODESCS: &str = include_str!("../../../../tests/vectors/netdoc/tor-microdescs.txt");

/// Keys of a relay of our own.
pub(crate) struct Keys {
    pub(crate) identity: rsa::Keypair,
    pub(crate) tap: rsa::Keypair,
    pub(crate) ntor: curve25519::SecretKey,
    pub(crate) signing: ExpandedKeypair,
    pub(crate) signing_cert: Vec<u8>,
    pub(crate) master: Keypair,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([7; 32]);
    let master = Keypair::generate(&mut rng);
    let signing = Keypair::generate(&mut rng).expand();
    Keys {
        identity: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        tap: rsa::Keypair::generate(1024, &mut rng).unwrap(),
        ntor: curve25519::SecretKey::generate(&mut rng),
        signing_cert: Cert::make(
            CertType::ID_SIGNING,
            now() + Duration::from_secs(30 * 86400),
            CertKeyType::ED25519,
            signing.public().as_bytes(),
            &master,
            true,
        ),
        signing,
        master,
    }
});

impl Keys {
    pub(crate) fn borrowed(&self) -> DescriptorKeys<'_> {
        DescriptorKeys {
            identity: &self.identity,
            tap_onion: Some(&self.tap),
            ntor_onion: &self.ntor,
            signing: &self.signing,
            signing_cert: &self.signing_cert,
        }
    }
}

pub(crate) fn now() -> SystemTime {
    timestamp::parse("2026-11-21 04:00:00").unwrap()
}

pub(crate) fn fields() -> DescriptorFields {
    let mut rng = Rng::from_seed([8; 32]);
    let family_key = Keypair::generate(&mut rng);
    let family_cert = Cert::make(
        CertType::FAMILY_ID,
        now() + Duration::from_secs(86400),
        CertKeyType::ED25519,
        KEYS.master.public().as_bytes(),
        &family_key,
        true,
    );
    DescriptorFields {
        nickname: "cepa1".into(),
        or_address: "192.0.2.1:9001".parse().unwrap(),
        dir_port: 0,
        or_address_v6: Some("[2001:db8::1]:9001".parse().unwrap()),
        platform: "Tor 0.4.9.11 (Cepa 0.1.0)".into(),
        protocols: "Cons=2 Desc=2 DirCache=2 Link=4-5 LinkAuth=3 Relay=2-4"
            .parse()
            .unwrap(),
        published: now(),
        uptime_seconds: 12,
        bandwidth: Bandwidth {
            average: 1 << 20,
            burst: 1 << 21,
            observed: 1 << 19,
        },
        extra_info_digest: Some(ExtraInfoDigest {
            sha1: [1; 20],
            sha256: Some([2; 32]),
        }),
        caches_extra_info: true,
        family: Family::parse("friend $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        family_certs: vec![family_cert],
        is_hibernating: false,
        is_hidden_service_dir: true,
        contact: Some("cepa@example.invalid".into()),
        bridge_distribution_request: None,
        policy: AddrPolicy::parse_config(["reject private:*,accept *:80,reject *:*"]).unwrap(),
        is_dir_server: true,
        overload_general: Some(now()),
    }
}

static OWN: LazyLock<String> = LazyLock::new(|| fields().build(&KEYS.borrowed()).unwrap());

#[test]
fn descriptors_of_tor_are_read() {
    let parts: Vec<&str> = split_descriptors(TOR_DESCRIPTORS).collect();
    let [exit, authority] = parts[..] else {
        panic!("{} descriptors", parts.len())
    };
    let exit = ServerDescriptor::parse(exit).unwrap();
    assert_eq!(exit.nickname, "exit1");
    assert_eq!(
        exit.identity.to_string(),
        "AD71388F0402662F2325D9C92E8D7270292727A8"
    );
    assert_eq!(exit.or_address.to_string(), "127.0.0.2:21710");
    assert_eq!(exit.or_address_v6.unwrap().to_string(), "[::1]:21711");
    assert_eq!(exit.family.members().count(), 3);
    assert_eq!(
        exit.published,
        timestamp::parse("2026-11-21 03:31:47").unwrap()
    );
    assert!(exit.expires > exit.published && exit.unknown_lines.is_empty());
    let allows = |address: &str, port| exit.allows(address.parse::<IpAddr>().unwrap(), port);
    assert!(allows("127.1.2.3", 7) && allows("192.0.2.1", 80) && !allows("192.0.2.1", 25));
    assert!(allows("2001:db8::1", 7) && !allows("2001:db8::1", 25));
    assert!(exit.policy.is_general_exit(false) && !exit.is_reject_all());
    let authority = ServerDescriptor::parse(authority).unwrap();
    assert_eq!(authority.dir_port, 21701);
    assert!(authority.is_reject_all() && authority.is_dir_server);
    assert!(authority.protocols().unwrap().supports("Relay", 6));
}

/// Descriptors with families by list and key, without a TAP key, with an IPv6 policy, and what
/// `tor` 0.4.9.15 voted for each: which methods make which microdescriptor.
#[test]
fn microdescriptors_of_all_methods_are_those_of_tor() {
    const DESCRIPTORS: &str =
        include_str!("../../../../tests/vectors/netdoc/tor-0.4.9.15-descriptors.txt");
    const DIGESTS: &str =
        include_str!("../../../../tests/vectors/netdoc/tor-0.4.9.15-microdesc-digests.txt");
    let mut made = Vec::new();
    for text in split_descriptors(DESCRIPTORS) {
        let descriptor = ServerDescriptor::parse(text).unwrap();
        for method in 32..=37 {
            if let Some(text) = microdesc::from_descriptor(&descriptor, method) {
                let digest = Microdesc::parse(&text).unwrap().digest_base64();
                made.push(format!("{} {method} {digest}", descriptor.identity));
            }
        }
    }
    let theirs = DIGESTS.lines().flat_map(|line| {
        let (id, rest) = line.split_once(' ').unwrap();
        let (methods, digest) = rest.split_once(' ').unwrap();
        let methods = methods.split(',');
        methods.map(move |method| format!("{id} {method} {digest}"))
    });
    let mut theirs: Vec<String> = theirs.collect();
    theirs.sort_unstable();
    made.sort_unstable();
    assert_eq!(made, theirs);
}

#[test]
fn microdescriptors_are_those_of_tor() {
    let descriptors = split_descriptors(TOR_DESCRIPTORS).chain([TOR_FAMILY]);
    let microdescs = split_microdescs(TOR_MICRODESCS).chain([TOR_FAMILY_MICRODESC]);
    for (descriptor, microdesc) in descriptors.zip(microdescs) {
        let descriptor = ServerDescriptor::parse(descriptor).unwrap();
        assert_eq!(
            microdesc::from_descriptor(&descriptor, 35).unwrap(),
            microdesc
        );
        let read = Microdesc::parse(microdesc).unwrap();
        assert_eq!(read.ntor_onion_key, descriptor.ntor_onion_key);
        assert_eq!(read.ed25519, Some(descriptor.ed25519));
        assert_eq!(read.policy, descriptor.policy.summary_ipv4());
        assert_eq!(read.family_ids.len(), descriptor.family_ids.len());
    }
    // The names by which the consensus of that network called them.
    let digests: Vec<String> = split_microdescs(TOR_MICRODESCS)
        .map(|text| Microdesc::parse(text).unwrap().digest_base64())
        .collect();
    assert_eq!(
        digests,
        [
            "hCaQ/QjfKaNGzyjfWyuLZQIREcL8y8KfgZc4Pza/z1A",
            "B/oNpyh9EShSxtLnp0RYdQz5LZR/Z4+W0ir6N0Lkpho",
        ]
    );
}

#[test]
fn family_certificates_of_tor_are_read() {
    let descriptor = ServerDescriptor::parse(TOR_FAMILY).unwrap();
    assert_eq!(descriptor.family_ids.len(), 1);
    let without = microdesc::from_descriptor(&descriptor, 34).unwrap();
    let with = microdesc::from_descriptor(&descriptor, 35).unwrap();
    assert!(with.contains("\nfamily-ids ed25519:") && !without.contains("family-ids"));
    let (with, without) = (
        Microdesc::parse(&with).unwrap(),
        Microdesc::parse(&without).unwrap(),
    );
    assert!(with.shares_family_id(&with) && !with.shares_family_id(&without));
}

#[test]
fn what_is_built_is_read() {
    let fields = fields();
    let text = &*OWN;
    let read = ServerDescriptor::parse(text).unwrap();
    assert_eq!(&read.text, text);
    assert_eq!(read.nickname, fields.nickname);
    assert_eq!(read.or_address, fields.or_address);
    assert_eq!(read.or_address_v6, fields.or_address_v6);
    assert_eq!(read.identity, KEYS.identity.public().id());
    assert_eq!(read.ed25519, KEYS.master.public().id());
    assert_eq!(read.platform, Some(fields.platform));
    assert_eq!(read.protocols(), Some(fields.protocols));
    assert_eq!(read.published, fields.published);
    assert_eq!(read.bandwidth, fields.bandwidth);
    assert_eq!(read.extra_info_digest, fields.extra_info_digest);
    assert_eq!(read.family, fields.family);
    assert_eq!(read.contact, fields.contact);
    assert_eq!(read.overload_general, fields.overload_general);
    assert_eq!(read.tap_onion_key.as_ref(), Some(KEYS.tap.public()));
    assert_eq!(&read.ntor_onion_key, KEYS.ntor.public());
    assert!(read.caches_extra_info && read.is_hidden_service_dir && read.is_dir_server);
    assert!(!read.is_hibernating && read.family_ids.len() == 1);
    assert_eq!(read.expires, now() + Duration::from_secs(86400));
    assert!(read.unknown_lines.is_empty());
    assert_eq!(ServerDescriptor::parse(&format!("{text}\n\n")), Ok(read));
}

#[test]
fn unfit_fields_are_refused() {
    let keys = KEYS.borrowed();
    let build = |change: fn(&mut DescriptorFields)| {
        let mut fields = fields();
        change(&mut fields);
        fields.build(&keys)
    };
    assert!(build(|fields| fields.nickname = "with space".into()).is_err());
    assert!(build(|fields| fields.contact = Some("a\nreject *:*".into())).is_err());
    assert!(build(|fields| fields.platform = String::new()).is_err());
    assert!(build(|fields| fields.bandwidth.average = 0).is_err());
    assert!(build(|fields| fields.protocols = Protocols::new()).is_err());
    assert!(build(|fields| fields.contact = Some("a".repeat(20_000))).is_err());
    let other = Keypair::from_seed(&[3; 32]).expand();
    let wrong = DescriptorKeys {
        signing: &other,
        ..keys
    };
    assert_eq!(fields().build(&wrong), Err(BuildError::OtherSigningKey));
}

/// Signs a changed descriptor anew, so that only the change can be what is refused.
fn resigned(change: impl Fn(String) -> String) -> Result<ServerDescriptor, DescriptorError> {
    let unsigned = OWN.split("router-sig-ed25519").next().unwrap().to_owned();
    let mut text = change(unsigned);
    append_signatures(&mut text, &KEYS.signing, &KEYS.identity);
    ServerDescriptor::parse(&text)
}

/// Leaves out an item, object included.
fn without(text: &str, keyword: &str) -> String {
    let section = crate::item::Section::parse(text, DESCRIPTOR_LIMITS).unwrap();
    let item = section.required(keyword).unwrap();
    format!("{}{}", &text[..item.start], &text[item.end..])
}

#[test]
fn mandatory_items_are_those_of_tor() {
    assert!(resigned(|text| text).is_ok());
    for keyword in [
        "identity-ed25519",
        "master-key-ed25519",
        "proto",
        "published",
        "bandwidth",
        "ntor-onion-key",
        "ntor-onion-key-crosscert",
        "signing-key",
        "onion-key-crosscert",
        "onion-key",
    ] {
        assert!(
            resigned(|text| without(&text, keyword)).is_err(),
            "{keyword}"
        );
    }
    for keyword in [
        "platform",
        "fingerprint",
        "uptime",
        "hidden-service-dir",
        "tunnelled-dir-server",
        "extra-info-digest",
        "contact",
        "family",
        "family-cert",
        "or-address",
    ] {
        assert!(
            resigned(|text| without(&text, keyword)).is_ok(),
            "{keyword}"
        );
    }
    let no_tap = resigned(|text| without(&without(&text, "onion-key"), "onion-key-crosscert"));
    assert_eq!(microdesc::from_descriptor(&no_tap.unwrap(), 35), None);
}

#[test]
fn contradictions_are_refused() {
    let changed = |from: &'static str, to: &'static str| {
        let result = resigned(|text| {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            changed
        });
        result.map(|_| ())
    };
    assert_eq!(
        changed("accept *:80\n", "accept6 [::]/0:80\n"),
        Err(DescriptorError::Ipv6Rule)
    );
    assert_eq!(
        changed(" 9001 0 0\n", " 0 0 0\n"),
        Err(DescriptorError::NoOrPort)
    );
    assert_eq!(
        changed("router cepa1", "router cepa_1"),
        Err(DescriptorError::BadNickname)
    );
    assert_eq!(
        changed(" friend\n", " fri-end\n"),
        Err(DescriptorError::BadFamily)
    );
    assert!(changed("bandwidth 1048576", "bandwidth 0").is_err());
    assert!(changed("bandwidth 1048576", "bandwidth 4294967295").is_err());
    assert!(changed("published 2026-11-21", "published 2026-11-31").is_err());
    assert!(changed("uptime 12\n", "uptime 12\nuptime 12\n").is_err());
    assert!(changed("ipv6-policy accept 80", "ipv6-policy accept x").is_err());
    assert!(changed("hidden-service-dir\n", "hidden-service-dir\nnew-line 1\n").is_ok());
    let key = KEYS.master.public().id().to_string();
    let other = Keypair::from_seed(&[3; 32]).public().id().to_string();
    let wrong_master = resigned(|text| text.replacen(&key, &other, 1));
    assert_eq!(
        wrong_master,
        Err(DescriptorError::Mismatch("master-key-ed25519"))
    );
    let wrong_fingerprint = resigned(|text| text.replacen("fingerprint ", "fingerprint 0000 ", 1));
    assert_eq!(
        wrong_fingerprint,
        Err(DescriptorError::Mismatch("fingerprint"))
    );
}

#[test]
fn foreign_signatures_are_refused() {
    let unsigned = OWN.split("router-sig-ed25519").next().unwrap();
    let mut wrong_signing = unsigned.to_owned();
    append_signatures(
        &mut wrong_signing,
        &Keypair::from_seed(&[3; 32]).expand(),
        &KEYS.identity,
    );
    let result = ServerDescriptor::parse(&wrong_signing);
    assert_eq!(
        result,
        Err(DescriptorError::BadSignature("router-sig-ed25519"))
    );
    let mut wrong_rsa = unsigned.to_owned();
    append_signatures(&mut wrong_rsa, &KEYS.signing, &KEYS.tap);
    let result = ServerDescriptor::parse(&wrong_rsa);
    assert_eq!(
        result,
        Err(DescriptorError::BadSignature("router-signature"))
    );

    let mut rng = Rng::from_seed([9; 32]);
    let other_ntor = curve25519::SecretKey::generate(&mut rng);
    let keys = DescriptorKeys {
        ntor_onion: &other_ntor,
        ..KEYS.borrowed()
    };
    let text = fields().build(&keys).unwrap();
    let cert = |text: &str| {
        let from = text.find("ntor-onion-key-crosscert").unwrap();
        text[from..from + 200].to_owned()
    };
    let swapped = resigned(|own| own.replace(&cert(&own), &cert(&text)));
    assert_eq!(
        swapped,
        Err(DescriptorError::BadSignature("router-sig-ed25519"))
    );
}

#[test]
fn cosmetic_differences() {
    let own = ServerDescriptor::parse(&OWN).unwrap();
    let cosmetic = |change: fn(&mut ServerDescriptor)| {
        let mut other = own.clone();
        change(&mut other);
        let result = own.differs_only_cosmetically(&other);
        assert_eq!(result, other.differs_only_cosmetically(&own));
        result
    };
    assert!(cosmetic(|_| {}));
    assert!(cosmetic(|other| {
        other.published += Duration::from_secs(3600);
        other.uptime_seconds += 3600;
    }));
    assert!(cosmetic(|other| other.bandwidth.observed /= 2));
    assert!(cosmetic(|other| other.proto = "Link=5".into()));
    assert!(!cosmetic(|other| other.bandwidth.observed = 1));
    assert!(!cosmetic(
        |other| other.published += Duration::from_secs(7201)
    ));
    assert!(!cosmetic(|other| other.contact = None));
    assert!(!cosmetic(|other| other.policy = AddrPolicy::reject_all()));
    assert!(!cosmetic(|other| other.family = Family::default()));
    assert!(!cosmetic(|other| other.uptime_seconds += 30_000));
    assert!(!cosmetic(|other| other.tap_onion_key = None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_is_refused(at in 0..OWN.len(), byte in 0x20u8..0x7f) {
        let mut bytes = OWN.clone().into_bytes();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        let result = ServerDescriptor::parse(&text);
        // Behind the RSA signature's line only the signature itself counts, not how it is
        // wrapped or where its last bits are.
        let signed = OWN.find("router-signature").unwrap();
        prop_assert!(result.is_err() || at >= signed, "{}", at);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ServerDescriptor::parse(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn truncation_is_refused() {
    // All but the last newline has to be there.
    for len in (0..OWN.len() - 1).filter(|len| len % 7 == 0 || OWN.len() - len < 40) {
        assert!(ServerDescriptor::parse(&OWN[..len]).is_err(), "{len}");
    }
}
