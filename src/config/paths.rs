//! The rules of a client on its paths: the table `[paths]`, the same as arguments, GeoIP files.
//!
//! Lists name relays as `tor`'s do: `$HEX`, nickname, address or range, `{cc}`. Countries need a
//! file of `tor`'s format: Debian's package `tor-geoipdb` has them where they are looked for
//! without a word. A file that cannot be read where a rule needs it is an error: without it the
//! rule would let relays be that it is to keep out.

use std::path::{Path, PathBuf};

use cepa_client::reach::Reach;
use cepa_client::rules::PATTERNS_MAX;
use cepa_client::{GeoIp, RelayPattern, RelaySet, Rules};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::source::Source;
use crate::error::{Failure, fail};

/// Where Debian keeps the files.
const GEOIP: &str = "/usr/share/tor/geoip";
const GEOIP6: &str = "/usr/share/tor/geoip6";
/// Most families.
const FAMILIES_MAX: usize = 1000;
/// The largest GeoIP file that is read, in bytes.
const GEOIP_LEN_MAX: u64 = 256 << 20;

/// The table `[paths]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathsTable {
    /// First hops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry: Vec<Spanned<String>>,
    /// Hops between.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middle: Vec<Spanned<String>>,
    /// Last hops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exit: Vec<Spanned<String>>,
    /// Relays to use nowhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Spanned<String>>,
    /// Relays not to leave the network by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_exit: Vec<Spanned<String>>,
    /// Second hops of circuits for onion services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer2: Vec<Spanned<String>>,
    /// Third hops of the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer3: Vec<Spanned<String>>,
    /// Families: each is a text of relays with commas between them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Spanned<String>>,
    /// Whether excluded relays are not used for onion services either where others choose them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Whether relays whose country is not known are excluded, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_unknown: Option<bool>,
    /// Whether first hops are any relays, drawn anew for each path: for tests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unguarded: bool,
    /// Countries of IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geoip: Option<PathBuf>,
    /// Countries of IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geoip6: Option<PathBuf>,
}

/// The files that say which country an address is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GeoIpFiles {
    /// The file of IPv4 ranges; without a word, Debian's.
    pub v4: Option<PathBuf>,
    /// The file of IPv6 ranges; without a word, Debian's if it is there.
    pub v6: Option<PathBuf>,
}

impl PathsTable {
    pub(super) fn is_empty(&self) -> bool {
        let lists = [
            &self.entry,
            &self.middle,
            &self.exit,
            &self.exclude,
            &self.exclude_exit,
            &self.layer2,
            &self.layer3,
            &self.families,
        ];
        lists.iter().all(|list| list.is_empty())
            && !self.strict
            && !self.unguarded
            && self.exclude_unknown.is_none()
            && self.geoip.is_none()
            && self.geoip6.is_none()
    }

    /// The rules, without countries yet, and the files that say them.
    pub(super) fn checked(&self, source: &Source) -> Result<(Rules, GeoIpFiles), Failure> {
        let set = |list: &[Spanned<String>], key: &str| {
            if let Some(more) = list.get(PATTERNS_MAX) {
                let expected = format!("at most {PATTERNS_MAX} relays or ranges");
                return Err(source.wrong(more, key, &expected));
            }
            let pattern = |text: &Spanned<String>| {
                let parsed = text.get_ref().parse::<RelayPattern>();
                parsed.map_err(|error| {
                    let error = error.to_string();
                    let expected = error.strip_prefix("expected ").unwrap_or(&error);
                    source.wrong(text, key, expected)
                })
            };
            Failure::all(list.iter().map(pattern)).map(RelaySet)
        };
        let entry = set(&self.entry, "entry");
        let middle = set(&self.middle, "middle");
        let exit = set(&self.exit, "exit");
        let exclude = set(&self.exclude, "exclude");
        let exclude_exit = set(&self.exclude_exit, "exclude_exit");
        let layer2 = set(&self.layer2, "layer2");
        let layer3 = set(&self.layer3, "layer3");
        let sets = [
            &entry,
            &middle,
            &exit,
            &exclude,
            &exclude_exit,
            &layer2,
            &layer3,
        ];
        Failure::none_of(sets.map(|set| set.as_ref().err().cloned()))?;
        let rules = Rules {
            entry: entry?,
            middle: middle?,
            exit: exit?,
            exclude: exclude?,
            exclude_exit: exclude_exit?,
            strict: self.strict,
            exclude_unknown: self.exclude_unknown,
            unguarded: self.unguarded,
            layer2: layer2?,
            layer3: layer3?,
            families: families(source, &self.families)?,
            reach: Reach::default(),
            geoip: std::sync::Arc::default(),
            own: None,
        };
        let resolve = |file: &Option<PathBuf>| file.as_ref().map(|file| source.resolve(file));
        let files = GeoIpFiles {
            v4: resolve(&self.geoip),
            v6: resolve(&self.geoip6),
        };
        Ok((rules, files))
    }
}

/// Families, one a text.
fn families(source: &Source, list: &[Spanned<String>]) -> Result<Vec<RelaySet>, Failure> {
    let wrong = |text| source.wrong(text, "families", "relays with commas between them");
    if let Some(more) = list.get(FAMILIES_MAX) {
        return Err(source.wrong(more, "families", "fewer families"));
    }
    Failure::all(list.iter().map(|text| {
        let words = text.get_ref().split(',').take(PATTERNS_MAX).map(str::trim);
        let relays = words
            .filter(|word| !word.is_empty())
            .map(str::parse::<RelayPattern>);
        let relays = relays.collect::<Result<Vec<_>, _>>();
        relays.map(RelaySet).map_err(|_| wrong(text))
    }))
}

impl GeoIpFiles {
    /// All countries that the files tell; what cannot be read tells none.
    pub(crate) fn countries(&self) -> GeoIp {
        let mut geoip = GeoIp::default();
        let text = |file: &Option<PathBuf>, usual: &str| {
            let path = file.as_deref().unwrap_or(Path::new(usual));
            read(path).ok()
        };
        if let Some(text) = text(&self.v4, GEOIP) {
            let _ = geoip.read_v4(&text);
        }
        if let Some(text) = text(&self.v6, GEOIP6) {
            let _ = geoip.read_v6(&text);
        }
        geoip
    }

    /// The countries that rules need; none if they need none.
    pub fn load_for(&self, rules: &Rules) -> Result<GeoIp, Failure> {
        match rules.needs_geoip() {
            true => self.load("[paths]"),
            false => Ok(GeoIp::default()),
        }
    }

    /// All of them, for a rule that stands at `place`.
    pub fn load(&self, place: &str) -> Result<GeoIp, Failure> {
        let mut geoip = GeoIp::default();
        let v4 = self.v4.as_deref().unwrap_or(Path::new(GEOIP));
        if self.v4.is_none() && !v4.exists() {
            let advice = format!("give geoip = FILE, as there is no {GEOIP}");
            return fail("a rule names a country", place, advice);
        }
        let wrong = |path: &Path| {
            let place = path.display().to_string();
            move |error| Failure::new("this GeoIP file cannot be used", place, error)
        };
        geoip.read_v4(&read(v4)?).map_err(wrong(v4))?;
        let v6 = self.v6.as_deref().unwrap_or(Path::new(GEOIP6));
        if self.v6.is_some() || v6.exists() {
            geoip.read_v6(&read(v6)?).map_err(wrong(v6))?;
        }
        Ok(geoip)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let what = "cannot read this GeoIP file";
    let unreadable = |error| Failure::new(what, path.display(), error);
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if meta.len() > GEOIP_LEN_MAX {
        return fail(what, path.display(), "it is too large");
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    // Names of countries in old files are of other encodings, and not looked at.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Result<(Rules, GeoIpFiles), Failure> {
        let source = Source::from_text(Path::new("d/client.toml"), text);
        source.parse::<PathsTable>()?.checked(&source)
    }

    #[test]
    fn reads_rules() {
        let text = "entry = [\"$0123456789abcdef0123456789ABCDEF01234567\", \"moria1\"]\n\
            exclude = [\"192.0.2.0/24\", \"[2001:db8::]/32\"]\nstrict = true\ngeoip = \"g\"\n";
        let (rules, files) = paths(text).unwrap();
        assert_eq!((rules.entry.0.len(), rules.exclude.0.len()), (2, 2));
        assert!(rules.strict && !rules.unguarded && !rules.needs_geoip());
        assert_eq!(files.v4, Some(PathBuf::from("d/g")));
        assert!(files.load_for(&rules).unwrap().is_empty());
        for wrong in [
            "a b",
            "$0123",
            "1.2.3.4/33",
            "{deu}",
            "[::1",
            "192.0.2.0:80",
        ] {
            let error = paths(&format!("exit = [\n\"{wrong}\"]\n")).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("line 2: wrong exit \""), "{error}");
        }
    }

    #[test]
    fn a_file_of_countries_is_read_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("geoip");
        let (rules, _) = paths("exit = [\"{de}\"]\n").unwrap();
        let files = GeoIpFiles {
            v4: Some(file.clone()),
            v6: None,
        };
        let told = |files: &GeoIpFiles| files.load_for(&rules).unwrap_err().to_string();
        assert!(told(&files).contains("geoip: cannot read this GeoIP file"));
        std::fs::write(&file, "# x\n16777216,16777471,AU\nnonsense\n").unwrap();
        assert!(told(&files).contains("geoip: this GeoIP file cannot be used: line 3"));
        std::fs::write(&file, "16777216,16777471,AU\n").unwrap();
        assert!(!files.load_for(&rules).unwrap().is_empty());
    }
}
