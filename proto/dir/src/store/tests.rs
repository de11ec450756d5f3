//! Documents of a running network of `tor`, served again.

use std::time::{Duration, UNIX_EPOCH};

use crate::DirRequest;
use crate::encoding::Encoding;
use crate::request::RequestError;
use cepa_netdoc::authcert::split_certs;
use cepa_netdoc::descriptor::split_descriptors;
use cepa_netdoc::diff;
use cepa_netdoc::extrainfo::split_extra_infos;
use cepa_netdoc::microdesc::{Microdesc, split_microdescs};
use cepa_netdoc::timestamp;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

const PLAIN: Asker<'_> = Asker {
    accept_encoding: None,
    z: false,
    if_modified_since: None,
};

fn now() -> SystemTime {
    timestamp::parse("2026-11-21 03:17:30").unwrap()
}

fn consensus(text: &str) -> ConsensusText {
    ConsensusText::parse(text).unwrap()
}

fn filled() -> DirStore {
    let mut store = DirStore::new(None);
    let mut insert = |document| store.insert(document, now());
    for cert in split_certs(real!("keys")) {
        insert(DirDocument::Certificate(Arc::new(
            AuthCert::parse(cert).unwrap(),
        )));
    }
    for text in split_microdescs(real!("microdescs")) {
        let digest = Microdesc::parse(text).unwrap().digest;
        insert(DirDocument::Microdesc(digest, text.into()));
    }
    for text in split_descriptors(real!("server-descriptors")) {
        insert(DirDocument::ServerDesc(
            (&ServerDescriptor::parse(text).unwrap()).into(),
        ));
    }
    for text in split_extra_infos(real!("extra-infos")) {
        insert(DirDocument::ExtraInfo(
            (&ExtraInfo::parse(text).unwrap()).into(),
        ));
    }
    for text in [real!("consensus-1"), real!("consensus-2")] {
        insert(DirDocument::Consensus(consensus(text)));
    }
    for text in [
        real!("consensus-microdesc-1"),
        real!("consensus-microdesc-2"),
    ] {
        insert(DirDocument::Consensus(consensus(text)));
    }
    store
}

fn get(store: &DirStore, path: &str, asker: Asker<'_>) -> Reply {
    let (request, z) = DirRequest::parse("GET", path, None).unwrap();
    store.reply(&request, Asker { z, ..asker }, now())
}

fn text(reply: &Reply) -> String {
    assert_eq!(reply.status, 200);
    let encoding = reply
        .headers
        .iter()
        .find(|(name, _)| *name == "Content-Encoding");
    let encoding = Encoding::parse(encoding.map(|(_, value)| value.as_str())).unwrap();
    String::from_utf8(encoding.decode(&reply.body, 1 << 24).unwrap()).unwrap()
}

#[test]
fn consensuses_in_every_encoding() {
    let store = filled();
    let path = "/tor/status-vote/current/consensus-microdesc";
    for accept in [
        None,
        Some("deflate"),
        Some("gzip"),
        Some("x-zstd, deflate"),
        Some("x-tor-lzma"),
    ] {
        let asker = Asker {
            accept_encoding: accept,
            ..PLAIN
        };
        assert_eq!(
            text(&get(&store, path, asker)),
            real!("consensus-microdesc-2")
        );
    }
    let deflated = get(&store, "/tor/status-vote/current/consensus.z", PLAIN);
    assert_eq!(
        deflated.headers[1],
        ("Content-Encoding", "deflate".to_owned())
    );
    assert_eq!(text(&deflated), real!("consensus-2"));
    let again = get(&store, "/tor/status-vote/current/consensus.z", PLAIN);
    assert!(Arc::ptr_eq(&deflated.body, &again.body), "compressed once");
}

#[test]
fn more_than_half_of_the_named_must_have_signed() {
    let store = filled();
    let ids: Vec<String> = store
        .consensus(Flavour::Ns)
        .unwrap()
        .consensus()
        .signatures
        .iter()
        .map(|signature| signature.identity.to_string())
        .collect();
    let stranger = "AB".repeat(20);
    let status = |names: &[&str]| {
        let path = format!("/tor/status-vote/current/consensus/{}.z", names.join("+"));
        get(&store, &path, PLAIN).status
    };
    assert_eq!(status(&[&ids[0]]), 200);
    assert_eq!(
        status(&[&ids[0][..6].to_lowercase(), &ids[1], &stranger]),
        200
    );
    assert_eq!(status(&[&ids[0], &stranger]), 404);
    assert_eq!(status(&[&stranger]), 404);
}

#[test]
fn no_difference_is_made_from_what_is_too_old() {
    let mut store = filled();
    let old = consensus(real!("consensus-1"));
    let age = now().duration_since(old.consensus().lifetime.valid_after);
    let age = age.unwrap();
    let request = DirRequest::Consensus {
        flavour: Flavour::Ns,
        signers: Vec::new(),
        diff_from: vec![old.diff_base_digest()],
    };
    for (age_max, has_diff) in [
        (None, true),
        (Some(age), true),
        (Some(age - Duration::from_secs(1)), false),
    ] {
        store.set_diff_age_max(age_max);
        let reply = text(&store.reply(&request, PLAIN, now()));
        assert_eq!(diff::is_diff(&reply), has_diff, "{age_max:?}");
    }
}

#[test]
fn differences_and_what_is_not_new() {
    let store = filled();
    let (old, new) = (
        consensus(real!("consensus-1")),
        consensus(real!("consensus-2")),
    );
    let ask = |diff_from: Vec<[u8; 32]>, since| {
        let request = DirRequest::Consensus {
            flavour: Flavour::Ns,
            signers: Vec::new(),
            diff_from,
        };
        store.reply(
            &request,
            Asker {
                if_modified_since: since,
                ..PLAIN
            },
            now(),
        )
    };
    let reply = ask(vec![[1; 32], old.diff_base_digest()], None);
    let diff = text(&reply);
    assert!(diff::is_diff(&diff));
    assert_eq!(diff::apply(&old, &diff).unwrap(), real!("consensus-2"));
    assert!(Arc::ptr_eq(
        &reply.body,
        &ask(vec![old.diff_base_digest()], None).body
    ));
    assert_eq!(ask(vec![new.diff_base_digest()], None).status, 304);
    assert_eq!(text(&ask(vec![[1; 32]], None)), real!("consensus-2"));
    let valid_after = new.consensus().lifetime.valid_after;
    assert_eq!(ask(Vec::new(), Some(valid_after)).status, 304);
    assert_eq!(
        ask(Vec::new(), Some(valid_after - Duration::from_secs(1))).status,
        200
    );
    let request = DirRequest::parse("GET", "/tor/status-vote/current/consensus", None)
        .unwrap()
        .0;
    let late = new.consensus().lifetime.valid_until + Duration::from_secs(25 * 60 * 60);
    assert_eq!(store.reply(&request, PLAIN, late).status, 404);
}

#[test]
fn an_older_consensus_does_not_come_back() {
    let mut store = filled();
    store.insert(
        DirDocument::Consensus(consensus(real!("consensus-1"))),
        now(),
    );
    assert_eq!(
        &**store.consensus(Flavour::Ns).unwrap().text(),
        real!("consensus-2")
    );
}

#[test]
fn lists_of_documents() {
    let store = filled();
    let descs: Vec<_> = split_descriptors(real!("server-descriptors")).collect();
    assert_eq!(
        text(&get(&store, "/tor/server/all.z", PLAIN)).len(),
        descs
            .iter()
            .map(|one| one.trim_end().len() + 1)
            .sum::<usize>()
    );
    let one = ServerDescriptor::parse(descs[0]).unwrap();
    let by_id = text(&get(
        &store,
        &format!("/tor/server/fp/{}", one.identity),
        PLAIN,
    ));
    assert_eq!(by_id, one.text);
    let digest = cepa_crypto::encoding::hex_upper(&one.digest);
    let path = format!("/tor/server/d/{digest}+{}.z", "00".repeat(20));
    assert_eq!(text(&get(&store, &path, PLAIN)), one.text);
    let extra = one.extra_info_digest.unwrap().sha1;
    let path = format!("/tor/extra/d/{}", cepa_crypto::encoding::hex_upper(&extra));
    assert!(text(&get(&store, &path, PLAIN)).starts_with("extra-info "));
    assert_eq!(
        get(&store, &format!("/tor/extra/d/{digest}"), PLAIN).status,
        404
    );
    assert_eq!(get(&store, "/tor/server/authority.z", PLAIN).status, 404);
    let certs = text(&get(&store, "/tor/keys/all", PLAIN));
    assert_eq!(
        split_certs(&certs).count(),
        split_certs(real!("keys")).count()
    );
    let microdescs = text(&get(&store, &all_microdescs(), PLAIN));
    assert_eq!(microdescs, real!("microdescs"));
    assert_eq!(
        get(&store, "/tor/status-vote/next/authority.z", PLAIN).status,
        404
    );
    assert_eq!(
        get(
            &store,
            "/tor/status-vote/next/consensus-signatures.z",
            PLAIN
        )
        .status,
        404
    );
    assert_eq!(
        DirRequest::parse("GET", "/tor/x", None).unwrap_err(),
        RequestError::NotFound
    );
}

fn all_microdescs() -> String {
    let digests = split_microdescs(real!("microdescs"))
        .map(|text| Microdesc::parse(text).unwrap().digest)
        .collect();
    DirRequest::Microdescs(digests).path()
}

#[test]
fn what_is_named_often_is_answered_once() {
    let store = filled();
    let desc = split_descriptors(real!("server-descriptors"))
        .next()
        .unwrap();
    let desc = ServerDescriptor::parse(desc).unwrap();
    let extra = split_extra_infos(real!("extra-infos")).next().unwrap();
    let extra = ExtraInfo::parse(extra).unwrap();
    let microdesc = split_microdescs(real!("microdescs")).next().unwrap();
    let digest = Microdesc::parse(microdesc).unwrap().digest;
    let cert = AuthCert::parse(split_certs(real!("keys")).next().unwrap()).unwrap();
    let repeat = |one: String, separator: &str| vec![one; 100].join(separator);
    let hex = |bytes: &[u8]| cepa_crypto::encoding::hex_upper(bytes);
    let key = format!("{}-{}", cert.identity, cert.signing_key_digest);
    let named = cepa_crypto::encoding::base64_unpadded(&digest);
    let paths = [
        (
            "server/d/",
            repeat(hex(&desc.digest), "+"),
            desc.text.as_str(),
        ),
        (
            "server/fp/",
            repeat(desc.identity.to_string(), "+"),
            &desc.text,
        ),
        (
            "extra/d/",
            repeat(hex(&extra.digest.sha1), "+"),
            &extra.text,
        ),
        (
            "extra/fp/",
            repeat(extra.identity.to_string(), "+"),
            &extra.text,
        ),
        ("micro/d/", repeat(named, "-"), microdesc),
        (
            "keys/fp/",
            repeat(cert.identity.to_string(), "+"),
            &cert.text,
        ),
        ("keys/fp-sk/", repeat(key, "+"), &cert.text),
    ];
    for (start, named, once) in paths {
        let reply = text(&get(&store, &format!("/tor/{start}{named}"), PLAIN));
        assert_eq!(reply.len(), once.len(), "{start}");
        assert_eq!(reply, once, "{start}");
    }
}

#[test]
fn all_together_are_made_once() {
    let mut store = filled();
    let all = |store: &DirStore, later: u64| {
        let now = now() + Duration::from_secs(later);
        let request = DirRequest::ServerDescs(crate::request::DescQuery::All);
        let asker = Asker {
            accept_encoding: Some("x-tor-lzma, deflate"),
            ..PLAIN
        };
        let found = store.find(&request, asker, now);
        let (is_made, own) = (found.is_made(), found.own_bytes());
        (is_made, own, found.render())
    };
    let (is_made, own, first) = all(&store, 0);
    assert_eq!((is_made, own), (false, 0));
    let (is_made, _, again) = all(&store, 1000);
    assert!(is_made && Arc::ptr_eq(&first.body, &again.body));
    // With one more it is the same for some seconds.
    let mut new = RouterDocument::from(
        &ServerDescriptor::parse(
            split_descriptors(real!("server-descriptors"))
                .next()
                .unwrap(),
        )
        .unwrap(),
    );
    new.identity = RsaId::from([7; 20]);
    new.digest = [7; 20];
    store.insert(DirDocument::ServerDesc(new), now());
    assert!(all(&store, 4).0 && !all(&store, 6).0);
    assert!(text(&all(&store, 6).2).len() > text(&first).len());
}

#[test]
fn one_relay_has_so_many_documents_and_no_more() {
    let mut documents = RouterDocuments::default();
    let mut insert = |relay: u8, n: u32| {
        let mut digest = [relay; 20];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        documents.insert(RouterDocument {
            digest,
            identity: RsaId::from([relay; 20]),
            published: UNIX_EPOCH + Duration::from_secs(n.into()),
            text: "x".repeat(50_000).into(),
        });
    };
    insert(1, 0);
    (0..1000).for_each(|n| insert(2, n));
    assert_eq!(documents.len(), 1 + ROUTER_DOCUMENTS_OF_RELAY_MAX);
    assert!(documents.of_relay(&RsaId::from([1; 20])).is_some());
}

#[test]
fn what_nobody_lists_goes_in_time() {
    let mut store = filled();
    let week = now() + MICRODESC_UNLISTED_MAX + Duration::from_secs(1);
    let before = store.server_descs.len();
    store.insert(
        DirDocument::Consensus(consensus(real!("consensus-microdesc-1"))),
        week,
    );
    store.insert(
        DirDocument::Consensus(consensus(real!("consensus-1"))),
        week,
    );
    assert_eq!(
        store.microdescs.count(),
        9,
        "the consensus lists them still"
    );
    assert!(!store.server_descs.is_empty() && store.server_descs.len() <= before);
    assert!(store.extra_infos.is_empty());
}

#[test]
fn votes_of_a_round() {
    let mut store = DirStore::new(None);
    let signatures: Arc<str> = "consensus-digest 00\n".into();
    store.insert(DirDocument::NextSignatures(Arc::clone(&signatures)), now());
    store.insert(
        DirDocument::NextConsensus(Flavour::Ns, "ns\n".into()),
        now(),
    );
    let next = "/tor/status-vote/next/consensus-signatures.z";
    assert_eq!(text(&get(&store, next, PLAIN)), &*signatures);
    assert_eq!(
        text(&get(&store, "/tor/status-vote/next/consensus.z", PLAIN)),
        "ns\n"
    );
    store.insert(DirDocument::CurrentVotes(Vec::new()), now());
    assert_eq!(get(&store, next, PLAIN).status, 404);
    assert_eq!(
        get(&store, "/tor/status-vote/next/consensus.z", PLAIN).status,
        404
    );
}

proptest! {
    #[test]
    fn the_newest_of_each_relay(
        steps in prop::collection::vec((any::<bool>(), 0_u8..4, 0_u8..6), 0..60),
    ) {
        let mut documents = RouterDocuments::default();
        let mut model: BTreeMap<[u8; 20], (RsaId, SystemTime)> = BTreeMap::new();
        for (insert, relay, n) in steps {
            let (mut digest, identity) = ([n; 20], RsaId::from([relay; 20]));
            digest[0] = relay;
            let published = UNIX_EPOCH + Duration::from_secs(n.into());
            if insert {
                documents.insert(RouterDocument {
                    digest,
                    identity,
                    published,
                    text: format!("{relay} {n}").into(),
                });
                model.insert(digest, (identity, published));
            } else {
                documents.remove(&digest);
                model.remove(&digest);
            }
            for relay in 0..4 {
                let id = RsaId::from([relay; 20]);
                let newest = model.iter().filter(|(_, (of, _))| *of == id).max_by_key(|(_, v)| v.1);
                let newest = newest.map(|(digest, _)| format!("{relay} {}", digest[1]));
                prop_assert_eq!(documents.of_relay(&id).map(|text| text.to_string()), newest);
            }
        }
    }
}
