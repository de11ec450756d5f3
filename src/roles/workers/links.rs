//! The channels of one worker: found for a circuit, opened to another relay, served until they end.
//!
//! Who waits and who shares is settled by the registry; an attempt that nobody waits for any more
//! is given up, with its socket.

use std::rc::Rc;

use cepa_circuit::CircuitKey;
use cepa_crypto::Rng;
use cepa_link::PeerExpectation;
use cepa_relay::LinkTarget;

use super::Runner;
use crate::clock;
use crate::doors::Pass;
use crate::net::channel;
use crate::net::link::{self, Link};
use crate::roles::registry::{Attempt, Found, News, Opened};

impl Runner {
    pub(super) fn find_channel(&self, circuit: CircuitKey, target: LinkTarget, rng: Rng) {
        let (registry, now) = (&self.shared.registry, clock::now().mono);
        let found = match registry.find(&target, (self.id, circuit), now) {
            Found::Open(place) => Some(place),
            Found::TooMany => {
                tracing::debug!("too many links by ways that the consensus does not have");
                None
            }
            Found::Waiting => return,
            Found::Missing(attempt) => {
                tokio::task::spawn_local(self.clone().open_channel(target, attempt, rng));
                return;
            }
        };
        self.worker
            .with(|switch, now| switch.handle_channel_found(circuit, found, now));
    }

    async fn open_channel(self, target: LinkTarget, mut attempt: Attempt, mut rng: Rng) {
        let keys = self.shared.keys();
        let expect = PeerExpectation {
            rsa: Some(target.rsa),
            ed: target.ed,
        };
        let ours = link::Ours {
            tls: &self.shared.connector,
            bind: self.shared.bind,
            proxy: None,
            identity: Some(&keys.link).filter(|_| self.shared.shows_identity),
            versions: self.shared.link_versions,
            connect_max: link::CONNECT_TIMEOUT,
        };
        let opened = tokio::select! {
            opened = link::open(&target.addrs, expect, ours, &mut rng) => opened,
            _ = &mut attempt.given_up => return,
        };
        match opened {
            // In a task of its own, which is smaller than that of the handshake.
            Ok(link) => drop(tokio::task::spawn_local(self.serve_link(
                link,
                Some(attempt),
                None,
            ))),
            Err(error) => {
                tracing::info!(relay = %target.rsa, %error, "no link to a relay");
                let waiters = self.shared.registry.failed(&attempt);
                self.shared.tell_found(waiters, None);
            }
        }
    }

    /// Serves a link until it ends; it came to be by `attempt`, or by the peer, who has a place.
    pub(super) async fn serve_link(self, link: Link, attempt: Option<Attempt>, pass: Option<Pass>) {
        let (peer, address) = (link.established.peer, link.established.peer_addr.ip());
        let is_canonical = |switch: &cepa_relay::Switch| {
            let known = switch.known_relays();
            known.is_canonical(&link.established)
        };
        let is_canonical = self.worker.peek(is_canonical);
        let pass = pass.map(Rc::new);
        let account = pass.as_ref().and_then(|pass| pass.account());
        let key = self.worker.with(|switch, now| {
            let key = switch.add_channel(link.established, now);
            switch.set_account(key, account);
            key
        });
        if let Some(pass) = &pass {
            self.passes.borrow_mut().insert(key, Rc::clone(pass));
        }
        let place = (self.id, key);
        let mut news = News::default();
        if let Some(peer) = peer {
            let opened = Opened {
                peer,
                address,
                is_canonical,
                place,
            };
            news = self.shared.registry.opened(opened, attempt.as_ref());
        }
        self.shared.tell_found(news.waiters, Some(place));
        self.shared.retire(news.retired);
        let served = channel::serve(&self.worker, link.tls, key, link.pending);
        let mut served = std::pin::pin!(served);
        let why = match &pass {
            Some(pass) => tokio::select! {
                why = &mut served => why,
                () = pass.evicted() => {
                    self.worker.end_channel(key);
                    served.await
                }
            },
            None => served.await,
        };
        self.passes.borrow_mut().remove(key);
        if let Some(peer) = peer {
            self.shared.registry.closed(peer.rsa, place);
            tracing::debug!(relay = %peer.rsa, why, "a channel to a relay has ended");
        }
    }
}
