//! What a client's file wants otherwise than the network has it: the tables `[guards]`,
//! `[path_bias]`, `[circuits]`, `[fetches]`, `[dormancy]` and `[reach]`. Times are in seconds. A
//! key that is not there leaves it to the network.

use std::time::Duration;

use cepa_client::Overrides;
use cepa_client::overrides::{
    CircuitOverrides, DormancyOverrides, FetchOverrides, GuardOverrides, PathBiasOverrides,
};
use cepa_client::reach::Reach;
use cepa_netdoc::policy::AddrPolicy;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// The longest that circuits are kept which nobody uses, in seconds: a day.
const AVAILABLE_SECS_MAX: u32 = 24 * 60 * 60;
/// The shortest that an exit may take, in seconds.
const STREAM_SECS_MIN: u32 = 10;
/// Most circuits in the making.
const PENDING_MAX: u16 = 1024;

/// All tables but `[reach]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct WishTables<'a> {
    pub(super) guards: &'a GuardsTable,
    pub(super) path_bias: &'a PathBiasTable,
    pub(super) circuits: &'a CircuitsTable,
    pub(super) fetches: &'a FetchesTable,
    pub(super) dormancy: &'a DormancyTable,
}

impl WishTables<'_> {
    /// The overrides.
    pub(super) fn checked(self, source: &Source) -> Result<Overrides, Failure> {
        Ok(Overrides {
            guards: self.guards.checked(source)?,
            path_bias: self.path_bias.overrides(),
            circuits: self.circuits.checked(source)?,
            fetches: self.fetches.overrides(),
            dormancy: self.dormancy.overrides(),
        })
    }
}

/// The table `[guards]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardsTable {
    /// How many carry traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Spanned<u16>>,
    /// How many are primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<u16>,
    /// How many serve the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<u16>,
    /// How long one is kept, a day at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
}

impl GuardsTable {
    fn checked(&self, source: &Source) -> Result<GuardOverrides, Failure> {
        if let Some(used) = &self.used {
            let most = self.primary.filter(|primary| *primary > 0);
            source.expect(used, "used", "no more than `primary`", |used| {
                most.is_none_or(|most| *used <= most)
            })?;
        }
        let count = |count: u16| usize::from(count);
        Ok(GuardOverrides {
            used: self.used.as_ref().map(|used| count(*used.get_ref())),
            primary: self.primary.map(count),
            directory: self.directory.map(count),
            lifetime: self.lifetime.map(secs),
        })
    }
}

/// The table `[path_bias]`; shares are from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathBiasTable {
    /// Circuits before anything is said of a guard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuits_min: Option<u32>,
    /// Fewer of them that stand are worth a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<f64>,
    /// Fewer are worth a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// Fewer are extreme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extreme: Option<f64>,
    /// Whether a guard is given up then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_guards: Option<bool>,
    /// Circuits after which counts are scaled down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_circuits: Option<u32>,
    /// Circuits in use before anything is said of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses_min: Option<u32>,
    /// Fewer that answer are worth a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice_use: Option<f64>,
    /// Fewer are extreme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extreme_use: Option<f64>,
    /// Circuits in use after which their counts are scaled down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_uses: Option<u32>,
}

impl PathBiasTable {
    fn overrides(&self) -> PathBiasOverrides {
        PathBiasOverrides {
            circuits_min: self.circuits_min,
            notice: self.notice,
            warn: self.warn,
            extreme: self.extreme,
            drops: self.drop_guards,
            scale_circuits: self.scale_circuits,
            uses_min: self.uses_min,
            notice_use: self.notice_use,
            extreme_use: self.extreme_use,
            scale_uses: self.scale_uses,
        }
    }
}

/// The table `[circuits]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitsTable {
    /// How long one may take to be built, until that is learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_timeout: Option<u32>,
    /// Whether that is learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learn_build_timeout: Option<bool>,
    /// How long one is kept that nobody uses; up to twice as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_timeout: Option<u32>,
    /// How long an exit may take to answer, 10 at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_timeout: Option<u32>,
    /// How long a request of an application may take, and its handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<u32>,
    /// Most that are in the making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_max: Option<Spanned<u16>>,
    /// Ports whose streams live long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_lived_ports: Option<Vec<u16>>,
    /// The share of all paths that must be known, from 0.25 to 0.95.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths_needed: Option<f64>,
}

impl CircuitsTable {
    fn checked(&self, source: &Source) -> Result<CircuitOverrides, Failure> {
        if let Some(most) = &self.pending_max {
            source.expect(most, "pending_max", "from 1 to 1024", |most| {
                (1..=PENDING_MAX).contains(most)
            })?;
        }
        let is_set = |secs: &u32| *secs > 0;
        Ok(CircuitOverrides {
            build: self.build_timeout.filter(is_set).map(secs),
            learns_nothing: self.learn_build_timeout == Some(false),
            available: (self.available_timeout.filter(is_set))
                .map(|time| secs(time.min(AVAILABLE_SECS_MAX))),
            answer: (self.stream_timeout.filter(is_set))
                .map(|time| secs(time.max(STREAM_SECS_MIN))),
            request: self.request_timeout.map(secs),
            pending_max: self
                .pending_max
                .as_ref()
                .map(|most| usize::from(*most.get_ref())),
            long_lived_ports: self.long_lived_ports.clone(),
            paths_needed: self.paths_needed.map(|share| share.clamp(0.25, 0.95)),
        })
    }
}

/// The table `[fetches]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchesTable {
    /// Whether documents of the network are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// Whether descriptors of onion services are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onion_descriptors: Option<bool>,
    /// Whether those of hosted services are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_onion_descriptors: Option<bool>,
}

impl FetchesTable {
    fn overrides(&self) -> FetchOverrides {
        FetchOverrides {
            no_network: self.network == Some(false),
            no_onions: self.onion_descriptors == Some(false),
            publishes_nothing: self.publish_onion_descriptors == Some(false),
        }
    }
}

/// The table `[dormancy]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DormancyTable {
    /// Whether the client comes to rest of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long nobody uses it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// Whether a stream that carries nothing keeps it awake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_streams: Option<bool>,
    /// Whether its first start is at rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_first_start: Option<bool>,
    /// Whether any start wakes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canceled_by_start: Option<bool>,
}

impl DormancyTable {
    fn overrides(&self) -> DormancyOverrides {
        DormancyOverrides {
            never: self.enabled == Some(false),
            after: self.after.map(secs),
            despite_idle_streams: self.idle_streams == Some(false),
            at_first: self.at_first_start == Some(true),
            wakes_at_start: self.canceled_by_start == Some(true),
        }
    }
}

/// The table `[reach]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReachTable {
    /// What may be connected to, as lines of accept and reject; nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Spanned<String>>,
    /// Whether IPv4 addresses are connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Whether IPv6 addresses are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// Whether IPv6 addresses are tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer_ipv6: Option<bool>,
}

impl ReachTable {
    pub(super) fn checked(&self, source: &Source) -> Result<Reach, Failure> {
        let lines = self.addresses.iter().map(|line| line.get_ref().as_str());
        let expected = "accept or reject, then an address or a network, and perhaps a port, such \
                        as accept *:443";
        for line in &self.addresses {
            let read = AddrPolicy::parse_config([line.get_ref().as_str()]);
            read.map_err(|_| source.wrong(line, "addresses", expected))?;
        }
        let policy = match self.addresses.first() {
            None => None,
            Some(first) => {
                let all = AddrPolicy::parse_config(lines.chain(["reject *:*"]));
                Some(all.map_err(|_| source.wrong(first, "addresses", "fewer rules"))?)
            }
        };
        Ok(Reach {
            policy,
            no_ipv4: self.ipv4 == Some(false),
            no_ipv6: self.ipv6 == Some(false),
            prefers_ipv6: self.prefer_ipv6 == Some(true),
        })
    }
}

fn secs(secs: u32) -> Duration {
    Duration::from_secs(secs.into())
}

/// Whether a table says nothing.
pub(super) fn is_silent<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::client::tests::read;

    #[test]
    fn a_file_that_says_nothing_overrides_nothing() {
        let config = read("").unwrap();
        assert_eq!(config.overrides, Overrides::default());
        assert_eq!(config.rules.reach, Reach::default());
    }

    #[test]
    fn all_that_may_be_overridden() {
        let config = read(
            "[guards]\nused = 2\nprimary = 4\ndirectory = 5\nlifetime = 864000\n\
             [path_bias]\nnotice = 0.5\ndrop_guards = true\n\
             [circuits]\nbuild_timeout = 30\nlearn_build_timeout = false\n\
             available_timeout = 999999\nstream_timeout = 3\nrequest_timeout = 60\n\
             pending_max = 4\nlong_lived_ports = [22]\npaths_needed = 0.1\n\
             [fetches]\nnetwork = false\nonion_descriptors = false\n\
             publish_onion_descriptors = false\n\
             [dormancy]\nenabled = false\nafter = 700\nidle_streams = false\n\
             at_first_start = true\ncanceled_by_start = true\n\
             [reach]\naddresses = [\"accept *:443\"]\nipv4 = false\nprefer_ipv6 = true\n",
        );
        let config = config.unwrap();
        let Overrides {
            guards,
            path_bias,
            circuits,
            fetches,
            dormancy,
        } = config.overrides;
        assert_eq!(
            (guards.used, guards.primary, guards.directory),
            (Some(2), Some(4), Some(5))
        );
        assert_eq!((path_bias.notice, path_bias.drops), (Some(0.5), Some(true)));
        assert_eq!(circuits.build, Some(secs(30)));
        assert!(circuits.learns_nothing);
        assert_eq!(circuits.available, Some(secs(AVAILABLE_SECS_MAX)));
        assert_eq!(
            (circuits.answer, circuits.request),
            (Some(secs(10)), Some(secs(60)))
        );
        assert_eq!(
            (circuits.pending_max, circuits.paths_needed),
            (Some(4), Some(0.25))
        );
        assert_eq!(circuits.long_lived_ports, Some(vec![22]));
        assert!(fetches.no_network && fetches.no_onions && fetches.publishes_nothing);
        assert!(dormancy.never && dormancy.at_first && dormancy.wakes_at_start);
        assert!(dormancy.despite_idle_streams && dormancy.after == Some(secs(700)));
        let reach = config.rules.reach;
        assert!(reach.no_ipv4 && reach.prefers_ipv6 && !reach.no_ipv6);
        assert!(reach.allows("[2001:db8::1]:443".parse().unwrap()));
        assert!(!reach.allows("[2001:db8::1]:80".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_is_named_by_its_line() {
        for text in [
            "[guards]\nused = 5\nprimary = 3\n",
            "[circuits]\npending_max = 0\n",
            "[reach]\naddresses = [\"allow *:443\"]\n",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("line 4"), "{error}");
        }
    }
}
