//! What a client keeps from one run to the next, as rows of the store.

use std::sync::Arc;

use cepa_client::{Saved, SavedState};

use super::super::guards;
use crate::clock;
use crate::error::Failure;
use crate::folder::Folder;
use crate::keep::kept;
use crate::store::{Change, Store};

/// The changes that keep what a client wants kept.
pub(super) fn changes(saved: Saved) -> Vec<Change> {
    let put = |kind, key: String, text: &str| Change::Put {
        kind,
        key,
        bytes: text.as_bytes().to_vec(),
    };
    match saved {
        Saved::Guards(text) => vec![put(kept::GUARDS, String::new(), &text)],
        Saved::BuildTimes(text) => vec![put(kept::BUILD_TIMES, String::new(), &text)],
        Saved::PathBias(text) => vec![put(kept::PATH_BIAS, String::new(), &text)],
        Saved::Vanguards(text) => vec![put(kept::VANGUARDS, String::new(), &text)],
        Saved::Dormancy(text) => vec![put(kept::DORMANCY, String::new(), &text)],
        Saved::Consensus { text, .. } => vec![put(kept::CONSENSUS, String::new(), &text)],
        Saved::NsConsensus(text) => vec![put(kept::CONSENSUS, "ns".into(), &text)],
        Saved::Certificate { identity, text } => {
            vec![put(kept::CERTIFICATE, identity.to_string(), &text)]
        }
        Saved::Microdescs(texts) => {
            let entry = |text: &String| {
                let digest = cepa_crypto::digest::sha256(text.as_bytes());
                put(
                    kept::MICRODESC,
                    cepa_crypto::encoding::hex_upper(&digest),
                    text,
                )
            };
            texts.iter().map(entry).collect()
        }
    }
}

/// What was kept of its last run.
pub(super) fn state(store: &mut Store, folder: &Folder) -> Result<SavedState, Failure> {
    kept::tidy(store, clock::now().wall)?;
    Ok(SavedState {
        guards: guards::load(store, folder.path())?,
        build_times: store.texts(kept::BUILD_TIMES)?.into_iter().next(),
        path_bias: store.texts(kept::PATH_BIAS)?.into_iter().next(),
        vanguards: store.texts(kept::VANGUARDS)?.into_iter().next(),
        dormancy: store.texts(kept::DORMANCY)?.into_iter().next(),
        certificates: store.texts(kept::CERTIFICATE)?,
        consensus: store
            .texts_of(kept::CONSENSUS, [String::new()])?
            .into_iter()
            .next()
            .map(Arc::from),
        microdescs: store.texts(kept::MICRODESC)?,
    })
}
