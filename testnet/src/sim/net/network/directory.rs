//! Documents: virtual HTTP between DirPorts, and what relays and authorities ask for
//! (`src/roles/relay.rs`, `src/roles/authority.rs`).

use std::net::IpAddr;
use std::sync::Arc;

use cepa_authority::{Command as AuthorityCommand, RelayUpload, read_descriptors, read_signatures};
use cepa_crypto::RsaId;
use cepa_dir::fetch::{FetchId, Origin, Reply};
use cepa_dir::request::{DescQuery, Round, VoteQuery};
use cepa_dir::{Asker, DirDocument, DirRequest};
use cepa_relay::{Command as RelayCommand, HsDirStore, HsUpload};
use cepa_wire::Now;

use super::links::{self, Purpose, expect};
use super::machines::{Machine, RelayHost};
use super::{Event, Network};
use crate::sim::net::keys;

/// What a reply is for.
#[derive(Clone)]
enum Asked {
    Nothing,
    Votes,
    Signatures,
    Descriptors,
    Fetch(FetchId),
    Upload(usize),
}

/// A request on its way to a DirPort.
pub(super) struct HttpRequest {
    from: (usize, u64),
    to: usize,
    request: DirRequest,
    body: Arc<str>,
    asked: Asked,
}

/// Its reply on its way back.
pub(super) struct HttpReply {
    to: (usize, u64),
    status: u16,
    body: Vec<u8>,
    asked: Asked,
}

/// Answers a GET out of a store.
fn find(host: &RelayHost, request: &DirRequest, now: Now) -> (u16, Vec<u8>) {
    let asker = Asker {
        accept_encoding: None,
        z: false,
        if_modified_since: None,
    };
    let reply = host.store.reply(request, asker, now.wall);
    (reply.status, reply.body.to_vec())
}

/// Answers what came over a stream (as `answer` of `src/roles/directory.rs`).
pub(super) fn answer(
    host: &mut RelayHost,
    request: &DirRequest,
    body: &[u8],
    is_anonymous: bool,
    now: Now,
) -> (u16, Vec<u8>) {
    let reply = match request {
        DirRequest::HsDescriptor(_) | DirRequest::PostHsDescriptor if !is_anonymous => {
            HsDirStore::reply_not_anonymous()
        }
        DirRequest::HsDescriptor(blinded) => host.hs.reply_fetch(blinded, now),
        DirRequest::PostHsDescriptor => {
            let upload = HsUpload::parse(body, now.wall);
            host.hs.reply_publish(upload, now)
        }
        request if request.is_post() => return (404, Vec::new()),
        request => return find(host, request, now),
    };
    (reply.status, reply.body.to_vec())
}

fn ask(
    net: &mut Network,
    from: usize,
    to: IpAddr,
    request: DirRequest,
    body: Arc<str>,
    asked: Asked,
) {
    let generation = net.machines.get(from).map_or(0, |one| one.generation);
    let Some(to) = net.by_ip.get(&to).copied() else {
        return;
    };
    let delay = net.delay() * 2;
    net.bytes_sent += body.len() as u64;
    let request = HttpRequest {
        from: (from, generation),
        to,
        request,
        body,
        asked,
    };
    net.plan_in(delay, Event::Request(Box::new(request)));
}

/// A request has come to a DirPort.
pub(super) fn serve(net: &mut Network, http: HttpRequest) {
    let now = net.now();
    let (mut status, mut body) = (0, Vec::new());
    let host = net.machines.get_mut(http.to).and_then(Machine::relay);
    let method = if http.request.is_post() {
        "POST"
    } else {
        "GET"
    };
    if let Some(host) = host
        && let Ok((request, _)) = DirRequest::parse(method, &http.request.path(), None)
    {
        match (&mut host.authority, &request) {
            (Some(authority), request) if request.is_post() => {
                let reply = match request {
                    DirRequest::PostVote => {
                        let read = authority.vote_door(now.wall).read(&http.body, now.wall);
                        authority.handle_read_vote(read, now)
                    }
                    DirRequest::PostSignatures => {
                        authority.handle_read_signatures(read_signatures(&http.body), now)
                    }
                    _ => authority.handle_upload(RelayUpload::read(&http.body), now),
                };
                (status, body) = (reply.status, reply.reason.into_bytes());
            }
            (_, request) => (status, body) = find(host, request, now),
        }
    }
    net.note(format_args!(
        "{}>{} {} {status}",
        http.from.0,
        http.to,
        http.request.path().chars().take(40).collect::<String>()
    ));
    net.settle(http.to);
    let delay = net.delay();
    net.bytes_sent += body.len() as u64;
    let reply = HttpReply {
        to: http.from,
        status,
        body,
        asked: http.asked,
    };
    net.plan_in(delay, Event::Reply(Box::new(reply)));
}

/// A reply has come.
pub(super) fn take_reply(net: &mut Network, reply: HttpReply) {
    let now = net.now();
    let (number, generation) = reply.to;
    if !net.is_same(number, generation) {
        return;
    }
    let Some(host) = net.machines.get_mut(number).and_then(Machine::relay) else {
        return;
    };
    let text = std::str::from_utf8(&reply.body).unwrap_or_default();
    match (reply.asked, &mut host.authority) {
        (Asked::Fetch(id), _) => {
            let reply = Reply {
                status: reply.status,
                body: reply.body,
            };
            host.relay.handle_fetch(id, reply, now);
        }
        (Asked::Upload(authority), _) => {
            host.relay.handle_upload(authority, reply.status, text, now);
        }
        (Asked::Votes, Some(authority)) if reply.status == 200 => {
            let read = authority.vote_door(now.wall).read_all(text, now.wall);
            authority.handle_read_votes(read, now);
        }
        (Asked::Signatures, Some(authority)) if reply.status == 200 => {
            authority.handle_read_signatures(read_signatures(text), now);
        }
        (Asked::Descriptors, Some(authority)) if reply.status == 200 => {
            authority.handle_read_descriptors(read_descriptors(text), now);
        }
        _ => {}
    }
    net.settle(number);
}

pub(super) fn do_authority(net: &mut Network, number: usize, command: AuthorityCommand) {
    let none: Arc<str> = "".into();
    match command {
        AuthorityCommand::PostVote { to, body } => {
            let to = IpAddr::V4(*to.ip());
            ask(net, number, to, DirRequest::PostVote, body, Asked::Nothing);
        }
        AuthorityCommand::PostSignatures { to, body } => {
            let to = IpAddr::V4(*to.ip());
            ask(
                net,
                number,
                to,
                DirRequest::PostSignatures,
                body,
                Asked::Nothing,
            );
        }
        AuthorityCommand::FetchVotes { from, of } => {
            let request = DirRequest::Votes(Round::Next, VoteQuery::Identities(of));
            let from = IpAddr::V4(*from.ip());
            ask(net, number, from, request, none, Asked::Votes);
        }
        AuthorityCommand::FetchSignatures { from } => {
            let from = IpAddr::V4(*from.ip());
            ask(
                net,
                number,
                from,
                DirRequest::Signatures,
                none,
                Asked::Signatures,
            );
        }
        AuthorityCommand::FetchDescriptors { from, digests } => {
            let request = DirRequest::ServerDescs(DescQuery::Digests(digests));
            let from = IpAddr::V4(*from.ip());
            ask(net, number, from, request, none, Asked::Descriptors);
        }
        AuthorityCommand::TestReachability {
            address,
            rsa_id,
            ed25519,
        } => test(net, number, address, rsa_id, ed25519),
        AuthorityCommand::Serve(document) => serve_document(net, number, document),
        AuthorityCommand::Withdraw(digest) => {
            if let Some(host) = net.machines.get_mut(number).and_then(Machine::relay) {
                host.store.withdraw(&digest);
            }
        }
        // Authorities do not crash here; `sim authorities` is for that.
        AuthorityCommand::Put(_) | AuthorityCommand::Drop(..) => {}
    }
}

fn test(
    net: &mut Network,
    number: usize,
    address: std::net::SocketAddr,
    rsa: RsaId,
    ed: Option<cepa_crypto::Ed25519Id>,
) {
    let expected = expect(rsa, ed);
    links::connect(net, number, address, expected, Purpose::Test(rsa, address));
}

fn serve_document(net: &mut Network, number: usize, document: DirDocument) {
    let now = net.now();
    let Some(host) = net.machines.get_mut(number).and_then(Machine::relay) else {
        return;
    };
    let DirDocument::Consensus(text) = &document else {
        host.store.insert(document, now.wall);
        return;
    };
    let relays = text.consensus().routers.len();
    // A relay that takes it has it served; or it was kept, or others gave it before.
    if host.relay.offer_consensus(text.clone(), now).is_err() {
        host.store.insert(document, now.wall);
    }
    net.report.consensuses += 1;
    net.note(format_args!(
        "machine {number} has a consensus of {relays} relays"
    ));
}

pub(super) fn do_relay(net: &mut Network, number: usize, command: RelayCommand) {
    let now = net.now();
    match command {
        RelayCommand::Fetch { id, request, from } => {
            let (Origin::DirPort(index) | Origin::BeginDir { fallback: index }) = from;
            let listed = net.file.authorities.get(index);
            if let Some(to) = listed.map(|one| IpAddr::V4(*one.dir_addr.ip())) {
                ask(net, number, to, request, "".into(), Asked::Fetch(id));
            }
            return;
        }
        RelayCommand::Upload {
            authority,
            to,
            body,
        } => {
            let (to, asked) = (IpAddr::V4(*to.ip()), Asked::Upload(authority));
            return ask(net, number, to, DirRequest::PostDescriptor, body, asked);
        }
        _ => {}
    }
    let Some(machine) = net.machines.get_mut(number) else {
        return;
    };
    let mut rng = machine.rng.fork();
    let Some(host) = machine.relay() else {
        return;
    };
    match command {
        RelayCommand::Serve(document) => {
            if let (DirDocument::Consensus(text), Some(authority)) =
                (&document, &mut host.authority)
            {
                authority.handle_consensus(text, now);
            }
            host.store.insert(document, now.wall);
        }
        RelayCommand::OnionKeys(keys) => host.onion = Some(keys),
        RelayCommand::MakeTlsKey(_) => host.relay.handle_tls_key(Ok(keys::tls(now)), now),
        RelayCommand::Link { identity, .. } => host.link = Some(identity),
        RelayCommand::Switch(config) => host.configure(config, &mut rng, now),
        RelayCommand::HsDuty(duty) => {
            host.hs.expire(now);
            host.hs.set_duty(*duty);
        }
        RelayCommand::Relays(relays) => {
            host.relays = Arc::clone(&relays);
            if let Some(switch) = &mut host.switch {
                switch.set_relays(relays);
            }
        }
        RelayCommand::SaveKeys { files, .. } => {
            let mut kept: Vec<_> = machine.files.as_ref().clone();
            kept.retain(|one| files.iter().all(|new| new.path != one.path));
            kept.extend(files);
            machine.files = Arc::new(kept);
        }
        _ => {}
    }
}
