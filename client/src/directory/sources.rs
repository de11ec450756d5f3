//! Whom to ask for documents: guards once there is a consensus, then fallback directories, then
//! authorities (dir-spec 5.1; guard-spec 1); where bridges are in use, them and nobody else; relays
//! that the operator excludes never.

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::NetworkView;
use cepa_dir::fetch::Origin;
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_wire::linkspec::LinkSpecifiers;

use super::fetches::{Fetches, SOURCES_MAX, Source};
use crate::circuits::Circuits;
use crate::context::Context;
use crate::select::guards::GuardUse;
use crate::select::paths::LinkTarget;
use crate::select::paths::{hop, link_target};
use crate::select::shuffle;

/// Guards that are asked for documents before the authorities are.
const GUARD_SOURCES_MAX: usize = 4;

/// Whom to ask, in order.
pub(super) fn sources(
    from: Origin,
    fetches: &Fetches,
    circuits: &mut Circuits,
    ctx: &mut Context<'_>,
) -> Vec<Source> {
    let mut sources = all(from, circuits, ctx);
    let consensus = ctx.view.map(NetworkView::consensus).map(AsRef::as_ref);
    let authorities = &ctx.network.authorities;
    sources.retain(|source| {
        let authority = authorities
            .iter()
            .find(|one| one.rsa_id == source.target.rsa);
        let nickname = authority.map_or("", |one| &one.nickname);
        let choice = &circuits.choice;
        choice.may_ask(&source.target, nickname, consensus)
    });
    if sources.is_empty() && !circuits.choice.bridges().is_in_use() {
        tracing::warn!("`exclude` leaves nobody to ask for directory documents");
    }
    fetches.sort(&mut sources, ctx.now);
    sources.truncate(SOURCES_MAX);
    sources
}

fn all(from: Origin, circuits: &mut Circuits, ctx: &mut Context<'_>) -> Vec<Source> {
    if circuits.choice.bridges().is_in_use() {
        return bridges(circuits, ctx);
    }
    let mut sources = Vec::new();
    if let Some(view) = ctx.view {
        let guards = &mut circuits.choice.guards;
        let guards = guards.ranked(GuardUse::Directory, ctx.now, ctx.rng);
        for id in guards.iter().take(GUARD_SOURCES_MAX) {
            let status = view.consensus().router(id);
            sources.extend(match (view.relay(id), status) {
                (Some(relay), _) => Some(Source {
                    target: link_target(relay),
                    hop: hop(relay, view.params()),
                }),
                (None, Some(status)) => Some(by_status(status)),
                (None, None) => None,
            });
        }
    }
    // In a network that is known, guards are asked and nobody else (guard-spec 1); in a young one
    // they may have nothing to serve yet.
    let is_known = ctx.view.is_some_and(|view| {
        view.consensus().lifetime.is_reasonably_live(ctx.now.wall) && !ctx.network.is_testing
    });
    if is_known && !sources.is_empty() {
        return sources;
    }
    let fallbacks = ctx.config.fallbacks.iter();
    let mut others: Vec<Source> = fallbacks
        .map(|one| fast_source(one.rsa, one.ed, one.or))
        .collect();
    shuffle(&mut others, ctx.rng);
    let (Origin::BeginDir { fallback } | Origin::DirPort(fallback)) = from;
    let authorities = ctx.network.authorities.as_slice();
    let (before, behind) = authorities.split_at_checked(fallback).unwrap_or_default();
    others.extend(
        behind
            .iter()
            .chain(before)
            .map(|one| fast_source(one.rsa_id, one.ed25519_id, one.or_addr.into())),
    );
    sources.extend(others);
    sources
}

/// Bridges whose descriptors are known, best first.
fn bridges(circuits: &mut Circuits, ctx: &mut Context<'_>) -> Vec<Source> {
    let guards = &mut circuits.choice.guards;
    let ranked = guards.ranked(GuardUse::Directory, ctx.now, ctx.rng);
    let bridges = circuits.choice.bridges();
    let known = ranked.iter().filter_map(|id| {
        let (relay, target) = (bridges.relay(id)?, bridges.target(id)?);
        let hop = ctx
            .view
            .map_or_else(fast_hop, |view| hop(relay, view.params()));
        Some(Source { target, hop })
    });
    known.collect()
}

/// A relay of which no microdescriptor is known.
fn by_status(status: &RouterStatus) -> Source {
    let mut source = fast_source(status.rsa_id, None, status.or_addr());
    source.target.addrs.extend(status.or_addr_v6());
    source
}

/// A relay whose onion key is not known: CREATE_FAST (tor-spec 5.1.5).
fn fast_source(rsa: RsaId, ed: Option<Ed25519Id>, or: std::net::SocketAddr) -> Source {
    Source {
        target: LinkTarget {
            rsa,
            ed,
            addrs: vec![or],
            lines: Vec::new(),
            is_nameless: false,
        },
        hop: fast_hop(),
    }
}

/// The first hop of a circuit whose link has proven who it is, and whose onion key is not known.
pub(super) fn fast_hop() -> HopSpec {
    HopSpec {
        link_specifiers: LinkSpecifiers::default(),
        key: HopKey::Fast,
        congestion: None,
    }
}
