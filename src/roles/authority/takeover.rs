//! What an authority of `tor` has left in the data folder, taken over at the first start:
//! `router-stability`, `key-pinning-journal`, `sr-state`. (`approved-routers` is read as it is, at
//! each start.) The files stay as they are.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use cepa_authority::{Config, Row, RowKind, takeover};
use cepa_crypto::RsaId;

/// The largest file that is read, in bytes: 100,000 relays of 200 bytes each.
const FILE_LEN_MAX: u64 = 64 << 20;

/// The files of `tor`, and what they are for.
const FILES: [(RowKind, &str); 3] = [
    (RowKind::History, "router-stability"),
    (RowKind::KeyPin, "key-pinning-journal"),
    (RowKind::SharedRandom, "sr-state"),
];

/// Rows for each kind of which there is none yet.
pub(super) fn rows(folder: &Path, held: &[Row], config: &Config, own: RsaId) -> Vec<Row> {
    let timing = config.timing;
    let mut rows = Vec::new();
    for (kind, name) in FILES {
        let path = folder.join(name);
        let file = path.display();
        if held.iter().any(|row| row.kind == kind) {
            continue;
        }
        let text = match text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                tracing::warn!("{file} is not taken over ({error})");
                continue;
            }
        };
        let taken = match kind {
            RowKind::History => takeover::histories(&text),
            RowKind::KeyPin => takeover::key_pins(&text),
            _ => takeover::shared_random(&text, own, &timing),
        };
        tracing::info!(
            entries = taken.len(),
            "what tor has learnt is taken over: {file}"
        );
        rows.extend(taken);
    }
    rows
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_LEN_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(Vec::new(), String::new());
        let own = RsaId::from([1; 20]);
        assert!(rows(dir.path(), &[], &config, own).is_empty());
        let journal = "0XjYXiE44esnji5Ti14dHaa+ms4 qneRNdxBx7QCIzjnQLYNbe8cX6bcTDNrwYEWO/cYNcs\n";
        std::fs::write(dir.path().join("key-pinning-journal"), journal).unwrap();
        let taken = rows(dir.path(), &[], &config, own);
        assert_eq!((taken.len(), taken[0].kind), (1, RowKind::KeyPin));
        assert!(rows(dir.path(), &taken, &config, own).is_empty());
    }
}
