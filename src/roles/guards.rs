//! The guards of a client as they are kept.
//!
//! Guards that cannot be read are reported and kept aside, in a file of the data folder: new ones
//! in their place are what an attacker would wish for, so the operator must know (guard-spec 4.1).

use std::path::Path;

use cepa_client::guards::{GuardParams, Guards};
use cepa_netdoc::timestamp;

use crate::clock;
use crate::error::Failure;
use crate::keep::kept;
use crate::keyfiles::write_secret;
use crate::store::{Change, Store};

/// The kept guards. Damaged ones are moved to `guards-damaged-DATE.txt` in the folder.
pub(super) fn load(store: &mut Store, folder: &Path) -> Result<Option<String>, Failure> {
    let Some((key, bytes)) = store.entries(kept::GUARDS)?.into_iter().next() else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes);
    let error = match &text {
        Ok(text) => Guards::parse(text, GuardParams::default())
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(error.utf8_error().to_string()),
    };
    let Some(error) = error else {
        return Ok(text.ok());
    };
    let date = timestamp::encode_joined(clock::now().wall).replace(':', "-");
    let aside = folder.join(format!("guards-damaged-{date}.txt"));
    let bytes = text.map_or_else(|error| error.into_bytes(), String::into_bytes);
    write_secret(&aside, &bytes)?;
    let kind = kept::GUARDS;
    store.apply(&[Change::Drop { kind, key }])?;
    let aside = aside.display();
    tracing::error!(
        "the guards cannot be read ({error}): new ones are chosen; the old ones are in {aside}"
    );
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;

    const GUARD: &str = "Guard in=default rsa_id=9695DFC35FFEB861329B9F1AB04C46397020CE31 \
        nickname=moria1 sampled_on=2026-10-27T09:12:51 sampled_idx=0 listed=1\n";

    fn put(store: &mut Store, bytes: &[u8]) {
        let change = Change::Put {
            kind: kept::GUARDS,
            key: String::new(),
            bytes: bytes.to_vec(),
        };
        store.apply(&[change]).unwrap();
    }

    #[test]
    fn damaged_guards_are_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, Durability::Process).unwrap();
        assert_eq!(load(&mut store, dir.path()).unwrap(), None);
        put(&mut store, GUARD.as_bytes());
        let loaded = load(&mut store, dir.path()).unwrap();
        assert_eq!(loaded.as_deref(), Some(GUARD));
        for damaged in [GUARD.replace("rsa_id", "x").into_bytes(), vec![0xff, 0xfe]] {
            put(&mut store, &damaged);
            assert_eq!(load(&mut store, dir.path()).unwrap(), None);
            assert!(store.entries(kept::GUARDS).unwrap().is_empty());
            let mut files = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|file| file.unwrap());
            let is_aside = |name: &str| name.starts_with("guards-damaged-20");
            let aside = files.find(|file| is_aside(&file.file_name().to_string_lossy()));
            let aside = aside.unwrap().path();
            assert_eq!(std::fs::read(&aside).unwrap(), damaged);
            std::fs::remove_file(aside).unwrap();
        }
    }
}
