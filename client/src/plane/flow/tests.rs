//! Congestion control at the client's end: windows, XON and XOFF, and exits that lie.

use cepa_circuit::handshake::CongestionRequest;
use cepa_circuit::origin::OriginViolation;
use cepa_circuit::{CircuitKey, WindowViolation};
use cepa_crypto::layer::Cipher;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::relay::StreamId;
use proptest::prelude::{any, prop_assert, proptest};

use super::super::tests::{World, world};
use super::super::{CircuitClose, Event, HopKey};
use super::*;

impl World {
    /// With a stream at a hop that was asked for congestion control, and grants it.
    fn congested() -> (World, CircuitKey, StreamKey, StreamId) {
        World::congested_with(Cipher::Tor1)
    }

    fn congested_with(cipher: Cipher) -> (World, CircuitKey, StreamKey, StreamId) {
        let mut world = world();
        let mut hop = world.hop();
        hop.key = HopKey::NtorV3 {
            ed: world.keys.ed,
            onion_key: *world.keys.ntor[0].public(),
        };
        hop.congestion = Some(CongestionRequest {
            cipher,
            ..CongestionRequest::default()
        });
        let opened = world
            .plane
            .open_circuit(world.channel, hop, Vec::new(), world.now);
        world.run();
        let circuit = opened.unwrap();
        assert_eq!(world.events(), [Event::CircuitBuilt { circuit }]);
        world.connect(circuit)
    }
}

/// Sends as much as there is room for; how many cells the relay got.
fn fill(world: &mut World, stream: StreamKey) -> usize {
    let before = world.told_count(RelayCommand::DATA);
    loop {
        let room = world.plane.stream_room(stream);
        if room == 0 {
            break;
        }
        world.plane.stream_send(stream, &vec![1; room], world.now);
        world.run();
    }
    world.told_count(RelayCommand::DATA) - before
}

#[test]
fn cells_are_as_long_as_the_cipher_has_them() {
    for (cipher, len) in [(Cipher::Tor1, 498), (Cipher::Cgo, 488)] {
        let (mut world, circuit, stream, id) = World::congested_with(cipher);
        assert_eq!(world.plane.stream_room(stream), 32 * len);
        assert_eq!(fill(&mut world, stream), 124);
        let data = (RelayCommand::DATA, id, vec![1; len]);
        assert_eq!(world.told.last(), Some(&data));
        // What comes back is counted and acknowledged, and the SENDMEs are right.
        for _ in 0..3 {
            for _ in 0..31 {
                world.say(RelayCommand::DATA, id, &vec![2; len]);
            }
            let mut out = Vec::new();
            world.plane.stream_take(stream, &mut out, 31 * len);
            assert_eq!(out.len(), 31 * len);
            world.plane.stream_written(stream, 31 * len, world.now);
        }
        world.run();
        assert_eq!(world.relay.as_ref().unwrap().room_cells(), 124);
        assert!(world.plane.circuit_status(circuit).is_some());
    }
}

#[test]
fn a_stream_goes_on_with_each_sendme() {
    let (mut world, _, stream, _) = World::congested();
    assert_eq!(fill(&mut world, stream), 124);
    world.ready();
    let (mut under_way, mut sent) = (124, Vec::new());
    for _ in 0..3 {
        // All that is under way is acknowledged after 20 ms, without a tag as in version 0.
        world.now = world.now + Duration::from_millis(20);
        for _ in 0..under_way / 31 {
            world.say(RelayCommand::SENDME, StreamId::NONE, &[]);
            assert_eq!(world.ready().1, [stream]);
        }
        under_way = fill(&mut world, stream);
        sent.push(under_way);
    }
    // Slow start adds 31 for each SENDME, while the window is full.
    assert_eq!(sent, [217, 372, 496]);
}

#[test]
fn sendmes_of_streams_and_too_many_close_the_circuit() {
    let close = |id, expected| {
        let (mut world, circuit, stream, own) = World::congested();
        let id = if id { own } else { StreamId::NONE };
        world.say(RelayCommand::SENDME, id, &[]);
        let reason = CircuitClose::Violation(OriginViolation::Window(expected));
        let end = EndReason::DESTROY.into();
        let events = [
            Event::StreamEnded { stream, end },
            Event::CircuitClosed { circuit, reason },
        ];
        assert_eq!(world.events(), events);
        world.run();
        assert_eq!(world.destroyed, [DestroyReason::NONE]);
    };
    close(true, WindowViolation::StreamSendme);
    close(false, WindowViolation::CircuitSendmeEarly);
}

#[test]
fn an_application_that_does_not_read_stops_the_exit() {
    let (mut world, _, stream, id) = World::congested();
    // The relay sends on as if it had a window without end; its SENDMEs are checked by tag.
    for n in 1..=600 {
        world.say(RelayCommand::DATA, id, &[1; 498]);
        world.run();
        assert_eq!(world.told_count(RelayCommand::XOFF), usize::from(n > 500));
    }
    let mut out = Vec::new();
    world.plane.stream_take(stream, &mut out, usize::MAX);
    assert_eq!(out.len(), 600 * 498);
    for bytes in [60 * 498, 540 * 498] {
        world.now = world.now + Duration::from_millis(100);
        assert_eq!(world.told_count(RelayCommand::XON), 0);
        world.plane.stream_written(stream, bytes, world.now);
        world.run();
    }
    let (command, at, body) = world.told.pop().unwrap();
    assert_eq!((command, at), (RelayCommand::XON, id));
    assert_eq!(Xon::read(&body), Ok(Xon { kbps: 2689 }));
    let sendmes = world.told_count(RelayCommand::SENDME);
    assert_eq!(sendmes, 0, "of streams");
}

#[test]
fn xoff_and_xon_with_a_rate() {
    let (mut world, circuit, stream, id) = World::congested();
    let dropped = |world: &World| world.plane.circuit_status(circuit).unwrap().dropped_cells;
    world.say(RelayCommand::XOFF, id, &[0]);
    assert_eq!((world.plane.stream_room(stream), dropped(&world)), (0, 0));
    // Twice, malformed, and for a stream that is not there.
    world.say(RelayCommand::XOFF, id, &[0]);
    world.say(RelayCommand::XON, id, &[0, 1]);
    world.say(RelayCommand::XON, StreamId(id.0 ^ 1), &[0; 5]);
    assert_eq!((world.plane.stream_room(stream), dropped(&world)), (0, 3));
    world.ready();
    world.say(RelayCommand::XON, id, &[0, 0, 0, 0, 10]);
    assert_eq!(world.ready().1, [stream]);
    assert_eq!(fill(&mut world, stream), 21);
    let mut cells = 0;
    for _ in 0..100 {
        world.now = world.plane.poll_timeout().map_or(world.now, |at| Now {
            mono: at,
            wall: world.now.wall,
        });
        world.plane.handle_timeout(world.now);
        if world.ready().1.contains(&stream) {
            cells += fill(&mut world, stream);
        }
    }
    assert!((39..=41).contains(&cells), "{cells} cells in two seconds");
    world.say(RelayCommand::XON, id, &[0; 5]);
    assert_eq!(fill(&mut world, stream), 124 - 21 - cells);
    world.now = world.now + Duration::from_secs(1);
    world.plane.handle_timeout(world.now);
    assert_eq!(world.plane.streams.pace_at, None);
}

#[test]
fn xoff_means_nothing_with_windows() {
    let (mut world, circuit, stream, id) = World::connected();
    world.say(RelayCommand::XOFF, id, &[0]);
    assert_eq!(world.plane.stream_room(stream), 32 * 498);
    assert_eq!(
        world.plane.circuit_status(circuit).unwrap().dropped_cells,
        1
    );
}

#[test]
fn what_crosses_our_end_is_tolerated_as_well() {
    let (mut world, circuit, stream, id) = World::congested();
    world.plane.stream_close(stream, EndReason::DONE, world.now);
    world.say(RelayCommand::DATA, id, b"late");
    world.say(RelayCommand::XOFF, id, &[0]);
    world.say(RelayCommand::XON, id, &[0; 5]);
    world.say(RelayCommand::END, id, &[6]);
    assert_eq!(
        world.plane.circuit_status(circuit).unwrap().dropped_cells,
        0
    );
}

proptest! {
    #[test]
    fn any_flow_is_borne(
        steps in proptest::collection::vec((0u8..8, any::<u32>()), 1..120),
    ) {
        let (mut world, circuit, stream, id) = World::congested();
        for (step, n) in steps {
            world.now = world.now + Duration::from_micros(u64::from(n >> 12));
            match step {
                0 => world.say(RelayCommand::XOFF, id, &[0]),
                1 => {
                    let kbps = n.checked_shr(n % 40).unwrap_or(0).to_be_bytes();
                    world.say(RelayCommand::XON, id, &[&[0], &kbps[..]].concat());
                }
                2 => world.say(RelayCommand::SENDME, StreamId::NONE, &[]),
                3 => world.plane.handle_timeout(world.now),
                4 => for _ in 0..n % 200 {
                    world.say(RelayCommand::DATA, id, &[1; 498]);
                    world.run();
                },
                5 => {
                    let mut out = Vec::new();
                    world.plane.stream_take(stream, &mut out, n as usize);
                    world.plane.stream_written(stream, out.len(), world.now);
                }
                _ => {
                    fill(&mut world, stream);
                }
            }
            world.run();
            world.ready();
            if world.plane.circuit_status(circuit).is_none() {
                // Only by a SENDME that nothing waited for.
                prop_assert!(step == 2);
                break;
            }
        }
    }
}
