//! Router status entries: the `r`, `a`, `m`, `s`, `v`, `pr`, `w` and `p` lines that votes and
//! both flavours of consensuses have for each relay (dir-spec 3.4.1 and 3.9.1).
//!
//! Invariants of a parsed entry: one `r`, one `s` and one `pr` line (`tor` refuses a document with
//! an entry without them), every flag among the document's known flags, the `m` digest in
//! microdesc consensuses, no line twice but `a`. What votes add (`id`, `stats`, several `m`, more
//! on `w`) is read by [`crate::vote`]. What `tor` takes is taken, and what it keeps as it stands
//! (`v`, `pr`, `p`) is kept as it stands: a consensus is made of these texts.

mod flags;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::SystemTime;

use cepa_crypto::{RsaId, encoding};

use crate::item::{ARGS_MAX, Item, ItemError};
use crate::number;
use crate::protover::Protocols;
use crate::timestamp;

pub use flags::Flags;

/// Most known flags of a vote: `tor` holds them in 64 bits.
pub const VOTED_FLAGS_MAX: usize = 64;
/// Most authorities that a consensus lists, with their legacy entries.
pub const AUTHORITIES_MAX: usize = 128;
/// Most known flags of a consensus: those of the most votes that there may be, and NoEdConsensus.
pub const KNOWN_FLAGS_MAX: usize = AUTHORITIES_MAX * VOTED_FLAGS_MAX + 1;

/// Which kind of document an entry stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A vote (dir-spec 3.4.1).
    Vote,
    /// A consensus that lists descriptors by digest.
    Ns,
    /// A consensus that lists microdescriptors by digest (dir-spec 3.9.1).
    Microdesc,
}

/// The `w` line of a consensus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `Bandwidth=`: agreed; in kilobytes a second, or a unitless weight.
    pub bandwidth: u32,
    /// `Unmeasured=1`: fewer than three authorities measured it.
    pub unmeasured: bool,
    /// `GuardFraction=`, a percentage.
    pub guard_fraction: Option<u8>,
}

/// What a vote or consensus says about one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterStatus {
    /// 1 to 19 letters and digits.
    pub nickname: String,
    /// The digest of the RSA identity key; entries ascend by it.
    pub rsa_id: RsaId,
    /// SHA-1 of the server descriptor; zeros in the microdesc flavour, which does not have it.
    pub descriptor_digest: [u8; 20],
    /// When the descriptor was published; a constant in microdesc consensuses of method 33 on.
    pub published: SystemTime,
    /// IPv4 address of the ORPort and the DirPort.
    pub ip: Ipv4Addr,
    /// The ORPort.
    pub or_port: u16,
    /// The DirPort, or 0.
    pub dir_port: u16,
    /// The IPv6 ORPort: of several `a` lines the first that is one.
    pub a: Option<SocketAddrV6>,
    /// The flags that this program knows.
    pub flags: Flags,
    /// The other flags, as words.
    pub flags_unknown: Vec<String>,
    /// The `v` line: `Tor 0.4.9.11`.
    pub version: Option<String>,
    /// The `pr` line as it stands.
    pub protocols: String,
    /// The `w` line of a consensus; none without `Bandwidth=`.
    pub bandwidth: Option<Bandwidth>,
    /// The `p` line as it stands (not in microdesc consensuses).
    pub policy: Option<String>,
    /// SHA-256 of the microdescriptor (microdesc consensuses only).
    pub microdesc_digest: Option<[u8; 32]>,
}

impl RouterStatus {
    /// The IPv4 ORPort's address.
    pub fn or_addr(&self) -> SocketAddr {
        SocketAddr::from((self.ip, self.or_port))
    }

    /// The IPv6 ORPort.
    pub fn or_addr_v6(&self) -> Option<SocketAddr> {
        let known = self.a.filter(|address| !address.ip().is_unspecified());
        known.map(SocketAddr::V6)
    }

    /// The `pr` line as protocols and versions; none if it is malformed.
    pub fn protocol_versions(&self) -> Option<Protocols> {
        Protocols::parse(&self.protocols).ok()
    }

    /// The words of all flags, sorted.
    pub fn flag_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.flags.names().collect();
        if !self.flags_unknown.is_empty() {
            names.extend(self.flags_unknown.iter().map(String::as_str));
            names.sort_unstable();
        }
        names
    }

    /// Writes the lines that consensuses have, in `tor`'s order (r, a, m, s, v, pr, w, p).
    pub fn encode_consensus(&self, kind: EntryKind, out: &mut String) {
        self.encode_head(kind, out);
        if let (EntryKind::Microdesc, Some(digest)) = (kind, &self.microdesc_digest) {
            line(out, format_args!("m {}", base64(digest)));
        }
        self.encode_flags(out);
        self.encode_versions(out);
        if let Some(w) = &self.bandwidth {
            let _ = write!(out, "w Bandwidth={}", w.bandwidth);
            if w.unmeasured {
                out.push_str(" Unmeasured=1");
            }
            if let Some(fraction) = w.guard_fraction {
                let _ = write!(out, " GuardFraction={fraction}");
            }
            out.push('\n');
        }
        if let (EntryKind::Ns, Some(policy)) = (kind, &self.policy) {
            line(out, format_args!("p {policy}"));
        }
    }

    /// Writes the lines that `tor` shows controllers (control-spec 3.9, `ns/id/…`): r, a, s, w with
    /// the bandwidth alone, and p where it is known.
    pub fn encode_control(&self, out: &mut String) {
        self.encode_head(EntryKind::Ns, out);
        self.encode_flags(out);
        if let Some(w) = &self.bandwidth {
            line(out, format_args!("w Bandwidth={}", w.bandwidth));
        }
        if let Some(policy) = &self.policy {
            line(out, format_args!("p {policy}"));
        }
    }

    /// Writes the lines that votes have up to `p` (r, a, s, v, pr, w, p); `w` is the line's text.
    pub(crate) fn encode_vote(&self, w: &str, out: &mut String) {
        self.encode_head(EntryKind::Vote, out);
        self.encode_flags(out);
        self.encode_versions(out);
        out.push_str(w);
        if let Some(policy) = &self.policy {
            line(out, format_args!("p {policy}"));
        }
    }

    fn encode_head(&self, kind: EntryKind, out: &mut String) {
        let _ = write!(
            out,
            "r {} {}",
            self.nickname,
            base64(self.rsa_id.as_bytes())
        );
        if kind != EntryKind::Microdesc {
            let _ = write!(out, " {}", base64(&self.descriptor_digest));
        }
        let (published, ip) = (timestamp::encode(self.published), self.ip);
        line(
            out,
            format_args!(" {published} {ip} {} {}", self.or_port, self.dir_port),
        );
        if let Some(SocketAddr::V6(address)) = self.or_addr_v6() {
            let (ip, port) = (ipv6_text(*address.ip()), address.port());
            line(out, format_args!("a [{ip}]:{port}"));
        }
    }

    fn encode_flags(&self, out: &mut String) {
        out.push('s');
        for name in self.flag_names() {
            out.push(' ');
            out.push_str(name);
        }
        out.push('\n');
    }

    fn encode_versions(&self, out: &mut String) {
        if let Some(version) = &self.version {
            line(out, format_args!("v {version}"));
        }
        line(out, format_args!("pr {}", self.protocols));
    }
}

/// An address as `tor` writes it: like all others, but for one of an old form, with an IPv4
/// address in its last 32 bits and nothing before it.
fn ipv6_text(ip: Ipv6Addr) -> String {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 && b != 0 => {
            let [.., a, b, c, d] = ip.octets();
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => ip.to_string(),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn base64(bytes: &[u8]) -> String {
    encoding::base64_unpadded(bytes)
}

/// Reads one entry, item by item, from its `r` line on.
#[derive(Debug)]
pub(crate) struct EntryReader {
    kind: EntryKind,
    status: RouterStatus,
    has_flags: bool,
    has_protocols: bool,
    has_bandwidth: bool,
}

impl EntryReader {
    /// Starts with the `r` item.
    pub(crate) fn start(kind: EntryKind, r: &Item<'_>) -> Result<Self, ItemError> {
        let nickname = r.arg(0)?;
        if !is_nickname(nickname) {
            return Err(r.bad_argument(0));
        }
        let rsa_id = RsaId::from(digest::<20>(r, 1, r.arg(1)?)?);
        let (descriptor_digest, at) = match kind {
            EntryKind::Microdesc => ([0; 20], 2),
            EntryKind::Vote | EntryKind::Ns => (digest::<20>(r, 2, r.arg(2)?)?, 3),
        };
        let status = RouterStatus {
            nickname: nickname.to_owned(),
            rsa_id,
            descriptor_digest,
            published: r.timestamp(at)?,
            ip: r.arg_as(at + 2)?,
            // What is no port is none, as in `tor`.
            or_port: number::port(r.arg(at + 3)?).unwrap_or(0),
            dir_port: number::port(r.arg(at + 4)?).unwrap_or(0),
            a: None,
            flags: Flags::NONE,
            flags_unknown: Vec::new(),
            version: None,
            protocols: String::new(),
            bandwidth: None,
            policy: None,
            microdesc_digest: None,
        };
        Ok(Self {
            kind,
            status,
            has_flags: false,
            has_protocols: false,
            has_bandwidth: false,
        })
    }

    /// Takes a further item of the entry; items of other keywords are ignored.
    pub(crate) fn item(&mut self, item: &Item<'_>, known: &[String]) -> Result<(), ItemError> {
        match item.keyword {
            "a" => self.address(item),
            "s" => self.flags(item, known),
            "v" => once(item, &mut self.status.version, item.args_text.to_owned()),
            "pr" => self.protocols(item),
            "w" if self.kind != EntryKind::Vote => self.bandwidth(item),
            "p" if self.kind != EntryKind::Microdesc => self.policy(item),
            "m" if self.kind == EntryKind::Microdesc => {
                let digest = digest::<32>(item, 0, item.arg(0)?)?;
                once(item, &mut self.status.microdesc_digest, digest)
            }
            _ => Ok(()),
        }
    }

    /// Ends the entry.
    pub(crate) fn finish(self) -> Result<RouterStatus, ItemError> {
        let missing = |keyword: &str| Err(ItemError::Missing(keyword.to_owned()));
        if !self.has_flags {
            return missing("s");
        }
        if !self.has_protocols {
            return missing("pr");
        }
        if self.kind == EntryKind::Microdesc && self.status.microdesc_digest.is_none() {
            return missing("m");
        }
        Ok(self.status)
    }

    fn address(&mut self, item: &Item<'_>) -> Result<(), ItemError> {
        let found = ipv6_or_port(item.arg(0)?);
        self.status.a = self.status.a.or(found);
        Ok(())
    }

    fn policy(&mut self, item: &Item<'_>) -> Result<(), ItemError> {
        let text = item.args_text;
        if !text.starts_with("accept ") && !text.starts_with("reject ") {
            return Err(item.bad_argument(0));
        }
        once(item, &mut self.status.policy, text.to_owned())
    }

    fn bandwidth(&mut self, item: &Item<'_>) -> Result<(), ItemError> {
        if std::mem::replace(&mut self.has_bandwidth, true) {
            return Err(ItemError::Repeated(item.keyword.to_owned()));
        }
        let mut w = Bandwidth::default();
        let mut has_value = false;
        for (name, value, at) in words(item) {
            match name {
                "Bandwidth" => {
                    w.bandwidth = kilobytes(value).ok_or_else(|| item.bad_argument(at))?;
                    has_value = true;
                }
                "Unmeasured" if value.starts_with('1') => w.unmeasured = true,
                "GuardFraction" => {
                    let fraction = percentage(value).ok_or_else(|| item.bad_argument(at))?;
                    w.guard_fraction = Some(fraction);
                }
                _ => {}
            }
        }
        self.status.bandwidth = has_value.then_some(w);
        Ok(())
    }

    fn flags(&mut self, item: &Item<'_>, known: &[String]) -> Result<(), ItemError> {
        if std::mem::replace(&mut self.has_flags, true) {
            return Err(ItemError::Repeated(item.keyword.to_owned()));
        }
        for (at, name) in item.args().enumerate() {
            if at >= ARGS_MAX || known.binary_search_by(|flag| (**flag).cmp(name)).is_err() {
                return Err(item.bad_argument(at));
            }
            match Flags::from_name(name) {
                Some(flag) => self.status.flags.insert(flag),
                None => self.status.flags_unknown.push(name.to_owned()),
            }
        }
        Ok(())
    }

    fn protocols(&mut self, item: &Item<'_>) -> Result<(), ItemError> {
        if std::mem::replace(&mut self.has_protocols, true) {
            return Err(ItemError::Repeated(item.keyword.to_owned()));
        }
        Protocols::parse(item.args_text).map_err(|_| item.bad_argument(0))?;
        self.status.protocols = item.args_text.to_owned();
        Ok(())
    }
}

/// Fills a place that may be filled once.
fn once<T>(item: &Item<'_>, place: &mut Option<T>, value: T) -> Result<(), ItemError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ItemError::Repeated(item.keyword.to_owned())),
    }
}

/// The words of a `w` line that have a value, with their place.
pub(crate) fn words<'a>(item: &Item<'a>) -> impl Iterator<Item = (&'a str, &'a str, usize)> {
    let words = item.args().enumerate();
    words.filter_map(|(at, word)| {
        let (name, value) = word.split_once('=')?;
        Some((name, value, at))
    })
}

/// A bandwidth of a `w` line.
pub(crate) fn kilobytes(value: &str) -> Option<u32> {
    let number = number::unsigned(value, u64::from(u32::MAX))?;
    u32::try_from(number).ok()
}

/// A GuardFraction of a `w` line.
pub(crate) fn percentage(value: &str) -> Option<u8> {
    u8::try_from(number::unsigned(value, 100)?).ok()
}

/// An IPv6 address and port of an `a` line, in the forms that `tor` takes for one.
fn ipv6_or_port(text: &str) -> Option<SocketAddrV6> {
    let (ip, behind) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        // Without brackets the port would be a part of the address.
        None => return None,
    };
    let port = behind.strip_prefix("/128").unwrap_or(behind);
    let port = port.strip_prefix(':')?;
    let port = match port.split_once('-') {
        Some((low, high)) if number::port(low) == number::port(high) => low,
        _ => port,
    };
    let port = number::port(port)?.max(1);
    Some(SocketAddrV6::new(ip.parse().ok()?, port, 0, 0))
}

/// Reads a base64 digest of `N` bytes, padded or not.
pub(crate) fn digest<const N: usize>(
    item: &Item<'_>,
    at: usize,
    text: &str,
) -> Result<[u8; N], ItemError> {
    encoding::base64_array(text).ok_or_else(|| item.bad_argument(at))
}

/// Whether a word is a nickname: 1 to 19 letters and digits (dir-spec 2.1.3).
pub fn is_nickname(word: &str) -> bool {
    (1..=19).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
