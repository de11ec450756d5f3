//! Rules over small networks: what they let relays be, and what they are told to leave out.

use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_netdoc::routerstatus::Flags;

use super::*;
use crate::drawn::{Documents, DrawnRelay, start};
use crate::select::emptied::emptied;

/// Six relays and two exits, at 127.N.0.1; the guards are 1 to 4.
fn eight() -> Vec<DrawnRelay> {
    let mut rng = Rng::from_seed([9; 32]);
    let mut relays: Vec<DrawnRelay> = (1..=8).map(|n| DrawnRelay::new(n, &mut rng)).collect();
    for relay in &mut relays[4..] {
        relay.flags.remove(Flags::GUARD);
    }
    for exit in &mut relays[6..] {
        exit.flags.insert(Flags::EXIT);
        exit.policy = Some("accept 1-65535");
    }
    relays
}

pub(crate) fn set(words: &[&str]) -> RelaySet {
    RelaySet(words.iter().map(|word| word.parse().unwrap()).collect())
}

fn geoip() -> Arc<GeoIp> {
    let mut geoip = GeoIp::default();
    // 127.1, 127.2 are German, 127.3 is Dutch; the others are nowhere.
    let ranges = "2130771968,2130903039,DE\n2130903040,2130968575,nl\n";
    geoip.read_v4(ranges).unwrap();
    Arc::new(geoip)
}

/// The numbers of the relays that may be first, middle, exit, anything.
fn permitted(rules: &Rules) -> [Vec<usize>; 4] {
    let view = Documents::new(&eight(), "", start()).view();
    let permits = rules.permits(view.consensus());
    let of = |is: fn(Permit) -> bool| {
        let all = view.relays().iter().zip(1..);
        all.filter(|(relay, _)| is(permits.of(&relay.rsa_id)))
            .map(|(_, n)| n)
            .collect()
    };
    [
        of(|permit| permit.first),
        of(|permit| permit.middle),
        of(|permit| permit.exit),
        of(|permit| permit.any),
    ]
}

const ALL: [usize; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn sets_by_all_kinds_of_names() {
    let cases: [(&[&str], &[usize]); 9] = [
        (&["$0303030303030303030303030303030303030303"], &[3]),
        (&["0303030303030303030303030303030303030303"], &[3]),
        (&["$0303030303030303030303030303030303030303~any"], &[3]),
        (&["RELAY4", "nobody"], &[4]),
        (&["127.4.0.0/15"], &[4, 5]),
        (&["127.8.0.1"], &[8]),
        (&["0.0.0.0/0"], &ALL),
        (&["{De}"], &[1, 2]),
        (&["{??}"], &[4, 5, 6, 7, 8]),
    ];
    for (words, expected) in cases {
        let rules = Rules {
            middle: set(words),
            geoip: geoip(),
            ..Rules::default()
        };
        let [first, middle, exit, any] = permitted(&rules);
        assert_eq!(middle, expected, "{words:?}");
        assert_eq!(
            (&first[..], &exit[..], &any[..]),
            (&ALL[..], &ALL[..], &ALL[..])
        );
    }
    assert_eq!(permitted(&Rules::default()), [(); 4].map(|()| ALL.to_vec()));
}

#[test]
fn exclusion_beats_sets() {
    let rules = Rules {
        entry: set(&["relay1", "relay2"]),
        exit: set(&["relay7", "relay8"]),
        exclude: set(&["127.2.0.0/16"]),
        exclude_exit: set(&["relay8"]),
        ..Rules::default()
    };
    let [first, middle, exit, any] = permitted(&rules);
    let rest = [1, 3, 4, 5, 6, 7, 8];
    assert_eq!((&first[..], &exit[..]), (&[1][..], &[7][..]));
    assert_eq!((&middle[..], &any[..]), (&rest[..], &rest[..]));
}

#[test]
fn unknown_countries_go_with_excluded_ones() {
    let mut rules = Rules {
        exclude: set(&["{de}"]),
        geoip: geoip(),
        ..Rules::default()
    };
    assert_eq!(permitted(&rules)[3], [3]);
    rules.exclude_unknown = Some(false);
    assert_eq!(permitted(&rules)[3], [3, 4, 5, 6, 7, 8]);
    rules.exclude_exit = std::mem::take(&mut rules.exclude);
    rules.exclude_unknown = None;
    let [first, _, exit, any] = permitted(&rules);
    assert_eq!(
        (&exit[..], &first[..], &any[..]),
        (&[3][..], &ALL[..], &ALL[..])
    );
    rules.geoip = Arc::default();
    assert_eq!(permitted(&rules)[2], ALL, "nothing is known of any country");
}

#[test]
fn ranges_of_both_families() {
    let geoip = GeoIp::default();
    let id = RsaId::from([1; 20]);
    let relay = Subject {
        rsa: Some(&id),
        nickname: "x",
        addrs: [
            Some("192.0.2.200".parse().unwrap()),
            Some("2001:db8:1::2".parse().unwrap()),
        ],
    };
    let matches = |word: &str| set(&[word]).contains(&relay, &geoip);
    for word in ["192.0.2.128/25", "[2001:db8::]/32", "2001:db8:1::2", "::/0"] {
        assert!(matches(word), "{word}");
    }
    for word in ["192.0.2.0/25", "[2001:db8::]/48", "192.0.2.201", "{us}"] {
        assert!(!matches(word), "{word}");
    }
}

#[test]
fn what_empties_a_hop_is_told() {
    let view = Documents::new(&eight(), "", start()).view();
    let told = |rules: &Rules| {
        let permits = rules.permits(view.consensus());
        let found = emptied(rules, &permits, &view, true);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        told.join("; ")
    };
    let mut rules = Rules {
        entry: set(&["relay1"]),
        exit: set(&["relay7"]),
        ..Rules::default()
    };
    assert_eq!(told(&rules), "");
    rules.exclude = set(&["relay1", "relay8"]);
    assert_eq!(
        told(&rules),
        "`exclude` leaves no first hop: all 1 that there were are excluded"
    );
    rules.exclude = RelaySet::default();
    rules.entry = set(&["relay6", "relay7"]);
    rules.exclude_exit = set(&["127.0.0.0/8"]);
    assert_eq!(
        told(&rules),
        "`entry` leaves no first hop: 2 relays of the network are in it, and none of them can be \
         one; `exclude_exit` leaves no exit: all 1 that there were are excluded"
    );
    rules.unguarded = true;
    rules.exclude_exit = RelaySet::default();
    assert_eq!(told(&rules), "");
    rules.middle = set(&["relay7"]);
    assert!(told(&rules).contains("no three that may share a path"));
    let names: Vec<_> = Rules {
        exclude: set(&["relay1", "relay9", "10.0.0.0/8"]),
        ..rules
    }
    .unmatched(view.consensus())
    .map(|(set, pattern)| format!("{set} {} {pattern}", pattern.kind_name()))
    .collect();
    assert_eq!(
        names,
        [
            "exclude nickname relay9",
            "exclude address range 10.0.0.0/8"
        ]
    );
}

#[test]
fn the_same_rules_on_first_hops_have_the_same_name() {
    let named = |entry: &[&str], exclude: &[&str]| {
        let rules = Rules {
            entry: set(entry),
            exclude: set(exclude),
            exit: set(&["x"]),
            ..Rules::default()
        };
        rules.first_hops_id()
    };
    assert_eq!(named(&["a", "B"], &["{de}"]), named(&["b", "A"], &["{DE}"]));
    assert_eq!(named(&[], &[]), Rules::default().first_hops_id());
    let all = [
        named(&["a"], &[]),
        named(&[], &["a"]),
        named(&["a"], &["a"]),
        named(&[], &[]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one));
    }
}
