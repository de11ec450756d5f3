//! Which network it is: lines of authorities and fallback directories.

use std::net::SocketAddr;

use super::{Work, ports};
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};

/// What a line of a directory says.
#[derive(Debug, Default)]
struct Directory<'a> {
    nickname: Option<&'a str>,
    v3_ident: Option<&'a str>,
    or_port: Option<u16>,
    place: Option<(std::net::IpAddr, Option<u16>)>,
    fingerprint: String,
    is_of_bridges: bool,
}

impl<'a> Directory<'a> {
    /// Reads a line: `[NICKNAME] [FLAG...] ADDRESS[:DIRPORT] FINGERPRINT`, or `id=` for the latter.
    fn read(text: &'a str) -> Result<Self, String> {
        let mut read = Directory::default();
        for (at, word) in text.split_whitespace().enumerate() {
            if read.place.is_some() && !word.contains('=') {
                read.fingerprint.push_str(word);
                continue;
            }
            if let Some((key, value)) = word.split_once('=') {
                match key.to_ascii_lowercase().as_str() {
                    "orport" => read.or_port = value.parse().ok().filter(|port| *port != 0),
                    "v3ident" => read.v3_ident = Some(value),
                    "id" => read.fingerprint = value.to_owned(),
                    // Where else it can be reached, and how often it is asked.
                    "ipv6" | "weight" | "upload" | "download" | "vote" => {}
                    _ => return Err(format!("{word:?} is no flag that is known")),
                }
                continue;
            }
            if let Some(place) = place(word) {
                read.place = Some(place);
            } else if at == 0 {
                read.nickname = Some(word);
            } else {
                match word.to_ascii_lowercase().as_str() {
                    "bridge" => read.is_of_bridges = true,
                    "v1" | "v2" | "no-v2" | "hs" | "no-hs" => {}
                    _ => return Err(format!("{word:?} is no flag that is known")),
                }
            }
        }
        read.fingerprint = read.fingerprint.trim_start_matches('$').to_owned();
        let is_fingerprint = read.fingerprint.len() == 40
            && read
                .fingerprint
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit());
        match (&read.place, is_fingerprint) {
            (None, _) => Err("it has no ADDRESS:PORT".to_owned()),
            (_, false) => Err("it has no fingerprint of 40 hexadecimal digits".to_owned()),
            _ => Ok(read),
        }
    }
}

fn place(word: &str) -> Option<(std::net::IpAddr, Option<u16>)> {
    if let Some(ip) = ports::ip(word) {
        return Some((ip, None));
    }
    let place = ports::socket(word).filter(|place| place.has_address && !place.is_auto)?;
    Some((place.addr.ip(), Some(place.addr.port())))
}

/// `[inline_network]`, or the key of the file where no authorities are written.
pub(super) fn network(work: &mut Work<'_>) -> Document {
    let mut document = Document::default();
    let lines = work.lines(&["DirAuthority", "AlternateDirAuthority"]);
    let testing = work.settings.one("TestingTorNetwork");
    let testing = testing.filter(|_| work.settings.is_on("TestingTorNetwork"));
    if lines.is_empty() {
        if let Some(testing) = testing {
            work.refuse(testing, "a test network needs lines of DirAuthority");
        }
        for line in work.lines(&["FallbackDir"]) {
            work.refuse(line, "fallback directories need lines of DirAuthority");
        }
        if let Some(network) = &work.world.network {
            document.plain(format!("network = {}", string(network)));
        }
        return document;
    }
    document.plain("");
    document.plain("[inline_network]");
    let loose = ["TestingTorNetwork", "DirAllowPrivateAddresses"];
    let loose = loose.into_iter().find(|name| work.settings.is_on(name));
    if let Some(value) = loose.and_then(|name| work.settings.one(name)) {
        document.key("testing", "true", value);
    }
    for (number, line) in lines.into_iter().enumerate() {
        authority_line(work, &mut document, number, line);
    }
    for line in work.lines(&["FallbackDir"]) {
        fallback_line(work, &mut document, line);
    }
    document
}

fn authority_line(work: &mut Work<'_>, document: &mut Document, number: usize, line: &Value) {
    let read = match Directory::read(&line.text) {
        Ok(read) => read,
        Err(why) => return work.refuse(line, why),
    };
    let Some(v3_ident) = read.v3_ident.filter(|_| !read.is_of_bridges) else {
        let what = "it has no v3ident, signs no consensus, and is passed over";
        return work.note(Severity::Info, line, what);
    };
    let (Some((ip, Some(dir))), Some(or)) = (read.place, read.or_port) else {
        return work.refuse(line, "it needs ADDRESS:DIRPORT and orport=");
    };
    let nickname = read
        .nickname
        .map_or(format!("authority{number}"), str::to_owned);
    let mut body = Document::default();
    body.text_key("nickname", &nickname, line);
    body.text_key("v3_ident", v3_ident, line);
    body.text_key("rsa", &read.fingerprint, line);
    body.text_key("or", &SocketAddr::new(ip, or).to_string(), line);
    body.text_key("dir", &SocketAddr::new(ip, dir).to_string(), line);
    document.section("[[inline_network.authority]]", body);
}

fn fallback_line(work: &mut Work<'_>, document: &mut Document, line: &Value) {
    let read = match Directory::read(&line.text) {
        Ok(read) => read,
        Err(why) => return work.refuse(line, why),
    };
    let (Some((ip, _)), Some(or)) = (read.place, read.or_port) else {
        return work.refuse(line, "it needs orport=");
    };
    let mut body = Document::default();
    body.text_key("rsa", &read.fingerprint, line);
    body.text_key("or", &SocketAddr::new(ip, or).to_string(), line);
    document.section("[[inline_network.fallback]]", body);
}
