//! Each kind of event: its exact bytes, and that stem's parser reads them.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cepa_control::Signal;
use cepa_control::event::*;
use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;

const ADDRESS: &str = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd";
const RELAY: &str = "$0101010101010101010101010101010101010101~one";

fn relay(byte: u8, nickname: &str) -> LongName {
    LongName {
        id: RsaId::from([byte; 20]),
        nickname: (!nickname.is_empty()).then(|| nickname.to_owned()),
    }
}

fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(1_685_622_896_051_000)
}

fn address() -> OnionAddress {
    ADDRESS.parse().unwrap()
}

fn description() -> CircuitDescription {
    CircuitDescription {
        path: vec![relay(1, "one"), relay(2, "")],
        build_flags: vec![BuildFlag::IsInternal, BuildFlag::NeedCapacity],
        purpose: CircuitPurpose::HsClientRend,
        hs_state: Some(HsState::ClientRendJoined),
        rend_query: Some(ADDRESS.to_owned()),
        created: time(),
        socks_username: Some(b"a \"b\"".to_vec()),
        socks_password: Some(vec![b'\n', 0xff]),
        pow_effort: None,
    }
}

fn plain_circuit() -> CircuitDescription {
    CircuitDescription {
        path: Vec::new(),
        build_flags: Vec::new(),
        purpose: CircuitPurpose::General,
        hs_state: None,
        rend_query: None,
        socks_username: None,
        socks_password: None,
        ..description()
    }
}

const DESCRIBED: &str = "$0101010101010101010101010101010101010101~one,\
    $0202020202020202020202020202020202020202 BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY \
    PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED \
    REND_QUERY=vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd \
    TIME_CREATED=2023-06-01T12:34:56.051000 SOCKS_USERNAME=\"a \\\"b\\\"\" \
    SOCKS_PASSWORD=\"\\n\\377\"";

fn stream() -> StreamEvent {
    StreamEvent {
        id: 21,
        status: StreamStatus::New,
        circuit: 0,
        target: "example.com".to_owned(),
        port: 80,
        reason: None,
        remote_reason: None,
        source: None,
        source_addr: Some(SocketAddr::from(([127, 0, 0, 1], 59100))),
        purpose: Some(StreamPurpose::User),
        isolation: Some(StreamIsolation {
            socks_username: None,
            socks_password: None,
            client_protocol: ClientProtocol::Socks5,
            nym_epoch: 0,
            session_group: -4,
            iso_fields: vec![IsoField::SocksUsername, IsoField::SessionGroup],
        }),
    }
}

/// An event, the class by which stem knows it, and its lines.
type Sample = (Event, &'static str, String);

fn minor() -> CircuitMinorEvent {
    CircuitMinorEvent {
        id: 7,
        event: CircuitMinor::PurposeChanged,
        description: description(),
        old_purpose: CircuitPurpose::HsClientRend,
        old_hs_state: Some(HsState::ClientRendWaiting),
    }
}

fn circuits_and_streams() -> Vec<Sample> {
    let closed = StreamEvent {
        status: StreamStatus::Closed,
        circuit: 7,
        target: "[::1]".to_owned(),
        reason: Some(StreamReason::End),
        remote_reason: Some(StreamReason::Done),
        source_addr: None,
        purpose: None,
        isolation: None,
        ..stream()
    };
    let failed = CircuitEvent {
        id: 8,
        status: CircuitStatus::Failed,
        description: plain_circuit(),
        reason: Some(CircuitReason::Destroyed),
        remote_reason: Some(CircuitReason::ChannelClosed),
    };
    let launched = CircuitEvent {
        id: 9,
        status: CircuitStatus::Launched,
        description: description(),
        reason: None,
        remote_reason: None,
    };
    let lines = |text: &str| format!("{text}\r\n");
    vec![
        (
            Event::Circuit(launched),
            "CircuitEvent",
            lines(&format!("650 CIRC 9 LAUNCHED {DESCRIBED}")),
        ),
        (
            Event::Circuit(failed),
            "CircuitEvent",
            lines(
                "650 CIRC 8 FAILED PURPOSE=GENERAL TIME_CREATED=2023-06-01T12:34:56.051000 \
                 REASON=DESTROYED REMOTE_REASON=CHANNEL_CLOSED",
            ),
        ),
        (
            Event::CircuitMinor(minor()),
            "CircMinorEvent",
            lines(&format!(
                "650 CIRC_MINOR 7 PURPOSE_CHANGED {DESCRIBED} OLD_PURPOSE=HS_CLIENT_REND \
                 OLD_HS_STATE=HSCR_ESTABLISHED_WAITING"
            )),
        ),
        (
            Event::Stream(stream()),
            "StreamEvent",
            lines(
                "650 STREAM 21 NEW 0 example.com:80 SOURCE_ADDR=127.0.0.1:59100 PURPOSE=USER \
                 CLIENT_PROTOCOL=SOCKS5 NYM_EPOCH=0 SESSION_GROUP=-4 \
                 ISO_FIELDS=SOCKS_USERNAME,SESSION_GROUP",
            ),
        ),
        (
            Event::Stream(closed),
            "StreamEvent",
            lines("650 STREAM 21 CLOSED 7 [::1]:80 REASON=END REMOTE_REASON=DONE"),
        ),
    ]
}

fn links_and_addresses() -> Vec<Sample> {
    let conn = |status, reason, circuits| {
        Event::OrConn(OrConnEvent {
            id: 3,
            target: relay(1, "one").to_string(),
            status,
            reason,
            circuits,
        })
    };
    let map = |to: Option<&str>, expires| {
        Event::AddrMap(AddrMap {
            from: "foo.example".to_owned(),
            to: to.map(str::to_owned),
            expires,
            is_cached: expires.is_none(),
            stream: expires.map(|_| 3),
        })
    };
    vec![
        (
            conn(OrStatus::Connected, None, None),
            "ORConnEvent",
            format!("650 ORCONN {RELAY} CONNECTED ID=3\r\n"),
        ),
        (
            conn(OrStatus::Closed, Some(OrReason::Done), Some(2)),
            "ORConnEvent",
            format!("650 ORCONN {RELAY} CLOSED REASON=DONE NCIRCS=2 ID=3\r\n"),
        ),
        (
            map(Some("1.2.3.4"), None),
            "AddrMapEvent",
            "650 ADDRMAP foo.example 1.2.3.4 NEVER CACHED=\"YES\"\r\n".to_owned(),
        ),
        (
            map(None, Some(time())),
            "AddrMapEvent",
            "650 ADDRMAP foo.example <error> \"2023-06-01 12:34:56\" error=yes \
             EXPIRES=\"2023-06-01 12:34:56\" CACHED=\"NO\" STREAMID=3\r\n"
                .to_owned(),
        ),
    ]
}

fn guards_and_network() -> Vec<Sample> {
    vec![
        (
            Event::Guard {
                relay: relay(1, "one"),
                status: GuardStatus::Dropped,
            },
            "GuardEvent",
            format!("650 GUARD ENTRY {RELAY} DROPPED\r\n"),
        ),
        (
            Event::NewDesc(vec![relay(1, "one"), relay(2, "two")]),
            "NewDescEvent",
            format!("650 NEWDESC {RELAY} {}\r\n", relay(2, "two")),
        ),
        (
            Event::DescChanged,
            "DescChangedEvent",
            "650 DESCCHANGED\r\n".to_owned(),
        ),
        (
            Event::NetworkLiveness(false),
            "NetworkLivenessEvent",
            "650 NETWORK_LIVENESS DOWN\r\n".to_owned(),
        ),
        (
            Event::TransportLaunched {
                is_server: true,
                name: "obfs4".to_owned(),
                address: SocketAddr::from(([127, 0, 0, 1], 443)),
            },
            "TransportLaunchedEvent",
            "650 TRANSPORT_LAUNCHED server obfs4 127.0.0.1 443\r\n".to_owned(),
        ),
        (
            Event::ClientsSeen(ClientsSeen {
                since: time(),
                countries: BTreeMap::from([("de".to_owned(), 8), ("us".to_owned(), 16)]),
                ip_versions: BTreeMap::from([("v4".to_owned(), 16), ("v6".to_owned(), 40)]),
            }),
            "ClientsSeenEvent",
            "650 CLIENTS_SEEN TimeStarted=\"2023-06-01 12:34:56\" CountrySummary=de=8,us=16 \
             IPVersions=v4=16,v6=40\r\n"
                .to_owned(),
        ),
    ]
}

const ENTRY: &str = "r one AQEBAQEBAQEBAQEBAQEBAQEBAQE AgICAgICAgICAgICAgICAgICAgI \
    2023-06-01 12:34:56 127.0.0.1 9001 0\ns Fast Running Valid\n";

fn bootstrap() -> Bootstrap {
    Bootstrap {
        progress: 5,
        tag: "conn".to_owned(),
        summary: "Connecting to a relay".to_owned(),
        problem: Some(BootstrapProblem {
            warning: "Connection refused".to_owned(),
            reason: OrReason::ConnectRefused,
            count: 10,
            should_warn: true,
            host: RsaId::from([1; 20]),
            address: SocketAddr::from(([127, 0, 0, 1], 9001)),
        }),
    }
}

fn build_timeout() -> BuildTimeout {
    BuildTimeout {
        kind: BuildTimeoutKind::Reset,
        times: 0,
        timeout_ms: 60000,
        xm_ms: 0,
        alpha: 0.0,
        quantile: 1.0,
        timeout_rate: 0.0,
        close_ms: 60000,
        close_rate: Some(0.0),
    }
}

fn directory_and_program() -> Vec<Sample> {
    let entry = ENTRY.replace('\n', "\r\n");
    let status = |action, arguments| {
        Event::Status(StatusEvent {
            severity: Severity::Notice,
            action,
            arguments,
        })
    };
    let settings = vec![
        ("ContactInfo".to_owned(), Some("a b".to_owned())),
        ("Nickname".to_owned(), None),
    ];
    let external = vec![
        ("ADDRESS", StatusValue::Word("1.2.3.4".to_owned())),
        ("METHOD", StatusValue::Word("CONFIGURED".to_owned())),
    ];
    let line = |text: &str| format!("{text}\r\n");
    vec![
        (
            Event::NewConsensus(ENTRY.to_owned()),
            "NewConsensusEvent",
            format!("650+NEWCONSENSUS\r\n{entry}.\r\n650 OK\r\n"),
        ),
        (
            Event::NetworkStatus(ENTRY.to_owned()),
            "NetworkStatusEvent",
            format!("650+NS\r\n{entry}.\r\n650 OK\r\n"),
        ),
        (
            Event::Status(StatusEvent::from(&bootstrap())),
            "StatusEvent",
            line(
                "650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=5 TAG=conn \
                 SUMMARY=\"Connecting to a relay\" WARNING=\"Connection refused\" \
                 REASON=CONNECTREFUSED COUNT=10 RECOMMENDATION=warn \
                 HOSTID=\"0101010101010101010101010101010101010101\" HOSTADDR=\"127.0.0.1:9001\"",
            ),
        ),
        (
            status(StatusAction::DirAllUnreachable, Vec::new()),
            "StatusEvent",
            line("650 STATUS_GENERAL NOTICE DIR_ALL_UNREACHABLE"),
        ),
        (
            status(StatusAction::ExternalAddress, external),
            "StatusEvent",
            line("650 STATUS_SERVER NOTICE EXTERNAL_ADDRESS ADDRESS=1.2.3.4 METHOD=CONFIGURED"),
        ),
        (
            Event::Signal(Signal::Hup),
            "SignalEvent",
            line("650 SIGNAL RELOAD"),
        ),
        (
            Event::ConfChanged(settings),
            "ConfChangedEvent",
            line("650-CONF_CHANGED\r\n650-ContactInfo=a b\r\n650-Nickname\r\n650 OK"),
        ),
        (
            Event::BuildTimeoutSet(build_timeout()),
            "BuildTimeoutSetEvent",
            line(
                "650 BUILDTIMEOUT_SET RESET TOTAL_TIMES=0 TIMEOUT_MS=60000 XM=0 ALPHA=0.000000 \
                 CUTOFF_QUANTILE=1.000000 TIMEOUT_RATE=0.000000 CLOSE_MS=60000 CLOSE_RATE=0.000000",
            ),
        ),
    ]
}

fn logs() -> Vec<Sample> {
    let log = |level: &LogLevel| {
        let message = "Received\r\n650 reload".to_owned();
        let line = format!("650 {level} Received  650 reload\r\n");
        (
            Event::Log {
                level: *level,
                message,
            },
            "LogEvent",
            line,
        )
    };
    LogLevel::ALL.iter().map(log).collect()
}

fn circuit_bytes() -> CircuitBandwidth {
    CircuitBandwidth {
        id: 11,
        read: 272,
        written: 817,
        time: time(),
        delivered_read: 10,
        overhead_read: 488,
        delivered_written: 0,
        overhead_written: 0,
        congestion: Some(CongestionState {
            is_slow_start: true,
            window_cells: 124,
            rtt_ms: 5,
            rtt_min_ms: 4,
        }),
    }
}

fn cells() -> CellStats {
    CellStats {
        id: Some(14),
        inbound: QueueStats::default(),
        outbound: QueueStats {
            queue: Some((19403, 15)),
            cells: vec![
                CellCount {
                    kind: "create_fast".to_owned(),
                    added: 1,
                    removed: 1,
                    waited_ms: 0,
                },
                CellCount {
                    kind: "relay_early".to_owned(),
                    added: 2,
                    removed: 0,
                    waited_ms: 9,
                },
            ],
        },
    }
}

fn bytes_and_cells() -> Vec<Sample> {
    let line = |text: &str| format!("{text}\r\n");
    vec![
        (
            Event::Bandwidth {
                read: 15,
                written: 25,
            },
            "BandwidthEvent",
            line("650 BW 15 25"),
        ),
        (
            Event::StreamBandwidth(StreamBandwidth {
                id: 2,
                written: 15,
                read: 25,
                time: time(),
            }),
            "StreamBwEvent",
            line("650 STREAM_BW 2 15 25 2023-06-01T12:34:56.051000"),
        ),
        (
            Event::ConnBandwidth(ConnBandwidth {
                id: 11,
                kind: ConnKind::Dir,
                read: 2,
                written: 8,
            }),
            "ConnectionBandwidthEvent",
            line("650 CONN_BW ID=11 TYPE=DIR READ=2 WRITTEN=8"),
        ),
        (
            Event::CircuitBandwidth(circuit_bytes()),
            "CircuitBandwidthEvent",
            line(
                "650 CIRC_BW ID=11 READ=272 WRITTEN=817 TIME=2023-06-01T12:34:56.051000 \
                 DELIVERED_READ=10 OVERHEAD_READ=488 DELIVERED_WRITTEN=0 OVERHEAD_WRITTEN=0 \
                 SS=1 CWND=124 RTT=5 MIN_RTT=4",
            ),
        ),
        (
            Event::CellStats(cells()),
            "CellStatsEvent",
            line(
                "650 CELL_STATS ID=14 OutboundQueue=19403 OutboundConn=15 \
                 OutboundAdded=create_fast:1,relay_early:2 OutboundRemoved=create_fast:1 \
                 OutboundTime=create_fast:0",
            ),
        ),
    ]
}

fn descriptors() -> Vec<Sample> {
    let event = |action, is_upload, hsdir, reason| {
        Event::HsDesc(HsDescEvent {
            action,
            is_upload,
            address: Some(address()),
            hsdir,
            blinded_key: Some([3; 32]),
            reason,
            hsdir_index: Some([4; 32]),
        })
    };
    let id = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM";
    let index = "04".repeat(32);
    let content = HsDescContent {
        address: Some(address()),
        blinded_key: Some([3; 32]),
        hsdir: Some(relay(1, "one")),
        descriptor: "hs-descriptor 3\n.x\n".to_owned(),
    };
    vec![
        (
            event(HsDescAction::Requested, false, Some(relay(1, "one")), None),
            "HSDescEvent",
            format!("650 HS_DESC REQUESTED {ADDRESS} NO_AUTH {RELAY} {id} HSDIR_INDEX={index}\r\n"),
        ),
        (
            event(HsDescAction::Upload, true, Some(relay(1, "one")), None),
            "HSDescEvent",
            format!("650 HS_DESC UPLOAD {ADDRESS} UNKNOWN {RELAY} {id} HSDIR_INDEX={index}\r\n"),
        ),
        (
            event(
                HsDescAction::Failed,
                false,
                None,
                Some(HsDescReason::QueryNoHsDir),
            ),
            "HSDescEvent",
            format!(
                "650 HS_DESC FAILED {ADDRESS} NO_AUTH UNKNOWN {id} REASON=QUERY_NO_HSDIR \
                 HSDIR_INDEX={index}\r\n"
            ),
        ),
        (
            Event::HsDescContent(content),
            "HSDescContentEvent",
            format!(
                "650+HS_DESC_CONTENT {ADDRESS} {id} {RELAY}\r\nhs-descriptor 3\r\n..x\r\n.\r\n\
                 650 OK\r\n"
            ),
        ),
    ]
}

fn samples() -> Vec<Sample> {
    [
        circuits_and_streams(),
        links_and_addresses(),
        guards_and_network(),
        directory_and_program(),
        logs(),
        bytes_and_cells(),
        descriptors(),
    ]
    .concat()
}

#[test]
fn every_kind_is_written_as_tor_writes_it() {
    let mut kinds = BTreeSet::new();
    for (event, _, lines) in samples() {
        kinds.insert(event.kind());
        assert_eq!(String::from_utf8(event.encode()).unwrap(), lines);
    }
    let all: BTreeSet<EventKind> = EventKind::ALL.iter().copied().collect();
    assert_eq!(kinds, all, "a sample of each kind");
    assert_eq!(all.len(), 31);
}

#[test]
fn stem_reads_every_kind() {
    let python = "/usr/bin/python3";
    let import = Command::new(python).args(["-c", "import stem"]).output();
    if !import.is_ok_and(|import| import.status.success()) {
        println!("stem is not here: nobody else reads our events");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stem_events.py");
    let mut stem = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let samples = samples();
    let mut input = String::new();
    for (event, class, _) in &samples {
        let digits = cepa_crypto::encoding::hex_lower(&event.encode());
        input.push_str(&format!("{class} {digits}\n"));
    }
    let mut stdin = stem.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = stem.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    assert_eq!(said.trim(), format!("stem read {} events", samples.len()));
}
