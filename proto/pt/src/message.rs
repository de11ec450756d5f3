//! A line that a transport writes to its output (pt-spec 3.3).

use std::net::SocketAddr;

use crate::arguments::Arguments;
use crate::name::TransportName;

/// The longest line that is read; what is behind it is not looked at.
pub const LINE_LEN_MAX: usize = 8192;
/// The keywords that are known.
const KEYWORDS: [&str; 12] = [
    "VERSION",
    "VERSION-ERROR",
    "ENV-ERROR",
    "PROXY-ERROR",
    "PROXY",
    "CMETHOD",
    "SMETHOD",
    "CMETHOD-ERROR",
    "SMETHOD-ERROR",
    "CMETHODS",
    "SMETHODS",
    "LOG",
];
/// Most characters that are shown of what a transport says.
const SHOWN_MAX: usize = 500;

/// The version of SOCKS by which a transport is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksVersion {
    /// SOCKS 4.
    V4,
    /// SOCKS 5.
    V5,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `VERSION`: the version of pt-spec that the transport speaks.
    Version(String),
    /// `VERSION-ERROR`, `ENV-ERROR` or `PROXY-ERROR`, and what is said there: it goes away.
    Fatal(&'static str, String),
    /// `PROXY DONE`: it goes through the proxy that it was told.
    ProxyDone,
    /// `CMETHOD`: a transport of a client is asked there.
    ClientMethod(TransportName, SocksVersion, SocketAddr),
    /// `SMETHOD`: a transport of a server listens there; what clients must know.
    ServerMethod(TransportName, SocketAddr, Arguments),
    /// `CMETHOD-ERROR` or `SMETHOD-ERROR`: the transport cannot serve, and why.
    MethodError(TransportName, String),
    /// `CMETHODS DONE` or `SMETHODS DONE`.
    MethodsDone,
    /// `LOG`: the severity in lower case, and the text.
    Log(String, String),
    /// `STATUS`: what is behind that word.
    Status(String),
    /// A keyword that is not known: to be passed over.
    Unknown,
    /// A keyword that is known, with something wrong behind it; the line.
    Malformed(String),
}

impl Message {
    /// Reads a line without its end. Everything is some message.
    #[must_use]
    pub fn parse(line: &str) -> Message {
        let line = line.trim_end_matches('\r');
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        if line.len() > LINE_LEN_MAX {
            return match KEYWORDS.contains(&keyword) {
                true => Message::Malformed(shown(line)),
                false => Message::Unknown,
            };
        }
        let found = match keyword {
            "VERSION" => word(rest).map(|version| Message::Version(shown(version))),
            "VERSION-ERROR" => Some(Message::Fatal("VERSION-ERROR", shown(rest))),
            "ENV-ERROR" => Some(Message::Fatal("ENV-ERROR", shown(rest))),
            "PROXY-ERROR" => Some(Message::Fatal("PROXY-ERROR", shown(rest))),
            "PROXY" => (rest == "DONE").then_some(Message::ProxyDone),
            "CMETHOD" => client_method(rest),
            "SMETHOD" => server_method(rest),
            "CMETHOD-ERROR" | "SMETHOD-ERROR" => method_error(rest),
            "CMETHODS" | "SMETHODS" => (rest == "DONE").then_some(Message::MethodsDone),
            "LOG" => log(rest),
            "STATUS" => Some(Message::Status(shown(rest))),
            _ => Some(Message::Unknown),
        };
        found.unwrap_or_else(|| Message::Malformed(shown(line)))
    }
}

/// The one word that a text is.
fn word(text: &str) -> Option<&str> {
    let mut words = text.split_ascii_whitespace();
    words.next().filter(|_| words.next().is_none())
}

fn place(word: Option<&str>) -> Option<SocketAddr> {
    let addr: SocketAddr = word?.parse().ok()?;
    (addr.port() != 0).then_some(addr)
}

fn client_method(rest: &str) -> Option<Message> {
    let mut words = rest.split_ascii_whitespace();
    let name = words.next()?.parse().ok()?;
    let version = match words.next()? {
        "socks4" => SocksVersion::V4,
        "socks5" => SocksVersion::V5,
        _ => return None,
    };
    let addr = place(words.next())?;
    // Words of later versions may stand behind it.
    Some(Message::ClientMethod(name, version, addr))
}

fn server_method(rest: &str) -> Option<Message> {
    let mut words = rest.split_ascii_whitespace();
    let name = words.next()?.parse().ok()?;
    let addr = place(words.next())?;
    let args = words.find_map(|word| word.strip_prefix("ARGS:"));
    let args = args.map_or(Ok(Arguments::default()), Arguments::parse_args);
    Some(Message::ServerMethod(name, addr, args.ok()?))
}

fn method_error(rest: &str) -> Option<Message> {
    let (name, why) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Message::MethodError(name.parse().ok()?, shown(why)))
}

/// `SEVERITY=s MESSAGE="m"`, in this order.
fn log(rest: &str) -> Option<Message> {
    let (severity, rest) = rest.strip_prefix("SEVERITY=")?.split_once(' ')?;
    let text = rest.trim_start().strip_prefix("MESSAGE=")?;
    let inside = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let text = inside.map_or_else(|| text.to_owned(), unquoted);
    Some(Message::Log(
        shown(&severity.to_ascii_lowercase()),
        shown(&text),
    ))
}

/// What a quoted string of control-spec 2 stands for, as far as a reader of a log needs it.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.push(match chars.next() {
                Some('n') => ' ',
                Some(escaped) => escaped,
                None => '\\',
            }),
            char => out.push(char),
        }
    }
    out
}

/// A text of a stranger's for a log: on one line, and not long.
#[must_use]
pub fn shown(text: &str) -> String {
    let visible = |char: char| match char.is_control() {
        true => '?',
        false => char,
    };
    text.chars().take(SHOWN_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> TransportName {
        text.parse().unwrap()
    }

    #[test]
    fn the_lines_of_the_specification_are_read() {
        let addr = "127.0.0.1:19999".parse().unwrap();
        assert_eq!(
            Message::parse("CMETHOD trebuchet socks5 127.0.0.1:19999"),
            Message::ClientMethod(name("trebuchet"), SocksVersion::V5, addr)
        );
        let Message::ServerMethod(_, _, args) =
            Message::parse("SMETHOD rot_by_N 198.51.100.1:2323 ARGS:N=13,m=a\\,b\\=c")
        else {
            panic!("no method");
        };
        let pairs: Vec<_> = args.pairs().collect();
        assert_eq!(pairs, [("N", "13"), ("m", "a,b=c")]);
        assert_eq!(Message::parse("VERSION 1"), Message::Version("1".into()));
        assert_eq!(Message::parse("CMETHODS DONE\r"), Message::MethodsDone);
        assert_eq!(Message::parse("PROXY DONE"), Message::ProxyDone);
        assert_eq!(
            Message::parse("SMETHOD-ERROR trebuchet no cows available"),
            Message::MethodError(name("trebuchet"), "no cows available".into())
        );
        assert_eq!(
            Message::parse("VERSION-ERROR no-version"),
            Message::Fatal("VERSION-ERROR", "no-version".into())
        );
        assert_eq!(
            Message::parse(r#"LOG SEVERITY=Debug MESSAGE="Connected to \"A\"""#),
            Message::Log("debug".into(), r#"Connected to "A""#.into())
        );
        assert_eq!(
            Message::parse("STATUS TYPE=version VERSION=\"0.8.1\" IMPLEMENTATION=\"lyrebird\""),
            Message::Status("TYPE=version VERSION=\"0.8.1\" IMPLEMENTATION=\"lyrebird\"".into())
        );
        assert_eq!(Message::parse("HELLO you"), Message::Unknown);
        let long = "x".repeat(LINE_LEN_MAX + 1);
        assert_eq!(Message::parse(&long), Message::Unknown);
        let long = Message::parse(&format!("CMETHOD {long}"));
        assert!(matches!(long, Message::Malformed(_)));
    }

    #[test]
    fn what_is_wrong_is_malformed() {
        for line in [
            "VERSION",
            "VERSION 1 2",
            "CMETHOD obfs4 socks6 127.0.0.1:1",
            "CMETHOD obfs4 socks5 localhost:1",
            "CMETHOD obfs4 socks5 127.0.0.1:0",
            "CMETHOD 4 socks5 127.0.0.1:1",
            "SMETHOD obfs4",
            "SMETHOD obfs4 127.0.0.1:1 ARGS:x",
            "CMETHODS",
            "LOG x",
        ] {
            let read = Message::parse(line);
            assert_eq!(read, Message::Malformed(line.into()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_line_is_some_message(line in ".{0,300}") {
            let _ = Message::parse(&line);
        }

        #[test]
        fn every_line_with_a_keyword_is_some_message(
            keyword in prop::sample::select(vec![
                "VERSION", "CMETHOD", "SMETHOD", "CMETHODS", "SMETHODS", "LOG", "STATUS", "PROXY",
                "CMETHOD-ERROR", "ENV-ERROR", "SMETHOD obfs4 1.2.3.4:5", "LOG SEVERITY=err",
            ]),
            rest in ".{0,100}",
        ) {
            let _ = Message::parse(&format!("{keyword} {rest}"));
        }
    }
}
