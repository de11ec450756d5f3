//! GETINFO of the network: what any role reads off the consensus that it has (control-spec 3.9).

use std::time::SystemTime;

use cepa_control::Refusal;
use cepa_control::command::ServerSpec;
use cepa_crypto::{RsaId, encoding};
use cepa_dir::netview::NetworkView;
use cepa_netdoc::consensus::SharedRandValue;
use cepa_netdoc::timestamp;

use super::VERSION;
use super::driven::Key;

/// What is answered out of a consensus.
pub(super) const KEYS: &[Key] = &[
    (
        "consensus/valid-after",
        "From when on the consensus is valid.",
    ),
    (
        "consensus/fresh-until",
        "Until when the consensus is the newest.",
    ),
    (
        "consensus/valid-until",
        "Until when the consensus is valid.",
    ),
    ("ns/all", "Brief summary of router status."),
    ("ns/id/*", "Brief summary of router status by ID."),
    ("ns/name/*", "Brief summary of router status by nickname."),
    (
        "ns/purpose/*",
        "Brief summary of router status by purpose; general is all of them.",
    ),
    ("md/all", "All known microdescriptors."),
    ("md/id/*", "Microdescriptors by ID."),
    ("md/name/*", "Microdescriptors by name."),
    ("sr/current", "Get current shared random value."),
    ("sr/previous", "Get previous shared random value."),
    (
        "status/version/recommended",
        "List of currently recommended versions.",
    ),
];

/// The relay that a controller means, if the consensus lists it.
pub(crate) fn relay_named(view: &NetworkView, server: &ServerSpec) -> Option<RsaId> {
    let mut routers = view.consensus().routers.iter();
    let found = routers.find(|router| match server {
        ServerSpec::Fingerprint(id, nickname) => {
            let is_so = |name: &String| router.nickname.eq_ignore_ascii_case(name);
            router.rsa_id == *id && nickname.as_ref().is_none_or(is_so)
        }
        ServerSpec::Nickname(name) => router.nickname.eq_ignore_ascii_case(name),
    });
    found.map(|router| router.rsa_id)
}

/// The relay of a key's end, by what that has to be.
fn relay_of(view: &NetworkView, name: &str, is_id: bool) -> Option<RsaId> {
    let server = ServerSpec::parse(name)?;
    let is_fitting = matches!(server, ServerSpec::Fingerprint(..)) == is_id;
    relay_named(view, &server).filter(|_| is_fitting)
}

/// Which microdescriptors are asked for.
pub(super) enum Microdescs<'a> {
    All,
    Of { name: &'a str, is_id: bool },
}

/// What a key asks of microdescriptors, if it does.
pub(super) fn microdesc_key(key: &str) -> Option<Microdescs<'_>> {
    if key == "md/all" {
        return Some(Microdescs::All);
    }
    let id = key.strip_prefix("md/id/").map(|name| (name, true));
    let named = || key.strip_prefix("md/name/").map(|name| (name, false));
    let (name, is_id) = id.or_else(named)?;
    Some(Microdescs::Of { name, is_id })
}

impl Microdescs<'_> {
    /// Their SHA-256; none for a relay that is not there.
    pub(super) fn digests(&self, view: Option<&NetworkView>) -> Option<Vec<[u8; 32]>> {
        match self {
            Microdescs::All => {
                let relays = view.map(NetworkView::relays).unwrap_or_default();
                Some(relays.iter().map(|one| one.microdesc.digest).collect())
            }
            Microdescs::Of { name, is_id } => {
                let view = view?;
                let relay = view.relay(&relay_of(view, name, *is_id)?)?;
                Some(vec![relay.microdesc.digest])
            }
        }
    }
}

/// The answer to a key of the network; none if it is none.
pub(super) fn of_network(view: Option<&NetworkView>, key: &str) -> Option<Result<String, Refusal>> {
    let consensus = view.map(|view| &**view.consensus());
    let time = |pick: fn(&cepa_netdoc::consensus::Consensus) -> SystemTime| {
        consensus.map_or_else(String::new, |one| timestamp::encode(pick(one)))
    };
    let random = |value: Option<&SharedRandValue>| {
        value.map_or_else(String::new, |value| encoding::base64(&value.value))
    };
    Some(Ok(match key {
        "consensus/valid-after" => time(|consensus| consensus.lifetime.valid_after),
        "consensus/fresh-until" => time(|consensus| consensus.lifetime.fresh_until),
        "consensus/valid-until" => time(|consensus| consensus.lifetime.valid_until),
        "ns/all" | "ns/purpose/general" => entries(view),
        "ns/purpose/bridge" | "ns/purpose/controller" => String::new(),
        "sr/current" => random(consensus.and_then(|one| one.shared_rand_current.as_ref())),
        "sr/previous" => random(consensus.and_then(|one| one.shared_rand_previous.as_ref())),
        "status/version/current" => standing(consensus.map(recommended)).to_owned(),
        "status/version/recommended" => match consensus {
            Some(consensus) => recommended(consensus).to_owned(),
            None => "?".to_owned(),
        },
        _ => return of_relay(view, key),
    }))
}

/// The versions that clients and relays are to have; both are the same list in practice.
fn recommended(consensus: &cepa_netdoc::consensus::Consensus) -> &str {
    let lists = [&consensus.client_versions, &consensus.server_versions];
    let mut lists = lists.into_iter().flatten();
    lists.next().map_or("", String::as_str)
}

/// What `tor` says of a version (dir-spec 3.4.1, client-versions).
fn standing(recommended: Option<&str>) -> &'static str {
    let Some(list) = recommended else {
        return "unknown";
    };
    let ours = numbers(VERSION);
    let mut known: Vec<Vec<u32>> = list.split(',').map(numbers).collect();
    known.retain(|one| !one.is_empty());
    if known.is_empty() {
        return "none recommended";
    }
    if known.contains(&ours) {
        return "recommended";
    }
    let has_newer = known.iter().any(|one| *one > ours);
    let has_older = known.iter().any(|one| *one < ours);
    let is_series = |one: &&Vec<u32>| one.get(..3) == ours.get(..3);
    let mut series = known.iter().filter(is_series).peekable();
    let is_last = series.peek().is_some() && series.all(|one| *one < ours);
    match (has_newer, has_older) {
        (true, _) if is_last => "new in series",
        (true, false) => "obsolete",
        (false, _) => "new",
        (true, true) => "unrecommended",
    }
}

fn numbers(version: &str) -> Vec<u32> {
    let plain = version.split([' ', '-']).next().unwrap_or_default();
    plain
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

/// The entries of all relays of the consensus, as `GETINFO ns/all` tells them.
pub(crate) fn entries(view: Option<&NetworkView>) -> String {
    let mut text = String::new();
    if let Some(view) = view {
        for router in &view.consensus().routers {
            router.encode_control(&mut text);
        }
    }
    text
}

/// The entry of one relay; nothing where there is no consensus, as with `tor`.
fn of_relay(view: Option<&NetworkView>, key: &str) -> Option<Result<String, Refusal>> {
    let id = key.strip_prefix("ns/id/").map(|name| (name, true));
    let named = || key.strip_prefix("ns/name/").map(|name| (name, false));
    let (name, is_id) = id.or_else(named)?;
    let Some(view) = view else {
        return Some(Ok(String::new()));
    };
    let router = relay_of(view, name, is_id).and_then(|id| view.consensus().router(&id));
    Some(match router {
        Some(router) => {
            let mut text = String::new();
            router.encode_control(&mut text);
            Ok(text)
        }
        None => Err(Refusal::Key(key.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_as_tor_says() {
        for (list, word) in [
            (None, "unknown"),
            (Some(""), "none recommended"),
            (Some("0.4.9.10,0.4.9.11"), "recommended"),
            (Some("0.4.9.10,0.5.0.1"), "new in series"),
            (Some("0.4.9.10,0.4.9.12"), "unrecommended"),
            (Some("0.4.8.1"), "new"),
            (Some("0.5.0.1"), "obsolete"),
        ] {
            assert_eq!(standing(list), word, "{list:?}");
        }
    }
}
