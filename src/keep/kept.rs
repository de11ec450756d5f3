//! Which directory documents are kept in the store, and under which names.
//!
//! A document is kept under what identifies it, so that its successor replaces it where there is
//! only one at a time (a relay's descriptor, a flavour's consensus). What no consensus lists any
//! more goes after the time that the specification says, as it goes from memory (`DirStore`).

use std::time::{Duration, SystemTime};

use cepa_crypto::encoding::hex_upper;
use cepa_dir::DirDocument;
use cepa_dir::store::{MICRODESC_UNLISTED_MAX, MICRODESCS_MAX, UNLISTED_AGE_MAX};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::Flavour;

use crate::error::Failure;
use crate::store::{Change, Store, Upkeep};

/// Consensuses in force, by flavour.
pub(crate) const CONSENSUS: &str = "dir-consensus";
/// Authority certificates, by identity and signing key.
pub(crate) const CERTIFICATE: &str = "dir-certificate";
/// Microdescriptors, by SHA-256.
pub(crate) const MICRODESC: &str = "dir-microdesc";
/// Server descriptors, by relay.
pub(crate) const SERVER_DESC: &str = "dir-server-descriptor";
/// Extra-infos, by relay.
pub(crate) const EXTRA_INFO: &str = "dir-extra-info";
/// A client's guards, one entry.
pub(crate) const GUARDS: &str = "guards";
/// How long a client's circuits took to be built, one entry.
pub(crate) const BUILD_TIMES: &str = "build-times";
/// What guards let become of a client's circuits, one entry.
pub(crate) const PATH_BIAS: &str = "path-bias";
/// A client's vanguards in full mode, one entry.
pub(crate) const VANGUARDS: &str = "vanguards";
/// Whether a client is at rest.
pub(crate) const DORMANCY: &str = "dormancy";
/// Since when the ntor onion key is used: seconds since 1970, one entry.
pub(crate) const NTOR_SINCE: &str = "ntor-since";

/// What a relay has used of what it may carry, one entry.
pub(crate) const ACCOUNTING: &str = "accounting";

/// Kinds that can be fetched again when they are lost.
const CACHES: [&str; 5] = [CONSENSUS, CERTIFICATE, MICRODESC, SERVER_DESC, EXTRA_INFO];

/// Whether rows of a kind can be fetched again.
pub(crate) fn is_cache(kind: &str) -> bool {
    CACHES.contains(&kind)
}

/// The change that keeps what a relay has used.
pub(crate) fn accounting(text: String) -> Change {
    Change::Put {
        kind: ACCOUNTING,
        key: String::new(),
        bytes: text.into_bytes(),
    }
}

/// The change that keeps a document; none for those of a round, which the authority keeps.
pub(crate) fn change(document: &DirDocument) -> Option<Change> {
    let put = |kind, key: String, text: &str| {
        Some(Change::Put {
            kind,
            key,
            bytes: text.as_bytes().to_vec(),
        })
    };
    match document {
        DirDocument::Consensus(text) => put(
            CONSENSUS,
            text.consensus().flavour.name().to_owned(),
            text.text(),
        ),
        DirDocument::Certificate(cert) => put(
            CERTIFICATE,
            format!("{}-{}", cert.identity, cert.signing_key.id()),
            &cert.text,
        ),
        DirDocument::Microdesc(digest, text) => put(MICRODESC, hex_upper(digest), text),
        DirDocument::ServerDesc(desc) => put(SERVER_DESC, desc.identity.to_string(), &desc.text),
        DirDocument::ExtraInfo(info) => put(EXTRA_INFO, info.identity.to_string(), &info.text),
        _ => None,
    }
}

/// Relays of which a descriptor is kept at most.
const RELAYS_MAX: u32 = 50_000;

/// The upkeep that a document brings: of what a consensus lists.
pub(crate) fn upkeep(document: &DirDocument) -> Vec<Upkeep> {
    let DirDocument::Consensus(text) = document else {
        return Vec::new();
    };
    let consensus = text.consensus();
    let routers = consensus.routers.iter();
    match consensus.flavour {
        Flavour::Microdesc => listed_microdescs(routers.filter_map(|one| one.microdesc_digest)),
        Flavour::Ns => {
            let keys: Vec<String> = routers.map(|one| one.rsa_id.to_string()).collect();
            let seen = |kind| Upkeep::Seen {
                kind,
                keys: keys.clone(),
            };
            let seen = [SERVER_DESC, EXTRA_INFO].map(seen);
            seen.into_iter().chain(prune()).collect()
        }
    }
}

/// The same of the microdescriptors alone.
pub(crate) fn listed_microdescs(digests: impl IntoIterator<Item = [u8; 32]>) -> Vec<Upkeep> {
    let keys = digests.into_iter().map(|digest| hex_upper(&digest));
    let seen = Upkeep::Seen {
        kind: MICRODESC,
        keys: keys.collect(),
    };
    std::iter::once(seen).chain(prune()).collect()
}

/// The texts of microdescriptors by their SHA-256, one behind the other.
pub(crate) fn microdescs(store: &Store, digests: &[[u8; 32]]) -> String {
    let texts = store.texts_of(MICRODESC, digests.iter().map(|digest| hex_upper(digest)));
    texts.unwrap_or_default().concat()
}

/// What was not in use for long goes.
fn prune() -> [Upkeep; 3] {
    let prune = |kind, unseen_max: Duration, count_max| Upkeep::Prune {
        kind,
        unseen_max,
        count_max,
    };
    let microdescs_max = u32::try_from(MICRODESCS_MAX).unwrap_or(u32::MAX);
    [
        prune(MICRODESC, MICRODESC_UNLISTED_MAX, microdescs_max),
        prune(SERVER_DESC, UNLISTED_AGE_MAX, RELAYS_MAX),
        prune(EXTRA_INFO, UNLISTED_AGE_MAX, RELAYS_MAX),
    ]
}

/// At a start: forgets what has had its time, certificates among it. A disk that takes nothing is
/// no matter here.
pub(crate) fn tidy(store: &mut Store, now: SystemTime) -> Result<(), Failure> {
    let mut over = Vec::new();
    for (key, bytes) in store.entries(CERTIFICATE)? {
        let text = String::from_utf8(bytes).unwrap_or_default();
        if AuthCert::parse(&text).is_ok_and(|cert| cert.expires < now) {
            let kind = CERTIFICATE;
            over.push(Change::Drop { kind, key });
        }
    }
    if let Err(error) = store.apply(&over).and_then(|()| store.tend(&prune())) {
        tracing::info!(%error, "documents that nobody lists stay in the store for now");
    }
    Ok(())
}
