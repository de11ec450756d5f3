//! Circuits that are kept after they have served; the messages are tested with the whole client.

use super::*;
use crate::plane::Event;
use crate::plane::tests::world;

#[test]
fn circuits_that_are_kept_are_bounded_in_time_and_number() {
    let mut world = world();
    let hop = world.hop();
    let open = |_| {
        let (plane, now) = (&mut world.plane, world.now);
        let hop = hop.clone();
        let key = plane.open_circuit(world.channel, hop, Vec::new(), now);
        let key = key.unwrap();
        plane.circuits[key].padding.outlives = true;
        key
    };
    let circuits: Vec<_> = (0..RETIRED_MAX + 2).map(open).collect();
    for key in &circuits {
        world.plane.retire_circuit(*key, world.now);
    }
    let is_there = |plane: &Plane, n: usize| plane.circuits.contains_key(circuits[n]);
    assert!(!is_there(&world.plane, 1), "the oldest two made room");
    assert!((2..circuits.len()).all(|n| is_there(&world.plane, n)));
    let due = world.now.mono + RETIRED_FOR;
    assert_eq!(world.plane.padding.next(), Some(due));
    world.now.mono = due;
    world.plane.handle_timeout(world.now);
    assert!((0..circuits.len()).all(|n| !is_there(&world.plane, n)));
    assert_eq!(world.plane.padding.next(), None);
    let ended = world.events().into_iter();
    let ended = ended.filter(|event| matches!(event, Event::CircuitFailed { .. }));
    assert_eq!(ended.count(), circuits.len());
}

#[test]
fn a_circuit_that_was_not_hidden_is_closed_at_once() {
    let mut world = world();
    let open = |world: &mut crate::plane::tests::World| {
        let hop = world.hop();
        let key = world
            .plane
            .open_circuit(world.channel, hop, Vec::new(), world.now);
        key.unwrap()
    };
    let [plain, refused] = [(); 2].map(|()| open(&mut world));
    let padding = &mut world.plane.circuits[refused].padding;
    (padding.outlives, padding.is_refused) = (true, true);
    for key in [plain, refused] {
        world.plane.retire_circuit(key, world.now);
        assert!(!world.plane.circuits.contains_key(key));
    }
}
