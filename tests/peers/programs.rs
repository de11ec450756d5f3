//! The exact words of programs that are not here (Bitcoin Core, LND, Core Lightning, Tor Browser,
//! Briar, Ricochet), said to `tor` and to ours on one network of ours: the replies have to be the
//! same, field by field.
//!
//! Words that are another each time (addresses, keys, numbers, quoted texts) are compared by their
//! kind. `{…}` in a line stands for what the daemon or an earlier reply has said.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cepa_control::auth::HashedPassword;
use cepa_crypto::digest::hmac_sha256;
use cepa_crypto::{Rng, encoding};

use crate::support::Steps;
use crate::support::network::{CEPA, Network};
use crate::tor::{Tor, is_tor_here};

/// How long a daemon may take to bootstrap.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long a reply may take.
const REPLY_MAX: Duration = Duration::from_secs(30);
const PASSWORD: &str = "se cret";
/// The key of a client of an onion service.
const CLIENT_KEY: &str = "GLDQQpfrLvMaFEf6YCsY1AVqkzwFySPSYy0K2GVMSE4=";
const SERVICE: &str = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd";

/// A program, what it says, and where ours may say another thing.
struct Program {
    name: &'static str,
    says: &'static [&'static str],
    /// Lines that are not compared, and why.
    apart: &'static [(&'static str, &'static str)],
}

const NONE: &[(&str, &str)] = &[];

const PROGRAMS: [Program; 6] = [
    Program {
        name: "Bitcoin Core",
        says: &[
            "PROTOCOLINFO 1",
            "AUTHCHALLENGE SAFECOOKIE {nonce}",
            "AUTHENTICATE {proof}",
            "GETINFO net/listeners/socks",
            "ADD_ONION NEW:ED25519-V3 Port=8333,127.0.0.1:8334 PoWDefensesEnabled=1",
            "ADD_ONION NEW:ED25519-V3 Port=8333,127.0.0.1:8334",
        ],
        apart: &[(
            "PoWDefensesEnabled",
            "ours has no proof of work: 512, and it asks again",
        )],
    },
    Program {
        name: "LND",
        says: &[
            "PROTOCOLINFO 1",
            "AUTHCHALLENGE SAFECOOKIE {nonce}",
            "AUTHENTICATE {proof}",
            "ADD_ONION NEW:ED25519-V3 Port=9735,9735 ",
            "GETINFO onions/current",
            "DEL_ONION {onion}",
            "GETINFO onions/current",
            "DEL_ONION {onion}",
        ],
        apart: NONE,
    },
    Program {
        name: "Core Lightning",
        says: &[
            "PROTOCOLINFO 1",
            "AUTHENTICATE {cookie}",
            "ADD_ONION NEW:ED25519-V3 Port=9735,127.0.0.1:9735",
            "ADD_ONION {key} Port=9735,127.0.0.1:9735 Flags=DiscardPK,Detach",
            "DEL_ONION {onion}",
            "ADD_ONION NEW:ED25519-V3 Port=9735,127.0.0.1:9735 Flags=DiscardPK,Detach",
            "DEL_ONION {onion}",
            "QUIT",
        ],
        apart: NONE,
    },
    Program {
        name: "Tor Browser",
        says: &[
            "AUTHENTICATE {password}",
            "TAKEOWNERSHIP",
            "RESETCONF __OwningControllerProcess",
            "SETEVENTS CIRC STREAM",
            "SETEVENTS STATUS_CLIENT NOTICE WARN ERR",
            "GETINFO status/bootstrap-phase",
            "GETINFO ns/id/{relay}",
            "GETINFO ns/id/0000000000000000000000000000000000000000",
            "GETINFO ip-to-country/127.0.0.1",
            "GETINFO ip-to-country/8.8.8.8",
            "GETINFO hs/x",
            "GETINFO hs/client/desc/id/abc",
            "GETINFO hs/client/desc/id/\
             25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid",
            "GETINFO hs/service/desc/id/\
             25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion",
            "GETINFO hs/service/desc/id/\
             25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid",
            "GETCONF Bridge",
            "GETCONF ClientTransportPlugin",
            "GETCONF UseBridges",
            "SETCONF UseBridges=0 Bridge",
            "SETCONF Socks4Proxy Socks5Proxy Socks5ProxyUsername Socks5ProxyPassword HTTPSProxy \
             HTTPSProxyAuthenticator",
            "SETCONF ReachableAddresses",
            "SETCONF DisableNetwork=0",
            "GETCONF DisableNetwork",
            "GETCONF Socks5Proxy",
            "SAVECONF",
            "SIGNAL NEWNYM",
            "ONION_CLIENT_AUTH_ADD {service} x25519:{client} Flags=Permanent",
            "ONION_CLIENT_AUTH_ADD {service} x25519:{client}",
            "ONION_CLIENT_AUTH_ADD {service} x25519:{client}",
            "ONION_CLIENT_AUTH_VIEW {service}",
            "ONION_CLIENT_AUTH_REMOVE {service}",
            "ONION_CLIENT_AUTH_REMOVE {service}",
            "ONION_CLIENT_AUTH_VIEW",
            "DROPOWNERSHIP",
        ],
        apart: NONE,
    },
    Program {
        name: "Briar",
        says: &[
            "AUTHENTICATE {cookie}",
            "TAKEOWNERSHIP",
            "RESETCONF __OwningControllerProcess",
            "SETEVENTS CIRC ORCONN STATUS_GENERAL STATUS_CLIENT HS_DESC NOTICE WARN ERR",
            "GETINFO status/bootstrap-phase",
            "GETINFO status/circuit-established",
            "ADD_ONION NEW:V3 Port=80,127.0.0.1:8080",
            "ADD_ONION NEW:ED25519-V3 Port=80,127.0.0.1:8080",
            "DEL_ONION {onion}",
            "SETCONF UseBridges=0",
            "SETCONF DisableNetwork=1",
            "GETCONF DisableNetwork",
            "SETCONF DisableNetwork=0",
            "DROPOWNERSHIP",
        ],
        apart: NONE,
    },
    Program {
        name: "Ricochet",
        says: &[
            "AUTHENTICATE {password}",
            "GETINFO version",
            "SETEVENTS STATUS_CLIENT HS_DESC",
            "GETCONF DisableNetwork",
            "SETCONF DisableNetwork=0",
            "GETINFO net/listeners/socks",
            "ADD_ONION NEW:ED25519-V3 Flags=DiscardPK Port=9878,127.0.0.1:8080",
            "DEL_ONION {onion}",
            "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=9878,127.0.0.1:8080 \
             ClientAuthV3=FGTORMIDKR7T2PR632HSHLUA4G6HF5TCWSGMHUUWU4LWBEFTVVRQ",
            "DEL_ONION {onion}",
            "ADD_ONION NEW:ED25519-V3 Flags=MaxStreamsCloseCircuit MaxStreams=4 \
             Port=9878,127.0.0.1:8080",
            "DEL_ONION {onion}",
            "ADD_ONION NEW:ED25519-V3 Flags=NonAnonymous Port=9878,127.0.0.1:8080",
            "ONION_CLIENT_AUTH_ADD {service} x25519:{client} ClientName=bob",
            "ONION_CLIENT_AUTH_VIEW",
            "ONION_CLIENT_AUTH_REMOVE {service}",
        ],
        apart: &[(
            "GETINFO version",
            "the number is tor's, with our name behind it",
        )],
    },
];

#[test]
fn programs_are_answered_as_by_tor() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &["--clients", "0"]);
    let ours = dir.path().join("tor");
    symlink(CEPA, &ours).unwrap();
    let relay = network.nodes("relay")[0].rsa.clone().unwrap();
    let theirs = Daemon::start(Path::new("tor"), &network, "theirs", &relay);
    let ours = Daemon::start(&ours, &network, "ours", &relay);
    let mut steps = Steps::default();
    for program in &PROGRAMS {
        steps.step(program.name, || {
            let both = [&theirs, &ours].map(|daemon| daemon.talk(program.says));
            let mut differences = Vec::new();
            for (place, said) in program.says.iter().enumerate() {
                let [theirs, ours] = both.each_ref().map(|talk| talk.get(place));
                let is_apart = program.apart.iter().any(|(word, _)| said.contains(word));
                if theirs != ours && !is_apart {
                    differences.push(format!("{said}\n  tor:  {theirs:?}\n  ours: {ours:?}"));
                }
            }
            assert!(differences.is_empty(), "{}", differences.join("\n"));
        });
    }
    steps.finish(|| network.show_logs());
}

/// A daemon with a control port.
struct Daemon {
    _process: Tor,
    port: String,
    cookie: Vec<u8>,
    relay: String,
}

impl Daemon {
    fn start(program: &Path, network: &Network, name: &str, relay: &str) -> Self {
        let dir = network.folder.join(name);
        std::fs::create_dir(&dir).unwrap();
        // It may be saved.
        let torrc = dir.join("torrc");
        std::fs::copy(network.folder.join("torrc"), &torrc).unwrap();
        let mut rng = Rng::from_seed([7; 32]);
        let hash = HashedPassword::new(PASSWORD.as_bytes(), &mut rng).encode();
        let (data, port, cookie) = (dir.join("data"), dir.join("port"), dir.join("cookie"));
        let mut command = Command::new(program);
        let command = command.arg("-f").arg(torrc);
        let command = command.args(["--SocksPort", "auto", "--ControlPort", "auto"]);
        let command = command.args(["--CookieAuthentication", "1"]);
        let command = command.args(["--HashedControlPassword", &hash]);
        let command = command.arg("--DataDirectory").arg(data);
        let command = command.arg("--ControlPortWriteToFile").arg(&port);
        let command = command.arg("--CookieAuthFile").arg(&cookie);
        let mut process = Tor::run(command.args(["--Log", "notice stdout"]));
        process.wait_for("Bootstrapped 100%", READY_MAX);
        let port = std::fs::read_to_string(port).unwrap();
        Daemon {
            _process: process,
            port: port.trim().trim_start_matches("PORT=").to_owned(),
            cookie: std::fs::read(cookie).unwrap(),
            relay: relay.to_owned(),
        }
    }

    /// The kinds of the replies to these lines.
    fn talk(&self, says: &[&str]) -> Vec<Vec<String>> {
        let stream = TcpStream::connect(&self.port).unwrap();
        stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut known: BTreeMap<&str, String> = BTreeMap::from([
            ("nonce", "A".repeat(64)),
            ("cookie", encoding::hex_upper(&self.cookie)),
            ("password", encoding::hex_upper(PASSWORD.as_bytes())),
            ("client", CLIENT_KEY.to_owned()),
            ("service", SERVICE.to_owned()),
            ("relay", self.relay.clone()),
        ]);
        let mut replies = Vec::new();
        for line in says {
            let mut line = (*line).to_owned();
            for (name, value) in &known {
                line = line.replace(&format!("{{{name}}}"), value);
            }
            let bytes = format!("{line}\r\n");
            stream.get_mut().write_all(bytes.as_bytes()).unwrap();
            let reply = read_reply(&mut stream);
            for line in &reply {
                self.learn(line, &mut known);
            }
            replies.push(reply.iter().map(|line| kind(line)).collect());
        }
        replies
    }

    /// Keeps what later lines need.
    fn learn(&self, line: &str, known: &mut BTreeMap<&str, String>) {
        if let Some(id) = line.strip_prefix("250-ServiceID=") {
            known.insert("onion", id.to_owned());
        }
        if let Some(key) = line.strip_prefix("250-PrivateKey=") {
            known.insert("key", key.to_owned());
        }
        if let Some((_, nonce)) = line.split_once("SERVERNONCE=") {
            let nonces = ["A".repeat(64), nonce.to_owned()];
            let nonces = nonces.map(|hex| encoding::hex_decode(&hex).unwrap());
            let text = [&self.cookie[..], &nonces.concat()].concat();
            let key = b"Tor safe cookie authentication controller-to-server hash";
            known.insert("proof", encoding::hex_upper(&hmac_sha256(key, &text)));
        }
    }
}

/// One reply, without its line ends, events left out.
fn read_reply(stream: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut is_data, mut is_event) = (false, false);
    loop {
        let mut line = String::new();
        let len = stream.read_line(&mut line).unwrap();
        assert!(len > 0, "hung up: {lines:?}");
        let line = line.trim_end().to_owned();
        if is_data {
            is_data = line != ".";
        } else {
            is_event = line.starts_with("650");
            is_data = line.get(3..4) == Some("+");
            if !is_event && line.get(3..4) == Some(" ") {
                lines.push(line);
                return lines;
            }
        }
        if !is_event {
            lines.push(line);
        }
    }
}

/// A line with what is another each time by its kind.
fn kind(line: &str) -> String {
    let (code, rest) = line.split_at(4.min(line.len()));
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mut text = code.to_owned();
    let mut rest = rest;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, behind) = rest.split_at(len);
        // What is longer than a name is a key in base64, whose end is padded.
        match word
            .split_once('=')
            .filter(|(name, value)| name.len() < 27 && !value.is_empty())
        {
            Some((key, value)) if first != '"' => text += &format!("{key}={}", kind_of(value)),
            _ => text += &kind_of(word),
        }
        rest = behind;
    }
    text
}

fn kind_of(word: &str) -> String {
    let is = |test: fn(&char) -> bool| word.chars().all(|c| test(&c));
    match word.len() {
        _ if word.starts_with('"') => "TEXT".to_owned(),
        _ if is(char::is_ascii_digit) => "NUMBER".to_owned(),
        40.. if is(char::is_ascii_hexdigit) => "HEX".to_owned(),
        56 if is(|c| c.is_ascii_lowercase() || ('2'..='7').contains(c)) => "ONION".to_owned(),
        27.. => "KEY".to_owned(),
        _ => word.to_owned(),
    }
}
