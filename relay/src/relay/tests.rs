//! The control core with a directory that serves the documents of a running network of `tor`.

use std::collections::BTreeMap;

use cepa_dir::fetch::Reply;
use cepa_dir::request::{CertQuery, DescQuery};
use cepa_dir::{Asker, DirAuthority, DirRequest, DirStore};
use cepa_netdoc::authcert::split_certs;
use cepa_netdoc::descriptor::{ServerDescriptor, split_descriptors};
use cepa_netdoc::extrainfo::{ExtraInfo, split_extra_infos};
use cepa_netdoc::family::Family;
use cepa_netdoc::microdesc::{Microdesc, split_microdescs};
use cepa_netdoc::policy::AddrPolicy;
use cepa_netdoc::protover::Protocols;
use cepa_netdoc::timestamp;

use super::*;
use crate::accounting::{AccountingConfig, AccountingRule};
use crate::exit_policy::ExitOptions;
use crate::signing::DAY;
use crate::switch::Limits;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/netdoc/consensus/", $name))
    };
}

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: timestamp::parse("2026-11-21 03:17:30").unwrap(),
    }
}

fn network() -> Arc<NetworkFile> {
    let consensus = ConsensusText::parse(real!("consensus-1")).unwrap();
    let authorities = consensus.consensus().authorities.iter().map(|one| {
        let source = &one.dir_source;
        DirAuthority {
            nickname: source.nickname.clone(),
            v3_identity: source.identity,
            rsa_id: source.identity,
            ed25519_id: None,
            dir_addr: std::net::SocketAddrV4::new(source.ip, source.dir_port),
            or_addr: std::net::SocketAddrV4::new(source.ip, source.or_port),
            or_addr_v6: None,
        }
    });
    Arc::new(NetworkFile {
        authorities: authorities.collect(),
        is_testing: true,
    })
}

fn config() -> RelayConfig {
    RelayConfig {
        nickname: "Foo".into(),
        contact: Some("nobody".into()),
        version: "0.1.0".into(),
        or_address: "127.9.0.1:9001".parse().unwrap(),
        or_address_v6: None,
        dir_port: 0,
        exit: ExitOptions::with_rules(AddrPolicy::parse_config(["accept *:80"]).unwrap()),
        family: Family::default(),
        family_keys: Vec::new(),
        bandwidth_rate: 1 << 20,
        bandwidth_burst: 1 << 21,
        accounting: None,
        bandwidth_observed_min: 5000,
        max_memory: usize::MAX,
        protocols: Protocols::parse(crate::PROTOCOLS).unwrap(),
        key_day: crate::DAY,
        serves_directory: true,
        bridge_distribution: None,
        publishes: true,
        extend_allow_private: true,
        key_times: crate::KeyTimes::default(),
        choices: crate::Choices::default(),
        dos: Default::default(),
        limits: Limits::default(),
    }
}

/// What the outside does: answers fetches from the documents, keeps the rest.
struct Outside {
    store: DirStore,
    uploads: Vec<(usize, Arc<str>)>,
    others: Vec<Command>,
    rng: Rng,
}

fn serve(request: &DirRequest) -> Reply {
    let body: String = match request {
        DirRequest::Consensus {
            flavour: Flavour::Ns,
            ..
        } => real!("consensus-2").to_owned(),
        DirRequest::Consensus { .. } => real!("consensus-microdesc-2").to_owned(),
        DirRequest::Certificates(CertQuery::Pairs(_)) => split_certs(real!("keys")).collect(),
        DirRequest::Microdescs(digests) => split_microdescs(real!("microdescs"))
            .filter(|text| digests.contains(&Microdesc::parse(text).unwrap().digest))
            .collect(),
        DirRequest::ServerDescs(DescQuery::Digests(digests)) => {
            split_descriptors(real!("server-descriptors"))
                .filter(|text| digests.contains(&ServerDescriptor::parse(text).unwrap().digest))
                .collect()
        }
        DirRequest::ExtraInfos(DescQuery::Digests(digests)) => {
            split_extra_infos(real!("extra-infos"))
                .filter(|text| digests.contains(&ExtraInfo::parse(text).unwrap().digest.sha1))
                .collect()
        }
        _ => String::new(),
    };
    Reply {
        status: 200,
        body: body.into_bytes(),
    }
}

impl Outside {
    fn new() -> Self {
        let rng = Rng::from_seed([4; 32]);
        let (store, uploads, others) = (DirStore::new(None), Vec::new(), Vec::new());
        Outside {
            store,
            uploads,
            others,
            rng,
        }
    }

    fn run(&mut self, relay: &mut Relay, now: Now) {
        relay.handle_timeout(now);
        for _ in 0..10_000 {
            match relay.poll_command() {
                None => return,
                Some(Command::Fetch { id, request, .. }) => {
                    relay.handle_fetch(id, serve(&request), now);
                }
                Some(Command::MakeTlsKey(job)) => {
                    let made = job.run(now, &mut self.rng);
                    relay.handle_tls_key(made, now);
                }
                Some(Command::Upload {
                    authority, body, ..
                }) => {
                    self.uploads.push((authority, body));
                    relay.handle_upload(authority, 200, "", now);
                }
                Some(Command::Serve(document)) => self.store.insert(document, now.wall),
                Some(other) => self.others.push(other),
            }
        }
        panic!("it does not come to rest");
    }
}

fn start(now: Now) -> (Relay, Outside) {
    let mut rng = Rng::from_seed([3; 32]);
    let keys = RelayKeys::generate(now, &mut rng).unwrap();
    (
        Relay::new(config(), network(), keys, now, rng),
        Outside::new(),
    )
}

#[test]
fn an_allowance_that_is_used_up_puts_a_relay_to_sleep() {
    let now = now();
    let (mut relay, mut outside) = start(now);
    outside.run(&mut relay, now);
    let accounting = AccountingConfig {
        max: 1000,
        start: "day 12:00".parse().unwrap(),
        rule: AccountingRule::Sum,
    };
    let bounded = RelayConfig {
        accounting: Some(accounting),
        ..config()
    };
    relay.set_config(bounded.clone(), now);
    let mut step = |relay: &mut Relay, bytes: [u64; 2], now: Now| {
        relay.handle_traffic(bytes[0], 0, now);
        relay.handle_other_traffic(0, bytes[1], now);
        outside.uploads.clear();
        outside.others.clear();
        outside.run(relay, now);
        let told = outside.others.iter().find_map(|command| match command {
            Command::Sleep(wakefulness) => Some(*wakefulness),
            _ => None,
        });
        let says = |text: &str| text.contains("\nhibernating 1\n");
        let uploaded = outside.uploads.first().map(|(_, text)| says(text));
        (told, uploaded)
    };
    assert_eq!(step(&mut relay, [900, 49], now).0, None);
    let soft = step(&mut relay, [0, 1], now);
    assert_eq!(soft, (Some(Wakefulness::Soft), Some(true)));
    assert_eq!(relay.own().unwrap().observed, 5000);
    assert_eq!(step(&mut relay, [50, 0], now).0, Some(Wakefulness::Hard));
    // The clock has come to the interval's end.
    let later = now + Duration::from_secs(9 * 3600);
    let awake = step(&mut relay, [0, 0], later);
    assert_eq!(awake, (Some(Wakefulness::Awake), Some(false)));

    // What was kept holds in the next run.
    step(&mut relay, [0, 2000], later);
    let used = relay.accounting().unwrap().encode();
    let mut rng = Rng::from_seed([6; 32]);
    let keys = RelayKeys::generate(later, &mut rng).unwrap();
    let mut again = Relay::new(bounded, network(), keys, later, rng);
    let kept = Restored {
        accounting: Some(used),
        ..Restored::default()
    };
    again.restore(&kept, later);
    assert_eq!(again.wakefulness(), Wakefulness::Hard);
    again.set_config(config(), later);
    assert_eq!(again.wakefulness(), Wakefulness::Awake);
}

#[test]
fn what_the_operator_chooses_goes_before_the_network() {
    let now = now();
    let (mut relay, mut outside) = start(now);
    outside.run(&mut relay, now);
    let mut chosen = |choices| {
        outside.others.clear();
        relay.set_config(
            RelayConfig {
                choices,
                ..config()
            },
            now,
        );
        outside.run(&mut relay, now);
        let (mut refuses, mut delay) = (None, None);
        for command in &outside.others {
            match command {
                Command::Relays(relays) => refuses = Some(relays.refuse_unknown_exits),
                Command::Switch(config) => delay = Some(config.limits.onionskins.delay_max),
                _ => {}
            }
        }
        (refuses, delay)
    };
    let usual = chosen(crate::Choices::default());
    assert_eq!(usual, (Some(true), Some(Duration::from_millis(1750))));
    let other = chosen(crate::Choices {
        refuse_unknown_exits: Some(false),
        onion_delay: Some(Duration::from_millis(20)),
    });
    assert_eq!(other, (Some(false), Some(Duration::from_millis(20))));
}

#[test]
fn a_start_from_nothing() {
    let now = now();
    let (mut relay, mut outside) = start(now);
    outside.run(&mut relay, now);
    // Uploaded to each authority, and read by them.
    assert_eq!(
        outside.uploads.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let body = &outside.uploads[0].1;
    let (desc, info) = body.split_at(body.find("extra-info Foo").unwrap());
    let desc = ServerDescriptor::parse(desc).unwrap();
    let info = ExtraInfo::parse(info).unwrap();
    info.check_against(&desc).unwrap();
    assert_eq!(
        (desc.identity, desc.ed25519),
        (relay.keys().rsa_id(), relay.keys().ed25519_id())
    );
    assert_eq!(desc.proto, crate::descriptor::PROTOCOLS);
    assert_eq!(desc.platform.as_deref(), Some("Cepa 0.1.0 on Linux"));
    assert_eq!(desc.bandwidth.observed, 5000);
    // What it has downloaded is served, its own documents too.
    assert!(relay.directory().is_complete());
    let get = |path: &str| {
        let (request, z) = DirRequest::parse("GET", path, None).unwrap();
        let asker = Asker {
            accept_encoding: None,
            z,
            if_modified_since: None,
        };
        outside.store.reply(&request, asker, now.wall)
    };
    for path in [
        "status-vote/current/consensus",
        "keys/all",
        "server/all",
        "server/authority",
    ] {
        assert_eq!(get(&format!("/tor/{path}")).status, 200, "{path}");
    }
    let own = get(&format!("/tor/server/fp/{}", desc.identity));
    assert_eq!(&*own.body, desc.text.as_bytes());
    // The switches know the relays; keys are saved before anything else.
    assert!(matches!(outside.others[0], Command::SaveKeys { .. }));
    let relays = outside
        .others
        .iter()
        .rev()
        .find_map(|command| match command {
            Command::Relays(relays) => Some(relays),
            _ => None,
        });
    let relays = relays.unwrap();
    assert_eq!(relays.ids.len(), 9);
    assert!(relays.ids.values().all(Option::is_some) && relays.refuse_unknown_exits);
    assert!(
        outside
            .others
            .iter()
            .any(|command| matches!(command, Command::Link { .. }))
    );
}

#[test]
fn nothing_is_lost_at_a_restart() {
    let now = now();
    let (mut relay, mut outside) = start(now);
    outside.run(&mut relay, now);
    let files: BTreeMap<_, _> = outside
        .others
        .iter()
        .filter_map(|command| match command {
            Command::SaveKeys { files, .. } => Some(files),
            _ => None,
        })
        .flatten()
        .filter_map(|file| Some((file.path.to_owned(), file.bytes.clone()?)))
        .collect();
    let mut rng = Rng::from_seed([5; 32]);
    let keys = RelayKeys::parse(&files, now.wall, now, &mut rng).unwrap();
    assert_eq!(keys.rsa_id(), relay.keys().rsa_id());
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    let kept = Restored {
        certificates: owned(split_certs(real!("keys")).collect()),
        consensuses: owned(vec![
            real!("consensus-2"),
            real!("consensus-microdesc-2"),
            "x",
        ]),
        microdescs: owned(split_microdescs(real!("microdescs")).collect()),
        server_descs: owned(split_descriptors(real!("server-descriptors")).collect()),
        extra_infos: owned(split_extra_infos(real!("extra-infos")).collect()),
        accounting: None,
    };
    let mut relay = Relay::new(config(), network(), keys, now, rng);
    relay.restore(&kept, now);
    assert!(relay.directory().is_complete());
}

#[test]
fn rotated_keys_and_a_new_configuration_are_published() {
    let now = now();
    let (mut relay, mut outside) = start(now);
    outside.run(&mut relay, now);
    let before = outside.uploads.len();
    let later = now + Duration::from_secs(60);
    let mut changed = config();
    changed.contact = None;
    relay.set_config(changed, later);
    outside.run(&mut relay, later);
    assert_eq!(outside.uploads.len(), before + 3);
    let published = |relay: &Relay| relay.own().unwrap().descriptor.published;
    let first = published(&relay);
    // Another address is told; the same one is no news.
    let moved = "198.51.100.9".parse().unwrap();
    relay.set_address(moved, later);
    relay.set_address(moved, later);
    outside.run(&mut relay, later);
    assert_eq!(outside.uploads.len(), before + 6);
    assert!(
        relay
            .own()
            .unwrap()
            .descriptor
            .text
            .contains(" 198.51.100.9 ")
    );
    // Of two of one second authorities would keep the first.
    assert!(published(&relay) > first);
    // A clock that was set back is believed.
    let back = Now {
        wall: later.wall - DAY,
        ..later
    };
    relay.set_config(config(), back);
    outside.run(&mut relay, back);
    assert_eq!(published(&relay), back.wall);
    let before = outside.uploads.len();
    let month = now + DAY * 28;
    let onion = relay.keys().onion_keys().ntor[0].public().to_owned();
    outside.run(&mut relay, month);
    assert!(outside.uploads.len() >= before + 3);
    let keys = relay.keys().onion_keys();
    assert_eq!((keys.ntor.len(), *keys.ntor[1].public()), (2, onion));
    assert!(relay.poll_timeout().is_some());
}
