//! Both layers of vanguards: how many, for how long, which of them when some do not answer.

use std::time::Duration;

use cepa_netdoc::routerstatus::Flags;

use super::*;
use crate::drawn::{Documents, DrawnRelay, start};

const FREE: &Permits = &Permits::FREE;

fn relays(count: u8) -> Vec<DrawnRelay> {
    let mut rng = Rng::from_seed([3; 32]);
    (1..=count).map(|n| DrawnRelay::new(n, &mut rng)).collect()
}

#[test]
fn four_that_are_kept_for_days_and_replaced_one_by_one() {
    let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let view = Documents::new(&relays(12), "", now).view();
    let mut vanguards = Vanguards::new(None);
    vanguards.refresh(&view, &Permits::default(), now, &mut rng);
    let first: Vec<RsaId> = vanguards.layer2(now).unwrap();
    assert_eq!(first.len(), 4);
    let day = Duration::from_secs(86_400);
    let mut unique = first.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 4);
    let soonest = vanguards.poll_timeout().unwrap();
    assert!(soonest >= now.mono + day && soonest <= now.mono + 12 * day);
    let just_before = now + (soonest - now.mono - Duration::from_secs(1));
    vanguards.refresh(&view, &Permits::default(), just_before, &mut rng);
    assert_eq!(vanguards.layer2(just_before).unwrap(), first);
    vanguards.refresh(
        &view,
        &Permits::default(),
        now + (soonest - now.mono),
        &mut rng,
    );
    let second: Vec<RsaId> = vanguards.layer2(now).unwrap();
    // The one may be drawn again, for another time.
    assert!(second.iter().filter(|id| first.contains(id)).count() >= 3);
    assert!(vanguards.poll_timeout().unwrap() > soonest);
    // Not listed any more: replaced at once.
    let gone = second[0];
    let mut fewer = relays(12);
    fewer.retain(|relay| relay.rsa != gone);
    let view = Documents::new(&fewer, "", now).view();
    vanguards.refresh(&view, &Permits::default(), now, &mut rng);
    assert!(vanguards.layer2(now).unwrap().iter().all(|id| *id != gone));
    assert_eq!(vanguards.layer2(now).unwrap().len(), 4);
}

#[test]
fn as_many_as_a_small_network_has() {
    let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let mut few = relays(3);
    for relay in &mut few {
        relay.flags.remove(Flags::FAST);
    }
    let view = Documents::new(&few, "", now).view();
    let mut vanguards = Vanguards::new(None);
    vanguards.refresh(&view, &Permits::default(), now, &mut rng);
    assert_eq!(vanguards.layer2(now).unwrap().len(), 3);
}

#[test]
fn lifetimes_are_the_longer_of_two_draws() {
    let mut rng = Rng::from_seed([5; 32]);
    let params = Params::new();
    let days: Vec<f64> = (0..2000)
        .map(|_| Lifetimes::read(&params)[0].draw(&mut rng).as_secs_f64() / 86_400.0)
        .collect();
    assert!(days.iter().all(|days| (1.0..=12.0).contains(days)));
    // The mean of the longer of two is two thirds of the span.
    let mean = days.iter().sum::<f64>() / 2000.0;
    assert!((8.0..8.7).contains(&mean), "{mean}");
}

#[test]
fn the_third_layer_lives_for_hours() {
    let mut rng = Rng::from_seed([5; 32]);
    let [_, third] = Lifetimes::read(&Params::new());
    let hours: Vec<f64> = (0..20_000)
        .map(|_| third.draw(&mut rng).as_secs_f64() / 3600.0)
        .collect();
    assert!(hours.iter().all(|hours| (1.0..=48.0).contains(hours)));
    // The longer of two: mean 1 + 47 * 2/3, and a quarter is below half of the span.
    let mean = hours.iter().sum::<f64>() / 20_000.0;
    assert!((32.0..32.7).contains(&mean), "{mean}");
    let early = hours.iter().filter(|hours| **hours < 24.5).count();
    assert!((4800..5200).contains(&early), "{early}");
}

#[test]
fn full_mode_has_two_layers_that_survive_a_restart() {
    let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let view = Documents::new(&relays(30), "", now).view();
    let mut full = Vanguards::new(Some(VanguardMode::Full));
    full.refresh(&view, FREE, now, &mut rng);
    let layers = |vanguards: &Vanguards, now| {
        [vanguards.layer2(now), vanguards.layer3(now)].map(|layer| layer.unwrap())
    };
    let before = layers(&full, now);
    assert_eq!(before.each_ref().map(Vec::len), [4, 8]);
    assert!(full.take_changed() && !full.take_changed());
    let text = full.encode(now);
    assert_eq!(text.lines().count(), 12, "{text}");
    // Half an hour later.
    let later = now + Duration::from_secs(1800);
    let mut again = Vanguards::new(Some(VanguardMode::Full));
    assert_eq!(again.restore(&text, later), []);
    again.refresh(&view, FREE, later, &mut rng);
    assert_eq!(layers(&again, later), before);
    assert_eq!(
        again.encode(later),
        text,
        "for as long as it would have been"
    );
    assert!(!again.take_changed());
    // Fifty hours later all of the third layer are others' turn.
    let much_later = now + Duration::from_secs(50 * 3600);
    let mut again = Vanguards::new(Some(VanguardMode::Full));
    assert_eq!(again.restore(&text, much_later), []);
    assert!(
        again
            .encode(much_later)
            .lines()
            .all(|line| line.starts_with("layer2 "))
    );
    // What is damaged is told, and the rest is taken.
    let damaged = text.replacen("layer3 ", "layer4 ", 1).replacen('T', " ", 1);
    let mut again = Vanguards::new(Some(VanguardMode::Full));
    assert_eq!(again.restore(&damaged, now), [1, 5]);
    again.refresh(&view, FREE, now, &mut rng);
    assert_eq!(again.layer2(now).unwrap()[..3], before[0][1..]);
    // Lite mode has no use for it.
    let mut lite = Vanguards::new(None);
    assert_eq!(lite.restore(&text, now), []);
    lite.refresh(&view, FREE, now, &mut rng);
    assert!(!lite.take_changed() && lite.layer3(now).is_none());
    assert_ne!(lite.layer2(now).unwrap(), before[0]);
}

#[test]
fn the_network_says_how_many_and_whether_any() {
    let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let params = "guard-hs-l2-number=2 guard-hs-l3-lifetime-max=7200 guard-hs-l3-number=3 \
                  vanguards-lite-enabled=0";
    let view = Documents::with_params(&relays(30), "", params, now).view();
    let mut full = Vanguards::new(Some(VanguardMode::Full));
    full.refresh(&view, FREE, now, &mut rng);
    assert_eq!(full.layer2(now).unwrap().len(), 2);
    assert_eq!(full.layer3(now).unwrap().len(), 3);
    let over = full.poll_timeout().unwrap() - now.mono;
    assert!((3600..=7200).contains(&over.as_secs()));
    for (wanted, has) in [
        (None, false),
        (Some(VanguardMode::Lite), true),
        (Some(VanguardMode::Off), false),
    ] {
        let mut vanguards = Vanguards::new(wanted);
        vanguards.refresh(&view, FREE, now, &mut rng);
        assert_eq!(vanguards.layer2(now).is_some(), has, "{wanted:?}");
        assert!(vanguards.layer3(now).is_none());
    }
}

#[test]
fn those_that_fail_rest_and_a_second_set_is_the_most() {
    let (mut now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let view = Documents::new(&relays(60), "", now).view();
    let mut vanguards = Vanguards::new(None);
    vanguards.refresh(&view, FREE, now, &mut rng);
    let first = vanguards.layer2(now).unwrap();
    // Silence once is nothing.
    vanguards.handle_failure(1, &first[0], false, now);
    assert_eq!(vanguards.layer2(now).unwrap(), first);
    vanguards.handle_failure(1, &first[0], false, now);
    assert_eq!(vanguards.layer2(now).unwrap(), first[1..]);
    vanguards.handle_answer(1, &first[0]);
    assert_eq!(vanguards.layer2(now).unwrap(), first);
    // Two that answer are enough.
    for id in &first[..2] {
        vanguards.handle_failure(1, id, true, now);
    }
    vanguards.refresh(&view, FREE, now, &mut rng);
    assert_eq!(vanguards.layer2(now).unwrap(), first[2..]);
    // One is not: another stands in until they have rested, and is the same the next time.
    vanguards.handle_failure(1, &first[2], true, now);
    vanguards.refresh(&view, FREE, now, &mut rng);
    let with_spare = vanguards.layer2(now).unwrap();
    assert_eq!((with_spare.len(), with_spare[0]), (2, first[3]));
    assert!(!first.contains(&with_spare[1]));
    let told: Vec<_> = vanguards.statuses(now).collect();
    assert!(told.iter().all(|one| one.hop == 1 && one.until > now.wall));
    let told: Vec<_> = told
        .iter()
        .map(|one| (one.is_spare, one.is_resting))
        .collect();
    let (rests, stays, stands_in) = ((false, true), (false, false), (true, false));
    assert_eq!(told, [rests, rests, rests, stays, stands_in]);
    now = now + Duration::from_secs(10);
    assert_eq!(vanguards.layer2(now).unwrap(), first);
    for id in &first[..3] {
        vanguards.handle_failure(1, id, true, now);
    }
    vanguards.refresh(&view, FREE, now, &mut rng);
    assert_eq!(vanguards.layer2(now).unwrap(), with_spare);
    // They rest for longer and longer.
    now = now + Duration::from_secs(19);
    assert_eq!(vanguards.layer2(now).unwrap(), with_spare);
    now = now + Duration::from_secs(1);
    assert_eq!(vanguards.layer2(now).unwrap(), first);
    // Whoever fails all of our circuits has seen eight in all.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        vanguards.refresh(&view, FREE, now, &mut rng);
        for id in vanguards.layer2(now).unwrap() {
            seen.insert(id);
            vanguards.handle_failure(1, &id, true, now);
        }
        now = now + Duration::from_secs(1);
    }
    assert_eq!(seen.len(), 8);
    assert!(!vanguards.layer2(now).unwrap().is_empty());
}

#[test]
fn a_new_microdescriptor_does_not_cost_a_vanguard() {
    let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
    let documents = Documents::new(&relays(12), "", now);
    let view = documents.view();
    let mut vanguards = Vanguards::new(None);
    vanguards.refresh(&view, FREE, now, &mut rng);
    let first = vanguards.layer2(now).unwrap();
    // None of them is here yet.
    let bare = NetworkView::new(view.text().clone());
    vanguards.refresh(&bare, FREE, now, &mut rng);
    assert_eq!(vanguards.layer2(now).unwrap(), first);
}
