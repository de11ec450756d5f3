//! Links that leave through a proxy: SOCKS 4, SOCKS 5, HTTP CONNECT, and what takes the header of
//! the PROXY protocol (`Socks4Proxy`, `Socks5Proxy`, `HTTPSProxy`, `TCPProxy haproxy`). The
//! proxy is told addresses, never names; its own name is looked up each time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use cepa_pt::{Arguments, SocksVersion};
use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};
use zeroize::Zeroizing;

/// The longest answer of an HTTP proxy before its blank line.
const HEAD_LEN_MAX: usize = 8 << 10;

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Socks4,
    Socks5,
    Http,
    /// It is told the target, and says nothing.
    Haproxy,
}

/// A proxy for links to relays.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    protocol: Protocol,
    /// Its host and port.
    place: String,
    /// A name and a password, if it asks for them.
    credentials: Option<(String, Zeroizing<String>)>,
}

/// A text that names no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a proxy")]
pub struct BadProxy;

impl Proxy {
    /// What is expected of a text that names one.
    pub const EXPECTED: &'static str = "socks5://HOST:PORT, socks5://USER:PASSWORD@HOST:PORT, \
        socks4://HOST:PORT, http://HOST:PORT, http://USER:PASSWORD@HOST:PORT or \
        haproxy://HOST:PORT";

    /// Its host and port.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// A transport that is spoken there, and what it is told for this connection (pt-spec 3.5).
    pub(crate) fn transport(
        version: SocksVersion,
        addr: SocketAddr,
        arguments: &Arguments,
    ) -> Self {
        let secret = |(user, password)| (user, Zeroizing::new(password));
        let (protocol, credentials) = match version {
            SocksVersion::V4 if arguments.is_empty() => (Protocol::Socks4, None),
            SocksVersion::V4 => (Protocol::Socks4, Some((arguments.socks4(), String::new()))),
            SocksVersion::V5 => (Protocol::Socks5, arguments.socks5()),
        };
        Proxy {
            protocol,
            place: addr.to_string(),
            credentials: credentials.map(secret),
        }
    }

    /// As it is written, with its password.
    pub(crate) fn url(&self) -> Zeroizing<String> {
        let scheme = match self.protocol {
            Protocol::Socks4 => "socks4a",
            Protocol::Socks5 => "socks5",
            Protocol::Http => "http",
            Protocol::Haproxy => "haproxy",
        };
        let place = &self.place;
        Zeroizing::new(match &self.credentials {
            Some((user, password)) => format!("{scheme}://{user}:{}@{place}", **password),
            None => format!("{scheme}://{place}"),
        })
    }

    /// Makes of a connection to the proxy one to `target`.
    pub(crate) async fn ask(&self, tcp: TcpStream, target: SocketAddr) -> io::Result<TcpStream> {
        let socks = |error: tokio_socks::Error| io::Error::other(format!("the proxy: {error}"));
        let credentials = self.credentials.as_ref();
        match (self.protocol, credentials) {
            (Protocol::Socks4, Some((user, _))) => {
                let asked = Socks4Stream::connect_with_userid_and_socket(tcp, target, user);
                Ok(asked.await.map_err(socks)?.into_inner())
            }
            (Protocol::Socks4, None) => {
                let asked = Socks4Stream::connect_with_socket(tcp, target).await;
                Ok(asked.map_err(socks)?.into_inner())
            }
            (Protocol::Socks5, None) => {
                let asked = Socks5Stream::connect_with_socket(tcp, target).await;
                Ok(asked.map_err(socks)?.into_inner())
            }
            (Protocol::Socks5, Some((user, password))) => {
                let asked =
                    Socks5Stream::connect_with_password_and_socket(tcp, target, user, password);
                Ok(asked.await.map_err(socks)?.into_inner())
            }
            (Protocol::Http, credentials) => http(tcp, target, credentials).await,
            (Protocol::Haproxy, _) => {
                let mut tcp = tcp;
                tcp.write_all(haproxy(target).as_bytes()).await?;
                Ok(tcp)
            }
        }
    }
}

/// The header of the PROXY protocol, version 1, as `tor` writes it: who connects is not told.
fn haproxy(target: SocketAddr) -> String {
    let (family, nowhere) = match target {
        SocketAddr::V4(_) => ("TCP4", "0.0.0.0"),
        SocketAddr::V6(_) => ("TCP6", "::"),
    };
    let (ip, port) = (target.ip(), target.port());
    format!("PROXY {family} {nowhere} {ip} 0 {port}\r\n")
}

/// Asks an HTTP proxy for a connection (RFC 9110, section 9.3.6).
async fn http(
    mut tcp: TcpStream,
    target: SocketAddr,
    credentials: Option<&(String, Zeroizing<String>)>,
) -> io::Result<TcpStream> {
    let mut head = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some((user, password)) = credentials {
        let both = Zeroizing::new(format!("{user}:{}", **password));
        let both = Zeroizing::new(BASE64.encode(both.as_bytes()));
        head.push_str("Proxy-Authorization: Basic ");
        head.push_str(&both);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    tcp.write_all(head.as_bytes()).await?;
    // A byte at a time: what comes behind the head is TLS's.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == HEAD_LEN_MAX {
            return Err(io::Error::other("the proxy: its answer does not end"));
        }
        answer.push(tcp.read_u8().await?);
    }
    let line = answer.split(|byte| *byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next() {
        Some("200") if is_http => Ok(tcp),
        _ => Err(io::Error::other(format!(
            "the proxy: {}",
            line.escape_default()
        ))),
    }
}

impl FromStr for Proxy {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let (scheme, rest) = text.split_once("://").ok_or(BadProxy)?;
        let protocol = match scheme {
            "socks4" => Protocol::Socks4,
            "socks5" => Protocol::Socks5,
            "http" => Protocol::Http,
            "haproxy" => Protocol::Haproxy,
            _ => return Err(BadProxy),
        };
        let (credentials, place) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((both, place)) => {
                let (user, password) = both.split_once(':').ok_or(BadProxy)?;
                // As a SOCKS 5 server is told them (RFC 1929).
                let fits = [user, password].map(|word| (1..=255).contains(&word.len()));
                let asks_nobody = [Protocol::Socks4, Protocol::Haproxy].contains(&protocol);
                if asks_nobody || fits.contains(&false) {
                    return Err(BadProxy);
                }
                let password = Zeroizing::new(password.to_owned());
                (Some((user.to_owned(), password)), place)
            }
        };
        let (host, port) = place.rsplit_once(':').ok_or(BadProxy)?;
        let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_host || port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(BadProxy);
        }
        Ok(Proxy {
            protocol,
            place: place.to_owned(),
            credentials,
        })
    }
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy {:?} {}", self.protocol, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read() {
        for right in [
            "socks4://127.0.0.1:1",
            "socks5://[::1]:1080",
            "socks5://a:b:c@proxy.example:1080",
            "http://u:p@10.0.0.1:8080",
            "haproxy://10.0.0.1:8080",
        ] {
            let proxy: Proxy = right.parse().unwrap();
            assert!(!format!("{proxy:?}").contains("b:c"), "{right}");
        }
        for wrong in [
            "",
            "10.0.0.1:8080",
            "https://10.0.0.1:8080",
            "socks5://10.0.0.1",
            "socks5://10.0.0.1:0",
            "socks5://a@10.0.0.1:1",
            "socks5://:b@10.0.0.1:1",
            "socks4://a:b@10.0.0.1:1",
            "haproxy://a:b@10.0.0.1:1",
            "http://:8080",
        ] {
            assert_eq!(wrong.parse::<Proxy>(), Err(BadProxy), "{wrong}");
        }
    }

    #[tokio::test]
    async fn haproxy_is_told_the_target() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let proxy: Proxy = format!("haproxy://{place}").parse().unwrap();
        let tcp = TcpStream::connect(proxy.place()).await.unwrap();
        let target = "192.0.2.9:443".parse().unwrap();
        let mut tcp = proxy.ask(tcp, target).await.unwrap();
        tcp.write_all(b"TLS").await.unwrap();
        drop(tcp);
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut told = String::new();
        peer.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "PROXY TCP4 0.0.0.0 192.0.2.9 0 443\r\nTLS");
        let v6 = haproxy("[2001:db8::1]:9001".parse().unwrap());
        assert_eq!(v6, "PROXY TCP6 :: 2001:db8::1 0 9001\r\n");
    }

    /// What an HTTP proxy that answers so is asked, and what becomes of it.
    async fn asked(answer: &str, proxy: &str) -> (String, io::Result<TcpStream>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let proxy: Proxy = proxy.replace("PLACE", &place).parse().unwrap();
        let serve = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(peer.read_u8().await.unwrap());
            }
            peer.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let target = "192.0.2.7:9001".parse().unwrap();
        let tcp = TcpStream::connect(proxy.place()).await.unwrap();
        tokio::join!(serve, proxy.ask(tcp, target))
    }

    #[tokio::test]
    async fn http_proxies_are_asked_and_believed() {
        let answer = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nTLS";
        let (head, connected) = asked(answer, "http://user:pass@PLACE").await;
        assert!(
            head.starts_with("CONNECT 192.0.2.7:9001 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n"),
            "{head}"
        );
        let mut behind = [0; 3];
        connected.unwrap().read_exact(&mut behind).await.unwrap();
        assert_eq!(&behind, b"TLS");
        let refused = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        let (_, refused) = asked(refused, "http://PLACE").await;
        assert!(refused.unwrap_err().to_string().contains("407"));
        let endless = "a".repeat(HEAD_LEN_MAX + 1);
        let (_, endless) = asked(&endless, "http://PLACE").await;
        assert!(endless.unwrap_err().to_string().contains("end"));
    }
}
