//! `cepa authority compute`: the consensus of any files of votes, unsigned.
//!
//! Votes are judged as an authority judges them, but for who may vote and for when: signed with the
//! key of the certificate in them, one an author (the newest), at least the intervals of a test
//! network apart.

use std::collections::BTreeSet;
use std::path::Path;

use cepa_authority::compute::{Ballot, compute};
use cepa_netdoc::consensus::Flavour;
use cepa_netdoc::vote::VoteText;

use crate::archive::document;
use crate::args::ComputeArgs;
use crate::error::{Failure, fail};
use crate::terminal;

/// Writes the consensus to standard output.
pub(super) fn run(args: &ComputeArgs) -> Result<(), Failure> {
    let authorities = usize::from(args.authorities);
    let mut votes: Vec<VoteText> = Vec::new();
    for path in &args.votes {
        match read(path) {
            Ok(vote) => keep(&mut votes, vote),
            Err(reason) => terminal::complain(&format!("{}: {reason}", path.display())),
        }
    }
    let authors: BTreeSet<_> = votes.iter().map(|vote| vote.vote().author()).collect();
    if authors.len() > authorities {
        return fail(
            format!("{} authorities voted", authors.len()),
            format!("--authorities {authorities}"),
            "expected as many or more",
        );
    }
    let ballot = Ballot {
        votes: &votes,
        authorities,
        is_shared_random_fresh: args.fresh_shared_random,
        method_max: u32::from(args.method_max),
    };
    let flavour = Flavour::from_name(&args.flavour).unwrap_or(Flavour::Ns);
    match compute(&ballot) {
        Some(computed) => {
            terminal::write(&computed.text(flavour));
            Ok(())
        }
        None => fail(
            "there is no consensus",
            format!("{} votes", votes.len()),
            "give votes of which one knows the flag Running",
        ),
    }
}

/// Reads a file with a vote, such as an archive has.
pub(super) fn read(path: &Path) -> Result<VoteText, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = VoteText::parse(document(&text)).map_err(|error| error.to_string())?;
    let vote = text.vote();
    if !text.is_signed(vote.certificate.expires) {
        return Err("its signature is wrong".to_owned());
    }
    if !vote.lifetime.has_minimum_intervals(true) {
        return Err("it is for too short an interval".to_owned());
    }
    Ok(text)
}

/// Adds a vote, unless there is one of the same author that is as new.
fn keep(votes: &mut Vec<VoteText>, vote: VoteText) {
    let author = vote.vote().author();
    let held = votes.iter_mut().find(|held| held.vote().author() == author);
    match held {
        None => votes.push(vote),
        Some(held) if held.vote().published < vote.vote().published => *held = vote,
        Some(_) => {}
    }
}
