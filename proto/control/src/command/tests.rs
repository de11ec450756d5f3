//! Each command: what is written is read back; what `tor` 0.4.9.11 was seen to refuse is refused in
//! its words; any bytes are read without panic.

use cepa_crypto::{curve25519, ed25519};
use proptest::prelude::*;

use super::*;
use crate::event::CircuitPurpose;
use crate::line::LineReader;
use crate::refusal::Refusal;
use crate::reply::Reply;

const ADDRESS: &str = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd";
const KEY: &str = "x25519:GLDQQpfrLvMaFEf6YCsY1AVqkzwFySPSYy0K2GVMSE4=";
const CLIENT: &str = "dz4q5xqlb4ldnbs72iarrml4ephk3du4i7o2cgiva5lwr6wkquja";

fn read(bytes: &[u8]) -> Result<Command, Refusal> {
    let mut reader = LineReader::new();
    reader.trust();
    reader.push(bytes);
    let raw = reader.next_command().unwrap().expect("a whole command");
    assert!(reader.is_empty(), "one command");
    Command::parse(&raw)
}

/// What a line is answered if it is refused, with the address and the key put in.
fn refused(line: &str) -> String {
    let line = line
        .replace("<kept>", "<address> <key>")
        .replace("<address>", ADDRESS)
        .replace("<key>", KEY);
    match read(format!("{line}\r\n").as_bytes()) {
        Ok(_) => "taken".to_owned(),
        Err(refusal) => {
            let text = String::from_utf8(Reply::from(refusal).encode()).unwrap();
            text.trim_end().replace(ADDRESS, "<address>")
        }
    }
}

/// Lines and the answers of `tor`, as it was seen to give them on loopback; `BAD` stands for its
/// commonest words.
const REFUSED: &str = r#"
FOO => 510 Unrecognized command "FOO"
 GETINFO version => 510 Unrecognized command ""
POSTDESCRIPTOR purpose=foo => 510 Unrecognized command "POSTDESCRIPTOR"
LOADCONF => 510 Unrecognized command "LOADCONF"
SETROUTERPURPOSE a b => 511 SETROUTERPURPOSE is obsolete.
SETCONF Nickname="baz => BAD SETCONF: Cannot parse keyword argument(s)
SETCONF Nickname = x => BAD SETCONF: Cannot parse keyword argument(s)
SETCONF =3 => BAD SETCONF: Cannot parse keyword argument(s)
SETEVENTS CIRC FOO BAR => 552 Unrecognized event "FOO"
SETEVENTS CIRC,STREAM => 552 Unrecognized event "CIRC,STREAM"
SETEVENTS TB_EMPTY => 552 Unrecognized event "TB_EMPTY"
SIGNAL => BAD SIGNAL: Need at least 1 argument(s)
SIGNAL FOO => 552 Unrecognized signal code "FOO"
SIGNAL foo bar => BAD SIGNAL: Cannot accept more than 1 argument(s)
SIGNAL "DUMP" => 552 Unrecognized signal code ""DUMP""
MAPADDRESS => 512 syntax error: not enough arguments to mapaddress.
MAPADDRESS foo => BAD MAPADDRESS: Cannot parse keyword argument(s)
MAPADDRESS a=b"c => BAD MAPADDRESS: Cannot parse keyword argument(s)
EXTENDCIRCUIT => BAD EXTENDCIRCUIT: Need at least 1 argument(s)
EXTENDCIRCUIT 0 purpose=foo => 552 Unknown purpose "foo"
EXTENDCIRCUIT 0 foo purpose=foo => 552 Unknown purpose "foo"
EXTENDCIRCUIT 0 foo purpose= => 552 Unknown purpose ""
EXTENDCIRCUIT 0 foo purpose => 552 Unknown purpose ""
EXTENDCIRCUIT 0 purpose= purpose=foo => 552 Unknown purpose "foo"
EXTENDCIRCUIT 0 foo" => BAD EXTENDCIRCUIT: Cannot parse keyword argument(s)
ATTACHSTREAM 1 => BAD ATTACHSTREAM: Need at least 2 argument(s)
ATTACHSTREAM 1 2 HOP => BAD ATTACHSTREAM: Cannot parse keyword argument(s)
ATTACHSTREAM 1 2 FOO=1 => BAD ATTACHSTREAM: Unrecognized keyword argument "FOO"
REDIRECTSTREAM 1 => BAD REDIRECTSTREAM: Need at least 2 argument(s)
CLOSESTREAM 1 => BAD CLOSESTREAM: Need at least 2 argument(s)
CLOSECIRCUIT => BAD CLOSECIRCUIT: Need at least 1 argument(s)
USEFEATURE verbose_names foo => 552 Unrecognized feature "foo"
RESOLVE "foo" => BAD RESOLVE: Cannot parse keyword argument(s)
DROPGUARDS x => BAD DROPGUARDS: Cannot accept more than 0 argument(s)
DROPTIMEOUTS x => BAD DROPTIMEOUTS: Cannot accept more than 0 argument(s)
HSFETCH => BAD HSFETCH: Need at least 1 argument(s)
HSFETCH <address>.onion => 513 Invalid argument "<address>.onion"
HSFETCH v2-gezdgnbvgy3tqolbmjrw => 513 Invalid argument "v2-gezdgnbvgy3tqolbmjrw"
HSFETCH <address> FOO=bar => BAD HSFETCH: Unrecognized keyword argument "FOO"
HSFETCH <address> foo => BAD HSFETCH: Cannot parse keyword argument(s)
HSFETCH <address> server= => 552 Server "" not found
ONION_CLIENT_AUTH_ADD <address> => 512 Incomplete ONION_CLIENT_AUTH_ADD command
ONION_CLIENT_AUTH_ADD foo x25519:aa => 512 Invalid v3 address "foo"
ONION_CLIENT_AUTH_ADD <address> x25519:aa => 512 Failed to decode x25519 private key
ONION_CLIENT_AUTH_ADD <address> x25519: => 512 Invalid key type/blob
ONION_CLIENT_AUTH_ADD <address> x25519 => 512 Invalid key type/blob
ONION_CLIENT_AUTH_ADD <address> foo:aa => 552 Unrecognized key type "foo"
ONION_CLIENT_AUTH_ADD <address>.onion <key> => 512 Invalid v3 address "<address>.onion"
ONION_CLIENT_AUTH_ADD <address> <key> Flags=Permanent,foo => 512 Invalid 'Flags' argument: "foo"
ONION_CLIENT_AUTH_ADD <kept> bar => BAD ONION_CLIENT_AUTH_ADD: Cannot parse keyword argument(s)
ONION_CLIENT_AUTH_ADD <kept> ClientName=12345678901234567 => 512 ClientName longer than 16 chars
ONION_CLIENT_AUTH_VIEW foo => 512 Invalid v3 address "foo"
ONION_CLIENT_AUTH_REMOVE => 512 Incomplete ONION_CLIENT_AUTH_REMOVE command
ADD_ONION => BAD ADD_ONION: Need at least 1 argument(s)
ADD_ONION NEW => 512 Missing 'Port' argument
ADD_ONION NEW:BEST => 512 Missing 'Port' argument
ADD_ONION : Port=80 => 512 Invalid key type/blob
ADD_ONION ED25519-V3 Port=80 => 512 Invalid key type/blob
ADD_ONION NEW:RSA1024 Port=80 => 513 Invalid key type
ADD_ONION RSA1024:x Port=80 => 513 Invalid key type
ADD_ONION ED25519-V3:foo Port=80 => 512 Failed to decode ED25519-V3 key
ADD_ONION NEW:BEST Port=80,foo => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port=0 => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port= => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port=80,0 => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port=80-90 => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port=80,127.0.0.1:0 => 512 Invalid VIRTPORT/TARGET
ADD_ONION NEW:BEST Port=80 Flags=Foo => 512 Invalid 'Flags' argument: "Foo"
ADD_ONION NEW:BEST Port=80 Flags= => 512 Invalid 'Flags' argument
ADD_ONION NEW:BEST Port=80 Flags=V3Auth => 512 No auth clients specified
ADD_ONION NEW:BEST Port=80 ClientAuthV3=foo => 512 Cannot decode v3 client auth key
ADD_ONION NEW:BEST Port=80 MaxStreams=70000 => 512 Invalid MaxStreams
ADD_ONION NEW:BEST Port=80 PoWDefensesEnabled=2 => 512 Invalid PoWDefensesEnabled
ADD_ONION NEW:BEST Port=80 PoWQueueRate=x => 512 Invalid PoWQueueRate
ADD_ONION NEW:BEST Port=80 Foo=bar => BAD ADD_ONION: Unrecognized keyword argument "Foo"
ADD_ONION NEW:BEST Port=80 foo => BAD ADD_ONION: Cannot parse keyword argument(s)
ADD_ONION NEW:BEST Port=80,unix:"/tmp/x" => BAD ADD_ONION: Cannot parse keyword argument(s)
DEL_ONION => BAD DEL_ONION: Need at least 1 argument(s)
DEL_ONION foo => 512 Malformed Onion Service id
DEL_ONION <address> x => BAD DEL_ONION: Cannot accept more than 1 argument(s)
"#;

#[test]
fn refusals_are_tors() {
    let lines = REFUSED.lines().filter(|line| !line.is_empty());
    for (line, answer) in lines.map(|line| line.split_once(" => ").unwrap()) {
        let answer = answer.replace("BAD", "512 Bad arguments to");
        assert_eq!(refused(line), answer, "{line}");
    }
}

#[test]
fn refusals_of_data_are_tors() {
    for (line, answer) in [
        (
            "+POSTDESCRIPTOR purpose=foo",
            r#"552 Unknown purpose "foo""#,
        ),
        (
            "+POSTDESCRIPTOR cache=foo",
            r#"552 Unknown cache request "foo""#,
        ),
        (
            "+POSTDESCRIPTOR foo=foo",
            r#"512 Bad arguments to +POSTDESCRIPTOR: Unrecognized keyword argument "foo""#,
        ),
        ("+HSPOST SERVER=", r#"552 Server "" not found"#),
        ("+HSPOST HSADDRESS=foo", "512 Malformed onion address"),
        (
            "+HSPOST foo",
            "512 Bad arguments to +HSPOST: Cannot parse keyword argument(s)",
        ),
        (
            "+LOADCONF x",
            "512 Bad arguments to +LOADCONF: Cannot accept more than 0 argument(s)",
        ),
        ("+GETINFO version", r#"510 Unrecognized command "+GETINFO""#),
    ] {
        assert_eq!(refused(&format!("{line}\r\nfoo\r\n.")), answer, "{line}");
    }
}

/// Lines that `tor` takes, strange as some are.
const TAKEN: [&str; 33] = [
    "GETINFO",
    "getinfo  version ",
    "GETINFO\tversion",
    "GETCONF",
    "SETCONF",
    "SETCONF Nickname",
    "SETCONF A=b=c D=\"x\"y",
    "SAVECONF foo",
    "SETEVENTS",
    "SETEVENTS extended circ",
    "SETEVENTS AUTHDIR_NEWDESCS",
    "SIGNAL newnym",
    "MAPADDRESS a=b=c d=",
    "EXTENDCIRCUIT 0",
    "EXTENDCIRCUIT 5 foo bar foo=bar",
    "CLOSECIRCUIT 1 foo bar",
    "CLOSESTREAM 1 5 f g",
    "REDIRECTSTREAM 1 a 80 x",
    "USEFEATURE",
    "RESOLVE",
    "RESOLVE foo mode=reverse bar",
    "TAKEOWNERSHIP foo",
    "PROTOCOLINFO 1 2 3",
    "ONION_CLIENT_AUTH_ADD <address> <key> Foo=bar",
    "ONION_CLIENT_AUTH_VIEW",
    "ADD_ONION new:best port=80",
    "ADD_ONION NEW:BEST Port=9735,9735 ",
    "ADD_ONION NEW:BEST Port=80 Port=81,82 Port=80",
    "ADD_ONION NEW:BEST Port=80,127.0.0.1:8334 PoWDefensesEnabled=1",
    "ADD_ONION NEW:BEST Port=080 Flags=detach,discardpk,",
    "ADD_ONION NEW:BEST Port=80, Port=80,::1 Port=80,[::1]:80 Port=80,localhost:80",
    "ADD_ONION NEW:BEST Port=80,unix:x Port=80,127.0.0.1 MaxStreams=65535 MaxStreams=3",
    "QUIT now",
];

#[test]
fn what_tor_takes_is_taken() {
    for line in TAKEN {
        assert_eq!(refused(line), "taken", "{line}");
    }
}

#[test]
fn arguments_mean_what_they_mean_to_tor() {
    let line = format!(
        "ADD_ONION NEW:BEST Flags=V3Auth,DiscardPK Port=80 Port=81,unix:/a \
         ClientAuthV3={CLIENT} ClientAuthV3={CLIENT}\r\n"
    );
    let Ok(Command::AddOnion(onion)) = read(line.as_bytes()) else {
        panic!("an onion service");
    };
    assert!(onion.discard_key && !onion.detach);
    assert_eq!(onion.clients.len(), 2);
    let ports: Vec<String> = onion.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["80,127.0.0.1:80", "81,unix:/a"]);
    let Ok(Command::ExtendCircuit(extend)) = read(b"EXTENDCIRCUIT 0 a,$00 purpose=Controller\r\n")
    else {
        panic!("a circuit");
    };
    assert_eq!(extend.purpose, Some(CircuitPurpose::Controller));
    assert_eq!(extend.path, ["a", "$00"]);
    assert_eq!(extend.servers(), Err(Refusal::Router("$00".to_owned())));
    // `tor` 0.4.9.11 answers each of these with the name of the relay that is not there.
    for (line, unknown) in [
        ("EXTENDCIRCUIT 0 ,purpose= 0\r\n", ""),
        ("EXTENDCIRCUIT 0 ,a\r\n", ""),
        ("EXTENDCIRCUIT 0 a-b\x0c\r\n", "a-b"),
        ("EXTENDCIRCUIT 0 pur-pose=\r\n", "pur-pose"),
    ] {
        let Ok(Command::ExtendCircuit(extend)) = read(line.as_bytes()) else {
            panic!("taken: {line}");
        };
        assert_eq!(extend.servers(), Err(Refusal::Router(unknown.to_owned())));
    }
    let named = read(b"EXTENDCIRCUIT 0 purpose\r\n");
    let path = vec!["purpose".to_owned()];
    let (circuit, purpose) = ("0".to_owned(), None);
    let expected = ExtendCircuit {
        circuit,
        path,
        purpose,
    };
    assert_eq!(named, Ok(Command::ExtendCircuit(expected)));
    let set = read(b"SETCIRCUITPURPOSE x purpose=foo\r\n");
    let expected = SetCircuitPurpose {
        circuit: "x".to_owned(),
        purpose: Err("foo".to_owned()),
    };
    assert_eq!(set, Ok(Command::SetCircuitPurpose(expected)));
}

#[test]
fn relays_are_named_in_four_ways() {
    let id = "9695DFC35FFEB861329B9F1AB04C46397020CE31";
    for text in [
        format!("${id}"),
        id.to_owned(),
        format!("${id}~moria1"),
        format!("${id}=moria1"),
    ] {
        let server = ServerSpec::parse(&text).unwrap();
        assert!(matches!(&server, ServerSpec::Fingerprint(found, _) if found.to_string() == id));
    }
    assert_eq!(ServerSpec::parse("moria1").unwrap().to_string(), "moria1");
    for bad in ["", "$00", "a b", "moria1~x", "12345678901234567890", "a-b"] {
        assert_eq!(ServerSpec::parse(bad), None, "{bad}");
    }
}

#[test]
fn lists_are_bounded() {
    let many = |word: &str, count: usize| format!(" {word}").repeat(count);
    let ports = format!("ADD_ONION NEW:BEST{}", many("Port=80", ONION_PORTS_MAX));
    assert_eq!(refused(&ports), "taken");
    assert_eq!(
        refused(&format!("{ports} Port=80")),
        "512 Too many 'Port' arguments"
    );
    let client = format!("ClientAuthV3={CLIENT}");
    let clients = many(&client, ONION_CLIENTS_MAX + 1);
    let line = format!("ADD_ONION NEW:BEST Flags=V3Auth Port=80{clients}");
    assert_eq!(refused(&line), "512 Too many 'ClientAuthV3' arguments");
    let keys = format!("GETINFO{}", many("a", crate::text::ARGUMENTS_MAX + 1));
    assert!(refused(&keys).starts_with("512 Bad arguments to GETINFO: Cannot accept more than"));
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[A-Za-z0-9/_.:~$-]{1,12}", 0..5)
}

fn setting() -> impl Strategy<Value = Setting> {
    ("[A-Za-z_]{1,12}", "[^\0]{0,20}").prop_map(|(key, value)| Setting { key, value })
}

fn onion_address(seed: [u8; 32]) -> OnionAddress {
    OnionAddress::new(&ed25519::Keypair::from_seed(&seed).public()).unwrap()
}

fn onion_port() -> impl Strategy<Value = OnionPort> {
    let target = prop_oneof![
        (any::<std::net::IpAddr>(), 1..=u16::MAX)
            .prop_map(|(ip, port)| OnionTarget::Tcp((ip, port).into())),
        "/[a-z/]{1,12}".prop_map(|path| OnionTarget::Unix(path.into())),
    ];
    (1..=u16::MAX, target).prop_map(|(virtual_port, target)| OnionPort {
        virtual_port,
        target,
    })
}

fn add_onion() -> impl Strategy<Value = Command> {
    let key = any::<Option<[u8; 32]>>().prop_map(|seed| match seed {
        None => OnionKey::New,
        Some(seed) => OnionKey::Ed25519V3(ed25519::Keypair::from_seed(&seed).expand().to_bytes()),
    });
    let ports = prop::collection::vec(onion_port(), 1..4);
    let clients = prop::collection::vec(any::<[u8; 32]>(), 0..3);
    let pow = any::<(bool, Option<u32>, Option<u32>)>();
    (key, any::<[bool; 4]>(), any::<u16>(), ports, clients, pow).prop_map(
        |(key, flags, max_streams, ports, clients, pow)| {
            Command::AddOnion(Box::new(AddOnion {
                key,
                discard_key: flags[0],
                detach: flags[1],
                non_anonymous: flags[2],
                max_streams_close_circuit: flags[3],
                max_streams,
                ports,
                clients: clients
                    .into_iter()
                    .map(curve25519::PublicKey::from)
                    .collect(),
                pow_defenses: pow.0,
                pow_queue_rate: pow.1,
                pow_queue_burst: pow.2,
            }))
        },
    )
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec("[ -~]{0,8}", 0..5)
        .prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
}

fn on_onions() -> impl Strategy<Value = Command> {
    let servers = || prop::collection::vec("[A-Za-z0-9]{1,19}", 0..3);
    let add = (
        any::<[u8; 32]>(),
        prop::option::of("[a-z0-9]{1,16}"),
        any::<bool>(),
    );
    prop_oneof![
        add_onion(),
        any::<[u8; 32]>().prop_map(|seed| Command::DelOnion(onion_address(seed))),
        (any::<[u8; 32]>(), servers()).prop_map(|(seed, servers)| {
            Command::HsFetch(HsFetch {
                address: onion_address(seed),
                servers,
            })
        }),
        (any::<[u8; 32]>(), servers(), text()).prop_map(|(seed, servers, descriptor)| {
            Command::HsPost(HsPost {
                address: onion_address(seed),
                servers,
                descriptor,
            })
        }),
        add.prop_map(|(seed, client_name, is_permanent)| {
            Command::OnionClientAuthAdd(ClientAuthAdd {
                address: onion_address(seed),
                key: Zeroizing::new(seed),
                client_name,
                is_permanent,
            })
        }),
        any::<[u8; 32]>().prop_map(|seed| Command::OnionClientAuthRemove(onion_address(seed))),
        any::<Option<[u8; 32]>>()
            .prop_map(|seed| Command::OnionClientAuthView(seed.map(onion_address))),
    ]
}

fn on_circuits() -> impl Strategy<Value = Command> {
    let purposes = &[CircuitPurpose::General, CircuitPurpose::Controller];
    let id = "[0-9]{1,6}";
    prop_oneof![
        (
            id,
            prop::collection::vec("[A-Za-z0-9$~]{1,20}", 1..4),
            prop::option::of(one_of(purposes))
        )
            .prop_map(|(circuit, path, purpose)| {
                Command::ExtendCircuit(ExtendCircuit {
                    circuit,
                    path,
                    purpose,
                })
            }),
        (id, one_of(purposes)).prop_map(|(circuit, purpose)| {
            Command::SetCircuitPurpose(SetCircuitPurpose {
                circuit,
                purpose: Ok(purpose),
            })
        }),
        (id, id, prop::option::of("[0-9]{1,3}")).prop_map(|(stream, circuit, hop)| {
            Command::AttachStream(AttachStream {
                stream,
                circuit,
                hop,
            })
        }),
        (id, "[a-z.]{1,9}", prop::option::of("[0-9]{1,5}")).prop_map(|(stream, address, port)| {
            Command::RedirectStream(RedirectStream {
                stream,
                address,
                port,
            })
        }),
        (id, "[0-9]{1,3}")
            .prop_map(|(stream, reason)| Command::CloseStream(CloseStream { stream, reason })),
        (id, any::<bool>()).prop_map(|(circuit, if_unused)| {
            Command::CloseCircuit(CloseCircuit { circuit, if_unused })
        }),
        (any::<bool>(), prop::collection::vec("[a-z.]{1,9}", 0..4))
            .prop_map(|(is_reverse, names)| Command::Resolve(Resolve { is_reverse, names })),
        (
            prop::option::of(Just("bridge".to_owned())),
            any::<Option<bool>>(),
            text()
        )
            .prop_map(|(purpose, cache, descriptor)| {
                Command::PostDescriptor(PostDescriptor {
                    purpose,
                    cache,
                    descriptor,
                })
            }),
    ]
}

fn others() -> impl Strategy<Value = Command> {
    let mapping = ("[a-z0-9.:*]{1,9}", "[a-z0-9.:*]{0,9}");
    let mapping = mapping.prop_map(|(from, to)| Mapping { from, to });
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        prop::collection::vec(setting(), 0..4).prop_map(Command::SetConf),
        prop::collection::vec(setting(), 0..4).prop_map(Command::ResetConf),
        words().prop_map(Command::GetConf),
        words().prop_map(Command::GetInfo),
        text().prop_map(Command::LoadConf),
        prop::collection::btree_set(one_of(EventKind::ALL), 0..6)
            .prop_map(|events| Command::SetEvents(events.into_iter().collect())),
        bytes().prop_map(|secret| Command::Authenticate(Proof::Quoted(Zeroizing::new(secret)))),
        prop::collection::vec(any::<u8>(), 1..40)
            .prop_map(|secret| Command::Authenticate(Proof::Hex(Zeroizing::new(secret)))),
        any::<bool>().prop_map(Command::SaveConf),
        one_of(Signal::ALL).prop_map(Command::Signal),
        prop::collection::vec(mapping, 1..4).prop_map(Command::MapAddress),
        prop::collection::vec(one_of(Feature::ALL), 0..3).prop_map(Command::UseFeature),
        bytes().prop_map(Command::AuthChallenge),
        one_of(&[0_usize, 1, 2, 3, 4, 5, 6]).prop_map(|index| {
            [
                Command::Authenticate(Proof::Empty),
                Command::TakeOwnership,
                Command::DropOwnership,
                Command::ProtocolInfo,
                Command::DropGuards,
                Command::DropTimeouts,
                Command::Quit,
            ][index]
                .clone()
        }),
    ]
}

/// Secrets with line breaks cannot be sent in quotes: a line has none.
fn is_sendable(command: &Command) -> bool {
    let is_line = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    match command {
        Command::Authenticate(Proof::Quoted(secret)) => is_line(secret),
        Command::AuthChallenge(nonce) => is_line(nonce),
        _ => true,
    }
}

/// What lines of arguments are made of: each white space that someone trims, marks and words.
const PIECE: &str =
    "a| |\x0b|\x0c|[01é,=\t\r\"\\\\]|purpose(=general)?|mode=reverse|HOP=2|NEW:BEST";

/// Of all white space a form feed is the one that parts nothing and is trimmed all the same.
#[test]
fn form_feeds_are_taken_as_tor_takes_them() {
    for line in [
        "EXTENDCIRCUIT 0 a\x0cb",
        "EXTENDCIRCUIT 0 a\x0c foo=b",
        "EXTENDCIRCUIT 0 a b\x0cc=d",
        "EXTENDCIRCUIT 0 a b=c\x0c d=e",
        "SETCONF Nickname=q \x0cContactInfo=b",
        "SETCONF Nick\x0cname",
    ] {
        let (command, _) = line.split_once(' ').unwrap();
        let answer = format!("512 Bad arguments to {command}: Cannot parse keyword argument(s)");
        assert_eq!(refused(line), answer, "{line:?}");
    }
    assert_eq!(refused("SETCONF ContactInfo=a\x0cb"), "taken");
    assert_eq!(refused("GETINFO version\x0c"), "taken");
    let contact = |line: &str| match read(line.as_bytes()) {
        Ok(Command::SetConf(settings)) => settings[0].value.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(contact("SETCONF ContactInfo=c\x0c Nickname=x\r\n"), "c\x0c");
    assert_eq!(contact("SETCONF ContactInfo=c\x0c\r\n"), "c");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(command in prop_oneof![others(), on_circuits(), on_onions()]) {
        prop_assume!(is_sendable(&command));
        let bytes = command.encode();
        let end = bytes.iter().position(|byte| byte.is_ascii_whitespace()).unwrap();
        prop_assert_eq!(&bytes[..end], command.name().name().as_bytes());
        prop_assert_eq!(read(&bytes), Ok(command));
    }

    // Lines as a fuzzer makes them: all stands at any place, at the end of the line, too.
    #[test]
    fn what_is_taken_is_read_back(
        name in one_of(CommandName::ALL),
        pieces in prop::collection::vec(PIECE, 0..12),
    ) {
        let mut line = format!("{} {}\r\n", name.name(), pieces.concat());
        if name.name().starts_with('+') {
            line.push_str(".\r\n");
        }
        if let Ok(command) = read(line.as_bytes()) {
            prop_assert_eq!(read(&command.encode()), Ok(command), "{:?}", line);
        }
    }

    #[test]
    fn any_arguments_are_read_without_panic(
        name in one_of(CommandName::ALL),
        arguments: Vec<u8>,
        data: Vec<u8>,
    ) {
        let raw = crate::line::RawCommand {
            keyword: name.name().to_owned(),
            arguments: Zeroizing::new(arguments),
            data: name.name().starts_with('+').then(|| Zeroizing::new(data)),
        };
        if let Err(refusal) = Command::parse(&raw) {
            prop_assert!((510..=555).contains(&refusal.status()));
        }
    }

    #[test]
    fn truncated_commands_are_read_without_panic(
        command in prop_oneof![others(), on_circuits(), on_onions()],
        cut: prop::sample::Index,
    ) {
        let mut bytes = command.encode().to_vec();
        bytes.truncate(cut.index(bytes.len()));
        bytes.extend_from_slice(b"\r\n.\r\n");
        let mut reader = LineReader::new();
        reader.trust();
        reader.push(&bytes);
        while let Some(raw) = reader.next_command().unwrap() {
            let _ = Command::parse(&raw);
        }
    }

    #[test]
    fn keys_are_not_shown(seed: [u8; 32]) {
        let key = ed25519::Keypair::from_seed(&seed).expand().to_bytes();
        let mut onion = AddOnion { key: OnionKey::Ed25519V3(key), ..AddOnion::default() };
        onion.ports.push(OnionPort::parse("80").unwrap());
        let shown = format!("{:?}", Command::AddOnion(Box::new(onion)));
        prop_assert!(shown.contains("Ed25519V3, "));
    }
}
