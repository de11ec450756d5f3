//! An authority in words, made of its snapshot.

use std::fmt::Write as _;

use cepa_authority::status::{AuthorityStatus, RoundState};
use cepa_netdoc::timestamp::encode;

/// All of it, the relays of its last vote with their flags included.
pub(crate) fn words(status: &AuthorityStatus) -> String {
    let mut text = summary(status);
    if let Some(vote) = &status.vote {
        let _ = writeln!(text, "  vote for {}:", encode(vote.valid_after));
        for one in &vote.relays {
            let _ = writeln!(text, "    {} ({}): {}", one.nickname, one.rsa, one.flags);
        }
    }
    text
}

/// The round, how many have voted and signed, the certificates; a line each.
pub(crate) fn summary(status: &AuthorityStatus) -> String {
    let mut text = format!(
        "authority {}: {} relays have published here, {} of them run\n",
        status.identity, status.relays, status.running
    );
    if let Some(one) = &status.consensus {
        let (from, until) = (encode(one.valid_after), encode(one.valid_until));
        let _ = writeln!(
            text,
            "  consensus of {from}, valid until {until}: {} relays, {} signatures",
            one.listed, one.signatures
        );
    }
    if let Some(round) = &status.round {
        let state = match round.state {
            RoundState::Voting => "votes come in",
            RoundState::Signing => "signatures come in",
            RoundState::Void => "its votes make no consensus",
        };
        let _ = writeln!(
            text,
            "  round of {}: {state}; {} voted, {} missing, {} signed; out at {}",
            encode(round.valid_after),
            round.voted.len(),
            round.missing.len(),
            round.signed.len(),
            encode(round.publish)
        );
    }
    let _ = writeln!(text, "  votes next at {}", encode(status.next_vote));
    for one in &status.certificates {
        let _ = writeln!(
            text,
            "  certificate of {}: from {} to {}",
            one.identity,
            encode(one.published),
            encode(one.expires)
        );
    }
    text
}
