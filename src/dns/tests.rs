//! Look-ups at name servers of our own, and what becomes of the files that name them.

use std::net::{Ipv4Addr, UdpSocket};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, PTR};

use super::*;

/// What a name server answers.
type Answered = Result<Option<RData>, ResponseCode>;

/// A name server, which gives each question of a name and a type this answer.
fn serving(mut answer: impl FnMut(&Name, RecordType) -> Answered + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            let asked = Message::from_vec(&packet[..len]).unwrap();
            let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
            let query = asked.queries[0].clone();
            match answer(&query.name, query.query_type) {
                Ok(data) => {
                    let record = |data| Record::from_rdata(query.name.clone(), 60, data);
                    reply.add_answers(data.map(record));
                }
                Err(code) => reply.metadata.response_code = code,
            }
            reply.queries.push(query);
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
        }
    });
    addr
}

/// One for which `a.example` is 192.0.2.1, 192.0.2.1 is `name`; names of `bad.` fail.
fn server(name: &'static str) -> SocketAddr {
    serving(move |asked, query_type| {
        let text = asked.to_ascii();
        match query_type {
            _ if text.starts_with("bad.") => Err(ResponseCode::ServFail),
            RecordType::A if text == "a.example." => {
                Ok(Some(RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))))
            }
            RecordType::PTR => {
                let labels = name.split('.').map(str::as_bytes);
                Ok(Some(RData::PTR(PTR(Name::from_labels(labels).unwrap()))))
            }
            _ => Ok(None),
        }
    })
}

#[tokio::test]
async fn the_hosts_file_is_read() {
    let answers = Resolver::new(&[], None)
        .addresses("localhost")
        .await
        .unwrap();
    let all = answers.iter().all(|answer| answer.value.is_loopback());
    assert!(all, "{answers:?}");
}

#[tokio::test]
async fn addresses_stand_for_themselves() {
    let answers = Resolver::new(&[], None).addresses("::1").await.unwrap();
    assert_eq!(answers[0].value, "::1".parse::<IpAddr>().unwrap());
}

#[test]
fn malformed_names_are_refused() {
    for name in [
        &*"a".repeat(300),
        "a..b",
        "a b.example",
        "a\u{1}b",
        "a\\b",
        "",
    ] {
        let read = full_name(name, DnsOptions::default());
        assert_eq!(read, Err(DnsError::Malformed), "{name:?}");
    }
}

#[tokio::test]
async fn servers_are_asked_and_what_becomes_of_it_is_counted() {
    let resolver = Resolver::new(&[server("page.example")], None);
    let answers = resolver.addresses("a.example").await.unwrap();
    assert_eq!(answers[0].value, IpAddr::from([192, 0, 2, 1]));
    let missing = resolver.addresses("b.example").await;
    assert_eq!(missing, Err(DnsError::NoSuchName));
    assert_eq!(
        resolver.addresses("bad.example").await,
        Err(DnsError::Temporary)
    );
    let name = resolver.name(IpAddr::from([192, 0, 2, 1])).await.unwrap();
    assert_eq!(name.value, "page.example");
    let counts = resolver.counts();
    assert_eq!(counts.asked, [("A", 3), ("AAAA", 3), ("PTR", 1)]);
    let count = |record: &str, reason: &str| {
        let mut rows = counts.outcomes.iter();
        rows.find(|row| (row.0, row.1) == (record, reason))
            .unwrap()
            .2
    };
    assert_eq!((count("A", "success"), count("PTR", "success")), (1, 1));
    assert_eq!((count("A", "nodata"), count("A", "serverfailed")), (1, 1));
}

#[tokio::test]
async fn a_name_that_no_host_has_is_not_passed_on() {
    for name in ["evil\r\nhost.example", "a b.example", "<script>.example"] {
        let resolver = Resolver::new(&[server(name)], None);
        let found = resolver.name(IpAddr::from([192, 0, 2, 1])).await;
        assert_eq!(found, Err(DnsError::NoSuchName), "{name:?}");
    }
}

#[tokio::test]
async fn the_file_of_servers_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, "").unwrap();
    let resolver = Resolver::with_files(&[], file.clone());
    assert!(resolver.addresses("a.example").await.is_err());
    let servers = |resolver: &Resolver| {
        let current = resolver.shared.lock();
        current
            .servers
            .iter()
            .map(SocketAddr::ip)
            .collect::<Vec<_>>()
    };
    assert_eq!(servers(&resolver), Vec::<IpAddr>::new());
    std::fs::write(
        &file,
        "search corp.example\nnameserver 127.0.0.9\nnameserver ::1\n",
    )
    .unwrap();
    // Not for each question anew.
    resolver.shared.follow(false);
    assert_eq!(servers(&resolver), Vec::<IpAddr>::new());
    resolver.shared.lock().looked -= FILES_EVERY;
    resolver.shared.follow(false);
    let expected = ["127.0.0.9", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(servers(&resolver), expected);
    // On SIGHUP at once, and all gone again.
    std::fs::remove_file(&file).unwrap();
    resolver.reload();
    assert_eq!(servers(&resolver), Vec::<IpAddr>::new());
}

/// Who asks again gets what was kept, with the same time to live, and no server hears of it.
#[tokio::test]
async fn answers_are_kept() {
    let resolver = Resolver::new(&[server("page.example")], None);
    let address = IpAddr::from([192, 0, 2, 1]);
    for _ in 0..3 {
        let answers = resolver.addresses("a.example").await.unwrap();
        assert_eq!((answers[0].value, answers[0].ttl_secs), (address, 60));
        let missing = resolver.addresses("b.example").await;
        assert_eq!(missing, Err(DnsError::NoSuchName));
        let failed = resolver.addresses("bad.example").await;
        assert_eq!(failed, Err(DnsError::Temporary));
        assert_eq!(resolver.name(address).await.unwrap().value, "page.example");
    }
    // A failure of the server alone is asked about again.
    let counts = resolver.counts();
    assert_eq!(counts.asked, [("A", 5), ("AAAA", 5), ("PTR", 1)]);
}

/// One that knows all names of `example.`, and tells what it is asked for.
fn listening_server() -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let (sender, asked_for) = std::sync::mpsc::channel();
    let addr = serving(move |asked, query_type| {
        let _ = sender.send(asked.to_string());
        let is_known = asked.to_lowercase().to_string().ends_with(".example.");
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
        Ok(Some(data).filter(|_| is_known && query_type == RecordType::A))
    });
    (addr, asked_for)
}

#[tokio::test]
async fn names_are_asked_for_as_the_operator_wants() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, "search corp.example\nnameserver 127.0.0.9\n").unwrap();
    let (server, asked_for) = listening_server();
    let resolver = Resolver::with_files(&[server], file);
    let usual = DnsOptions::default();
    let odd = "a@b.example";
    assert_eq!(resolver.addresses(odd).await, Err(DnsError::Malformed));
    assert!(resolver.addresses("host").await.is_err());
    let told = DnsOptions {
        searches: true,
        takes_odd_names: true,
        ..usual
    };
    resolver.set_options(told).unwrap();
    assert!(resolver.addresses("host").await.is_ok());
    assert!(resolver.addresses(odd).await.is_ok());
    let names: Vec<String> = asked_for.try_iter().collect();
    assert!(names.iter().any(|name| name == "host.corp.example."));
    assert!(
        names
            .iter()
            .any(|name| name.contains("a@b") || name.contains("a\\@b"))
    );
    let random = DnsOptions {
        randomizes_case: true,
        ..usual
    };
    resolver.set_options(random).unwrap();
    let long = "abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.example";
    assert!(resolver.addresses(long).await.is_ok());
    let names: Vec<String> = asked_for.try_iter().collect();
    assert!(names.iter().any(|name| name.to_lowercase() != *name));
}

#[tokio::test]
async fn a_relay_may_ask_for_a_name_server_to_be_there() {
    let nowhere = Path::new("/nowhere/resolv.conf");
    let resolver = Resolver::with_files(&[], nowhere.to_owned());
    let needs = DnsOptions {
        needs_servers: true,
        ..DnsOptions::default()
    };
    assert!(resolver.set_options(DnsOptions::default()).is_ok());
    assert!(resolver.set_options(needs).is_err());
    let resolver = Resolver::with_files(&[server("a")], nowhere.to_owned());
    assert!(resolver.set_options(needs).is_ok());
}
