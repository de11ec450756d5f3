//! How much a node carries, and with how many threads.

use std::time::Duration;

use cepa_relay::{AccountingConfig, AccountingRule, AccountingStart, Choices};
use toml::Spanned;

use super::NodeTable;
use crate::config::Bandwidth;
use crate::config::source::Source;
use crate::error::Failure;

/// The shortest time that onionskins may wait, in milliseconds (`tor` takes no less).
const ONION_DELAY_MILLIS_MIN: u32 = 1;
/// Threads that carry cells, at most.
const WORKERS_MAX: usize = 256;
/// The least rate with which a relay is of use, in bytes a second (`tor` says the same).
const RATE_MIN: u64 = 75_000;
/// The least that a descriptor may say, in bytes a second (the same).
const ADVERTISED_MIN: u64 = 38_400;

/// Checks threads and what the descriptor may say.
pub(super) fn check(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    if let Some(workers) = &table.workers {
        source.expect(workers, "workers", "1 to 256", |n| {
            (1..=WORKERS_MAX).contains(n)
        })?;
    }
    if let Some(rate) = &table.max_advertised_bandwidth {
        let expected = "38400 bytes a second or more";
        source.expect(rate, "max_advertised_bandwidth", expected, |rate| {
            *rate >= ADVERTISED_MIN
        })?;
    }
    Ok(())
}

/// What the operator decides in place of the network.
pub(super) fn choices(source: &Source, table: &NodeTable) -> Result<Choices, Failure> {
    if let Some(millis) = &table.max_onion_queue_delay {
        let expected = format!("{ONION_DELAY_MILLIS_MIN} milliseconds or more");
        source.expect(millis, "max_onion_queue_delay", &expected, |millis| {
            *millis >= ONION_DELAY_MILLIS_MIN
        })?;
    }
    let millis = table.max_onion_queue_delay.as_ref();
    Ok(Choices {
        refuse_unknown_exits: table.refuse_unknown_exits,
        onion_delay: millis.map(|millis| Duration::from_millis((*millis.get_ref()).into())),
    })
}

/// `bandwidth_rate` and `bandwidth_burst`.
pub(super) fn bandwidth(source: &Source, table: &NodeTable) -> Result<Option<Bandwidth>, Failure> {
    let keys = ["bandwidth_rate", "bandwidth_burst"];
    let (rate, burst) = (&table.bandwidth_rate, &table.bandwidth_burst);
    bound(source, keys, rate.as_ref(), burst.as_ref())
}

/// `relay_bandwidth_rate` and `relay_bandwidth_burst`: of links alone, so not above all traffic.
pub(super) fn relay_bandwidth(
    source: &Source,
    table: &NodeTable,
) -> Result<Option<Bandwidth>, Failure> {
    let keys = ["relay_bandwidth_rate", "relay_bandwidth_burst"];
    let (rate, burst) = (&table.relay_bandwidth_rate, &table.relay_bandwidth_burst);
    if let (Some(rate), Some(all)) = (rate, &table.bandwidth_rate) {
        let expected = format!("at most bandwidth_rate, {}", all.get_ref());
        source.expect(rate, keys[0], &expected, |rate| rate <= all.get_ref())?;
    }
    bound(source, keys, rate.as_ref(), burst.as_ref())
}

/// A rate and a burst; where one is missing it is as the other.
fn bound(
    source: &Source,
    keys: [&str; 2],
    rate: Option<&Spanned<u64>>,
    burst: Option<&Spanned<u64>>,
) -> Result<Option<Bandwidth>, Failure> {
    for (key, value) in keys.iter().zip([rate, burst]) {
        if let Some(value) = value {
            let expected = "75000 bytes a second or more";
            source.expect(value, key, expected, |rate| *rate >= RATE_MIN)?;
        }
    }
    if let (Some(rate), Some(burst)) = (rate, burst) {
        let expected = format!("{} or more: {}", keys[0], rate.get_ref());
        source.expect(burst, keys[1], &expected, |burst| burst >= rate.get_ref())?;
    }
    let value = |one: Option<&Spanned<u64>>| one.map(|value| *value.get_ref());
    let (rate, burst) = (value(rate), value(burst));
    Ok(rate.or(burst).map(|rate| Bandwidth {
        rate,
        burst: burst.unwrap_or(rate),
    }))
}

/// `accounting_max`, `accounting_start` and `accounting_rule`.
pub(super) fn accounting(
    source: &Source,
    table: &NodeTable,
) -> Result<Option<AccountingConfig>, Failure> {
    let mut start = AccountingStart::default();
    if let Some(text) = &table.accounting_start {
        let expected = "day HH:MM, week 1..7 HH:MM or month 1..28 HH:MM (UTC)";
        let read = text.get_ref().parse();
        start = read.map_err(|_| source.wrong(text, "accounting_start", expected))?;
    }
    let mut rule = AccountingRule::default();
    if let Some(word) = &table.accounting_rule {
        rule = match word.get_ref().as_str() {
            "max" => AccountingRule::Max,
            "sum" => AccountingRule::Sum,
            "in" => AccountingRule::In,
            "out" => AccountingRule::Out,
            _ => return Err(source.wrong(word, "accounting_rule", "max, sum, in or out")),
        };
    }
    let Some(max) = &table.accounting_max else {
        let of_no_effect = "an accounting_max beside it, in bytes";
        let started = table.accounting_start.as_ref();
        let started = started.map(|one| source.wrong(one, "accounting_start", of_no_effect));
        let ruled = table.accounting_rule.as_ref();
        let ruled = ruled.map(|one| source.wrong(one, "accounting_rule", of_no_effect));
        return started.or(ruled).map_or(Ok(None), Err);
    };
    let expected = "1 byte or more in each interval";
    source.expect(max, "accounting_max", expected, |max| *max > 0)?;
    let max = *max.get_ref();
    Ok(Some(AccountingConfig { max, start, rule }))
}

/// `workers`, or as many threads as there are cores.
pub(super) fn workers(table: &NodeTable) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    table
        .workers
        .as_ref()
        .map_or_else(cores, |workers| *workers.get_ref())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(lines: &str) -> Result<crate::config::RelayConfig, String> {
        let text =
            format!("nickname = \"r\"\nor_port = 1\ndata_dir = \"d\"\nnetwork = \"n\"\n{lines}\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        crate::config::load_relay(Path::new(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn bounds_are_read() {
        let none = read("").unwrap();
        assert_eq!(
            (none.bandwidth, none.relay_bandwidth, none.accounting),
            (None, None, None)
        );
        let some = read(
            "bandwidth_rate = 200000\nrelay_bandwidth_burst = 100000\n\
             accounting_max = 5\naccounting_start = \"week 3 04:00\"\naccounting_rule = \"sum\"",
        )
        .unwrap();
        let all = Bandwidth {
            rate: 200_000,
            burst: 200_000,
        };
        let links = Bandwidth {
            rate: 100_000,
            burst: 100_000,
        };
        assert_eq!(
            (some.bandwidth, some.relay_bandwidth),
            (Some(all), Some(links))
        );
        let accounting = some.accounting.unwrap();
        assert_eq!((accounting.max, accounting.rule), (5, AccountingRule::Sum));
        assert_eq!(Ok(accounting.start), "week 3 04:00".parse());
    }

    #[test]
    fn wrong_bounds_are_named_with_line_and_remedy() {
        for (lines, line, word) in [
            ("bandwidth_rate = 1", 5, "75000"),
            (
                "relay_bandwidth_rate = 80000\nrelay_bandwidth_burst = 79000",
                6,
                "80000",
            ),
            (
                "bandwidth_rate = 80000\nrelay_bandwidth_rate = 90000",
                6,
                "at most bandwidth_rate",
            ),
            ("max_advertised_bandwidth = 1000", 5, "38400"),
            ("accounting_max = 0", 5, "1 byte"),
            ("accounting_rule = \"sum\"", 5, "accounting_max"),
            (
                "accounting_max = 9\naccounting_start = \"month 31 00:00\"",
                6,
                "month 1..28",
            ),
            (
                "accounting_max = 9\naccounting_rule = \"both\"",
                6,
                "max, sum, in or out",
            ),
        ] {
            let error = read(lines).unwrap_err();
            let place = format!("relay.toml line {line}");
            assert!(error.contains(&place) && error.contains(word), "{error}");
        }
    }
}
