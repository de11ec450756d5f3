//! From an upload to the consensus: what an authority takes it votes for, reads back, computes a
//! consensus of, and reads that, whatever a descriptor with good signatures says.
//!
//! The input changes a good descriptor line by line before it is signed: each line of it is a
//! letter (drop, twice, append, replace, insert), a character that chooses the line, and a text.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cepa_authority::schedule::Timing;
use cepa_authority::{Authority, Command, Config, Keys};
use cepa_dir::{DirAuthority, DirDocument};
use cepa_crypto::{Rng, RsaId, curve25519, ed25519, rsa};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::descriptor::{
    Bandwidth, DescriptorFields, DescriptorKeys, ServerDescriptor, sign_descriptor,
};
use cepa_netdoc::family::Family;
use cepa_netdoc::microdesc::{self, Microdesc};
use cepa_netdoc::policy::AddrPolicy;
use cepa_netdoc::vote::VoteText;
use cepa_wire::Now;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

struct Relay {
    identity: rsa::Keypair,
    tap: rsa::Keypair,
    ntor: curve25519::SecretKey,
    signing: ed25519::ExpandedKeypair,
    cert: Vec<u8>,
    /// A good descriptor up to its signatures.
    unsigned: String,
}

struct World {
    relays: [Relay; 2],
    identity: rsa::Keypair,
    signing: rsa::Keypair,
    cert: AuthCert,
}

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400 + secs)
}

fn keys(relay: &Relay) -> DescriptorKeys<'_> {
    DescriptorKeys {
        identity: &relay.identity,
        tap_onion: Some(&relay.tap),
        ntor_onion: &relay.ntor,
        signing: &relay.signing,
        signing_cert: &relay.cert,
    }
}

fn relay(rng: &mut Rng, index: u8) -> Relay {
    let (master, signing) = (
        ed25519::Keypair::generate(rng),
        ed25519::Keypair::generate(rng).expand(),
    );
    let cert = Cert::make(
        CertType::ID_SIGNING,
        at(30 * 86_400),
        CertKeyType::ED25519,
        signing.public().as_bytes(),
        &master,
        true,
    );
    let fields = DescriptorFields {
        nickname: format!("relay{index}"),
        or_address: format!("127.{index}.0.1:9001").parse().expect("an address"),
        dir_port: 0,
        or_address_v6: None,
        platform: "Tor 0.4.9.11 on Linux".into(),
        protocols: "Cons=2 Desc=2 Link=4-5 LinkAuth=3 Relay=2-4"
            .parse()
            .expect("protocols"),
        published: at(0),
        uptime_seconds: 1,
        bandwidth: Bandwidth {
            average: 1 << 20,
            burst: 1 << 20,
            observed: 1 << 20,
        },
        extra_info_digest: None,
        caches_extra_info: false,
        family: Family::default(),
        family_certs: vec![],
        is_hibernating: false,
        is_hidden_service_dir: true,
        contact: Some("somebody".into()),
        bridge_distribution_request: None,
        policy: AddrPolicy::parse_config(["accept *:80", "reject *:*"]).expect("a policy"),
        is_dir_server: true,
        overload_general: None,
    };
    let mut relay = Relay {
        identity: rsa::Keypair::generate(1024, rng).expect("a key"),
        tap: rsa::Keypair::generate(1024, rng).expect("a key"),
        ntor: curve25519::SecretKey::generate(rng),
        signing,
        cert,
        unsigned: String::new(),
    };
    let text = fields.build(&keys(&relay)).expect("a descriptor");
    let end = text.find("router-sig-ed25519 ").expect("a signature");
    relay.unsigned = text[..end].to_owned();
    relay
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([1; 32]);
    let relays = [relay(&mut rng, 1), relay(&mut rng, 2)];
    let mut key = || rsa::Keypair::generate(1024, &mut rng).expect("a key");
    let (identity, signing) = (key(), key());
    let text = AuthCert::build(&identity, &signing, None, at(0), at(300 * 86_400));
    let cert = AuthCert::parse(&text).expect("a certificate");
    World {
        relays,
        identity,
        signing,
        cert,
    }
});

fn changed(unsigned: &str, script: &str) -> String {
    let mut lines: Vec<&str> = unsigned.lines().collect();
    let mut joined = Vec::new();
    for change in script.split('\n').take(8) {
        let mut chars = change.chars();
        let (Some(kind), Some(place)) = (chars.next(), chars.next()) else {
            continue;
        };
        let text = chars.as_str();
        let at = (place as usize).wrapping_sub(32) % lines.len().max(1);
        match kind {
            'd' if lines.len() > 1 => drop(lines.remove(at)),
            't' => lines.insert(at, lines[at]),
            'i' => lines.insert(at, text),
            'r' => lines[at] = text,
            'a' => joined.push((lines[at], text)),
            _ => {}
        }
    }
    let mut out = String::new();
    for line in lines {
        out.push_str(line);
        joined
            .iter()
            .filter(|(of, _)| *of == line)
            .for_each(|(_, text)| out.push_str(text));
        out.push('\n');
    }
    out
}

/// What the authority has made public.
#[derive(Default)]
struct Seen {
    vote: Option<VoteText>,
    consensuses: Vec<ConsensusText>,
}

fn drain(authority: &mut Authority, seen: &mut Seen, now: Now) {
    loop {
        let mut tests = Vec::new();
        while let Some(command) = authority.poll_command() {
            match command {
                Command::TestReachability {
                    rsa_id, address, ..
                } => tests.push((rsa_id, address)),
                Command::Serve(DirDocument::NextVote(vote)) => seen.vote = Some(vote),
                Command::Serve(DirDocument::Consensus(text)) => seen.consensuses.push(text),
                _ => {}
            }
        }
        if tests.is_empty() {
            return;
        }
        for (id, address) in tests {
            authority.handle_reachability(&id, address, true, now);
        }
    }
}

fn authority(now: Now) -> Authority {
    let known = DirAuthority {
        nickname: "auth".into(),
        v3_identity: WORLD.identity.public().id(),
        rsa_id: RsaId::from([9; 20]),
        ed25519_id: None,
        dir_addr: "127.0.0.1:1".parse().expect("an address"),
        or_addr: "127.0.0.1:2".parse().expect("an address"),
        or_addr_v6: None,
    };
    let timing = Timing {
        interval_secs: 20,
        vote_secs: 4,
        dist_secs: 4,
        intervals_valid: 3,
        offset_secs: 0,
    };
    let config = Config::testing(vec![known], "nobody".into(), timing);
    let keys = Keys {
        legacy: None,
        cert: WORLD.cert.clone(),
        signing: rsa::Keypair::from_pem(&WORLD.signing.to_pem()).expect("a key"),
    };
    Authority::restore(config, keys, Vec::new(), Rng::from_seed([2; 32]), now)
}

libfuzzer_sys::fuzz_target!(|script: &str| {
    let mono = Instant::now();
    let clock = |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: at(secs),
    };
    let (mut authority, mut seen) = (authority(clock(1)), Seen::default());
    let [odd, good] = &WORLD.relays;
    let odd = sign_descriptor(&changed(&odd.unsigned, script), &keys(odd));
    let good = sign_descriptor(&good.unsigned, &keys(good));
    assert_eq!(authority.handle_descriptor(&good, clock(2)).status, 200);
    let is_taken = authority.handle_descriptor(&odd, clock(2)).status == 200;
    drain(&mut authority, &mut seen, clock(2));
    for secs in 3..=41 {
        authority.handle_timeout(clock(secs));
        drain(&mut authority, &mut seen, clock(secs));
    }
    let vote = seen.vote.expect("it votes");
    let read = VoteText::parse(vote.text().to_string()).expect("its vote is read");
    assert_eq!(read.vote().encode(), **vote.text());
    assert!(seen.consensuses.len() >= 2, "it publishes");
    let taken = is_taken.then(|| ServerDescriptor::parse(&odd).expect("it was read before"));
    let listed = taken.filter(|desc| desc.protocols().is_some());
    assert_eq!(read.vote().routers.len(), 1 + usize::from(listed.is_some()));
    if let Some(desc) = listed {
        let entry = read
            .vote()
            .router(&desc.identity)
            .expect("what is taken is voted");
        assert_eq!(entry.status.descriptor_digest, desc.digest);
        assert_eq!(entry.status.protocols, desc.proto);
        let text = microdesc::from_descriptor(&desc, 37).expect("a microdescriptor");
        let digest = Microdesc::parse(&text).map(|read| read.digest).ok();
        assert_eq!(digest, entry.microdesc_digest(37));
    }
});
