//! What its operator says of single relays (`tor`: `approved-routers` and the `AuthDir…` options).
//!
//! A rule names relays by an identity or by their addresses, and says what happens to them; all
//! that fit a relay hold. The file `approved-routers` has a line each, `!VERDICT IDENTITY`; what
//! stands behind `#` is its comment. A `tor` of today gives nobody a name, so that its lines
//! without a verdict say nothing here either.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::{Country, GeoIp};
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::policy::{AddrPolicy, AddrRule};

/// What is said of relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Their descriptors are refused.
    Reject,
    /// They are listed as not Valid.
    Invalid,
    /// They are not to be used as exits.
    BadExit,
    /// They are to be used in the middle of circuits only.
    MiddleOnly,
    /// They do not get the flag Guard.
    StripGuard,
    /// They do not get the flag `HSDir`.
    StripHsDir,
    /// They do not get the flag `V2Dir`.
    StripV2Dir,
    /// They get the flag Guard, whatever they have (`AuthDirVoteGuard`,
    /// `TestingDirAuthVoteGuard`).
    Guard,
    /// They get the flag Exit (`TestingDirAuthVoteExit`).
    Exit,
    /// They get the flag `HSDir` (`TestingDirAuthVoteHSDir`).
    HsDir,
}

impl Verdict {
    /// All of them, with their words in `approved-routers`; `tor` knows all but the last three.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Reject, "reject"),
        (Self::Invalid, "invalid"),
        (Self::BadExit, "badexit"),
        (Self::MiddleOnly, "middleonly"),
        (Self::StripGuard, "stripguard"),
        (Self::StripHsDir, "striphsdir"),
        (Self::StripV2Dir, "stripv2dir"),
        (Self::Guard, "guard"),
        (Self::Exit, "exit"),
        (Self::HsDir, "hsdir"),
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        let all = Self::ALL.iter();
        all.filter(|(one, _)| *one == self)
            .map(|(_, word)| *word)
            .next()
            .unwrap_or_default()
    }

    fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

impl FromStr for Verdict {
    type Err = BadRule;

    /// Reads its word, in any case.
    fn from_str(word: &str) -> Result<Self, BadRule> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, name)| name.eq_ignore_ascii_case(word));
        found.map(|(one, _)| *one).ok_or(BadRule::Verdict)
    }
}

/// The verdicts on one relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts(u16);

impl Verdicts {
    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, verdict: Verdict) -> bool {
        self.0 & verdict.bit() != 0
    }

    /// With this one.
    #[must_use]
    pub fn with(self, verdict: Verdict) -> Self {
        Verdicts(self.0 | verdict.bit())
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The relay of this RSA identity.
    Rsa(RsaId),
    /// The relay of this Ed25519 identity.
    Ed25519(Ed25519Id),
    /// Relays whose OR address this is about, whatever it says is done.
    Net(AddrRule),
    /// Relays whose IPv4 address is in this country, as `{de}`.
    Country(Country),
    /// Relays of this nickname, which anybody may have: only sets that give flags name them so.
    Nickname(String),
    /// All relays, as `*`: again only in such a set.
    All,
}

impl Subject {
    /// Reads an entry of a set of relays, as `tor` has it: what a rule may name, a nickname or `*`.
    ///
    /// # Errors
    /// It is none.
    pub fn of_set(text: &str) -> Result<Self, BadRule> {
        if text == "*" {
            return Ok(Subject::All);
        }
        text.parse().or_else(|error| {
            let is_name = (1..=19).contains(&text.len());
            let is_name = is_name && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_name
                .then(|| Subject::Nickname(text.to_owned()))
                .ok_or(error)
        })
    }
}

impl FromStr for Subject {
    type Err = BadRule;

    /// Reads a fingerprint (40 digits, with or without `$` and spaces), an Ed25519 identity
    /// (base64), a country, or an address with or without the length of a prefix.
    fn from_str(text: &str) -> Result<Self, BadRule> {
        let joined: String = text.split_whitespace().collect();
        let code = (joined.strip_prefix('{')).and_then(|rest| rest.strip_suffix('}'));
        if let Some(code) = code {
            let country = Country::parse(code).map(Self::Country);
            return country.ok_or(BadRule::Subject);
        }
        if let Ok(rsa) = joined.trim_start_matches('$').parse() {
            return Ok(Self::Rsa(rsa));
        }
        if let Ok(ed25519) = joined.parse() {
            return Ok(Self::Ed25519(ed25519));
        }
        // IPv6 networks are read with and without brackets.
        let net = match joined.split_once('/').unwrap_or((&joined, "")) {
            (address, "") if address.parse::<Ipv6Addr>().is_ok() => format!("[{address}]"),
            (address, len) if address.parse::<Ipv6Addr>().is_ok() => format!("[{address}]/{len}"),
            _ => joined,
        };
        let policy = AddrPolicy::parse_config([format!("reject {net}").as_str()]);
        match policy.map_err(|_| BadRule::Subject)?.rules() {
            [rule] => Ok(Self::Net(*rule)),
            _ => Err(BadRule::Subject),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(rsa) => write!(f, "{rsa}"),
            Self::Ed25519(ed25519) => write!(f, "{ed25519}"),
            Self::Net(rule) => write!(f, "{}/{}", rule.address, rule.prefix_len),
            Self::Country(country) => write!(f, "{{{country}}}"),
            Self::Nickname(name) => f.write_str(name),
            Self::All => f.write_str("*"),
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub subject: Subject,
    /// What it says of them.
    pub verdict: Verdict,
    /// Why, in the operator's words; may be empty.
    pub comment: String,
}

/// Why a rule is not understood: what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The verdict is none.
    #[error("expected {}", self.expected())]
    Verdict,
    /// Nobody is named.
    #[error("expected {}", self.expected())]
    Subject,
}

impl BadRule {
    /// What stands there if it is right.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Verdict => {
                "reject, invalid, badexit, middleonly, stripguard, striphsdir, stripv2dir, guard, \
                 exit or hsdir"
            }
            Self::Subject => {
                "a fingerprint of 40 hexadecimal digits, an Ed25519 identity of 43 letters, a \
                 network such as 192.0.2.0/24, or a country such as {de}"
            }
        }
    }
}

/// All rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    by_rsa: BTreeMap<RsaId, Vec<Rule>>,
    by_ed25519: BTreeMap<Ed25519Id, Vec<Rule>>,
    /// Those that name no identity.
    by_net: Vec<Rule>,
    said: Verdicts,
    /// Which country an address is in.
    countries: Arc<GeoIp>,
}

impl Rules {
    /// Adds one.
    pub fn push(&mut self, rule: Rule) {
        self.said = self.said.with(rule.verdict);
        match &rule.subject {
            Subject::Rsa(rsa) => self.by_rsa.entry(*rsa).or_default().push(rule),
            Subject::Ed25519(ed25519) => self.by_ed25519.entry(*ed25519).or_default().push(rule),
            Subject::Net(..) | Subject::Country(_) | Subject::Nickname(_) | Subject::All => {
                self.by_net.push(rule);
            }
        }
    }

    /// Whether a rule names a country, so that [`Rules::set_countries`] is needed.
    #[must_use]
    pub fn need_countries(&self) -> bool {
        let mut others = self.by_net.iter();
        others.any(|rule| matches!(rule.subject, Subject::Country(_)))
    }

    /// Which country an address is in, by these.
    pub fn set_countries(&mut self, countries: Arc<GeoIp>) {
        self.countries = countries;
    }

    /// The lines of a file `approved-routers` that are rules, each with its number, and those that
    /// are not understood; empty ones, comments and the lines that give names are neither.
    pub fn read(text: &str) -> impl Iterator<Item = (usize, Result<Rule, BadRule>)> {
        let lines = (1..).zip(text.lines());
        lines.filter_map(|(number, line)| {
            let (line, comment) = line.split_once('#').unwrap_or((line, ""));
            let (verdict, subject) = line.trim().strip_prefix('!')?.split_once([' ', '\t'])?;
            let rule = || {
                Ok(Rule {
                    verdict: verdict.parse()?,
                    subject: subject.parse()?,
                    comment: comment.trim().to_owned(),
                })
            };
            Some((number, rule()))
        })
    }

    /// The rules that fit a relay.
    pub fn of(&self, relay: &ServerDescriptor) -> impl Iterator<Item = &Rule> {
        let ipv4 = SocketAddr::V4(relay.or_address);
        let ipv6 = relay.or_address_v6.map(SocketAddr::V6);
        let is_at = |address: SocketAddr, net: &AddrRule| net.matches(address.ip(), address.port());
        let country = self.countries.country(IpAddr::V4(*relay.or_address.ip()));
        let is_within = move |rule: &&Rule| match &rule.subject {
            Subject::Net(net) => {
                is_at(ipv4, net) || ipv6.is_some_and(|address| is_at(address, net))
            }
            Subject::Country(one) => *one == country,
            Subject::Nickname(name) => name.eq_ignore_ascii_case(&relay.nickname),
            Subject::All => true,
            Subject::Rsa(_) | Subject::Ed25519(_) => false,
        };
        let by_rsa = self.by_rsa.get(&relay.identity);
        let by_ed25519 = self.by_ed25519.get(&relay.ed25519);
        let named = by_rsa.into_iter().chain(by_ed25519).flatten();
        named.chain(self.by_net.iter().filter(is_within))
    }

    /// What they say of a relay.
    #[must_use]
    pub fn verdicts(&self, relay: &ServerDescriptor) -> Verdicts {
        self.of(relay)
            .fold(Verdicts::default(), |all, rule| all.with(rule.verdict))
    }

    /// Whether any of them says this: an authority votes about a flag only if it has an opinion.
    #[must_use]
    pub fn say(&self, verdict: Verdict) -> bool {
        self.said.has(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = "$0123456789ABCDEF0123456789ABCDEF01234567";
    const ED25519: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_file_of_tor_is_read() {
        let text = format!(
            "# whom we do not want\n\n!reject {RSA} # says somebody\n\
             !BadExit {ED25519}\n\
             !middleonly 0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567\n\
             moria1 {RSA}\n!reject 198.51.100.0/24\n!stripguard [2001:db8::]/32:9001\n\
             !striphsdir 2001:db8::1\n!reject nobody\n!hang {RSA}\n"
        );
        let read: Vec<_> = Rules::read(&text).collect();
        let numbers: Vec<_> = read.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [3, 4, 5, 7, 8, 9, 10, 11]);
        let good: Vec<Rule> = read
            .iter()
            .filter_map(|(_, rule)| rule.clone().ok())
            .collect();
        let rsa = Subject::Rsa(RSA[1..].parse().unwrap());
        assert_eq!((&good[0].subject, good[0].verdict), (&rsa, Verdict::Reject));
        assert_eq!(good[0].comment, "says somebody");
        assert_eq!(good[1].subject, Subject::Ed25519(ED25519.parse().unwrap()));
        assert_eq!(good[2].subject, rsa);
        let nets: Vec<_> = good[3..]
            .iter()
            .map(|rule| rule.subject.to_string())
            .collect();
        assert_eq!(
            nets,
            ["198.51.100.0/24", "2001:db8::/32", "2001:db8::1/128"]
        );
        let bad: Vec<_> = read
            .into_iter()
            .filter_map(|(_, rule)| rule.err())
            .collect();
        assert_eq!(bad, [BadRule::Subject, BadRule::Verdict]);
    }

    #[test]
    fn sets_name_countries_and_nicknames_too() {
        let set = |text: &str| Subject::of_set(text).map(|subject| subject.to_string());
        assert_eq!(set("{DE}").unwrap(), "{de}");
        assert_eq!(set("moria1").unwrap(), "moria1");
        assert_eq!(set(RSA).unwrap(), RSA[1..]);
        assert_eq!(set("192.0.2.0/24").unwrap(), "192.0.2.0/24");
        assert_eq!(Subject::of_set("*"), Ok(Subject::All));
        for wrong in ["{deu}", "a b", "", "moria-1"] {
            assert_eq!(Subject::of_set(wrong), Err(BadRule::Subject), "{wrong}");
        }
        assert_eq!("moria1".parse::<Subject>(), Err(BadRule::Subject));
    }
}
