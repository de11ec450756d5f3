//! The introduction points of a service, and introductions to it that lead nowhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cepa_crypto::hs_ntor;
use cepa_crypto::onion::{OnionAddress, subcredential};
use cepa_dir::DirRequest;
use cepa_dir::hsring::HsSchedule;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::hs_descriptor::{HsDescriptor, HsPlaintext, IntroPoint};
use cepa_wire::intro_plaintext::IntroPlaintext;
use cepa_wire::introduce::Introduce;
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};
use cepa_wire::relay::RelayCommand;

use super::circuit::{Circuit, Ended, Target, specifiers};
use super::link::Link;
use super::{descriptor, http};
use crate::support::fetch::document;
use crate::support::until;
use crate::world::{GUARD, SOON, World};

/// What a service tells whoever knows its address.
pub(crate) struct Found {
    subcredential: [u8; 32],
    told: HsPlaintext,
}

/// Asks the relays of a network for the descriptor of a service, one after the other.
pub(crate) fn of(world: &World, from: Ipv4Addr, address: &str) -> Found {
    let address = OnionAddress::of_host(address).unwrap().unwrap();
    let guard = world.target(GUARD);
    until(SOON, "a descriptor of the service", || {
        let text = document(world.dirs()[0], "/tor/status-vote/current/consensus")?;
        let read = ConsensusText::parse(text).ok()?;
        let (period, _) = HsSchedule::new(read.consensus(), true).fetch();
        let blinded = address.blind(period);
        let path = DirRequest::HsDescriptor(*blinded.as_bytes()).path();
        let mut link = Link::open(from, guard.or).ok()?;
        let mut others = world
            .targets
            .values()
            .filter(|relay| relay.rsa != guard.rsa);
        others.find_map(|relay| {
            let mut circuit = Circuit::fast(&mut link).ok()?;
            circuit.extend(&mut link, relay).ok()?;
            let answer = circuit
                .request(&mut link, 1, &http::head("GET", &path, 0))
                .ok()?;
            let text = String::from_utf8(answer.body).ok()?;
            let now = descriptor::now();
            let read = HsDescriptor::parse(&text, now).ok()?;
            let told = read.decrypt(address.key(), period, None, now).ok()?;
            let subcredential = subcredential(address.key(), &blinded);
            Some(Found {
                subcredential,
                told,
            })
        })
    })
}

impl Found {
    /// Its points, each with the relay that it is.
    pub(crate) fn points_among(
        &self,
        relays: &BTreeMap<String, Target>,
    ) -> Vec<(Target, IntroPoint)> {
        let of = |point: &IntroPoint| {
            let names = |relay: &&Target| {
                let wanted = LinkSpecifier::Rsa(relay.rsa);
                point.link_specifiers.0.contains(&wanted)
            };
            Some((relays.values().find(names)?.clone(), point.clone()))
        };
        self.told.intro_points.iter().filter_map(of).collect()
    }

    /// Introduces somebody who is not there, over a circuit of its own.
    pub(crate) fn introduce(
        &self,
        link: &mut Link,
        (relay, point): (&Target, &IntroPoint),
        meeting: &Target,
    ) -> Result<(), Ended> {
        let (enc_key, auth_key) = (&point.enc_key, &point.auth_key);
        let begun =
            hs_ntor::ClientState::begin(&mut link.rng, enc_key, auth_key, &self.subcredential);
        let (state, keys) = begun.unwrap();
        let plaintext = IntroPlaintext {
            cookie: link.rng.array(),
            cc_request: false,
            pow: None,
            subprotocols: Vec::new(),
            onion_key: meeting.ntor,
            link_specifiers: LinkSpecifiers(specifiers(meeting, meeting.or, true)),
        };
        let body = Introduce::make(auth_key, state.public(), &keys, &plaintext).unwrap();
        let mut circuit = Circuit::fast(link)?;
        circuit.extend(link, relay)?;
        circuit.send(link, RelayCommand::INTRODUCE1, 0, &body)?;
        circuit.wait_for(link, RelayCommand::INTRODUCE_ACK)?;
        Ok(circuit.destroy(link)?)
    }
}
