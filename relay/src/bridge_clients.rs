//! How many clients a bridge has had in a day, by country, address family and transport
//! (dir-spec 2.1.2, `bridge-ips`; `tor`'s CLIENTS_SEEN).
//!
//! No address is kept: a client is a keyed digest of his address and transport, the key is of one
//! interval and known to nobody. All numbers are told rounded up to a multiple of eight, and only
//! once a whole interval is over, so that no single client shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Rng, digest};
use cepa_dir::Country;
use cepa_netdoc::timestamp;
use zeroize::Zeroizing;

/// How long one count goes on (`tor`'s `WRITE_STATS_INTERVAL`).
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Numbers are told as multiples of this (`tor`'s `IP_GRANULARITY`).
const GRANULARITY: usize = 8;
/// Most clients that are told from each other in an interval; who comes behind them is not counted.
const CLIENTS_MAX: usize = 1 << 18;
/// Most names of transports: those of the bridge's own configuration, and some.
const TRANSPORTS_MAX: usize = 16;
/// The name of those who come without a transport.
const PLAIN: &str = "<OR>";
/// The name of those who come by a transport that is not told, or by one too many.
const UNKNOWN: &str = "<??>";

/// Where a client of a bridge comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct BridgeClient {
    /// His address, which is not kept.
    pub address: IpAddr,
    /// Its country.
    pub country: Country,
    /// The transport that handed him on, if it was one.
    pub transport: Option<String>,
}

impl std::fmt::Debug for BridgeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeClient").finish_non_exhaustive()
    }
}

/// What was counted, as controllers are told it (control-spec 4.1.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeClientsSeen {
    /// Since when.
    pub since: SystemTime,
    /// By country, the most first; rounded up.
    pub countries: Vec<(Country, usize)>,
    /// Over IPv4 and over IPv6; rounded up.
    pub versions: [usize; 2],
}

/// The clients of a bridge in the interval that goes on, and the lines of the last one.
pub(crate) struct BridgeClients {
    since: SystemTime,
    key: Zeroizing<[u8; 32]>,
    seen: BTreeSet<[u8; 16]>,
    countries: BTreeMap<Country, usize>,
    versions: [usize; 2],
    transports: BTreeMap<String, usize>,
    lines: Vec<String>,
}

impl BridgeClients {
    pub(crate) fn new(now: SystemTime, rng: &mut Rng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill(&mut *key);
        BridgeClients {
            since: now,
            key,
            seen: BTreeSet::new(),
            countries: BTreeMap::new(),
            versions: [0; 2],
            transports: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    /// A client has opened a link.
    pub(crate) fn note(&mut self, client: &BridgeClient) {
        let address = match client.address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(client.address, IpAddr::V4),
            v4 @ IpAddr::V4(_) => v4,
        };
        let transport = client.transport.as_deref().unwrap_or(PLAIN);
        let known =
            self.transports.contains_key(transport) || self.transports.len() < TRANSPORTS_MAX;
        let transport = if known { transport } else { UNKNOWN };
        let text = Zeroizing::new(format!("{address} {transport}"));
        let whole = digest::sha256(&[&self.key[..], text.as_bytes()].concat());
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = whole;
        if self.seen.len() >= CLIENTS_MAX || !self.seen.insert(first) {
            return;
        }
        *self.countries.entry(client.country).or_default() += 1;
        self.versions[usize::from(address.is_ipv6())] += 1;
        *self.transports.entry(transport.to_owned()).or_default() += 1;
    }

    /// Begins a new interval where the old one is over, whose lines are told from then on; whether
    /// that is so.
    pub(crate) fn turn(&mut self, now: SystemTime, rng: &mut Rng) -> bool {
        // A clock that was set back begins anew, too.
        let is_over = now
            .duration_since(self.since)
            .map_or(true, |age| age >= INTERVAL);
        if is_over {
            let lines = self.count(now);
            *self = BridgeClients {
                lines,
                ..BridgeClients::new(now, rng)
            };
        }
        is_over
    }

    /// The lines of the last whole interval, for the extra-info.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What was counted until now.
    pub(crate) fn seen(&self) -> BridgeClientsSeen {
        let countries = self.countries.iter();
        let mut countries: Vec<_> = countries
            .map(|(country, count)| (*country, rounded(*count)))
            .collect();
        countries.sort_by_key(|(country, count)| (std::cmp::Reverse(*count), country.to_string()));
        BridgeClientsSeen {
            since: self.since,
            countries,
            versions: self.versions.map(rounded),
        }
    }

    fn count(&self, now: SystemTime) -> Vec<String> {
        let seen = self.seen();
        let list = |pairs: Vec<String>| pairs.join(",");
        let countries = seen
            .countries
            .iter()
            .map(|(country, count)| format!("{country}={count}"));
        let [v4, v6] = seen.versions;
        let transports = self.transports.iter();
        let transports = transports.map(|(name, count)| format!("{name}={}", rounded(*count)));
        vec![
            format!(
                "bridge-stats-end {} ({} s)",
                timestamp::encode(now),
                INTERVAL.as_secs()
            ),
            format!("bridge-ips {}", list(countries.collect()))
                .trim_end()
                .to_owned(),
            format!("bridge-ip-versions v4={v4},v6={v6}"),
            format!("bridge-ip-transports {}", list(transports.collect()))
                .trim_end()
                .to_owned(),
        ]
    }
}

fn rounded(count: usize) -> usize {
    count.next_multiple_of(GRANULARITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, country: &str, transport: Option<&str>) -> BridgeClient {
        BridgeClient {
            address: address.parse().unwrap(),
            country: Country::parse(country).unwrap(),
            transport: transport.map(str::to_owned),
        }
    }

    #[test]
    fn a_day_is_told_rounded_once_it_is_over() {
        let (begun, mut rng) = (SystemTime::UNIX_EPOCH, Rng::from_seed([1; 32]));
        let mut clients = BridgeClients::new(begun, &mut rng);
        for n in 0..9 {
            clients.note(&client(&format!("192.0.2.{n}"), "de", Some("obfs4")));
            clients.note(&client(&format!("::ffff:192.0.2.{n}"), "de", Some("obfs4")));
        }
        clients.note(&client("2001:db8::1", "us", None));
        clients.note(&client("2001:db8::2", "??", None));
        assert_eq!(clients.seen().versions, [16, 8]);
        assert!(!clients.turn(begun + INTERVAL - Duration::from_secs(1), &mut rng));
        assert!(clients.lines().is_empty());
        assert!(clients.turn(begun + INTERVAL, &mut rng));
        assert_eq!(
            clients.lines(),
            [
                "bridge-stats-end 1970-01-02 00:00:00 (86400 s)",
                "bridge-ips de=16,??=8,us=8",
                "bridge-ip-versions v4=16,v6=8",
                "bridge-ip-transports <OR>=8,obfs4=16",
            ]
        );
        assert_eq!(clients.seen().versions, [0, 0]);
        assert!(clients.turn(begun + 2 * INTERVAL, &mut rng));
        assert_eq!(clients.lines()[1..2], ["bridge-ips"]);
        // A clock that is set back does not stop the count.
        assert!(clients.turn(begun, &mut rng));
    }

    #[test]
    fn strangers_make_no_names_and_no_memory() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut clients = BridgeClients::new(SystemTime::UNIX_EPOCH, &mut rng);
        for n in 0..100 {
            clients.note(&client("192.0.2.1", "de", Some(&format!("t{n}"))));
        }
        assert!(clients.transports.len() <= TRANSPORTS_MAX + 1);
        assert_eq!(clients.transports.get(UNKNOWN), Some(&1));
        assert!(!format!("{:?}", client("192.0.2.1", "de", None)).contains("192"));
    }
}
