//! The table `[dos]`: `tor`'s options `DoS…` in snake_case, without those three letters, and
//! `dry_run`. What is not there is as the consensus says, or as `tor`'s default is.

use std::collections::BTreeMap;

use cepa_limits::DosOptions;
use cepa_limits::dos::DOS_PARAMS;
use toml::{Spanned, Value};

use crate::config::source::Source;
use crate::error::Failure;

/// Reads the table.
pub(super) fn options(
    source: &Source,
    table: &BTreeMap<String, Spanned<Value>>,
) -> Result<DosOptions, Failure> {
    let mut options = DosOptions::default();
    for (key, value) in table {
        let shown = format!("[dos] {key}");
        if key == "dry_run" {
            let is_dry_run = value.get_ref().as_bool();
            options.is_dry_run =
                is_dry_run.ok_or_else(|| source.wrong(value, &shown, "true or false"))?;
            continue;
        }
        let known = DOS_PARAMS.iter().find(|(name, ..)| key_of(name) == *key);
        let Some((name, _, min, max)) = known else {
            let all: Vec<_> = DOS_PARAMS.iter().map(|(name, ..)| key_of(name)).collect();
            let expected = format!("dry_run or one of {}", all.join(", "));
            return Err(source.wrong(value, &shown, &expected));
        };
        let is_switch = (*min, *max) == (0, 1);
        let number = match value.get_ref() {
            Value::Boolean(is_on) if is_switch => Some(i32::from(*is_on)),
            Value::Integer(number) if !is_switch => i32::try_from(*number).ok(),
            _ => None,
        };
        let expected = match is_switch {
            true => "true or false".to_owned(),
            false => format!("{min} to {max}"),
        };
        let number = number.filter(|number| (min..=max).contains(&number));
        let number = number.ok_or_else(|| source.wrong(value, &shown, &expected))?;
        options.values.insert(name, number);
    }
    Ok(options)
}

/// `DoSConnectionMaxConcurrentCount` is `connection_max_concurrent_count` here.
fn key_of(name: &str) -> String {
    let words = name.strip_prefix("DoS").unwrap_or(name);
    let mut key = String::new();
    for letter in words.chars() {
        if letter.is_ascii_uppercase() && !key.is_empty() {
            key.push('_');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<DosOptions, Failure> {
        let source = Source::from_text(Path::new("relay.toml"), text);
        options(&source, &source.parse()?)
    }

    #[test]
    fn options_have_the_names_of_tor() {
        let text = "dry_run = true\nconnection_max_concurrent_count = 50\n\
            circuit_creation_enabled = true\nrefuse_single_hop_client_rendezvous = false\n";
        let options = read(text).unwrap();
        assert!(options.is_dry_run);
        let wanted = [
            ("DoSCircuitCreationEnabled", 1),
            ("DoSConnectionMaxConcurrentCount", 50),
            ("DoSRefuseSingleHopClientRendezvous", 0),
        ];
        assert_eq!(options.values, BTreeMap::from(wanted));
        assert_eq!(read("").unwrap(), DosOptions::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, word) in [
            ("dry_run = 1", "true or false"),
            ("stream_creation_rate = 0", "1 to 2147483647"),
            ("stream_creation_rate = true", "1 to 2147483647"),
            ("stream_creation_enabled = 1", "true or false"),
            ("circuit_creation_defense_type = 4", "1 to 3"),
            ("begin_dir_burts = 4", "begin_dir_burst"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("line 1"), "{error}");
        }
    }
}
