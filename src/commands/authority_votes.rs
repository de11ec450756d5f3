//! `cepa authority why`, `diff` and `health`: what votes say, and what an authority says of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cepa_authority::diff::Differences;
use cepa_authority::why::why as why_of;
use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_dir::request::{Round, VoteQuery};
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::vote::{Vote, VoteText};
use serde::Serialize;

use crate::args::{AskArgs, DiffArgs, WhyArgs};
use crate::error::{Failure, fail};
use crate::network::Network;
use crate::roles::fetch;
use crate::status::{self, Question, Subject};
use crate::{clock, terminal};

/// Says why a relay has its flags.
pub(super) fn why(args: &WhyArgs) -> Result<(), Failure> {
    if let Some(data_dir) = &args.data_dir {
        let question = Question {
            is_json: args.json,
            relay: Some(args.relay),
            ..Question::about(Subject::Why)
        };
        let told = status::ask(data_dir, question)?;
        terminal::say(String::from_utf8_lossy(&told).trim_end());
        return Ok(());
    }
    let seen = match &args.network {
        Some(network) => Seen::of_network(network)?,
        None => Seen::of_files(&args.votes)?,
    };
    let authorities = args.authorities.map_or(seen.authorities, usize::from);
    let consensus = seen.consensus.as_ref().map(|text| &**text.consensus());
    let told = why_of(&args.relay, &seen.votes, authorities, consensus);
    print(&told, args.json, || status::votes::why(&told));
    Ok(())
}

/// Says in what votes differ.
pub(super) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let seen = match &args.network {
        Some(network) => Seen::of_network(network)?,
        None => Seen::of_files(&args.votes)?,
    };
    let found = Differences::of(&seen.votes);
    print(&found, args.json, || status::votes::differences(&found));
    Ok(())
}

/// Says how well an authority works, and fails if that is not well.
pub(super) fn health(args: &AskArgs) -> Result<(), Failure> {
    let ask = |is_json| {
        let question = Question {
            is_json,
            ..Question::about(Subject::Health)
        };
        status::ask(&args.data_dir, question)
    };
    let told = ask(true)?;
    let shown = if args.json { told.clone() } else { ask(false)? };
    terminal::say(String::from_utf8_lossy(&shown).trim_end());
    let health: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
    match health
        .get("problems")
        .and_then(|problems| problems.as_array())
    {
        Some(problems) if problems.is_empty() => Ok(()),
        problems => fail(
            format!("{} problems", problems.map_or(0, Vec::len)),
            args.data_dir.display(),
            "see above",
        ),
    }
}

fn print(told: &impl Serialize, is_json: bool, words: impl FnOnce() -> String) {
    let text = match is_json {
        true => serde_json::to_string_pretty(told).unwrap_or_default(),
        false => words(),
    };
    terminal::say(text.trim_end());
}

/// The votes of a round.
struct Seen {
    votes: Vec<Arc<Vote>>,
    authorities: usize,
    consensus: Option<ConsensusText>,
}

impl Seen {
    fn of_files(paths: &[PathBuf]) -> Result<Self, Failure> {
        if paths.is_empty() {
            let advice = "give --data-dir, --network, or files of votes";
            return fail("no votes", "cepa authority", advice);
        }
        let read = paths.iter().filter_map(|path| {
            let read = super::authority_compute::read(path);
            read.map_err(|reason| terminal::complain(&format!("{}: {reason}", path.display())))
                .ok()
        });
        let votes: Vec<_> = read.map(|text| Arc::clone(text.vote())).collect();
        Ok(Seen {
            authorities: votes.len(),
            votes,
            consensus: None,
        })
    }

    /// What the authorities of a network serve: each its own vote, or another's that it holds.
    fn of_network(path: &Path) -> Result<Self, Failure> {
        let network = Network::load(path)?;
        let runtime = crate::runtime::runtime()?;
        let votes = runtime.block_on(fetch_votes(&network));
        let start = votes.first().map(|vote| vote.vote().lifetime.valid_after);
        if votes.is_empty() {
            runtime.shutdown_background();
            let advice = "no authority serves the votes of a consensus now";
            return fail("no votes", path.display(), advice);
        }
        let consensus = runtime.block_on(fetch_consensus(&network));
        runtime.shutdown_background();
        let is_of_votes =
            |text: &ConsensusText| Some(text.consensus().lifetime.valid_after) == start;
        Ok(Seen {
            votes: votes.iter().map(|text| Arc::clone(text.vote())).collect(),
            authorities: network.authorities.len(),
            consensus: consensus.filter(is_of_votes),
        })
    }
}

/// The vote of each authority, from itself; if it does not answer, from another one.
async fn fetch_votes(network: &Network) -> Vec<VoteText> {
    let of_each = network.authorities.iter().map(|authority| {
        let elsewhere = network.authorities.iter().filter(|one| *one != authority);
        let places = std::iter::once(authority).chain(elsewhere);
        let places: Vec<SocketAddr> = places.map(|one| one.dir_addr.into()).collect();
        tokio::spawn(fetch_vote(authority.v3_identity, places))
    });
    let of_each: Vec<_> = of_each.collect();
    let mut votes: Vec<VoteText> = Vec::new();
    for fetched in of_each {
        votes.extend(fetched.await.ok().flatten());
    }
    // Those of the newest round: an authority that was away serves an older one.
    let newest = votes
        .iter()
        .map(|vote| vote.vote().lifetime.valid_after)
        .max();
    votes.retain(|vote| Some(vote.vote().lifetime.valid_after) == newest);
    votes
}

async fn fetch_vote(author: RsaId, places: Vec<SocketAddr>) -> Option<VoteText> {
    let now = clock::now().wall;
    let request = DirRequest::Votes(Round::Current, VoteQuery::Identities(vec![author]));
    for place in places {
        let reply = fetch::over_dir_port(place, &request).await;
        let vote = text_of(reply).and_then(|text| VoteText::parse(text).ok());
        let is_good = |vote: &VoteText| vote.vote().author() == author && vote.is_signed(now);
        if let Some(vote) = vote.filter(is_good) {
            return Some(vote);
        }
    }
    None
}

/// The newest consensus that an authority serves. It is not verified: it only names outcomes.
async fn fetch_consensus(network: &Network) -> Option<ConsensusText> {
    let fetched = network.authorities.iter().map(|authority| {
        let place = authority.dir_addr.into();
        tokio::spawn(async move {
            let request = DirRequest::Consensus {
                flavour: Flavour::Ns,
                signers: Vec::new(),
                diff_from: Vec::new(),
            };
            let text = text_of(fetch::over_dir_port(place, &request).await)?;
            ConsensusText::parse(text).ok()
        })
    });
    let fetched: Vec<_> = fetched.collect();
    let mut newest: Option<ConsensusText> = None;
    let start = |text: &ConsensusText| text.consensus().lifetime.valid_after;
    for one in fetched {
        newest = newest
            .into_iter()
            .chain(one.await.ok().flatten())
            .max_by_key(start);
    }
    newest
}

fn text_of(reply: Reply) -> Option<String> {
    String::from_utf8(reply.body)
        .ok()
        .filter(|_| reply.status == 200)
}
