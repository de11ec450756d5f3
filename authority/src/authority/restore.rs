//! An authority is made again of the rows that an earlier run put; what is damaged is left out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::DirDocument;
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::vote::VoteText;
use cepa_wire::Now;

use super::Authority;
use crate::command::{Command, Row, RowKind};
use crate::history::History;
use crate::round::Signed;
use crate::srv::SharedRandom;
use crate::uploads::{RelayUpload, Source};

/// Takes all of them.
pub(super) fn rows(authority: &mut Authority, rows: Vec<Row>, now: Now) {
    let mut descriptors = BTreeMap::<String, [String; 2]>::new();
    let (mut votes, mut consensuses) = (Vec::new(), Vec::new());
    for row in rows {
        let Ok(text) = String::from_utf8(row.bytes) else {
            continue;
        };
        match row.kind {
            RowKind::Descriptor => descriptors.entry(row.key).or_default()[0] = text,
            RowKind::ExtraInfo => descriptors.entry(row.key).or_default()[1] = text,
            RowKind::KeyPin => {
                if let (Ok(rsa), Ok(ed)) = (row.key.parse::<RsaId>(), text.parse::<Ed25519Id>()) {
                    authority.relays.restore_pin(rsa, ed);
                }
            }
            RowKind::History => {
                if let (Ok(rsa), Some(mut history)) = (row.key.parse(), History::parse(&text)) {
                    history.resume(now.wall);
                    authority.relays.restore_history(rsa, history);
                }
            }
            RowKind::Certificate => {
                if let Ok(cert) = AuthCert::parse(&text) {
                    authority.add_certificate(&cert);
                }
            }
            RowKind::Consensus => consensuses.push(text),
            RowKind::SharedRandom => authority.shared_random = SharedRandom::parse(&text),
            RowKind::Signed => authority.signed = Signed::parse(&text),
            RowKind::Vote => votes.extend(VoteText::parse(text)),
            RowKind::Equivocation => authority.equivocations.restore(&text),
        }
    }
    // Only now are all certificates there that confirm them.
    for text in consensuses {
        restore_consensus(authority, text, now.wall);
    }
    restore_votes(authority, votes);
    for (key, [descriptor, extra_info]) in descriptors {
        let mut commands = Vec::new();
        let config = &authority.config;
        let reply = match RelayUpload::read(&(descriptor + &extra_info)) {
            Ok(upload) => {
                let relays = &mut authority.relays;
                relays.upload(upload, Source::Stored, config, now.wall, &mut commands)
            }
            Err(refusal) => refusal,
        };
        // They are in the store already.
        commands.retain(|command| !matches!(command, Command::Put(_)));
        if reply.status != 200 {
            tracing::info!(
                relay = key,
                reason = reply.reason,
                "what was stored of a relay is not taken over"
            );
            // The descriptor may be good, and the extra-info that of one before it.
            let is_known = key.parse().is_ok_and(|id| authority.relays.knows(&id));
            let descriptor = (!is_known).then_some(RowKind::Descriptor);
            let kinds = descriptor.into_iter().chain([RowKind::ExtraInfo]);
            commands.extend(kinds.map(|kind| Command::Drop(kind, key.clone())));
        }
        authority.commands.extend(commands);
    }
}

/// Votes of an earlier run: those of the consensus are served, and ours is not made again.
fn restore_votes(authority: &mut Authority, mut votes: Vec<VoteText>) {
    let own = authority.keys.cert.identity;
    // Who votes may have changed meanwhile.
    votes.retain(|text| authority.config.authority(&text.vote().author()).is_some());
    let start = |text: &VoteText| text.vote().lifetime.valid_after;
    let ours = votes.iter().filter(|text| text.vote().author() == own);
    authority.own_vote = ours.max_by_key(|text| start(text)).cloned();
    let decided = authority
        .consensus
        .as_ref()
        .map(|text| text.consensus().lifetime.valid_after);
    // Those of the round that went on: they were answered with 200, and nobody posts them again.
    let undecided = votes.iter().filter(|text| decided < Some(start(text)));
    for text in undecided.filter(|text| text.vote().author() != own) {
        authority
            .early_votes
            .insert(text.vote().author(), text.clone());
    }
    votes.retain(|text| Some(start(text)) == decided);
    if !votes.is_empty() {
        authority.decided_votes.clone_from(&votes);
        authority.serve(DirDocument::CurrentVotes(votes));
    }
}

/// A consensus of an earlier run: believed only while it is in force, and if most authorities
/// of the network as it is now have signed it.
fn restore_consensus(authority: &mut Authority, text: String, now: SystemTime) {
    let Ok(text) = ConsensusText::parse(text) else {
        return;
    };
    let certs: Vec<AuthCert> = authority.certs.values().cloned().collect();
    let trusted = authority.config.v3_identities();
    let signers = text.signers(&certs, &trusted, now);
    if !text.consensus().lifetime.is_live(now) || !signers.is_majority(trusted.len()) {
        return;
    }
    if text.consensus().flavour == Flavour::Ns {
        authority.consensus = Some(text.clone());
    }
    authority.serve(DirDocument::Consensus(text));
}
