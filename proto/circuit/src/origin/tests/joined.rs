//! A peer that is joined beyond the rendezvous point.

use super::*;

#[test]
fn a_joined_peer_is_the_last_hop_with_a_window_of_its_own() {
    let (mut circuit, mut chain) = built(2);
    let kh = *circuit.kh();
    assert_ne!(kh, [0; 20]);
    let keys = || tor1::Keys::read(&[7; 72]);
    // The peer's end lies behind all relays, as one more of them.
    let mut peer = Chain::new(1).relays.remove(0);
    peer.circuit = Some(RelayCircuit::new(&keys()));
    chain.relays.push(peer);
    let layer = HopLayer::tor1(&keys());
    let joined = circuit.join(layer, None);
    let again = circuit.join(HopLayer::tor1(&keys()), None);
    assert_eq!((joined, again), (Ok(2), Err(BuildError::Joined)));
    assert!(circuit.is_joined() && circuit.is_built());
    assert_eq!((circuit.hop_count(), *circuit.kh()), (3, kh));
    let hop = Chain::new(1).hops().remove(0);
    let error = circuit.extend(hop, &mut rng(), &mut |_| {});
    assert_eq!(error, Err(BuildError::Joined));
    for _ in 0..100 {
        say_to(&mut circuit, &mut chain, 2, b"through");
        chain.say(2, RelayCommand::DATA, STREAM, b"back");
    }
    assert_eq!(chain.relays[2].messages.len(), 100);
    assert_eq!((circuit.room_cells(2), circuit.room_cells(1)), (900, 1000));
    chain.say(1, RelayCommand::DATA, STREAM, b"other");
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen.first().unwrap(), "2 DATA 77 back");
    assert_eq!(seen.last().unwrap(), "1 DATA 77 other");
    // The peer has no say in the path.
    chain.say(2, RelayCommand::EXTENDED2, StreamId::NONE, &[0, 0]);
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen, ["Err(UnexpectedExtended)"]);
}
