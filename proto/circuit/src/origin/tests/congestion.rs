//! A hop that was asked for congestion control.

use super::*;

/// Two hops, of which the last was asked for congestion control.
fn built_with_congestion() -> (OriginCircuit, Chain) {
    let mut chain = Chain::new(2);
    let mut specs = chain.hops();
    // It is not asked of a hop with plain ntor.
    for hop in &mut specs {
        hop.congestion = Some(CongestionRequest::default());
    }
    let mut circuit = begin(&mut chain, specs);
    read_all(&mut circuit, &mut chain);
    assert!(circuit.is_built());
    (circuit, chain)
}

#[test]
fn congestion_control_where_it_was_asked_for_and_granted() {
    let (mut circuit, mut chain) = built_with_congestion();
    assert_eq!(circuit.window(0).and_then(HopWindow::agreed), None);
    let agreed = circuit.window(1).and_then(HopWindow::agreed);
    assert_eq!(agreed, Some(&congestion()));
    assert_eq!((circuit.room_cells(0), circuit.room_cells(1)), (1000, 124));
    let room = |chain: &Chain| chain.relays[1].circuit.as_ref().unwrap().room_cells();
    assert_eq!(room(&chain), 124);
    for n in 0..124 {
        chain.say(1, RelayCommand::DATA, STREAM, b"y");
        assert_eq!(room(&chain), 124 - n - 1);
    }
    // The relay checks the tags of each 31st; time stands, so that its window stays.
    read_all(&mut circuit, &mut chain);
    assert_eq!(room(&chain), 124);
    for n in 1..=62 {
        say_to(&mut circuit, &mut chain, 1, b"x");
        let delivered = chain.relays[1].circuit.as_mut().unwrap().delivered();
        assert_eq!(delivered, n % 31 == 0);
    }
    let tag = |n: usize| {
        let tag = sendme::SendmeTag::from_bytes(chain.relays[1].messages[n - 1].3.as_bytes());
        let mut body = Vec::new();
        Sendme::Authenticated(tag.unwrap()).write(&mut body);
        body
    };
    let (first, wrong) = (tag(31), tag(61));
    chain.say(1, RelayCommand::SENDME, StreamId::NONE, &first);
    assert_eq!(read_all(&mut circuit, &mut chain), ["Ok(Room(1))"]);
    assert_eq!(circuit.room_cells(1), 93);
    chain.say(1, RelayCommand::SENDME, StreamId::NONE, &wrong);
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen, ["Err(Window(CircuitSendmeTag))"]);
}
