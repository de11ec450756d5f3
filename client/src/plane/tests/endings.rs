//! How circuits of the plane end: while they are built, by the peer, by us, with their channel.

use super::*;

#[test]
fn failing_while_building() {
    let mut world = world();
    let circuit = world.open();
    let too_early = world
        .plane
        .open_stream(circuit, &StreamTarget::BeginDir, world.now);
    assert_eq!(too_early, Err(OpenStreamError::NotBuilt));
    let mut out = Vec::new();
    world.plane.take_output(world.channel, &mut out, world.now);
    let circ_id = cell::circ_id(out.first_chunk().unwrap());
    let mut destroy = cell::new_cell(circ_id, Command::DESTROY);
    DestroyReason::RESOURCELIMIT.write(cell::payload_mut(&mut destroy));
    world.deliver(&mut destroy);
    world.deliver(&mut destroy);
    let reason = CircuitClose::Destroyed(DestroyReason::RESOURCELIMIT);
    assert_eq!(
        world.events(),
        [Event::CircuitFailed {
            circuit,
            hop: 0,
            reason
        }]
    );
    assert_eq!(world.plane.channel_circuit_count(world.channel), 0);
    assert!(
        !world.plane.has_output(world.channel),
        "DESTROY is not answered"
    );
}

#[test]
fn truncated_and_closed_circuits() {
    let (mut world, circuit, stream, id) = World::connected();
    world.say(RelayCommand::TRUNCATED, StreamId::NONE, &[8]);
    world.say(RelayCommand::DATA, id, b"x");
    let reason = CircuitClose::Truncated(0, DestroyReason::CHANNEL_CLOSED);
    let end = EndReason::DESTROY.into();
    let events = [
        Event::StreamEnded { stream, end },
        Event::CircuitClosed { circuit, reason },
    ];
    assert_eq!(world.events(), events);
    world.run();
    assert_eq!(world.destroyed, [DestroyReason::NONE]);
    world.plane.stream_send(stream, b"for nobody", world.now);
    world.plane.stream_close(stream, EndReason::MISC, world.now);

    let circuit = world.open();
    world.run();
    world
        .plane
        .close_circuit(circuit, DestroyReason::FINISHED, world.now);
    let reason = CircuitClose::Requested(DestroyReason::FINISHED);
    let events = [
        Event::CircuitBuilt { circuit },
        Event::CircuitClosed { circuit, reason },
    ];
    assert_eq!(world.events(), events);
}

#[test]
fn a_closed_channel_takes_all_along() {
    let (mut world, circuit, stream, _) = World::connected();
    world.plane.channel_closed(world.channel, world.now);
    world.plane.channel_closed(world.channel, world.now);
    let channel = world.channel;
    let reason = CircuitClose::ChannelClosed;
    let end = EndReason::DESTROY.into();
    let events = [
        Event::StreamEnded { stream, end },
        Event::CircuitClosed { circuit, reason },
        Event::ChannelClosed { channel },
    ];
    assert_eq!(world.events(), events);
    assert_eq!(world.ready().1, [stream]);
    let mut cell = [0; CELL_LEN];
    let error = world.plane.handle_cells(channel, &mut cell, world.now);
    assert_eq!(error, Err(ChannelClose::Unknown));
    let hop = world.hop();
    let error = world
        .plane
        .open_circuit(channel, hop, Vec::new(), world.now);
    assert_eq!(error, Err(OpenCircuitError::NoChannel));
}
