//! Which directory documents are kept in the store, and under which names.
//!
//! A document is kept under what identifies it, so that its successor replaces it where there is
//! only one at a time (a relay's descriptor, a flavour's consensus).

use cepa_crypto::encoding::hex_upper;
use cepa_relay::DirDocument;

use crate::store::Change;

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
