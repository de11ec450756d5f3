//! Router status entries: the `r`, `a`, `m`, `s`, `v`, `pr`, `w` and `p` lines that votes and
//! both flavours of consensuses have for each relay (dir-spec 3.4.1 and 3.9.1).
//!
//! Invariants of a parsed entry: one `r`, one `s` and one `pr` line (`tor` refuses a document with
//! an entry without them), every flag among the document's known flags, the `m` digest in
//! microdesc consensuses, no line twice but `a`. What votes add (`id`, `stats`, several `m`) is
//! read by [`crate::vote`].

mod flags;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use cepa_crypto::{RsaId, encoding};

use crate::consensus::AUTHORITIES_MAX;
use crate::item::{ARGS_MAX, Item, ItemError};
use crate::policy::PortPolicy;
use crate::protover::Protocols;
use crate::timestamp;

pub use flags::Flags;

/// Most `a` lines of an entry; `tor` writes one at most.
pub const ADDRESSES_MAX: usize = 8;
/// Most known flags of a vote: `tor` holds them in 64 bits.
pub const VOTED_FLAGS_MAX: usize = 64;
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

/// The `w` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `Bandwidth=`: advertised, or agreed; in kilobytes a second, or a unitless weight.
    pub bandwidth: u32,
    /// `Unmeasured=1` of a consensus: fewer than three authorities measured it.
    pub unmeasured: bool,
    /// `Measured=` of a vote: this authority's measurement.
    pub measured: Option<u32>,
    /// `MeasuredButAuthority=` of a vote: a measurement that must not count.
    pub measured_but_authority: Option<u32>,
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
    /// Further ORPorts, of IPv6 as a rule.
    pub a: Vec<SocketAddr>,
    /// The flags that this program knows.
    pub flags: Flags,
    /// The other flags, as words.
    pub flags_unknown: Vec<String>,
    /// The `v` line: `Tor 0.4.9.11`.
    pub version: Option<String>,
    /// The `pr` line as it stands.
    pub protocols: String,
    /// The `w` line.
    pub bandwidth: Option<Bandwidth>,
    /// The `p` line (not in microdesc consensuses).
    pub policy: Option<PortPolicy>,
    /// SHA-256 of the microdescriptor (microdesc consensuses only).
    pub microdesc_digest: Option<[u8; 32]>,
}

impl RouterStatus {
    /// The IPv4 ORPort's address.
    pub fn or_addr(&self) -> SocketAddr {
        SocketAddr::from((self.ip, self.or_port))
    }

    /// The first IPv6 ORPort of the `a` lines: the one that `tor` heeds.
    pub fn or_addr_v6(&self) -> Option<SocketAddr> {
        self.a.iter().copied().find(SocketAddr::is_ipv6)
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
        if let Some(w) = &self.bandwidth {
            let _ = write!(out, "w Bandwidth={}", w.bandwidth);
            if w.unmeasured {
                out.push_str(" Unmeasured=1");
            }
            encode_guard_fraction(w, out);
        }
        if let (EntryKind::Ns, Some(policy)) = (kind, &self.policy) {
            line(out, format_args!("p {policy}"));
        }
    }

    /// Writes the lines that votes have up to `p` (r, a, s, v, pr, w, p).
    pub fn encode_vote(&self, out: &mut String) {
        self.encode_head(EntryKind::Vote, out);
        self.encode_flags(out);
        if let Some(w) = &self.bandwidth {
            let _ = write!(out, "w Bandwidth={}", w.bandwidth);
            if let Some(measured) = w.measured {
                let _ = write!(out, " Measured={measured}");
            }
            if let Some(measured) = w.measured_but_authority {
                let _ = write!(out, " MeasuredButAuthority={measured}");
            }
            encode_guard_fraction(w, out);
        }
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
        for address in &self.a {
            line(out, format_args!("a {address}"));
        }
    }

    fn encode_flags(&self, out: &mut String) {
        out.push('s');
        for name in self.flag_names() {
            out.push(' ');
            out.push_str(name);
        }
        out.push('\n');
        if let Some(version) = &self.version {
            line(out, format_args!("v {version}"));
        }
        line(out, format_args!("pr {}", self.protocols));
    }
}

fn encode_guard_fraction(w: &Bandwidth, out: &mut String) {
    if let Some(fraction) = w.guard_fraction {
        let _ = write!(out, " GuardFraction={fraction}");
    }
    out.push('\n');
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
            or_port: r.arg_as(at + 3)?,
            dir_port: r.arg_as(at + 4)?,
            a: Vec::new(),
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
        })
    }

    /// Takes a further item of the entry; items of other keywords are ignored.
    pub(crate) fn item(&mut self, item: &Item<'_>, known: &[String]) -> Result<(), ItemError> {
        match item.keyword {
            "a" => self.address(item),
            "s" => self.flags(item, known),
            "v" => once(item, &mut self.status.version, item.args_text.to_owned()),
            "pr" => self.protocols(item),
            "w" => once(item, &mut self.status.bandwidth, bandwidth(item)?),
            "p" if self.kind != EntryKind::Microdesc => {
                let policy = PortPolicy::parse(item.args_text);
                once(
                    item,
                    &mut self.status.policy,
                    policy.map_err(|_| item.bad_argument(0))?,
                )
            }
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
        if self.status.a.len() >= ADDRESSES_MAX {
            return Err(ItemError::Repeated(item.keyword.to_owned()));
        }
        self.status.a.push(item.arg_as(0)?);
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

fn bandwidth(item: &Item<'_>) -> Result<Bandwidth, ItemError> {
    let mut w = Bandwidth::default();
    for (at, word) in item.args().enumerate() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u32>().map_err(|_| item.bad_argument(at));
        match name {
            "Bandwidth" => w.bandwidth = number()?,
            "Measured" => w.measured = Some(number()?),
            "MeasuredButAuthority" => w.measured_but_authority = Some(number()?),
            "Unmeasured" => w.unmeasured = value == "1",
            "GuardFraction" => {
                let fraction = u8::try_from(number()?)
                    .ok()
                    .filter(|percent| *percent <= 100);
                w.guard_fraction = Some(fraction.ok_or_else(|| item.bad_argument(at))?);
            }
            _ => {}
        }
    }
    Ok(w)
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
