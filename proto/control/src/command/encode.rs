//! What a controller sends for a command.

use cepa_crypto::encoding;
use zeroize::Zeroizing;

use super::{AddOnion, Command, OnionKey, Proof, Setting};
use crate::line::escape;
use crate::text::{c_quote, quote, service_id};

impl Command {
    /// The bytes, with the line's end. Words are taken to be such: where one has a space, a quote
    /// or a line break in it, something else is written.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(self.name().name().as_bytes().to_vec());
        for word in self.words() {
            bytes.push(b' ');
            bytes.extend_from_slice(&word);
        }
        bytes.extend_from_slice(b"\r\n");
        match self {
            Command::LoadConf(text) => bytes.extend(escape(text.as_bytes())),
            Command::PostDescriptor(post) => bytes.extend(escape(post.descriptor.as_bytes())),
            Command::HsPost(post) => bytes.extend(escape(post.descriptor.as_bytes())),
            _ => {}
        }
        bytes
    }

    fn words(&self) -> Vec<Zeroizing<Vec<u8>>> {
        match self {
            Command::SetConf(settings) | Command::ResetConf(settings) => {
                settings.iter().map(setting).collect()
            }
            Command::GetConf(keys) | Command::GetInfo(keys) => keys.iter().map(word).collect(),
            Command::SetEvents(events) => events.iter().map(word).collect(),
            Command::Authenticate(Proof::Quoted(secret)) => vec![quote(secret)],
            Command::Authenticate(Proof::Hex(secret)) => vec![word(encoding::hex_upper(secret))],
            Command::SaveConf(true) => vec![word("FORCE")],
            Command::Signal(signal) => vec![word(signal)],
            Command::MapAddress(mappings) => {
                let mapping = |one: &super::Mapping| word(format!("{}={}", one.from, one.to));
                mappings.iter().map(mapping).collect()
            }
            Command::UseFeature(features) => features.iter().map(word).collect(),
            Command::ProtocolInfo => vec![word(1)],
            Command::AuthChallenge(nonce) => vec![word("SAFECOOKIE"), quote(nonce)],
            Command::AddOnion(onion) => onion_words(onion),
            Command::DelOnion(address) | Command::OnionClientAuthRemove(address) => {
                vec![word(service_id(address))]
            }
            Command::OnionClientAuthAdd(add) => {
                let key = Zeroizing::new(encoding::base64(&*add.key));
                let mut words = vec![word(service_id(&add.address))];
                words.push(word(Zeroizing::new(format!("x25519:{}", *key)).as_str()));
                let name = add.client_name.iter();
                words.extend(name.map(|name| word(format!("ClientName={name}"))));
                words.extend(add.is_permanent.then(|| word("Flags=Permanent")));
                words
            }
            Command::OnionClientAuthView(address) => address
                .iter()
                .map(|address| word(service_id(address)))
                .collect(),
            Command::HsFetch(fetch) => {
                let servers = fetch.servers.iter().map(server);
                std::iter::once(word(service_id(&fetch.address)))
                    .chain(servers)
                    .collect()
            }
            Command::HsPost(post) => {
                let mut words: Vec<_> = post.servers.iter().map(server).collect();
                words.push(word(format!("HSADDRESS={}", service_id(&post.address))));
                words
            }
            _ => self.circuit_words(),
        }
    }

    /// Those of commands on circuits, streams, names and descriptors.
    fn circuit_words(&self) -> Vec<Zeroizing<Vec<u8>>> {
        match self {
            Command::ExtendCircuit(extend) => {
                let mut words = vec![word(&extend.circuit)];
                words.extend((!extend.path.is_empty()).then(|| word(extend.path.join(","))));
                let purpose = extend.purpose.iter();
                words.extend(purpose.map(|purpose| word(format!("purpose={purpose}"))));
                words
            }
            Command::SetCircuitPurpose(set) => {
                let purpose = match &set.purpose {
                    Ok(purpose) => purpose.name(),
                    Err(unknown) => unknown,
                };
                vec![word(&set.circuit), word(format!("purpose={purpose}"))]
            }
            Command::AttachStream(attach) => {
                let mut words = vec![word(&attach.stream), word(&attach.circuit)];
                words.extend(attach.hop.iter().map(|hop| word(format!("HOP={hop}"))));
                words
            }
            Command::RedirectStream(redirect) => {
                let mut words = vec![word(&redirect.stream), word(&redirect.address)];
                words.extend(redirect.port.iter().map(word));
                words
            }
            Command::CloseStream(close) => vec![word(&close.stream), word(&close.reason)],
            Command::CloseCircuit(close) => {
                let mut words = vec![word(&close.circuit)];
                words.extend(close.if_unused.then(|| word("IfUnused")));
                words
            }
            Command::Resolve(resolve) => {
                let mode = resolve.is_reverse.then(|| word("mode=reverse"));
                mode.into_iter()
                    .chain(resolve.names.iter().map(word))
                    .collect()
            }
            Command::PostDescriptor(post) => {
                let purpose = post
                    .purpose
                    .iter()
                    .map(|purpose| format!("purpose={purpose}"));
                let yes_or_no = |cache: &bool| if *cache { "cache=yes" } else { "cache=no" };
                let cache = post.cache.iter().map(|cache| yes_or_no(cache).to_owned());
                purpose.chain(cache).map(word).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn word(text: impl std::fmt::Display) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.to_string().into_bytes())
}

fn server(name: &String) -> Zeroizing<Vec<u8>> {
    word(format!("SERVER={name}"))
}

fn setting(setting: &Setting) -> Zeroizing<Vec<u8>> {
    if setting.value.is_empty() {
        return word(&setting.key);
    }
    word(format!(
        "{}={}",
        setting.key,
        c_quote(setting.value.as_bytes())
    ))
}

fn onion_words(onion: &AddOnion) -> Vec<Zeroizing<Vec<u8>>> {
    let mut words = vec![match &onion.key {
        OnionKey::New => word("NEW:ED25519-V3"),
        OnionKey::Ed25519V3(key) => {
            let key = Zeroizing::new(encoding::base64(&**key));
            word(Zeroizing::new(format!("ED25519-V3:{}", *key)).as_str())
        }
    }];
    let flags = [
        (onion.discard_key, "DiscardPK"),
        (onion.detach, "Detach"),
        (onion.non_anonymous, "NonAnonymous"),
        (onion.max_streams_close_circuit, "MaxStreamsCloseCircuit"),
        (!onion.clients.is_empty(), "V3Auth"),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, flag)| *flag)
        .collect();
    words.extend((!flags.is_empty()).then(|| word(format!("Flags={}", flags.join(",")))));
    words.push(word(format!("MaxStreams={}", onion.max_streams)));
    words.extend(onion.pow_defenses.then(|| word("PoWDefensesEnabled=1")));
    let rate = onion.pow_queue_rate.iter();
    words.extend(rate.map(|rate| word(format!("PoWQueueRate={rate}"))));
    let burst = onion.pow_queue_burst.iter();
    words.extend(burst.map(|burst| word(format!("PoWQueueBurst={burst}"))));
    words.extend(onion.ports.iter().map(|port| word(format!("Port={port}"))));
    let client = |client: &cepa_crypto::curve25519::PublicKey| {
        word(format!(
            "ClientAuthV3={}",
            encoding::base32_lower(client.as_bytes())
        ))
    };
    words.extend(onion.clients.iter().map(client));
    words
}
