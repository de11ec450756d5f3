//! Circuits and streams that a controller sees to.

use cepa_wire::host::Host;

use super::*;
use crate::address_map::VirtualKind;
use crate::by_hand::{ByHandError, HandUse, Manners};
use crate::circuits::by_hand::HAND_MADE_MAX;
use crate::circuits::pool::CLEAN_MAX;
use crate::names::CircuitId;
use crate::status::{CircuitChange, CircuitPurpose, Event, StreamChange};
use crate::streams::request::REQUEST_MAX;

/// A client that leaves all to a controller, who listens.
fn world() -> World {
    let mut world = World::ready();
    world.client.listen(true, world.now);
    let manners = Manners {
        leaves_streams: true,
        builds_nothing_ahead: true,
    };
    world.client.controller(world.now).set_manners(manners);
    world.run();
    world.events.clear();
    world
}

/// A path that ends at an exit.
fn path(world: &World, hops: usize) -> Vec<RsaId> {
    let [exit, _] = exits(world);
    let mut path: Vec<RsaId> = world.net.ids().into_iter().take(hops - 1).collect();
    path.push(exit);
    path
}

fn make(world: &mut World, path: &[RsaId], usage: HandUse) -> CircuitId {
    let made = world.client.controller(world.now).make_circuit(path, usage);
    world.run();
    made.unwrap()
}

fn circuit(world: &World, id: CircuitId) -> crate::status::CircuitStatus {
    let statuses = world.client.circuit_statuses();
    statuses.into_iter().find(|one| one.id == id).unwrap()
}

fn changes(world: &World, id: CircuitId) -> Vec<CircuitChange> {
    let changes = world.events.iter().filter_map(|event| match event {
        Event::Circuit { change, circuit } if circuit.id == id => Some(*change),
        _ => None,
    });
    changes.collect()
}

fn stream_changes(world: &World) -> Vec<StreamChange> {
    let changes = world.events.iter().filter_map(|event| match event {
        Event::Stream { change, .. } => Some(*change),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_stream_goes_where_a_controller_puts_it() {
    let mut world = world();
    let wanted = path(&world, 3);
    let id = make(&mut world, &wanted, HandUse::Controller);
    let made = circuit(&world, id);
    assert_eq!(made.purpose, CircuitPurpose::Controller);
    assert_eq!(made.path.len(), 3);
    let told = changes(&world, id);
    assert_eq!(told.first(), Some(&CircuitChange::Launched));
    assert_eq!(told.last(), Some(&CircuitChange::Built));
    let request = world.connect("example.net", 80, "", b"");
    assert!(!world.answers.contains_key(&request));
    assert_eq!(
        stream_changes(&world),
        [StreamChange::New, StreamChange::Left]
    );
    let attach = |world: &mut World, to| {
        let attached = world
            .client
            .controller(world.now)
            .attach_stream(request, to);
        world.run();
        attached
    };
    assert_eq!(
        attach(&mut world, Some((CircuitId(999), None))),
        Err(ByHandError::NoCircuit)
    );
    for (hop, error) in [(1, ByHandError::OneHop), (4, ByHandError::NoHop)] {
        assert_eq!(attach(&mut world, Some((id, Some(hop)))), Err(error));
    }
    assert_eq!(attach(&mut world, Some((id, None))), Ok(()));
    world.connected(request);
    assert_eq!(world.net.path_of_last_begin(), wanted);
    assert_eq!(
        attach(&mut world, Some((id, None))),
        Err(ByHandError::NotManaged),
        "it is open"
    );
    let closed = |world: &mut World, is_if_unused| {
        let closed = world
            .client
            .controller(world.now)
            .close_circuit(id, is_if_unused);
        world.run();
        closed.map(|()| world.client.has_circuit(id))
    };
    assert_eq!(closed(&mut world, true), Ok(true), "it is used");
    assert_eq!(closed(&mut world, false), Ok(false));
    assert_eq!(closed(&mut world, false), Err(ByHandError::NoCircuit));
}

#[test]
fn a_circuit_grows_hop_by_hop() {
    let mut world = world();
    let wanted = path(&world, 4);
    let id = make(&mut world, &wanted[..1], HandUse::General);
    let request = world.connect("example.net", 80, "", b"");
    let to = Some((id, None));
    let attached = world
        .client
        .controller(world.now)
        .attach_stream(request, to);
    assert_eq!(attached, Err(ByHandError::OneHop));
    let extended = world
        .client
        .controller(world.now)
        .extend_circuit(id, &wanted[1..]);
    assert_eq!(extended, Ok(()));
    world.run();
    assert_eq!(circuit(&world, id).path.len(), 4);
    let attached = world
        .client
        .controller(world.now)
        .attach_stream(request, to);
    assert_eq!(attached, Ok(()));
    world.run();
    world.connected(request);
    assert_eq!(world.net.path_of_last_begin(), wanted);
    let too_long = world.net.ids();
    let extended = world
        .client
        .controller(world.now)
        .extend_circuit(id, &too_long);
    assert_eq!(extended, Err(ByHandError::NotExtended));
    let unknown = [RsaId::from([9; 20])];
    let extended = world
        .client
        .controller(world.now)
        .extend_circuit(id, &unknown);
    assert_eq!(extended, Err(ByHandError::NoDescriptor(0)));
}

#[test]
fn what_is_left_alone_times_out_and_what_is_given_back_goes_on() {
    let mut world = world();
    let left = world.connect("example.net", 80, "", b"");
    let back = world.connect("example.net", 80, "", b"");
    let given = world.client.controller(world.now).attach_stream(back, None);
    assert_eq!(given, Ok(()));
    world.run();
    world.connected(back);
    world.wait(REQUEST_MAX + Duration::from_secs(1));
    assert!(matches!(
        world.answers.get(&left),
        Some(Command::SocksFailed {
            status: SocksStatus::TTL_EXPIRED,
            ..
        })
    ));
}

#[test]
fn streams_are_redirected_and_closed() {
    let mut world = world();
    let request = world.connect("example.net", 80, "", b"");
    let host = Host::Name("example.org".into());
    let redirected =
        world
            .client
            .controller(world.now)
            .redirect_stream(request, host.clone(), Some(443));
    assert_eq!(redirected, Ok(()));
    let status = world.client.stream_statuses().remove(0);
    assert_eq!((status.host, status.port), (host, 443));
    let ended = |world: &mut World| {
        let ended = world
            .client
            .controller(world.now)
            .end_stream(request, EndReason::CONNECTREFUSED);
        world.run();
        ended
    };
    assert_eq!(ended(&mut world), Ok(()));
    assert!(matches!(
        world.answers.get(&request),
        Some(Command::SocksFailed {
            status: SocksStatus::CONNECTION_REFUSED,
            ..
        })
    ));
    assert_eq!(ended(&mut world), Err(ByHandError::NoStream));
}

#[test]
fn a_mapped_name_leads_elsewhere() {
    let mut world = World::ready();
    world.client.listen(true, world.now);
    let drawn = world
        .client
        .map_virtual(VirtualKind::Ipv4, "example.net")
        .unwrap();
    let request = world.connect(&drawn, 80, "", b"");
    world.connected(request);
    let status = world.client.stream_statuses().remove(0);
    assert_eq!(status.host, Host::Name("example.net".into()));
    let told = stream_changes(&world);
    assert_eq!(told[..2], [StreamChange::New, StreamChange::Mapped]);
}

#[test]
fn circuits_by_hand_have_a_bound_and_stay() {
    let mut world = world();
    let wanted = path(&world, 2);
    let mut made = Vec::new();
    let last = loop {
        match world
            .client
            .controller(world.now)
            .make_circuit(&wanted, HandUse::Controller)
        {
            Ok(id) => made.push(id),
            Err(error) => break error,
        }
        world.run();
    };
    assert_eq!((made.len(), last), (HAND_MADE_MAX, ByHandError::NotBegun));
    world.wait(CLEAN_MAX + Duration::from_secs(60));
    assert!(made.iter().all(|id| world.client.has_circuit(*id)));
    // What is for anybody goes in its time.
    let set = world
        .client
        .controller(world.now)
        .set_circuit_use(made[0], HandUse::General);
    assert_eq!(set, Ok(()));
    let told = changes(&world, made[0]);
    world.wait(2 * CLEAN_MAX);
    assert!(!world.client.has_circuit(made[0]), "{told:?}");
}

#[test]
fn the_clients_own_circuits_are_its_own() {
    let mut world = world();
    let of_documents = world.client.circuit_statuses().into_iter();
    let of_documents = of_documents
        .filter(|one| one.purpose == CircuitPurpose::Directory)
        .map(|one| one.id);
    for id in of_documents.collect::<Vec<_>>() {
        let set = world
            .client
            .controller(world.now)
            .set_circuit_use(id, HandUse::General);
        assert_eq!(set, Err(ByHandError::NotYours));
    }
}
