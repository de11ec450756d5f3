//! The ring against `tor`'s, its definition, and itself: overlaps in time, wrap-around, small
//! rings.

use std::collections::{BTreeMap, BTreeSet};

use cepa_crypto::encoding::{base64_array, hex_upper};
use cepa_crypto::onion::OnionAddress;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::microdesc::{Microdesc, split_microdescs};
use cepa_netdoc::timestamp::{from_unix, parse as time};
use proptest::prelude::*;

use super::*;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

fn real_consensus() -> Consensus {
    let text = ConsensusText::parse(real!("consensus-microdesc-2")).unwrap();
    text.consensus().as_ref().clone()
}

/// A consensus of this time, in unix seconds, without random values.
fn consensus_at(valid_after: u64, interval: u64) -> Consensus {
    let mut consensus = real_consensus();
    consensus.params = Params::new();
    consensus.lifetime.valid_after = from_unix(valid_after);
    consensus.lifetime.fresh_until = from_unix(valid_after + interval);
    consensus.lifetime.valid_until = from_unix(valid_after + 3 * interval);
    consensus.shared_rand_previous = None;
    consensus.shared_rand_current = None;
    consensus
}

fn random_value(value: [u8; 32]) -> Option<SharedRandValue> {
    Some(SharedRandValue { reveals: 3, value })
}

/// The value that comes out when a run ends.
fn value_of_run(run: u64) -> [u8; 32] {
    let mut value = [9; 32];
    value[..8].copy_from_slice(&run.to_be_bytes());
    value
}

fn schedule_at(valid_after: u64, interval: u64, is_testing: bool) -> HsSchedule {
    let mut consensus = consensus_at(valid_after, interval);
    let run = valid_after / interval / VOTINGS_IN_RUN;
    consensus.shared_rand_current = random_value(value_of_run(run));
    consensus.shared_rand_previous = random_value(value_of_run(run - 1));
    HsSchedule::new(&consensus, is_testing)
}

fn unix(text: &str) -> u64 {
    unix_seconds(time(text).unwrap())
}

#[test]
fn the_example_of_the_specification() {
    // rend-spec-v3 2.2.1: period 16903 goes from 2016-04-12 12:00 to 2016-04-13 12:00.
    let number_at = |text| schedule_at(unix(text), 3600, false).period.number;
    assert_eq!(number_at("2016-04-12 11:00:00"), 16_902);
    assert_eq!(number_at("2016-04-12 12:00:00"), 16_903);
    assert_eq!(number_at("2016-04-13 11:00:00"), 16_903);
    assert_eq!(number_at("2016-04-13 12:00:00"), 16_904);
}

#[test]
fn period_and_value_go_together_as_the_figures_show() {
    // rend-spec-v3 2.2.4.1 and 2.2.4.2: at 01:00 and at 13:00.
    let [night, noon] =
        ["2016-04-13 01:00:00", "2016-04-13 13:00:00"].map(|t| schedule_at(unix(t), 3600, false));
    let run = unix("2016-04-13 00:00:00") / 86_400;
    let period = |number| TimePeriod {
        number,
        length_minutes: 1440,
    };
    let [before, new] = [run - 1, run].map(value_of_run);
    assert!(!night.is_after_period_start && noon.is_after_period_start);
    assert_eq!(night.fetch(), (period(16_903), before));
    assert_eq!(noon.fetch(), (period(16_904), new));
    let stores = [(period(16_903), before), (period(16_904), new)];
    assert_eq!((night.store(), noon.store()), (stores, stores));
}

#[test]
fn lengths_of_periods() {
    let length_of = |interval, minutes: Option<i32>, is_testing| {
        let mut consensus = consensus_at(1_700_000_000, interval);
        if let Some(minutes) = minutes {
            consensus.params.set("hsdir_interval", minutes);
        }
        HsSchedule::new(&consensus, is_testing)
            .period
            .length_minutes
    };
    assert_eq!(length_of(3600, None, false), 1440);
    assert_eq!(length_of(3600, Some(1), false), 5);
    assert_eq!(length_of(3600, Some(20_000), false), 14_400);
    assert_eq!(length_of(20, Some(7), true), 8);
    assert_eq!(length_of(300, None, true), 120);
    assert_eq!(
        (length_of(20, Some(8), false), length_of(1, None, true)),
        (8, 1)
    );
}

/// Whether a visitor finds a service, whose consensuses are of these times.
fn meet(visitor: u64, service: u64, interval: u64, is_testing: bool) -> bool {
    let place = schedule_at(visitor, interval, is_testing).fetch();
    let places = schedule_at(service, interval, is_testing).store();
    places.contains(&place)
}

#[test]
fn visitors_and_services_meet_at_any_hour() {
    let start = unix("2026-11-20 00:00:00");
    for (interval, is_testing) in [
        (3600, false),
        (3600, true),
        (15, true),
        (20, true),
        (300, true),
    ] {
        let start = start / (24 * interval) * 24 * interval;
        for service in 0..48 {
            for visitor in (service + 3)..(service + 10) {
                let [service, visitor] =
                    [service + 6, visitor].map(|voting| start + voting * interval);
                let names = format!("{visitor} {service} {interval}");
                assert!(meet(visitor, service, interval, is_testing), "{names}");
            }
        }
    }
}

#[test]
fn the_two_rings_are_of_neighbouring_periods() {
    let start = unix("2026-11-20 00:00:00");
    for hour in 0..48 {
        let schedule = schedule_at(start + hour * 3600, 3600, false);
        let [(first, _), (second, _)] = schedule.store();
        assert_eq!(first.next(), second);
        assert_eq!(schedule.is_after_period_start, hour % 24 >= 12);
        let of_period = if hour % 24 >= 12 { second } else { first };
        assert_eq!(schedule.fetch().0, of_period);
    }
}

#[test]
fn without_random_values() {
    let schedule = HsSchedule::new(&consensus_at(unix("2026-11-20 01:00:00"), 3600), false);
    let (period, srv) = schedule.fetch();
    assert_eq!(srv, disaster_srv(period));
    let second = (period.next(), disaster_srv(period.next()));
    assert_eq!(schedule.store(), [(period, srv), second]);
}

/// What stands in tor-ring.txt of one relay: the first bytes of its identity and its place.
fn short((place, id): &([u8; 32], RsaId)) -> (String, String) {
    let short = |bytes: &[u8]| hex_upper(&bytes[..4]);
    (short(id.as_bytes()), short(place))
}

#[test]
fn the_rings_of_tor() {
    let facts = include_str!("../../../../tests/vectors/hs/tor-ring.txt");
    let mut relays: Vec<(RsaId, Ed25519Id)> = Vec::new();
    let mut schedule = None;
    let mut checked = BTreeMap::new();
    for line in facts.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "relay" {
            relays.push((words[1].parse().unwrap(), words[2].parse().unwrap()));
            continue;
        }
        if words[0] == "consensus" {
            let mut consensus = consensus_at(unix(&format!("{} {}", words[1], words[2])), 15);
            consensus.shared_rand_previous = base64_array(words[3]).and_then(random_value);
            consensus.shared_rand_current = base64_array(words[4]).and_then(random_value);
            schedule = Some(HsSchedule::new(&consensus, true));
            continue;
        }
        let schedule = schedule.unwrap();
        let (candidates, spread) = match words[0] {
            "fetch" => (vec![schedule.fetch()], 3),
            "store" => (schedule.store().to_vec(), 4),
            other => panic!("{other}"),
        };
        let blinded = PublicKey::from(base64_array::<32>(words[2]).unwrap());
        let address: OnionAddress = words[1].parse().unwrap();
        let of_address = |(period, _): &&(TimePeriod, _)| address.blind(*period) == blinded;
        let (period, srv) = candidates.iter().find(of_address).unwrap();
        let ring = HsRing::new(relays.clone(), *period, srv, 2, spread);
        let responsible = ring.responsible(&blinded);
        let places = ring
            .places
            .iter()
            .filter(|(_, id)| responsible.contains(id));
        let named: BTreeSet<_> = places.map(short).collect();
        let theirs: BTreeSet<_> = words[3..]
            .iter()
            .map(|word| word.split_once(':').unwrap())
            .map(|(id, place)| (id.to_owned(), place.to_owned()))
            .collect();
        assert_eq!(named, theirs, "{line}");
        *checked
            .entry((words[0], schedule.is_after_period_start))
            .or_insert(0) += 1;
    }
    // Both kinds in both halves of a run.
    assert!(
        checked.len() == 4 && checked.values().all(|count| *count >= 4),
        "{checked:?}"
    );
}

#[test]
fn directories_of_a_view() {
    let microdescs = || split_microdescs(real!("microdescs")).map(|m| Microdesc::parse(m).unwrap());
    let view_of = |consensus: Consensus| {
        let mut view = NetworkView::new(ConsensusText::parse(consensus.encode()).unwrap());
        view.add_microdescs(microdescs());
        view
    };
    let mut consensus = real_consensus();
    consensus.params.set("hsdir_spread_store", 2);
    let view = view_of(consensus.clone());
    let [first, second] = store_rings(&view);
    let fetch = fetch_ring(&view);
    assert_eq!((first.len(), second.len(), fetch.len()), (9, 9, 9));
    assert!(fetch.period() == first.period() || fetch.period() == second.period());
    let blinded = PublicKey::from([7; 32]);
    assert_eq!(first.responsible(&blinded).len(), 4);
    assert_eq!(fetch.responsible(&blinded).len(), 6);

    consensus.routers[0].flags.remove(Flags::HS_DIR);
    consensus.routers[1].protocols = "HSDir=1".to_owned();
    let ring = fetch_ring(&view_of(consensus.clone()));
    assert_eq!(ring.len(), 7);
    let interval = consensus.lifetime.interval().as_secs();
    let tested = fetch_ring(&view_of(consensus).testing(true));
    assert_eq!(tested.period().length_minutes, (24 * interval / 60).max(1));
}

/// The definition, word by word: sort all by place, walk from the index on, skip who is taken.
fn naive(ring: &HsRing, blinded: &PublicKey) -> Vec<RsaId> {
    let mut taken = Vec::new();
    for replica in 1..=ring.replicas {
        let index = hs_index(blinded, replica.into(), ring.period);
        let mut order = ring.places.clone();
        order.sort_by_key(|(place, _)| (*place < index, *place));
        let mut wanted = ring.spread;
        for (_, id) in order {
            if wanted > 0 && !taken.contains(&id) {
                taken.push(id);
                wanted -= 1;
            }
        }
    }
    taken
}

proptest! {
    #[test]
    fn responsible_directories(
        count in 0..30_u8, replicas in 1..=16_u32, spread in 1..=128_u32,
        small in 1..=4_u32, key: [u8; 32], srv: [u8; 32], number: u64,
    ) {
        let directories = (0..count).map(|n| ([n; 20].into(), [n; 32].into()));
        let period = TimePeriod { number, length_minutes: 1440 };
        let blinded = PublicKey::from(key);
        for spread in [spread, small] {
            let ring = HsRing::new(directories.clone(), period, &srv, replicas, spread);
            let found = ring.responsible(&blinded);
            prop_assert_eq!(found.len(), ring.len().min((replicas * spread) as usize));
            prop_assert_eq!(&found, &naive(&ring, &blinded));
            let unique: BTreeSet<_> = found.iter().collect();
            prop_assert_eq!(unique.len(), found.len());
            prop_assert_eq!(ring.is_empty(), count == 0);
        }
    }

    #[test]
    fn any_consensus_has_a_schedule(after: u32, interval in 1..10_000_000_u64, testing: bool) {
        let schedule = HsSchedule::new(&consensus_at(after.into(), interval), testing);
        let [(first, _), (second, _)] = schedule.store();
        prop_assert!(schedule.fetch().0 == first || schedule.fetch().0 == second);
    }
}
