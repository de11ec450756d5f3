//! What goes between authorities: the commands of the cores as virtual HTTP.

use std::sync::Arc;
use std::time::Duration;

use cepa_authority::{Command, RelayUpload, Reply, read_descriptors, read_signatures};
use cepa_dir::request::{DescQuery, Round, VoteQuery};
use cepa_dir::{Asker, DirDocument, DirRequest};
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::VoteText;

use super::liar::{Lie, Posted};
use super::model::hour_of;
use super::node::Change;
use super::{Event, Fault, World, between, one_in};

/// What an upload or a request brings.
#[derive(Clone)]
pub(super) enum Body {
    Text(Arc<str>),
    /// A relay's upload, which was read once for all.
    Read(Result<RelayUpload, Reply>),
}

/// A request on its way. `from` is an authority, as it was started then, or a relay.
pub(super) struct Message {
    pub(super) from: Option<(usize, u64)>,
    pub(super) to: usize,
    pub(super) request: DirRequest,
    pub(super) body: Body,
}

/// A reply on its way.
pub(super) struct Answer {
    to: (usize, u64),
    from: usize,
    request: DirRequest,
    status: u16,
    body: Arc<[u8]>,
}

impl Message {
    pub(super) fn post(from: Option<(usize, u64)>, to: usize, posted: Posted) -> Self {
        let (request, text) = match posted {
            Posted::Vote(text) => (DirRequest::PostVote, text),
            Posted::Signatures(text) => (DirRequest::PostSignatures, text),
        };
        Message {
            from,
            to,
            request,
            body: Body::Text(text),
        }
    }

    fn get(from: (usize, u64), to: usize, request: DirRequest) -> Self {
        Message {
            from: Some(from),
            to,
            request,
            body: Body::Text("".into()),
        }
    }
}

fn kind(request: &DirRequest) -> &'static str {
    match request {
        DirRequest::PostVote => "vote",
        DirRequest::PostSignatures => "signatures",
        DirRequest::PostDescriptor => "descriptor",
        DirRequest::Votes(..) => "votes?",
        DirRequest::Signatures => "signatures?",
        DirRequest::Consensus { .. } => "consensus?",
        _ => "documents?",
    }
}

/// Sends a request, unless the way is cut or the connection is reset.
pub(super) fn send(world: &mut World, message: Message) {
    let delay = world.links.delay(&mut world.rng);
    let is_cut = message
        .from
        .is_some_and(|(from, _)| world.links.is_cut(from, message.to));
    world.report.requests += 1;
    if let Body::Text(text) = &message.body {
        world.report.bytes += text.len() as u64;
    }
    if let Some(delay) = delay.filter(|_| !is_cut) {
        let arrives = world.at + delay;
        world.events.plan(arrives, Event::Arrive(Box::new(message)));
    }
}

/// A relay uploads its descriptor to all.
pub(super) fn upload(world: &mut World, relay: usize) {
    let Some(body) = world.relays.get(relay).map(|relay| Arc::clone(&relay.body)) else {
        return;
    };
    let read = RelayUpload::read(&body);
    for to in 0..world.nodes.len() {
        world.report.bytes += body.len() as u64;
        send(
            world,
            Message {
                from: None,
                to,
                request: DirRequest::PostDescriptor,
                body: Body::Read(read.clone()),
            },
        );
    }
}

/// A request has come.
pub(super) fn arrive(world: &mut World, message: Message) {
    let now = world.now(message.to);
    let from = message.from.map_or(-1, |(from, _)| from as i64);
    world.note(format_args!(
        "{from}>{} {}",
        message.to,
        kind(&message.request)
    ));
    overhear(world, &message);
    let Some(node) = world.nodes.get_mut(message.to) else {
        return;
    };
    let Some(core) = &mut node.core else {
        return refuse(world, &message);
    };
    let method = if message.request.is_post() {
        "POST"
    } else {
        "GET"
    };
    let Ok((request, _)) = DirRequest::parse(method, &message.request.path(), None) else {
        return refuse(world, &message);
    };
    let authority = &mut core.authority;
    match (&request, &message.body) {
        (DirRequest::PostVote, Body::Text(text)) => {
            let read = authority.vote_door(now.wall).read(text, now.wall);
            authority.handle_read_vote(read, now);
        }
        (DirRequest::PostSignatures, Body::Text(text)) => {
            authority.handle_read_signatures(read_signatures(text), now);
        }
        (DirRequest::PostDescriptor, Body::Read(read)) => {
            let reply = authority.handle_upload(read.clone(), now);
            let status = reply.status;
            world.note(format_args!("{} says {status}", message.to));
        }
        (request, _) => {
            let asker = Asker {
                accept_encoding: None,
                z: false,
                if_modified_since: None,
            };
            let reply = core.store.reply(request, asker, now.wall);
            let (status, mut body) = (reply.status, reply.body);
            if let (DirRequest::Consensus { .. }, Some(liar)) = (request, &node.liar)
                && liar.does(Lie::ForgesConsensus)
                && let Some(text) = core.store.consensus(Flavour::Ns)
            {
                body = liar
                    .forge_consensus(text, node.keys.id())
                    .into_bytes()
                    .into();
            }
            answer(world, &message, status, body);
        }
    }
    drain(world, message.to);
}

fn refuse(world: &mut World, message: &Message) {
    answer(world, message, 0, Arc::new([]));
}

fn answer(world: &mut World, message: &Message, status: u16, body: Arc<[u8]>) {
    let Some(to) = message.from else { return };
    let delay = world.links.delay(&mut world.rng);
    world.report.bytes += body.len() as u64;
    if let Some(delay) = delay.filter(|_| !world.links.is_cut(to.0, message.to)) {
        let answer = Answer {
            to,
            from: message.to,
            request: message.request.clone(),
            status,
            body,
        };
        let arrives = world.at + delay;
        world.events.plan(arrives, Event::Answer(Box::new(answer)));
    }
}

/// A reply has come (as `fetch` of `src/roles/authority.rs`).
pub(super) fn take_answer(world: &mut World, answer: Answer) {
    let (number, generation) = answer.to;
    let now = world.now(number);
    world.note(format_args!(
        "{}<{} {} {}",
        number,
        answer.from,
        kind(&answer.request),
        answer.status
    ));
    let Ok(body) = std::str::from_utf8(&answer.body) else {
        return;
    };
    if answer.status != 200 {
        return;
    }
    if let DirRequest::Consensus { .. } = answer.request {
        return believe(world, number, generation, body);
    }
    let Some(core) = world.core(number, generation) else {
        return;
    };
    let authority = &mut core.authority;
    match answer.request {
        DirRequest::Votes(..) => {
            let read = authority.vote_door(now.wall).read_all(body, now.wall);
            authority.handle_read_votes(read, now);
        }
        DirRequest::Signatures => {
            authority.handle_read_signatures(read_signatures(body), now);
        }
        DirRequest::ServerDescs(_) => {
            authority.handle_read_descriptors(read_descriptors(body), now);
        }
        _ => {}
    }
    drain(world, number);
}

/// The relay beside an authority asks for the consensus that it has not.
pub(super) fn catch_up(world: &mut World, number: usize, generation: u64) {
    let now = world.now(number);
    let Some(core) = world.core(number, generation) else {
        return;
    };
    let held = core.store.consensus(Flavour::Ns);
    if held.is_some_and(|text| text.consensus().lifetime.is_fresh(now.wall)) {
        return;
    }
    let others: Vec<usize> = (0..world.nodes.len())
        .filter(|one| *one != number)
        .collect();
    let at = world.rng.below(others.len() as u64) as usize;
    let Some(to) = others.get(at).copied() else {
        return;
    };
    let request = DirRequest::Consensus {
        flavour: Flavour::Ns,
        signers: Vec::new(),
        diff_from: Vec::new(),
    };
    send(world, Message::get((number, generation), to, request));
    let soon = between(
        &mut world.rng,
        Duration::from_secs(20),
        Duration::from_secs(600),
    );
    world
        .events
        .plan(world.at + soon, Event::CatchUp(number, generation));
}

fn believe(world: &mut World, number: usize, generation: u64, body: &str) {
    let now = world.now(number);
    let Ok(text) = ConsensusText::parse(body) else {
        return;
    };
    let good = good(world, &text);
    let is_careless = world
        .nodes
        .get(number)
        .is_some_and(|node| node.fault == Some(Fault::BelievesAnybody));
    let is_live = text.consensus().lifetime.is_live(now.wall);
    if !is_live || (good < world.model.majority() && !is_careless) {
        return;
    }
    let Some(core) = world.core(number, generation) else {
        return;
    };
    let store = &mut core.store;
    store.insert(DirDocument::Consensus(text.clone()), now.wall);
    core.authority.handle_consensus(&text, now);
    drain(world, number);
    // Unless it has crashed before that was kept.
    if world.model.is_honest(number) && world.core(number, generation).is_some() {
        world.model.has(number, text.consensus(), good);
    }
}

/// How many authorities have signed it.
fn good(world: &mut World, text: &ConsensusText) -> usize {
    let key = cepa_crypto::digest::sha256(text.text().as_bytes());
    let (certs, trusted) = (&world.certs, &world.trusted);
    let at = std::time::SystemTime::UNIX_EPOCH + world.start;
    let count = || text.signers(certs, trusted, at).good.len();
    *world.good.entry(key).or_insert_with(count)
}

/// Does what a core asks for (as `drain` of `src/roles/authority.rs`): first the disk, then
/// the rest, and crashes wherever it is to.
pub(super) fn drain(world: &mut World, number: usize) {
    let Some(node) = world.nodes.get_mut(number) else {
        return;
    };
    let Some(core) = node.core.as_mut() else {
        return;
    };
    let (mut changes, mut commands) = (Vec::new(), Vec::new());
    while let Some(command) = core.authority.poll_command() {
        match command {
            Command::Put(row) => changes.push(Change::Put(row)),
            Command::Drop(kind, key) => changes.push(Change::Drop(kind, key)),
            other => commands.push(other),
        }
    }
    // Tests of relays go on all the time; a crash that is planned is for a round.
    let is_round = |one: &Command| !matches!(one, Command::TestReachability { .. });
    if !changes.is_empty() && commands.iter().any(is_round) && node.step() {
        return crash_as_planned(world, number);
    }
    node.write(changes);
    for command in commands {
        let node = world.nodes.get_mut(number);
        if node.is_some_and(|node| is_round(&command) && node.step()) {
            return crash_as_planned(world, number);
        }
        run_command(world, number, command);
    }
    plan_wake(world, number);
}

fn crash_as_planned(world: &mut World, number: usize) {
    let plan = world
        .nodes
        .get_mut(number)
        .and_then(|node| node.crash.take());
    if let Some(plan) = plan {
        world.crash(number, plan.down, plan.jump);
    }
}

fn plan_wake(world: &mut World, number: usize) {
    let (base, at) = (world.base, world.at);
    let Some(node) = world.nodes.get_mut(number) else {
        return;
    };
    let due = node
        .core
        .as_ref()
        .and_then(|core| core.authority.poll_timeout());
    let Some(due) = due.map(|due| due.saturating_duration_since(base).max(at)) else {
        return;
    };
    if node
        .wake
        .is_none_or(|planned| due < planned || planned < at)
    {
        node.wake = Some(due);
        let generation = node.generation;
        world.events.plan(due, Event::Wake(number, generation));
    }
}

fn run_command(world: &mut World, number: usize, command: Command) {
    let generation = world.nodes.get(number).map_or(0, |node| node.generation);
    let from = (number, generation);
    let peer = |port: u16| usize::from(port).saturating_sub(1);
    match command {
        Command::PostVote { to, body } => post_vote(world, from, peer(to.port()), &body),
        Command::PostSignatures { to, body } => {
            note_signature(world, number, &body);
            let to = peer(to.port());
            send(
                world,
                Message::post(Some(from), to, Posted::Signatures(body)),
            );
        }
        Command::FetchVotes { from: at, of } => {
            let request = DirRequest::Votes(Round::Next, VoteQuery::Identities(of));
            send(world, Message::get(from, peer(at.port()), request));
        }
        Command::FetchSignatures { from: at } => {
            send(
                world,
                Message::get(from, peer(at.port()), DirRequest::Signatures),
            );
        }
        Command::FetchDescriptors { from: at, digests } => {
            let request = DirRequest::ServerDescs(DescQuery::Digests(digests));
            send(world, Message::get(from, peer(at.port()), request));
        }
        Command::TestReachability {
            rsa_id, address, ..
        } => {
            let takes = between(
                &mut world.rng,
                Duration::from_millis(50),
                Duration::from_millis(1500),
            );
            let ended = Event::Reached(number, generation, rsa_id, address);
            world.events.plan(world.at + takes, ended);
        }
        Command::Serve(document) => serve(world, number, document),
        Command::Withdraw(digest) => {
            if let Some(core) = world.core(number, generation) {
                core.store.withdraw(&digest);
            }
        }
        Command::Put(_) | Command::Drop(..) => {}
    }
}

fn post_vote(world: &mut World, from: (usize, u64), to: usize, body: &Arc<str>) {
    let number = from.0;
    note_vote(world, number, body);
    let liar = world
        .nodes
        .get_mut(number)
        .and_then(|node| node.liar.as_mut());
    let (mut is_late, mut sent) = (false, Arc::clone(body));
    if let Some(liar) = liar {
        is_late = liar.does(Lie::LastMoment);
        if let Some(vote) = liar.vote(body, true) {
            sent = Arc::clone(vote.text());
        }
    }
    let message = Message::post(Some(from), to, Posted::Vote(sent));
    if is_late {
        // Around the time when votes are fetched, or when they are counted.
        let moment = if one_in(&mut world.rng, 2) { 150 } else { 300 };
        let around = between(&mut world.rng, Duration::ZERO, Duration::from_secs(20));
        let at = world.at + Duration::from_secs(moment - 15) + around;
        world.events.plan(at, Event::Arrive(Box::new(message)));
    } else {
        send(world, message);
    }
}

/// Tells the model of a vote of an authority, once.
fn note_vote(world: &mut World, number: usize, body: &Arc<str>) {
    if !world.model.is_honest(number) {
        return;
    }
    let is_known = world.nodes.get_mut(number).is_some_and(|node| {
        let is_known = node
            .last_vote
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, body));
        node.last_vote = Some(Arc::clone(body));
        is_known
    });
    if is_known {
        return;
    }
    let Ok(text) = VoteText::parse(Arc::clone(body)) else {
        return world
            .model
            .fail(0, format!("auth{number} posts what is no vote"));
    };
    world.model.voted(number, &text);
}

fn note_signature(world: &mut World, number: usize, body: &str) {
    let Some(own) = world.nodes.get(number).map(|node| node.keys.id()) else {
        return;
    };
    let Ok(detached) = DetachedSignatures::parse(body) else {
        return;
    };
    if detached.ns.iter().any(|one| one.identity == own) {
        let hour = hour_of(detached.lifetime.valid_after);
        world.model.signed(number, hour, detached.consensus_digest);
    }
}

fn serve(world: &mut World, number: usize, document: DirDocument) {
    let now = world.now(number);
    let mut document = document;
    if let DirDocument::Consensus(text) = &document {
        let consensus = text.consensus();
        let hour = hour_of(consensus.lifetime.valid_after) % 24;
        let good = good(world, text);
        let name = consensus.flavour.name();
        world.note(format_args!(
            "auth{number} has {name} of {hour}: {good} signatures"
        ));
        if world.model.is_honest(number) && consensus.flavour == Flavour::Ns {
            world.model.published(number, text, good);
        }
    }
    let fault = world.nodes.get(number).and_then(|node| node.fault);
    if let (Some(Fault::PublishesAlone), DirDocument::NextConsensus(Flavour::Ns, text)) =
        (fault, &document)
        && let Ok(text) = ConsensusText::parse(Arc::clone(text))
    {
        return serve(world, number, DirDocument::Consensus(text));
    }
    let Some(node) = world.nodes.get_mut(number) else {
        return;
    };
    if let (Some(liar), DirDocument::NextVote(vote)) = (&mut node.liar, &document)
        && vote.vote().author() == node.keys.id()
        && let Some(altered) = liar.vote(vote.text(), false)
    {
        document = DirDocument::NextVote(altered);
    }
    if let Some(core) = &mut node.core {
        core.store.insert(document, now.wall);
    }
}

/// What a liar, or an authority with a fault, does with what comes.
fn overhear(world: &mut World, message: &Message) {
    let Body::Text(text) = &message.body else {
        return;
    };
    let Some(node) = world.nodes.get_mut(message.to) else {
        return;
    };
    let (own, generation, is_up) = (node.keys.id(), node.generation, node.is_up());
    let is_faulty = node.fault == Some(Fault::SignsTwice);
    if is_faulty && node.liar.is_none() {
        let key = node.keys.signing();
        let lies = [Lie::SignsTwice].into();
        node.liar = Some(super::Liar::new(
            lies,
            key,
            cepa_crypto::Rng::from_seed([0; 32]),
        ));
    }
    let Some(liar) = node.liar.as_mut().filter(|_| is_up) else {
        return;
    };
    let signs_too = liar.does(Lie::SignsTwice);
    let mut signed = None;
    match message.request {
        DirRequest::PostVote => liar.see(Posted::Vote(Arc::clone(text))),
        DirRequest::PostSignatures => {
            liar.see(Posted::Signatures(Arc::clone(text)));
            signed = signs_too.then(|| liar.sign_too(text, own)).flatten();
        }
        _ => {}
    }
    if let Some(body) = signed {
        note_signature(world, message.to, &body);
        post_to_all(world, (message.to, generation), &body);
    }
}

fn post_to_all(world: &mut World, from: (usize, u64), body: &Arc<str>) {
    for to in (0..world.nodes.len()).filter(|to| *to != from.0) {
        let posted = Posted::Signatures(Arc::clone(body));
        send(world, Message::post(Some(from), to, posted));
    }
}
