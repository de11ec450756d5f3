//! Places against a model that looks at everybody each time.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof};
use proptest::proptest;

use super::*;

fn host(a: u8, b: u8) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, a, b)))
}

fn limits(total: usize, reserve: usize, per_address: usize, per_prefix: usize) -> PlaceLimits {
    PlaceLimits {
        total,
        reserve,
        per_address,
        per_prefix,
    }
}

fn enter(places: &mut Places, source: Source) -> Admitted {
    places.admit(Some(source), false).unwrap()
}

#[test]
fn the_silent_make_room_for_the_newcomer_of_their_own_address() {
    let mut places = Places::new(limits(100, 0, 4, 50));
    let silent: Vec<_> = (0..4)
        .map(|_| enter(&mut places, host(1, 1)).ticket)
        .collect();
    assert_eq!(enter(&mut places, host(1, 2)).evicted, None);
    let newcomer = enter(&mut places, host(1, 1));
    assert_eq!(newcomer.evicted, Some(silent[0]));
    places.set_busy(silent[1], true);
    assert_eq!(enter(&mut places, host(1, 1)).evicted, Some(silent[2]));
    places.set_busy(silent[1], false);
    assert_eq!(enter(&mut places, host(1, 1)).evicted, Some(silent[3]));
    assert_eq!(
        enter(&mut places, host(1, 1)).evicted,
        Some(newcomer.ticket)
    );
    assert_eq!(places.len(), 5);
}

#[test]
fn of_those_who_rest_the_one_goes_where_nothing_has_moved_for_longest() {
    let mut places = Places::new(limits(3, 0, 3, 3));
    let admit = |places: &mut Places| places.admit(None, false).unwrap();
    let [first, second, third] = [(); 3].map(|()| admit(&mut places).ticket);
    places.moved(first);
    assert_eq!(admit(&mut places).evicted, Some(second));
    // He is gone: nothing follows.
    places.moved(second);
    assert_eq!(admit(&mut places).evicted, Some(third));
    assert_eq!(admit(&mut places).evicted, Some(first));
}

#[test]
fn who_is_busy_with_all_of_his_places_gets_no_more() {
    let mut places = Places::new(limits(100, 0, 4, 6));
    for _ in 0..4 {
        let ticket = enter(&mut places, host(1, 1)).ticket;
        places.set_busy(ticket, true);
    }
    assert_eq!(places.admit(Some(host(1, 1)), false), Err(Refused::Address));
    for _ in 0..2 {
        let ticket = enter(&mut places, host(1, 2)).ticket;
        places.set_busy(ticket, true);
    }
    assert_eq!(places.admit(Some(host(1, 3)), false), Err(Refused::Prefix));
    assert_eq!(enter(&mut places, host(2, 1)).evicted, None);
}

#[test]
fn a_lone_client_outlives_a_full_door() {
    let mut places = Places::new(limits(64, 0, 32, 48));
    let lone = enter(&mut places, host(9, 9)).ticket;
    let first = enter(&mut places, host(1, 0)).ticket;
    for n in 0..200 {
        enter(&mut places, host(1, n));
    }
    assert_eq!(places.len(), 49);
    assert!(places.held.contains_key(lone) && !places.held.contains_key(first));
    for n in 0..200 {
        enter(&mut places, host(2, n));
    }
    assert_eq!(places.len(), 64);
    assert!(places.held.contains_key(lone));
}

#[test]
fn the_greedy_make_room_though_all_are_busy() {
    let mut places = Places::new(limits(40, 0, 40, 40));
    let mut tickets = Vec::new();
    for n in 0..40 {
        let ticket = enter(&mut places, host(1, n)).ticket;
        places.set_busy(ticket, true);
        tickets.push(ticket);
    }
    assert_eq!(enter(&mut places, host(2, 1)).evicted, Some(tickets[0]));
    let spread = limits(40, 0, 40, 40);
    let mut places = Places::new(spread);
    for n in 0..40 {
        let ticket = enter(&mut places, host(n, 1)).ticket;
        places.set_busy(ticket, true);
    }
    assert_eq!(places.admit(Some(host(99, 1)), false), Err(Refused::Full));
}

#[test]
fn the_reserve_is_for_the_known() {
    let mut places = Places::new(limits(20, 10, 20, 20));
    let strangers: Vec<_> = (0..10)
        .map(|n| enter(&mut places, host(n, 1)).ticket)
        .collect();
    let known = |places: &mut Places, n: u8| places.admit(Some(host(100 + n, 1)), true).unwrap();
    for _ in 0..KNOWN_PLACES_MAX {
        assert_eq!(known(&mut places, 0).evicted, None);
    }
    // He has had his part of it, and is a stranger now; the next one finds the rest.
    assert_eq!(known(&mut places, 0).evicted, Some(strangers[0]));
    assert_eq!(known(&mut places, 1).evicted, None);
    assert_eq!(known(&mut places, 1).evicted, None);
    assert_eq!(known(&mut places, 2).evicted, Some(strangers[1]));
    assert_eq!(places.len(), 20);
}

#[test]
fn a_process_in_need_is_relieved() {
    let mut places = Places::new(limits(20, 10, 20, 20));
    assert_eq!(places.relieve(), None);
    let known = places.admit(Some(host(5, 1)), true).unwrap().ticket;
    let busy = enter(&mut places, host(1, 1)).ticket;
    places.set_busy(busy, true);
    assert_eq!(places.relieve(), None);
    let resting = places.admit(None, false).unwrap().ticket;
    assert_eq!(places.relieve(), Some(resting));
    places.leave(resting);
    places.set_busy(resting, true);
    places.leave(known);
    places.leave(busy);
    assert!(places.is_empty() && places.prefixes.is_empty() && places.known.is_empty());
}

#[derive(Debug, Clone)]
enum Event {
    Admit(Option<(u8, u8)>, bool),
    Busy(prop::sample::Index, bool),
    Leave(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    let source = prop_oneof![
        1 => Just(None),
        9 => (0_u8..4, 0_u8..3).prop_map(Some),
    ];
    prop_oneof![
        6 => (source, prop::bool::weighted(0.1)).prop_map(|(s, known)| Event::Admit(s, known)),
        3 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, b)| Event::Busy(i, b)),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
    ]
}

/// All who are inside, in the order in which they became what they are.
#[derive(Default)]
struct Model(Vec<(Ticket, Option<Source>, bool, bool)>);

impl Model {
    fn strangers(&self) -> impl Iterator<Item = &(Ticket, Option<Source>, bool, bool)> {
        self.0.iter().filter(|it| !it.2)
    }

    fn of(&self, wanted: impl Fn(Source) -> bool) -> Vec<(Ticket, bool)> {
        let of = self.strangers().filter(|it| it.1.is_some_and(&wanted));
        of.map(|it| (it.0, it.3)).collect()
    }

    /// What the rules of the file's head say.
    fn victim(
        &self,
        limits: &PlaceLimits,
        source: Option<Source>,
    ) -> Result<Option<Ticket>, Refused> {
        let resting = |all: &[(Ticket, bool)]| all.iter().find(|it| !it.1).map(|it| it.0);
        let mut own = 0;
        if let Some(source) = source {
            let address = self.of(|it| it == source);
            if address.len() >= limits.per_address {
                return resting(&address).map(Some).ok_or(Refused::Address);
            }
            let prefix = self.of(|it| it.prefix() == source.prefix());
            own = prefix.len();
            if own >= limits.per_prefix {
                return resting(&prefix).map(Some).ok_or(Refused::Prefix);
            }
        }
        let all: Vec<_> = self.strangers().map(|it| (it.0, it.3)).collect();
        if all.len() < limits.total - limits.reserve {
            return Ok(None);
        }
        let prefixes: BTreeSet<_> = self
            .strangers()
            .filter_map(|it| it.1)
            .map(Source::prefix)
            .collect();
        let prefixes = prefixes
            .into_iter()
            .map(|p| (self.of(|it| it.prefix() == p), p));
        let prefixes: Vec<_> = prefixes.collect();
        let idle =
            |it: &(Vec<(Ticket, bool)>, Source)| (it.0.iter().filter(|one| !one.1).count(), it.1);
        let idlest = prefixes.iter().max_by_key(|it| idle(it));
        if let Some(most) = idlest.filter(|it| idle(it).0 >= HEAVY_MIN) {
            return Ok(resting(&most.0));
        }
        if let Some(first) = resting(&all) {
            return Ok(Some(first));
        }
        let greediest = prefixes.iter().max_by_key(|it| (it.0.len(), it.1));
        let greediest = greediest.filter(|it| it.0.len() >= HEAVY_MIN.max(2 * own + 3));
        greediest.map(|it| Some(it.0[0].0)).ok_or(Refused::Full)
    }
}

proptest! {
    #[test]
    fn as_the_model_says(
        events in prop::collection::vec(event(), 1..300),
        total in 1_usize..40,
        reserve in 0_usize..10,
        per_address in 1_usize..12,
        per_prefix in 1_usize..24,
    ) {
        let limits = limits(total + reserve, reserve, per_address, per_prefix);
        let (mut places, mut model) = (Places::new(limits), Model::default());
        for event in events {
            match event {
                Event::Admit(from, known) => {
                    let source = from.map(|(a, b)| host(a, b));
                    let reserved = model.0.iter().filter(|it| it.2);
                    let own = reserved.clone().filter(|it| it.1 == source).count();
                    let is_known = known && source.is_some() && own < KNOWN_PLACES_MAX
                        && reserved.count() < reserve;
                    let wanted = if is_known { Ok(None) } else { model.victim(&limits, source) };
                    let got = places.admit(source, known);
                    prop_assert_eq!(got.map(|it| it.evicted), wanted);
                    if let Ok(admitted) = got {
                        model.0.retain(|it| Some(it.0) != admitted.evicted);
                        model.0.push((admitted.ticket, source, is_known, false));
                    }
                }
                Event::Busy(index, busy) if !model.0.is_empty() => {
                    let at = index.index(model.0.len());
                    places.set_busy(model.0[at].0, busy);
                    if model.0[at].3 != busy {
                        let mut one = model.0.remove(at);
                        one.3 = busy;
                        model.0.push(one);
                    }
                }
                Event::Leave(index) if !model.0.is_empty() => {
                    let gone = model.0.remove(index.index(model.0.len()));
                    places.leave(gone.0);
                }
                _ => {}
            }
            prop_assert_eq!(places.len(), model.0.len());
            prop_assert!(places.len() <= limits.total);
        }
    }
}
