//! Both ends of ours, with a web server that knows nothing of it between them.

use cepa_pt::Arguments;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::transports::State;

const CA: &[u8] = include_bytes!("../../../tests/vectors/web/ca.pem");
const CERT: &[u8] = include_bytes!("../../../tests/vectors/web/site.pem");
const KEY: &[u8] = include_bytes!("../../../tests/vectors/web/site.key");

fn arguments(pairs: &[(&str, &str)]) -> Arguments {
    let mut arguments = Arguments::default();
    for (key, value) in pairs {
        arguments.push(key, value).unwrap();
    }
    arguments
}

fn dialer(takes_internal: bool) -> Dialer {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CA).unwrap())
        .unwrap();
    Dialer::believing(roots, None, takes_internal).unwrap()
}

/// A relay that sends back what it gets.
async fn relay() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    addr
}

/// A door at a free port, which ends with what comes back beside its address.
async fn door(options: &Arguments, or_port: SocketAddr) -> (SocketAddr, watch::Sender<()>) {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let door = Door::new(listen, options, or_port).unwrap();
    let (sender, mut state) = watch::channel(State::Starting);
    let (stop, stopped) = watch::channel(());
    tokio::spawn(door.run("webtunnel".parse().unwrap(), sender, stopped));
    let serves = |state: &State| matches!(state, State::Serving(_));
    state.wait_for(serves).await.unwrap();
    (listen, stop)
}

/// The web server of a site: TLS, and then what it is given.
async fn site(behind: SocketAddr) -> SocketAddr {
    let cert = CertificateDer::from_pem_slice(CERT).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await?;
                let mut tcp = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut tls, &mut tcp).await
            });
        }
    });
    addr
}

/// What comes back of a million bytes.
async fn echoed(mut tcp: TcpStream) -> bool {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut got = vec![0; sent.len()];
    let (mut read, mut write) = tcp.split();
    let (wrote, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
    wrote.is_ok() && read.is_ok() && got == sent
}

#[test]
fn addresses_are_made_up() {
    let [one, other] = ["url=https://a/b", "url=https://a/c"].map(made_up);
    assert_ne!(one, other);
    assert!(one.to_string().starts_with("[2001:db8:"), "{one}");
}

#[tokio::test]
async fn a_link_goes_through_a_web_site() {
    let options = arguments(&[("url", "https://site.example/secret")]);
    let (behind, _stop) = door(&options, relay().await).await;
    let port = site(behind).await.port();
    let url = format!("https://127.0.0.1:{port}/secret");
    let named = arguments(&[("url", &url), ("servername", "site.example")]);
    let tcp = dialer(true).dial(&Site::of(&named).unwrap()).await.unwrap();
    assert!(echoed(tcp).await);
    let another = arguments(&[("url", &url), ("servername", "other.example")]);
    let failure = dialer(true).dial(&Site::of(&another).unwrap()).await;
    let failure = failure.unwrap_err().to_string();
    assert!(failure.contains("certificate"), "{failure}");
}

#[tokio::test]
async fn who_does_not_know_the_path_finds_a_web_server() {
    let options = arguments(&[("url", "http://site.example/secret")]);
    let (addr, stop) = door(&options, relay().await).await;
    let url =
        |path: &str| Site::of(&arguments(&[("url", &format!("http://{addr}{path}"))])).unwrap();
    assert!(echoed(dialer(true).dial(&url("/secret")).await.unwrap()).await);
    let failure = dialer(true)
        .dial(&url("/other"))
        .await
        .unwrap_err()
        .to_string();
    assert!(failure.contains("404"), "{failure}");
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    for (ask, expected) in [
        ("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
        (
            format!("POST /secret HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"),
            "404",
        ),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"), "404"),
        (
            format!("GET /secret HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"),
            "101",
        ),
        (
            "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03\r\n\r\n".to_owned(),
            "400",
        ),
        (
            format!("GET /secret HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
            "4",
        ),
    ] {
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        let _ = tcp.write_all(ask.as_bytes()).await;
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(tcp.read_u8().await.unwrap());
        }
        let got = String::from_utf8_lossy(&got);
        let start = format!("HTTP/1.1 {expected}");
        assert!(got.starts_with(&start), "{got} {ask:?}");
        // A client of Debian's wants this word alone.
        let closes = got.contains("connection: close");
        assert_eq!(closes, expected != "101", "{got}");
    }
    drop(stop);
    let mut idle = TcpStream::connect(addr).await;
    while idle.is_ok() {
        tokio::task::yield_now().await;
        idle = TcpStream::connect(addr).await;
    }
}

#[tokio::test]
async fn a_site_that_is_no_bridge_is_told() {
    for (answer, word) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        ("SSH-2.0-OpenSSH_9\r\n", ""),
        ("", ""),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let site = Site::of(&arguments(&[("url", &url)])).unwrap();
        let serve = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = tcp.read(&mut head).await;
            let _ = tcp.write_all(answer.as_bytes()).await;
        };
        let dialer = dialer(true);
        let (dialed, ()) = tokio::join!(dialer.dial(&site), serve);
        // What a site sends after 101 is the link's matter.
        if let Err(failure) = dialed {
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_line_leads_to_no_private_network() {
    let site = Site::of(&arguments(&[("url", "http://127.0.0.1:9/")])).unwrap();
    let failure = dialer(false).dial(&site).await.unwrap_err().to_string();
    assert!(failure.contains("private"), "{failure}");
}
