//! What is seen of a client: its snapshots, and the events between them.

use std::collections::BTreeMap;

use cepa_crypto::onion::OnionAddress;
use proptest::prelude::*;

use super::onion::hosted_in;
use super::*;
use crate::names::CircuitId;
use crate::status::{
    CircuitChange, CircuitEnd, CircuitPurpose, CircuitState, CircuitStatus, DescriptorChange,
    Event, GuardChange, LinkChange, LinkEnd, StreamChange, StreamEnd, StreamState, StreamStatus,
};

fn listening() -> World {
    let mut world = World::ready();
    world.client.listen(true, world.now);
    world
}

impl World {
    fn take_events(&mut self) -> Vec<Event> {
        self.run();
        std::mem::take(&mut self.events)
    }

    fn circuit_changes(&self) -> BTreeMap<CircuitId, Vec<CircuitChange>> {
        let mut changes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in &self.events {
            if let Event::Circuit { change, circuit } = event {
                changes.entry(circuit.id).or_default().push(*change);
            }
        }
        changes
    }

    fn stream_changes(&self) -> Vec<StreamChange> {
        let changes = self.events.iter().filter_map(|event| match event {
            Event::Stream { change, .. } => Some(*change),
            _ => None,
        });
        changes.collect()
    }
}

#[test]
fn a_circuit_is_told_from_its_beginning_to_its_end() {
    let mut world = listening();
    // Clean circuits there are for two.
    let other = world.connect("example.net", 80, "other", b"");
    let other = world.connected(other);
    let request = world.connect("example.net", 80, "", b"");
    let stream = world.connected(request);
    let built = [
        CircuitChange::Launched,
        CircuitChange::Extended,
        CircuitChange::Extended,
        CircuitChange::Extended,
        CircuitChange::Built,
    ];
    let changes = world.circuit_changes();
    // Another is built in the place of the one that is not clean any more.
    let (ahead, seen) = changes.first_key_value().unwrap();
    assert_eq!(seen, &built);
    let circuits = world.client.circuit_statuses();
    let found = circuits.iter().find(|one| one.id == *ahead).unwrap();
    assert_eq!(found.state, CircuitState::Built);
    assert!(found.path.iter().all(|hop| hop.nickname.is_some()));
    assert_eq!((found.path.len(), found.hops), (3, 3));
    world
        .client
        .stream_close(stream, EndReason::DONE, world.now);
    world.client.stream_close(other, EndReason::DONE, world.now);
    world.wait(Duration::from_secs(3600));
    let ends = [
        CircuitChange::Closed(CircuitEnd::Finished),
        CircuitChange::Closed(CircuitEnd::Unwanted),
    ];
    let told = &world.circuit_changes()[ahead];
    assert!(told.starts_with(&built) && told.len() == 6, "{told:?}");
    assert!(ends.contains(&told[5]), "{told:?}");
}

#[test]
fn a_circuit_that_fails_says_why() {
    let mut world = listening();
    let [first, second] = exits(&world);
    world.kill(first);
    world.kill(second);
    world.wait(Duration::from_secs(2));
    let changes = world.circuit_changes();
    let failed = changes.values().find(|changes| {
        let last = changes.last();
        matches!(last, Some(CircuitChange::Failed(CircuitEnd::Plane(_))))
    });
    let failed = failed.unwrap();
    assert_eq!(failed.len(), 4, "two of three hops stood: {failed:?}");
}

#[test]
fn a_stream_is_told_from_its_beginning_to_its_end() {
    let mut world = listening();
    let request = world.connect("example.net", 80, "name", b"");
    let stream = world.connected(request);
    let [status] = &world.client.stream_statuses()[..] else {
        panic!("one stream");
    };
    assert_eq!((status.id, status.state), (request, StreamState::Open));
    assert_eq!(
        (status.host.to_string().as_str(), status.port),
        ("example.net", 80)
    );
    let of_it = world.client.circuit_statuses();
    let of_it = of_it
        .iter()
        .find(|one| Some(one.id) == status.circuit)
        .unwrap();
    assert_eq!((of_it.streams, of_it.purpose), (1, CircuitPurpose::General));
    assert_eq!(of_it.isolation.as_ref(), Some(&status.isolation));
    world
        .client
        .stream_close(stream, EndReason::DONE, world.now);
    world.run();
    assert_eq!(
        world.stream_changes(),
        [
            StreamChange::New,
            StreamChange::Asked,
            StreamChange::Remapped([1, 2, 3, 4].into()),
            StreamChange::Succeeded,
            StreamChange::Closed(StreamEnd::Ours(EndReason::DONE)),
        ]
    );
    let mapped = world.events.iter().filter_map(|event| match event {
        Event::AddressMap { name, address, .. } => Some((name.to_string(), address.to_string())),
        _ => None,
    });
    let expected = ("example.net".to_owned(), "1.2.3.4".to_owned());
    assert_eq!(mapped.collect::<Vec<_>>(), [expected]);
    assert!(world.client.stream_statuses().is_empty());
}

#[test]
fn a_stream_that_is_refused_loses_its_circuits_first() {
    let mut world = listening();
    for exit in exits(&world) {
        world.net.ends.insert(exit, EndReason::RESOURCELIMIT);
    }
    world.connect("example.net", 80, "", b"");
    let changes = world.stream_changes();
    let refused = StreamEnd::Peer(EndReason::RESOURCELIMIT);
    assert_eq!(changes[..2], [StreamChange::New, StreamChange::Asked]);
    assert!(
        matches!(changes[2], StreamChange::Detached(_, end) if end == refused),
        "{changes:?}"
    );
    assert!(matches!(changes.last(), Some(StreamChange::Failed(_))));
    assert!(world.client.stream_statuses().is_empty());
}

#[test]
fn links_guards_and_bandwidth_are_told() {
    let mut world = listening();
    let guard = world.client.circuits.choice.guards.primary()[0];
    let links = world.client.link_statuses();
    assert!(
        links
            .iter()
            .any(|link| link.rsa == guard && link.circuits > 0)
    );
    world.kill(guard);
    world.connect("example.net", 80, "b", b"");
    world.wait(Duration::from_secs(2));
    let links: Vec<LinkChange> = (world.events.iter())
        .filter_map(|event| match event {
            Event::Link { change, link } if link.rsa == guard => Some(*change),
            _ => None,
        })
        .collect();
    let broken = LinkChange::Closed(LinkEnd::Broken);
    let expected = [broken, LinkChange::Launched, LinkChange::Failed];
    assert!(links.starts_with(&expected), "{links:?}");
    let down = world.events.iter().any(|event| {
        let is_it = |id: &RsaId| *id == guard;
        matches!(event, Event::Guard { change: GuardChange::Down, guard, .. } if is_it(guard))
    });
    assert!(down);
    let carried = world.events.iter().filter_map(|event| match event {
        Event::Bandwidth(traffic) => Some(traffic.read_bytes + traffic.written_bytes),
        _ => None,
    });
    let carried: Vec<u64> = carried.collect();
    assert_eq!(carried.len(), 2);
    assert!(carried[0] > 0);
}

#[test]
fn nobody_hears_what_nobody_listens_to() {
    let mut world = World::ready();
    world.connect("example.net", 80, "", b"");
    assert_eq!(world.events, []);
    world.client.listen(true, world.now);
    world.client.listen(false, world.now);
    world.connect("example.net", 80, "b", b"");
    world.wait(Duration::from_secs(5));
    assert_eq!(world.events, []);
}

#[test]
fn descriptors_are_told_on_their_way() {
    let mut net = hosted_in(listening(), |_| {});
    net.visit("");
    let now = net.world.now;
    let status = net.world.client.status(now);
    let address = OnionAddress::new(&status.services[0].identity).unwrap();
    let transfers = net.world.events.iter().filter_map(|event| match event {
        Event::OnionDescriptor { change, transfer } => Some((*change, transfer)),
        _ => None,
    });
    let (uploads, fetches): (Vec<_>, Vec<_>) = transfers.partition(|(_, one)| one.is_upload);
    let count =
        |of: &[(DescriptorChange, _)], change| of.iter().filter(|(one, _)| *one == change).count();
    let stored = count(&uploads, DescriptorChange::Done);
    assert!(stored > 0 && stored == count(&uploads, DescriptorChange::Asked));
    let [(DescriptorChange::Asked, _), (DescriptorChange::Done, read)] = &fetches[..] else {
        panic!("{fetches:?}");
    };
    assert!(read.text.starts_with("hs-descriptor 3"));
    for (_, transfer) in uploads.iter().chain(&fetches) {
        assert_eq!(transfer.address, Some(address));
        assert!(transfer.hsdir.is_some());
    }
    assert!(uploads.iter().any(|(_, one)| one.blinded == read.blinded));
    assert!(status.services[0].is_published);
    let [visit] = &status.visits[..] else {
        panic!("{:?}", status.visits);
    };
    assert!(visit.is_ready && visit.address == address);
    let met = status
        .circuits
        .iter()
        .filter(|one| one.onion == Some(address));
    let met: Vec<CircuitPurpose> = met.map(|one| one.purpose).collect();
    for purpose in [
        CircuitPurpose::IntroPoint,
        CircuitPurpose::Rendezvous,
        CircuitPurpose::ServiceRendezvous,
    ] {
        assert!(met.contains(&purpose), "{met:?}");
    }
}

/// What can be known of a client from events alone.
#[derive(Debug, Default, PartialEq)]
struct Replayed {
    circuits: BTreeMap<CircuitId, CircuitStatus>,
    streams: BTreeMap<RequestId, StreamStatus>,
    links: Vec<LinkId>,
}

impl Replayed {
    fn of(client: &Client) -> Self {
        let circuits = client.circuit_statuses().into_iter();
        let streams = client.stream_statuses().into_iter();
        let links = client.link_statuses().into_iter();
        let mut all = Replayed {
            circuits: circuits.map(|one| (one.id, one)).collect(),
            streams: streams.map(|one| (one.id, one)).collect(),
            links: links.map(|one| one.id).collect(),
        };
        all.circuits.values_mut().for_each(Self::forget_use);
        all.links.sort_unstable();
        all
    }

    /// Use follows from the events of streams.
    fn forget_use(circuit: &mut CircuitStatus) {
        (circuit.usage, circuit.streams) = (crate::status::CircuitUse::Clean, 0);
        circuit.isolation = None;
        // A link that opens is told of itself; no hop of its circuits stands then.
        if circuit.state == CircuitState::Connecting {
            circuit.state = CircuitState::Building;
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Circuit {
                change,
                mut circuit,
            } => {
                Self::forget_use(&mut circuit);
                match change {
                    CircuitChange::Failed(_) | CircuitChange::Closed(_) => {
                        self.circuits
                            .remove(&circuit.id)
                            .expect("it was told before");
                    }
                    CircuitChange::Launched => {
                        assert!(self.circuits.insert(circuit.id, *circuit).is_none());
                    }
                    _ => {
                        self.circuits
                            .insert(circuit.id, *circuit)
                            .expect("launched");
                    }
                }
            }
            Event::Stream { change, stream } => match change {
                StreamChange::Failed(_) | StreamChange::Closed(_) => {
                    self.streams.remove(&stream.id).expect("it was told before");
                }
                _ => {
                    self.streams.insert(stream.id, *stream);
                }
            },
            Event::Link { change, link } => match change {
                LinkChange::Launched => self.links.push(link.id),
                LinkChange::Connected => assert!(self.links.contains(&link.id)),
                LinkChange::Failed | LinkChange::Closed(_) => {
                    self.links.retain(|id| *id != link.id);
                }
            },
            _ => {}
        }
    }
}

/// Lets one thing happen.
fn step(world: &mut World, streams: &mut Vec<StreamKey>, what: u8, which: u8) {
    let relay =
        |world: &World| world.client.view().unwrap().relays()[usize::from(which) % 8].rsa_id;
    match what {
        0 | 1 => {
            let request = world.connect("example.net", 80, &(which % 4).to_string(), b"x");
            if let Some(Command::SocksConnected { stream, .. }) = world.answers.get(&request) {
                streams.push(*stream);
            }
        }
        2 => {
            world.ask(&socks(SocksCommand::Resolve, "example.org", 0), b"");
        }
        3 => {
            if let Some(stream) = streams.pop() {
                world
                    .client
                    .stream_close(stream, EndReason::DONE, world.now);
            }
        }
        4 => {
            let id = relay(world);
            world.kill(id);
        }
        5 => {
            let id = relay(world);
            world.net.revive(id);
        }
        6 => world.client.new_session(world.now),
        7 => {
            let id = relay(world);
            world.net.hold(id);
        }
        _ => world.wait(Duration::from_secs(u64::from(which))),
    }
    world.run();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn events_replayed_make_the_snapshot(
        seed in 0..40_u8,
        steps in prop::collection::vec((0..12_u8, any::<u8>()), 1..30),
    ) {
        let mut world = World::ready_from(seed);
        world.client.listen(true, world.now);
        let mut replayed = Replayed::of(&world.client);
        let mut streams = Vec::new();
        for (what, which) in steps {
            step(&mut world, &mut streams, what, which);
            for event in world.take_events() {
                replayed.apply(event);
            }
            replayed.links.sort_unstable();
            prop_assert_eq!(&replayed, &Replayed::of(&world.client));
        }
    }
}
