//! Circuits some of whose hops have the CGO cipher, and relay cells of version 1.

use super::*;
use cepa_crypto::cgo;

/// Three hops with ntor-v3 and congestion control, and CGO where a bit of `mix` is set.
fn built_with_cgo(mix: usize) -> (OriginCircuit, Chain) {
    let mut chain = Chain::new(3);
    let mut specs = chain.hops();
    for (n, (hop, relay)) in specs.iter_mut().zip(&chain.relays).enumerate() {
        hop.key = HopKey::NtorV3 {
            ed: relay.keys.ed,
            onion_key: *relay.keys.ntor[0].public(),
        };
        hop.congestion = Some(CongestionRequest {
            cipher: cipher(mix, n),
            ..CongestionRequest::default()
        });
    }
    let mut circuit = begin(&mut chain, specs);
    read_all(&mut circuit, &mut chain);
    assert!(circuit.is_built());
    (circuit, chain)
}

fn cipher(mix: usize, hop: usize) -> Cipher {
    [Cipher::Tor1, Cipher::Cgo][mix >> hop & 1]
}

#[test]
fn whole_windows_over_every_mix_of_ciphers() {
    for mix in 0..8 {
        let (mut circuit, mut chain) = built_with_cgo(mix);
        for hop in 0..3 {
            let (len, tag_len) = [(498, 20), (488, 16)][mix >> hop & 1];
            assert_eq!(circuit.data_max(hop, RelayCommand::DATA), len);
            let long = vec![7; len + 1];
            let data = RelayCommand::DATA;
            let refused = circuit.write(hop, data, STREAM, &long, &mut rng(), epoch());
            assert_eq!(refused.unwrap_err(), TooLong);
            // Backward: SENDMEs for each 31st are asked for and checked by the relay.
            for _ in 0..124 {
                chain.say(hop, data, STREAM, &long[1..]);
            }
            let seen = read_all(&mut circuit, &mut chain);
            assert!(seen.len() == 124 && seen[0].starts_with(&format!("{hop} DATA 77 ")));
            let relay = |chain: &Chain| chain.relays[hop].circuit.as_ref().unwrap().room_cells();
            assert_eq!(relay(&chain), 124);
            // Forward: the client checks the relay's.
            for _ in 0..31 {
                say_to(&mut circuit, &mut chain, hop, &long[1..]);
            }
            let (command, stream, body, tag) = chain.relays[hop].messages.last().unwrap();
            assert_eq!((*command, *stream, &body[..]), (data, STREAM, &long[1..]));
            assert_eq!(
                (tag.as_bytes().len(), circuit.room_cells(hop)),
                (tag_len, 93)
            );
            let tag = sendme::SendmeTag::from_bytes(tag.as_bytes()).unwrap();
            let mut sendme = Vec::new();
            Sendme::Authenticated(tag).write(&mut sendme);
            chain.say(hop, RelayCommand::SENDME, StreamId::NONE, &sendme);
            let room = format!("Ok(Room({hop}))");
            assert_eq!(read_all(&mut circuit, &mut chain), [room]);
            assert_eq!(circuit.room_cells(hop), 124);
        }
    }
}

#[test]
fn cells_against_the_format() {
    let no_stream = RelayCellError::NoStream(RelayCommand::DATA);
    let unknown = RelayCellError::Command(RelayCommand(99));
    for (head, expected) in [
        ([2, 0, 0, 0, 0], no_stream),
        ([99, 0, 0, 0, 0], unknown),
        ([2, 1, 233, 0, 1], LengthError(489).into()),
        ([15, 1, 235, 0, 0], LengthError(491).into()),
    ] {
        let (mut circuit, mut chain) = built(1);
        let keys = cgo::Keys::read(&[7; cgo::KEYS_LEN]);
        circuit.layers[0] = HopLayer::cgo(&keys);
        let mut cell = cell::new_cell(ID, Command::RELAY);
        let payload = cell::payload_mut(&mut cell);
        payload[16..21].copy_from_slice(&head);
        cgo::RelayCrypt::new(&keys).originate_backward(Command::RELAY.0, payload);
        chain.to_client.push_back(cell);
        let seen = read_all(&mut circuit, &mut chain);
        let expected: Result<(), _> = Err(OriginViolation::RelayCell(expected));
        assert_eq!(seen, [format!("{expected:?}")]);
    }
}

#[test]
fn a_sendme_with_a_tag_of_the_other_length() {
    let (mut circuit, mut chain) = built_with_cgo(7);
    for _ in 0..31 {
        say_to(&mut circuit, &mut chain, 2, b"x");
    }
    let mut sendme = Vec::new();
    Sendme::Authenticated(sendme::SendmeTag::Tor1([0; 20])).write(&mut sendme);
    chain.say(2, RelayCommand::SENDME, StreamId::NONE, &sendme);
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen, ["Err(Window(CircuitSendmeTag))"]);
}

#[test]
fn a_cell_changed_on_its_way_is_dropped_and_so_are_all_later_ones() {
    let (mut circuit, mut chain) = built_with_cgo(4);
    for n in 0..5 {
        chain.say(2, RelayCommand::DATA, STREAM, b"data");
        if n == 1 {
            cell::payload_mut(&mut chain.to_client[0])[300] ^= 1;
        }
        let seen = read_all(&mut circuit, &mut chain);
        let expected = match n {
            0 => "2 DATA 77 data",
            _ => "Ok(Dropped(Unrecognized))",
        };
        assert_eq!(seen, [expected]);
    }
}
