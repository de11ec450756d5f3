//! Both sides against each other, and each against a peer that does one thing wrong.

use cepa_wire::cell::{CELL_LEN, CircId, CircIdLen};
use cepa_wire::certs::{self, CertsError, CertsType};
use cepa_wire::netinfo::Netinfo;
use proptest::prelude::*;

use super::*;
use crate::fixture::{FakeTls, addr, alice, bob, ip, now, rng, tls_of_responder, tls_to};

/// Where Alice connects to, and where Bob sees her coming from.
const BOB_ADDR: &str = "127.0.0.2:9001";
const ALICE_ADDR: &str = "127.0.0.1:50000";

type Outcome = Result<Established, HandshakeError>;

fn to_bob() -> PeerExpectation {
    let id = bob().identity.id();
    PeerExpectation {
        rsa: Some(id.rsa),
        ed: Some(id.ed),
    }
}

fn initiator(identity: Option<Arc<LinkIdentity>>, versions: &'static [u16]) -> Handshake {
    let mut wire = Wire::new(addr(BOB_ADDR), versions);
    wire.send_versions();
    let expect = initiator::ExpectVersions {
        expect: to_bob(),
        identity,
    };
    Handshake {
        wire,
        expect: Expect::InitiatorVersions(expect),
    }
}

fn responder(versions: &'static [u16]) -> Handshake {
    let expect = responder::ExpectVersions {
        identity: bob().identity.clone(),
    };
    let wire = Wire::new(addr(ALICE_ADDR), versions);
    Handshake {
        wire,
        expect: Expect::ResponderVersions(expect),
    }
}

/// Feeds `bytes` in pieces; the outcome if there is one.
fn feed(side: &mut Handshake, bytes: &[u8], piece: usize, tls: &FakeTls) -> Option<Outcome> {
    let mut input = Vec::new();
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        match side.handle_bytes(&mut input, tls, now(), &mut rng(9)) {
            Ok(Step::Continue) => {}
            Ok(Step::Done(link)) => return Some(Ok(*link)),
            Err(error) => return Some(Err(error)),
        }
    }
    assert!(
        input.is_empty() || piece > input.len(),
        "whole cells are consumed"
    );
    None
}

/// Runs both sides; `piece` bytes at a time.
fn run(alice: &mut Handshake, bob: &mut Handshake, piece: usize) -> (Outcome, Outcome) {
    let to_bob = alice.take_output();
    assert_eq!(feed(bob, &to_bob, piece, &tls_of_responder()), None);
    let to_alice = bob.take_output();
    let at_alice = feed(alice, &to_alice, piece, &tls_to(super::tests::bob())).unwrap();
    let to_bob = alice.take_output();
    let at_bob = feed(bob, &to_bob, piece, &tls_of_responder()).unwrap();
    assert!(bob.take_output().is_empty() && alice.take_output().is_empty());
    (at_alice, at_bob)
}

#[test]
fn a_client_opens_a_link() {
    let (mut client, mut relay) = (initiator(None, &[4, 5]), responder(&[4, 5]));
    let (at_client, at_relay) = run(&mut client, &mut relay, usize::MAX);
    let expected = Established {
        version: 5,
        initiator: true,
        peer: Some(bob().identity.id()),
        peer_addr: addr(BOB_ADDR),
        peer_addrs: vec![ip("127.0.0.2"), ip("::5")],
        my_addr_seen: ip("127.0.0.1"),
        clock_skew_secs: Some(0),
        canonical: true,
    };
    assert_eq!(at_client, Ok(expected));
    let expected = Established {
        version: 5,
        initiator: false,
        peer: None,
        peer_addr: addr(ALICE_ADDR),
        peer_addrs: vec![],
        my_addr_seen: ip("127.0.0.2"),
        clock_skew_secs: None,
        canonical: false,
    };
    assert_eq!(at_relay, Ok(expected));
}

#[test]
fn every_kind_of_pair_in_pieces_of_every_size() {
    for identity in [None, Some(alice().identity.clone())] {
        for (ours, theirs, agreed) in [
            (&[4u16, 5][..], &[4u16, 5][..], 5),
            (&[4], &[4, 5], 4),
            (&[5, 4, 3], &[3, 4], 4),
        ] {
            for piece in [1, 7, CELL_LEN, usize::MAX] {
                let mut initiator = initiator(identity.clone(), ours);
                let mut responder = responder(theirs);
                let (at_alice, at_bob) = run(&mut initiator, &mut responder, piece);
                let (at_alice, at_bob) = (at_alice.unwrap(), at_bob.unwrap());
                assert_eq!((at_alice.version, at_bob.version), (agreed, agreed));
                assert_eq!(at_alice.peer, Some(bob().identity.id()));
                assert_eq!(at_bob.peer, identity.as_ref().map(|identity| identity.id()));
                assert_eq!(at_bob.canonical, identity.is_some());
            }
        }
    }
}

#[test]
fn what_follows_the_handshake_stays_in_the_input() {
    let (mut client, mut relay) = (initiator(None, &[5]), responder(&[5]));
    feed(
        &mut relay,
        &client.take_output(),
        usize::MAX,
        &tls_of_responder(),
    );
    feed(
        &mut client,
        &relay.take_output(),
        usize::MAX,
        &tls_to(bob()),
    );
    let mut input = client.take_output();
    input.extend_from_slice(b"a cell of the channel");
    let step = relay.handle_bytes(&mut input, &tls_of_responder(), now(), &mut rng(1));
    assert!(matches!(step, Ok(Step::Done(_))));
    assert_eq!(input, b"a cell of the channel");
    let step = relay.handle_bytes(&mut input, &tls_of_responder(), now(), &mut rng(1));
    assert_eq!(step, Err(HandshakeError::Over));
}

/// A cell of the peer that a test plays.
fn variable(command: Command, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    cell::write_variable(&mut out, CircIdLen::Four, command, body).unwrap();
    out
}

fn versions(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    cell::write_variable(&mut out, CircIdLen::Two, Command::VERSIONS, body).unwrap();
    out
}

fn certs_cell(certs: &[(CertsType, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    certs::write(certs, &mut body).unwrap();
    variable(Command::CERTS, &body)
}

fn auth_challenge(methods: &[u8]) -> Vec<u8> {
    let count = u8::try_from(methods.len() / 2).unwrap();
    variable(
        Command::AUTH_CHALLENGE,
        &[&[3; 32][..], &[0, count], methods].concat(),
    )
}

fn netinfo(timestamp: u32, own: &[&str]) -> Vec<u8> {
    let own_addresses = own.iter().map(|own| ip(own)).collect();
    let netinfo = Netinfo {
        timestamp,
        other_address: ip("10.0.0.1"),
        own_addresses,
    };
    let mut cell = cell::new_cell(CircId::NONE, Command::NETINFO);
    netinfo.write(cell::payload_mut(&mut cell)).unwrap();
    cell.to_vec()
}

/// Bob's cells in the right order, each open to be spoilt.
fn bobs_cells() -> [Vec<u8>; 4] {
    [
        versions(&[0, 4, 0, 5]),
        certs_cell(&bob().identity.responder_certs()),
        auth_challenge(&[0, 3]),
        netinfo(0, &["127.0.0.2"]),
    ]
}

/// What an initiator makes of these bytes.
fn at_initiator(identity: Option<Arc<LinkIdentity>>, bytes: &[u8]) -> Option<Outcome> {
    feed(
        &mut initiator(identity, &LINK_VERSIONS),
        bytes,
        usize::MAX,
        &tls_to(bob()),
    )
}

fn error_at_client(bytes: &[u8]) -> HandshakeError {
    at_initiator(None, bytes)
        .expect("an outcome")
        .expect_err("an error")
}

/// What a responder makes of these bytes.
fn error_at_responder(bytes: &[u8]) -> HandshakeError {
    let outcome = feed(
        &mut responder(&LINK_VERSIONS),
        bytes,
        usize::MAX,
        &tls_of_responder(),
    );
    outcome.expect("an outcome").expect_err("an error")
}

fn unexpected(expected: &'static str, got: Command) -> HandshakeError {
    HandshakeError::Unexpected { expected, got }
}

#[test]
fn a_played_responder_is_taken() {
    let link = at_initiator(None, &bobs_cells().concat()).unwrap().unwrap();
    assert_eq!(link.clock_skew_secs, None);
    assert!(link.canonical);
}

#[test]
fn addresses_and_clock_of_netinfo() {
    let [v, c, a, _] = bobs_cells();
    let skewed = u32::try_from(now().unix_seconds()).unwrap() + 4000;
    let n = netinfo(skewed, &["127.0.0.3"]);
    let link = at_initiator(None, &[v, c, a, n].concat()).unwrap().unwrap();
    assert_eq!(link.clock_skew_secs, Some(4000));
    assert_eq!(link.peer_addrs, [ip("127.0.0.3")]);
    assert_eq!(link.my_addr_seen, ip("10.0.0.1"));
    assert!(!link.canonical);
}

#[test]
fn versions_that_close_the_link() {
    let odd = HandshakeError::VersionsOddLength(cepa_wire::versions::OddLength(3));
    for (body, error) in [
        (&[0, 4, 0][..], odd),
        (&[0, 3, 0, 6], HandshakeError::NoCommonVersion),
        (&[], HandshakeError::NoCommonVersion),
    ] {
        assert_eq!(error_at_client(&versions(body)), error);
        assert_eq!(error_at_responder(&versions(body)), error);
    }
    let early = CellError::BeforeVersions(Command::NETINFO);
    let mut netinfo = vec![0, 0, 8];
    netinfo.resize(512, 0);
    assert_eq!(error_at_client(&netinfo), HandshakeError::Cell(early));
    assert_eq!(error_at_responder(&netinfo), HandshakeError::Cell(early));
}

#[test]
fn cells_out_of_order_close_the_link() {
    let [v, c, a, n] = bobs_cells();
    let padding = cell::new_cell(CircId::NONE, Command::PADDING).to_vec();
    let create = cell::new_cell(CircId(1), Command::CREATE_FAST).to_vec();
    for (cells, error) in [
        (
            [&v, &a, &c, &n],
            unexpected("CERTS", Command::AUTH_CHALLENGE),
        ),
        (
            [&v, &c, &n, &a],
            unexpected("AUTH_CHALLENGE", Command::NETINFO),
        ),
        (
            [&v, &c, &c, &n],
            unexpected("AUTH_CHALLENGE", Command::CERTS),
        ),
        ([&v, &c, &a, &c], unexpected("NETINFO", Command::CERTS)),
        (
            [&v, &c, &a, &padding],
            unexpected("NETINFO", Command::PADDING),
        ),
        (
            [&v, &padding, &c, &n],
            unexpected("CERTS", Command::PADDING),
        ),
        (
            [&v, &c, &create, &n],
            unexpected("AUTH_CHALLENGE", Command::CREATE_FAST),
        ),
    ] {
        assert_eq!(error_at_client(&cells.map(Vec::as_slice).concat()), error);
    }
    let certs = certs_cell(&alice().identity.initiator_certs());
    let authenticate = variable(Command::AUTHENTICATE, &[0; 8]);
    for (cells, error) in [
        (
            [&v, &authenticate],
            unexpected("CERTS or NETINFO", Command::AUTHENTICATE),
        ),
        (
            [&v, &create],
            unexpected("CERTS or NETINFO", Command::CREATE_FAST),
        ),
    ] {
        assert_eq!(
            error_at_responder(&cells.map(Vec::as_slice).concat()),
            error
        );
    }
    let second_certs = error_at_responder(&[&v[..], &certs, &certs].concat());
    assert_eq!(second_certs, unexpected("AUTHENTICATE", Command::CERTS));
    let unauthenticated = error_at_responder(&[&v[..], &certs, &n].concat());
    assert_eq!(
        unauthenticated,
        unexpected("AUTHENTICATE", Command::NETINFO)
    );
}

#[test]
fn padding_and_later_versions_are_skipped_and_counted() {
    let vpadding = variable(Command::VPADDING, &[1, 2, 3]);
    let authorize = variable(Command::AUTHORIZE, &[]);
    let again = variable(Command::VERSIONS, &[0, 1]);
    let [v, c, a, n] = bobs_cells();
    let cells = [&v, &vpadding, &c, &again, &a, &authorize, &n];
    let link = at_initiator(None, &cells.map(Vec::as_slice).concat());
    assert_eq!(link.unwrap().unwrap().version, 5);

    // Padding enters the digest that the initiator signs.
    let mut wire = Wire::new(addr(BOB_ADDR), &LINK_VERSIONS);
    wire.send_vpadding();
    wire.send_versions();
    let identity = Some(alice().identity.clone());
    let expect = to_bob();
    let expect = Expect::InitiatorVersions(initiator::ExpectVersions { expect, identity });
    let mut alice = Handshake { wire, expect };
    let mut bob = responder(&LINK_VERSIONS);
    let (at_alice, at_bob) = run(&mut alice, &mut bob, usize::MAX);
    assert!(at_alice.is_ok() && at_bob.unwrap().peer.is_some());
}

#[test]
fn circuit_ids_close_the_link() {
    let [v, mut c, mut a, _] = bobs_cells();
    a[3] = 1;
    let error = error_at_client(&[&v[..], &c, &a].concat());
    assert_eq!(error, HandshakeError::CircuitId(Command::AUTH_CHALLENGE));
    c[0] = 1;
    assert_eq!(
        error_at_client(&[v, c].concat()),
        HandshakeError::CircuitId(Command::CERTS)
    );
}

#[test]
fn contents_that_close_the_link() {
    let [v, c, a, n] = bobs_cells();
    let [mut id, mut signing, mut tls, mut cross] = bob().identity.responder_certs();
    let twice = certs_cell(&[id, signing, signing, tls, cross]);
    let duplicate = CertsError::Duplicate(CertsType::ED25519_ID_SIGNING).into();
    assert_eq!(
        error_at_client(&[&v[..], &twice].concat()),
        HandshakeError::Certs(duplicate)
    );
    for spoilt in [&mut id, &mut signing, &mut tls, &mut cross] {
        let whole = spoilt.1;
        let wrong = whole.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
        let mut certs = bob().identity.responder_certs();
        certs
            .iter_mut()
            .filter(|cert| cert.0 == spoilt.0)
            .for_each(|cert| cert.1 = &wrong);
        let error = error_at_client(&[&v[..], &certs_cell(&certs)].concat());
        assert!(matches!(error, HandshakeError::Certs(_)), "{error}");
    }

    let cut = variable(Command::AUTH_CHALLENGE, &[0; 33]);
    let error = error_at_client(&[&v[..], &c, &cut].concat());
    assert_eq!(error, HandshakeError::AuthChallenge(cepa_wire::Truncated));

    let mut no_address = n.clone();
    no_address[9] = 9;
    let error = error_at_client(&[&v[..], &c, &a, &no_address].concat());
    assert_eq!(error, HandshakeError::Netinfo(NetinfoError::OtherAddress));
}

#[test]
fn a_relay_needs_authentication_and_a_client_does_not() {
    let [v, c, _, n] = bobs_cells();
    let bytes = [&v[..], &c, &auth_challenge(&[0, 1, 0, 2]), &n].concat();
    assert!(at_initiator(None, &bytes).unwrap().is_ok());
    let outcome = at_initiator(Some(alice().identity.clone()), &bytes).unwrap();
    assert_eq!(outcome, Err(HandshakeError::NoAuthMethod));
}

#[test]
fn another_relay_than_expected() {
    let certs = certs_cell(&alice().identity.responder_certs());
    let bytes = [&versions(&[0, 5])[..], &certs].concat();
    let mut client = initiator(None, &LINK_VERSIONS);
    let outcome = feed(&mut client, &bytes, usize::MAX, &tls_to(alice()));
    let got = alice().identity.id();
    assert_eq!(outcome, Some(Err(HandshakeError::IdentityMismatch { got })));

    let anyone = PeerExpectation::default();
    let mut client = Handshake::initiator(anyone, None, addr(BOB_ADDR), &LINK_VERSIONS);
    assert_eq!(
        feed(&mut client, &bytes, usize::MAX, &tls_to(alice())),
        None
    );

    for wrong in [
        PeerExpectation {
            rsa: Some(got.rsa),
            ed: to_bob().ed,
        },
        PeerExpectation {
            rsa: to_bob().rsa,
            ed: Some(got.ed),
        },
        PeerExpectation {
            rsa: None,
            ed: Some(got.ed),
        },
    ] {
        let mut client = Handshake::initiator(wrong, None, addr(BOB_ADDR), &LINK_VERSIONS);
        let outcome = feed(
            &mut client,
            &bobs_cells().concat(),
            usize::MAX,
            &tls_to(bob()),
        );
        let got = bob().identity.id();
        assert_eq!(outcome, Some(Err(HandshakeError::IdentityMismatch { got })));
    }
}

#[test]
fn certs_of_another_tls_connection() {
    let other_cert = FakeTls {
        secret: 7,
        peer_cert: Some(vec![3; 300]),
    };
    let bytes = bobs_cells().concat();
    let outcome = feed(
        &mut initiator(None, &LINK_VERSIONS),
        &bytes,
        usize::MAX,
        &other_cert,
    );
    assert_eq!(
        outcome,
        Some(Err(HandshakeError::Certs(PeerCertsError::OtherTlsCert)))
    );
    let no_cert = FakeTls {
        secret: 7,
        peer_cert: None,
    };
    let outcome = feed(
        &mut initiator(None, &LINK_VERSIONS),
        &bytes,
        usize::MAX,
        &no_cert,
    );
    assert_eq!(outcome, Some(Err(HandshakeError::TlsBinding)));
}

/// Runs to the point where Bob gets Alice's AUTHENTICATE, which `spoil` may change.
fn authenticate_with(tls_of_bob: &FakeTls, spoil: impl FnOnce(&mut Vec<u8>)) -> HandshakeError {
    let mut alice = initiator(Some(alice().identity.clone()), &LINK_VERSIONS);
    let mut relay = responder(&LINK_VERSIONS);
    feed(&mut relay, &alice.take_output(), usize::MAX, tls_of_bob);
    feed(&mut alice, &relay.take_output(), usize::MAX, &tls_to(bob()));
    let mut bytes = alice.take_output();
    spoil(&mut bytes);
    feed(&mut relay, &bytes, usize::MAX, tls_of_bob)
        .expect("an outcome")
        .expect_err("an error")
}

/// Where the AUTHENTICATE cell begins in what Alice sends.
fn authenticate_at(bytes: &[u8]) -> usize {
    7 + usize::from(u16::from_be_bytes([bytes[5], bytes[6]]))
}

#[test]
fn authenticate_that_proves_nothing() {
    let same = tls_of_responder();
    let other = FakeTls {
        secret: 8,
        peer_cert: None,
    };
    assert_eq!(
        authenticate_with(&other, |_| ()),
        HandshakeError::AuthenticateBinding
    );
    let dead = FakeTls {
        secret: 0,
        peer_cert: None,
    };
    assert_eq!(authenticate_with(&dead, |_| ()), HandshakeError::TlsBinding);

    // Offsets within the cell: header 7, type 2, length 2, then the 8 bytes of AUTH0003.
    for at in [11, 19, 19 + 32, 19 + 7 * 32] {
        let error = authenticate_with(&same, |bytes| {
            let start = authenticate_at(bytes);
            bytes[start + at] ^= 1;
        });
        assert_eq!(error, HandshakeError::AuthenticateBinding, "at {at}");
    }
    for at in [19 + 8 * 32, 19 + 8 * 32 + 24] {
        let error = authenticate_with(&same, |bytes| {
            let start = authenticate_at(bytes);
            bytes[start + at] ^= 1;
        });
        assert_eq!(error, HandshakeError::AuthenticateSignature, "at {at}");
    }
    let error = authenticate_with(&same, |bytes| {
        let start = authenticate_at(bytes);
        bytes[start + 8] = 1;
    });
    assert_eq!(
        error,
        HandshakeError::Authenticate(AuthenticateError::Type(1))
    );
    // A byte of VPADDING that Alice has not sent.
    let error = authenticate_with(&same, |bytes| {
        let start = authenticate_at(bytes);
        bytes.splice(start..start, variable(Command::VPADDING, &[]));
    });
    assert_eq!(error, HandshakeError::AuthenticateBinding);
}

#[test]
fn endless_padding_closes_the_link() {
    let padding = variable(Command::VPADDING, &vec![0; 60_000]);
    let bytes = [&versions(&[0, 5])[..], &padding.repeat(5)].concat();
    assert_eq!(error_at_client(&bytes), HandshakeError::TooLong);
    assert_eq!(error_at_responder(&bytes), HandshakeError::TooLong);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let after_versions = [&versions(&[0, 5])[..], &bytes].concat();
        for bytes in [&bytes, &after_versions] {
            let _ = at_initiator(None, bytes);
            let mut relay = responder(&LINK_VERSIONS);
            let _ = feed(&mut relay, bytes, usize::MAX, &tls_of_responder());
        }
    }

    #[test]
    fn a_spoilt_byte_never_panics_or_changes_who_the_peer_is(
        at in 0usize..2500, xor in 1u8..
    ) {
        let mut bytes = bobs_cells().concat();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        if let Some(Ok(link)) = at_initiator(None, &bytes) {
            prop_assert_eq!(link.peer, Some(bob().identity.id()));
        }
    }

    #[test]
    fn truncation_waits(len in 0usize..2500) {
        let bytes = bobs_cells().concat();
        let len = len % bytes.len();
        prop_assert_eq!(at_initiator(None, &bytes[..len]), None);
    }
}
