//! What machines of onion services ask of directories, over circuits that end there: descriptors
//! that are fetched and uploaded (rend-spec-v3 2.2.6).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_dir::DirRequest;
use cepa_dir::fetch::{Reply, reply_bytes_max};
use cepa_netdoc::hs_descriptor::HsDescriptor;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use super::Onion;
use super::action::{Event, LastHop};
use super::circuits::HsCircuit;
use crate::command::Command;
use crate::context::Context;
use crate::names::{CircuitName, FetchId, Owner};
use crate::plane::StreamTarget;
use crate::status::{self, DescriptorChange, DescriptorFailure, DescriptorTransfer, Listener};

/// How long a directory's answer may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// All directory requests under way.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) by_fetch: BTreeMap<FetchId, Request>,
}

/// A directory request under way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: CircuitName,
    stream: StreamKey,
    until: Instant,
    /// What is told of the descriptor that is asked for, or uploaded.
    transfer: DescriptorTransfer,
}

impl Onion {
    /// Asks the directory at the end of a circuit.
    pub(super) fn ask(
        &mut self,
        (name, key): (CircuitName, CircuitKey),
        request: DirRequest,
        body: Vec<u8>,
        ctx: &mut Context<'_>,
    ) {
        let transfer = transfer(self.by_name.get(&name), &request, &body, ctx.listener);
        match ctx.plane.open_stream(key, &StreamTarget::BeginDir, ctx.now) {
            Ok(stream) => {
                tell(&transfer, DescriptorChange::Asked, ctx.listener);
                let fetch = ctx.new_fetch();
                let until = ctx.now.mono + REQUEST_MAX;
                let asked = Request {
                    name,
                    stream,
                    until,
                    transfer,
                };
                self.asked.by_fetch.insert(fetch, asked);
                ctx.commands.push_back(Command::DirRequest {
                    fetch,
                    stream,
                    body_bytes_max: reply_bytes_max(&request),
                    request,
                    body,
                });
            }
            Err(error) => {
                tracing::debug!("a directory stream cannot be opened: {error}");
                self.tell_reply(name, Reply::failed(), ctx.now);
            }
        }
    }

    /// An answer for a machine, if the fetch was one's.
    pub(crate) fn handle_reply(
        &mut self,
        id: FetchId,
        reply: Option<Reply>,
        ctx: &mut Context<'_>,
    ) {
        let Some(asked) = self.asked.by_fetch.remove(&id) else {
            return;
        };
        ctx.plane
            .stream_close(asked.stream, EndReason::DONE, ctx.now);
        let reply = reply.unwrap_or_else(Reply::failed);
        let is_fetched = reply.status == 200 && !asked.transfer.is_upload;
        let is_by_hand = asked.name.owner == Owner::Controllers;
        if let (Some(address), true) = (asked.transfer.address, is_fetched && is_by_hand) {
            self.visits.take_descriptor(address, &reply.body, ctx.now);
        }
        tell_outcome(asked.transfer, &reply, ctx);
        self.tell_reply(asked.name, reply, ctx.now);
    }

    fn tell_reply(&mut self, circuit: CircuitName, reply: Reply, now: Now) {
        self.tell(circuit, Event::Reply { circuit, reply }, now);
    }

    /// Gives requests up that have had no answer for too long.
    pub(super) fn review_asked(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        for name in self.asked.cancel(|one| one.until <= now.mono, ctx) {
            self.tell_reply(name, Reply::failed(), now);
        }
    }
}

impl Asked {
    /// Gives requests up, without a word to their machines; whose they were.
    fn cancel(
        &mut self,
        is_one: impl Fn(&Request) -> bool,
        ctx: &mut Context<'_>,
    ) -> Vec<CircuitName> {
        let given_up = self.by_fetch.iter().filter(|(_, one)| is_one(one));
        let given_up: Vec<FetchId> = given_up.map(|(fetch, _)| *fetch).collect();
        let mut names = Vec::new();
        for fetch in given_up {
            let Some(one) = self.by_fetch.remove(&fetch) else {
                continue;
            };
            tell_broken(&one.transfer, ctx.listener);
            ctx.plane.stream_close(one.stream, EndReason::DONE, ctx.now);
            ctx.commands.push_back(Command::CancelDirRequest { fetch });
            names.push(one.name);
        }
        names
    }

    /// Gives all requests over a circuit up.
    pub(super) fn cancel_over(&mut self, name: CircuitName, ctx: &mut Context<'_>) {
        self.cancel(|one| one.name == name, ctx);
    }

    /// When the first answer must be there that is not.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_fetch.values().map(|one| one.until).min()
    }
}

/// What a machine asks a directory for, or gives to it.
fn transfer(
    circuit: Option<&HsCircuit>,
    request: &DirRequest,
    body: &[u8],
    listener: &Listener,
) -> DescriptorTransfer {
    DescriptorTransfer {
        address: circuit.and_then(|circuit| circuit.address),
        hsdir: circuit.and_then(|circuit| match circuit.last {
            LastHop::Listed(id) => Some(id),
            _ => None,
        }),
        is_upload: *request == DirRequest::PostHsDescriptor,
        blinded: match request {
            DirRequest::HsDescriptor(key) => Some(*key),
            _ => None,
        },
        text: match listener.listens() {
            true => String::from_utf8_lossy(body).into_owned(),
            false => String::new(),
        },
    }
}

fn tell(transfer: &DescriptorTransfer, change: DescriptorChange, listener: &mut Listener) {
    listener.tell(|| status::Event::OnionDescriptor {
        change,
        transfer: Box::new(transfer.clone()),
    });
}

/// No answer came of a directory.
pub(super) fn tell_broken(transfer: &DescriptorTransfer, listener: &mut Listener) {
    let broken = DescriptorChange::Failed(DescriptorFailure::Broken);
    tell(transfer, broken, listener);
}

/// A directory has answered; a text that is none is as good as no answer.
fn tell_outcome(mut transfer: DescriptorTransfer, reply: &Reply, ctx: &mut Context<'_>) {
    if !ctx.listener.listens() {
        return;
    }
    if !transfer.is_upload {
        transfer.text = String::from_utf8_lossy(&reply.body).into_owned();
    }
    let descriptor = HsDescriptor::parse(&transfer.text, ctx.now.wall);
    let is_it = descriptor.is_ok_and(|read| {
        let blinded = *read.blinded_key.as_bytes();
        blinded == *transfer.blinded.get_or_insert(blinded)
    });
    let change = match (reply.status, transfer.is_upload) {
        (200, false) if !is_it => DescriptorChange::Failed(DescriptorFailure::Bad),
        (200, _) => DescriptorChange::Done,
        (0, _) => DescriptorChange::Failed(DescriptorFailure::Broken),
        (_, true) => DescriptorChange::Failed(DescriptorFailure::Rejected),
        (_, false) => DescriptorChange::Failed(DescriptorFailure::NotFound),
    };
    tell(&transfer, change, ctx.listener);
}
