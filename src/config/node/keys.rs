//! The table `[keys]`: how long keys and certificates last that a relay makes for itself, and
//! whether its master key is at hand. All times are in seconds.

use std::time::Duration;

use cepa_link::LinkTimes;
use cepa_relay::KeyTimes;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::NodeTable;
use crate::config::source::Source;
use crate::error::Failure;

/// The shortest life of a key or certificate, in seconds: they say whole hours.
const LIFE_SECS_MIN: u64 = 2 * 60 * 60;
/// The longest, in seconds: ten years.
const LIFE_SECS_MAX: u64 = 3650 * 86_400;

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysTable {
    /// OfflineMasterKey: whether the master key is never made or read here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline_master_key: bool,
    /// SigningKeyLifetime; 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key_lifetime: Option<Spanned<u64>>,
    /// SSLKeyLifetime: that of TLS certificates; 0 or nothing: of our choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_key_lifetime: Option<Spanned<u64>>,
    /// In a test network, how long before the end of a signing key the next one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_signing_key_slop: Option<Spanned<u64>>,
    /// In a test network, the life of the certificate that names a TLS certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_link_cert_lifetime: Option<Spanned<u64>>,
    /// In a test network, how long before its end the next one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_link_key_slop: Option<Spanned<u64>>,
    /// In a test network, the life of the key that authenticates whoever opens a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_auth_key_lifetime: Option<Spanned<u64>>,
    /// In a test network, how long before its end the next one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_auth_key_slop: Option<Spanned<u64>>,
}

/// The times of the table, checked.
pub(super) fn times(source: &Source, table: &NodeTable) -> Result<KeyTimes, Failure> {
    let keys = table.keys.clone().unwrap_or_default();
    let life = |value: &Option<Spanned<u64>>, key: &str, least: u64, is_free: bool| {
        let Some(value) = value.as_ref().filter(|secs| *secs.get_ref() > 0) else {
            return Ok::<_, Failure>(None);
        };
        let only = if is_free {
            ""
        } else {
            ", and only where testing = true"
        };
        let expected = format!("{least} to {LIFE_SECS_MAX} seconds{only}");
        source.expect(value, key, &expected, |secs| {
            (least..=LIFE_SECS_MAX).contains(secs) && (is_free || table.testing)
        })?;
        Ok(Some(Duration::from_secs(*value.get_ref())))
    };
    let usual = KeyTimes::default();
    let slop = |value, key| life(value, key, 1, false);
    let times = KeyTimes {
        signing: life(
            &keys.signing_key_lifetime,
            "signing_key_lifetime",
            LIFE_SECS_MIN,
            true,
        )?
        .unwrap_or(usual.signing),
        signing_slop: slop(&keys.testing_signing_key_slop, "testing_signing_key_slop")?,
        links: LinkTimes {
            tls: life(
                &keys.ssl_key_lifetime,
                "ssl_key_lifetime",
                LIFE_SECS_MIN,
                true,
            )?,
            link: life(
                &keys.testing_link_cert_lifetime,
                "testing_link_cert_lifetime",
                LIFE_SECS_MIN,
                false,
            )?
            .unwrap_or(usual.links.link),
            auth: life(
                &keys.testing_auth_key_lifetime,
                "testing_auth_key_lifetime",
                LIFE_SECS_MIN,
                false,
            )?
            .unwrap_or(usual.links.auth),
        },
        link_slop: slop(&keys.testing_link_key_slop, "testing_link_key_slop")?
            .unwrap_or(usual.link_slop),
        auth_slop: slop(&keys.testing_auth_key_slop, "testing_auth_key_slop")?
            .unwrap_or(usual.auth_slop),
    };
    check_slops(source, &keys, &times)?;
    Ok(times)
}

/// Whether the next key or certificate is made in the latter half of the life of each.
fn check_slops(source: &Source, keys: &KeysTable, times: &KeyTimes) -> Result<(), Failure> {
    // As `tor`: who makes the next one before half of the time has no time left.
    let is_short = |life: Duration, slop: Duration| life < slop * 2;
    let signing_slop = times.signing_slop.unwrap_or_default();
    for (value, key, is_short) in [
        (
            &keys.testing_signing_key_slop,
            "testing_signing_key_slop",
            is_short(times.signing, signing_slop),
        ),
        (
            &keys.testing_link_key_slop,
            "testing_link_key_slop",
            is_short(times.links.link, times.link_slop),
        ),
        (
            &keys.testing_auth_key_slop,
            "testing_auth_key_slop",
            is_short(times.links.auth, times.auth_slop),
        ),
    ] {
        if let Some(value) = value {
            source.expect(value, key, "half of the life at most", |_| !is_short)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const RELAY: &str = "nickname = \"relay1\"\nor_port = 5000\n\
        data_dir = \"d\"\nnetwork = \"network.toml\"\n";

    fn read(text: &str) -> Result<KeyTimes, Failure> {
        let source = Source::from_text(Path::new("/etc/relay.toml"), &format!("{RELAY}{text}"));
        times(&source, &source.parse().unwrap())
    }

    #[test]
    fn keys_last_as_long_as_is_said() {
        assert_eq!(read("").unwrap(), KeyTimes::default());
        let day = Duration::from_secs(86_400);
        let text = "testing = true\n[keys]\nsigning_key_lifetime = 864000\n\
            ssl_key_lifetime = 172800\ntesting_signing_key_slop = 86400\n\
            testing_link_cert_lifetime = 86400\ntesting_link_key_slop = 3600\n\
            testing_auth_key_lifetime = 86400\ntesting_auth_key_slop = 7200\n";
        let told = read(text).unwrap();
        assert_eq!((told.signing, told.signing_slop), (day * 10, Some(day)));
        assert_eq!((told.links.tls, told.links.link), (Some(day * 2), day));
        assert_eq!((told.links.auth, told.link_slop), (day, day / 24));
        assert_eq!(told.auth_slop, day / 12);
        assert_eq!(
            read("[keys]\nssl_key_lifetime = 0").unwrap().links.tls,
            None
        );
        for wrong in [
            "[keys]\nsigning_key_lifetime = 60",
            "[keys]\ntesting_link_cert_lifetime = 86400",
            "testing = true\n[keys]\ntesting_link_cert_lifetime = 7200\n\
             testing_link_key_slop = 7000",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
