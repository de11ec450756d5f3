//! What requests ask for, and what becomes of them.

use cepa_crypto::RsaId;
use cepa_wire::socks::{SocksAuth, SocksVersion};
use slotmap::SlotMap;

use super::*;
use crate::circuits::pool::{Pool, Purpose};
use crate::drawn::start;
use crate::isolation::{Isolation, Protocol};
use crate::names::RequestId;
use crate::status::StreamSource;

fn socks(command: SocksCommand, host: &str, port: u16) -> SocksRequest {
    SocksRequest {
        version: SocksVersion::V5,
        command,
        address: Host::parse(host.as_bytes()).unwrap(),
        port,
        auth: SocksAuth::None,
    }
}

#[test]
fn what_is_asked_of_exits() {
    let connect = |host, port| rewrite(&socks(SocksCommand::Connect, host, port), false);
    let web = |is_ipv6| ExitNeed::Port { port: 80, is_ipv6 };
    for (host, need) in [
        ("example.net", web(false)),
        ("8.8.8.8", web(false)),
        ("2001:db8::1", web(true)),
    ] {
        let Rewritten::Ask(StreamTarget::Begin(begin), asked) = connect(host, 80) else {
            panic!("{host}");
        };
        assert_eq!((asked, begin.port), (Via::Exit(need), 80));
        assert_eq!(begin.flags == BeginFlags::default(), host == "8.8.8.8");
    }
    let refused = |status| Rewritten::Refuse(status);
    for (host, port, status) in [
        ("x.onion", 80, SocksStatus::HS_BAD_ADDRESS),
        ("x.ONION.", 80, SocksStatus::HS_BAD_ADDRESS),
        ("a.relay.exit", 80, SocksStatus::GENERAL_FAILURE),
        ("", 80, SocksStatus::GENERAL_FAILURE),
        ("example.net", 0, SocksStatus::GENERAL_FAILURE),
        ("127.0.0.1", 80, SocksStatus::NOT_ALLOWED),
        ("localhost", 80, SocksStatus::NOT_ALLOWED),
        ("printer.LOCAL.", 80, SocksStatus::NOT_ALLOWED),
        ("a..b", 80, SocksStatus::GENERAL_FAILURE),
        ("a\\b", 80, SocksStatus::GENERAL_FAILURE),
        ("10.1.2.3", 80, SocksStatus::NOT_ALLOWED),
    ] {
        assert_eq!(connect(host, port), refused(status), "{host}");
    }
    for host in ["127.0.0.1", "localhost"] {
        let local = rewrite(&socks(SocksCommand::Connect, host, 80), true);
        let is_asked = matches!(local, Rewritten::Ask(..));
        assert!(is_asked, "a test network has such addresses");
    }
}

#[test]
fn what_is_looked_up() {
    let resolve = |host| rewrite(&socks(SocksCommand::Resolve, host, 0), false);
    assert!(matches!(
        resolve("example.net"),
        Rewritten::Ask(
            StreamTarget::Resolve(Resolve::Host(_)),
            Via::Exit(ExitNeed::Any)
        )
    ));
    assert!(matches!(resolve("8.8.8.8"), Rewritten::Answer(_)));
    assert!(matches!(resolve("x.onion"), Rewritten::Refuse(_)));
    let reverse = |host| rewrite(&socks(SocksCommand::ResolvePtr, host, 0), false);
    assert!(matches!(
        reverse("8.8.8.8"),
        Rewritten::Ask(
            StreamTarget::Resolve(Resolve::Reverse(_)),
            Via::Exit(ExitNeed::Any)
        )
    ));
    let wrong = Rewritten::Refuse(SocksStatus::ADDRESS_TYPE_NOT_SUPPORTED);
    assert_eq!(reverse("example.net"), wrong);
}

fn status() -> StreamStatus {
    let source = StreamSource {
        addr: "127.0.0.1:1".parse().unwrap(),
        protocol: Protocol::Socks(SocksVersion::V5),
    };
    let request = socks(SocksCommand::Resolve, "a", 0);
    let isolation = Isolation::internal(0);
    StreamStatus::new(RequestId(1), &request, source, isolation, start())
}

/// The verdicts on one reason, given again and again by exits that differ.
fn verdicts(reason: EndReason) -> Vec<Verdict> {
    let now = start();
    let mut pool = Pool::default();
    let hop = cepa_circuit::handshake::HopSpec {
        link_specifiers: Default::default(),
        key: cepa_circuit::handshake::HopKey::Fast,
        congestion: None,
    };
    let first = (RsaId::from([1; 20]), hop);
    let circuit = pool
        .insert(Purpose::Directory, first, Vec::new(), now)
        .unwrap();
    let mut keys: SlotMap<StreamKey, ()> = SlotMap::with_key();
    let target = StreamTarget::Resolve(Resolve::Host(Host::parse(b"a").unwrap()));
    let mut request = Request::new(
        target,
        Via::Exit(ExitNeed::Any),
        status(),
        b"early".to_vec(),
        now,
    );
    let mut verdicts = Vec::new();
    for n in 0..10 {
        request.attach(keys.insert(()), circuit, now);
        assert_eq!(request.deadline(), now.mono + ANSWER_MAX);
        verdicts.push(request.detach(reason, Some(RsaId::from([n; 20]))));
        assert_eq!(request.excluded_exits.len(), usize::from(n) + 1);
        assert_eq!(request.state, State::Waiting);
        if verdicts.last() != Some(&Verdict::Retry) {
            break;
        }
    }
    verdicts
}

#[test]
fn which_ends_are_tried_again() {
    let retries = |reason| verdicts(reason).len() - 1;
    assert_eq!(retries(EndReason::EXITPOLICY), 4);
    assert_eq!(retries(EndReason::DESTROY), 4);
    assert_eq!(retries(EndReason::RESOLVEFAILED), 2);
    assert_eq!(retries(EndReason::TIMEOUT), 2);
    for reason in [
        EndReason::CONNECTREFUSED,
        EndReason::CONNRESET,
        EndReason::DONE,
    ] {
        assert_eq!(retries(reason), 0, "{reason}");
    }
    let refused = Verdict::Refuse(SocksStatus::CONNECTION_REFUSED);
    assert_eq!(verdicts(EndReason::CONNECTREFUSED), [refused]);
    let policy = verdicts(EndReason::EXITPOLICY);
    assert_eq!(
        policy.last(),
        Some(&Verdict::Refuse(SocksStatus::NOT_ALLOWED))
    );
}

#[test]
fn requests_take_as_long_as_overridden() {
    let now = start();
    let target = || StreamTarget::Resolve(Resolve::Host(Host::parse(b"a").unwrap()));
    let mut request = Request::new(
        target(),
        Via::Exit(ExitNeed::Any),
        status(),
        Vec::new(),
        now,
    );
    let overrides = CircuitOverrides {
        answer: Some(Duration::from_secs(40)),
        request: Some(Duration::from_secs(60)),
        ..CircuitOverrides::default()
    };
    request.heed(&overrides, now);
    assert_eq!(request.deadline(), now.mono + Duration::from_secs(60));
    let mut keys: SlotMap<StreamKey, ()> = SlotMap::with_key();
    request.attach(keys.insert(()), CircuitId(1), now);
    assert_eq!(request.deadline(), now.mono + Duration::from_secs(40));
}
