//! What tests read of consensuses by eye: plain lines, without any parser of ours.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::fetch::document;

/// A consensus that a directory port serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `YYYY-MM-DD HH:MM:SS`, which sorts as it stands.
    pub(crate) valid_after: String,
    /// The nicknames of those whose votes it is made of.
    pub(crate) voters: BTreeSet<String>,
    /// The v3 identities of the authorities that have signed.
    pub(crate) signers: BTreeSet<String>,
    /// How many relays it lists.
    pub(crate) relays: usize,
}

/// The consensus in force, if there is one.
pub(crate) fn consensus(dir: SocketAddr) -> Option<Seen> {
    read(&document(dir, "/tor/status-vote/current/consensus")?)
}

/// Reads a consensus of the `ns` flavour.
pub(crate) fn read(text: &str) -> Option<Seen> {
    let words = |keyword: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(keyword)?.strip_prefix(' '))
            .map(|rest| rest.split(' ').collect::<Vec<_>>())
    };
    let voter = |words: Vec<&str>| words.first().map(|word| (*word).to_owned());
    // `directory-signature [ALGORITHM] IDENTITY DIGEST`
    let signer = |words: Vec<&str>| words.iter().rev().nth(1).map(|word| (*word).to_owned());
    Some(Seen {
        valid_after: words("valid-after").next()?.join(" "),
        voters: words("dir-source").filter_map(voter).collect(),
        signers: words("directory-signature").filter_map(signer).collect(),
        relays: words("r").count(),
    })
}

/// Seconds since midnight of `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn seconds_of_day(time: &str) -> u64 {
    let (_, clock) = time.split_once(' ').unwrap();
    let parts = clock.split(':').map(|part| part.parse::<u64>().unwrap());
    parts.fold(0, |sum, part| sum * 60 + part)
}
