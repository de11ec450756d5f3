//! A network as `torrc` lines and as an `arti.toml`, for clients that are not ours.
//!
//! docs/protocol.md section 8 lists what a network on loopback addresses needs. The authority line
//! is `tor`'s (dir-spec 1.1): its ports, the v3 identity, the address of the directory port and
//! the RSA identity of the relay.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use cepa_crypto::Ed25519Id;

use cepa_dir::DirAuthority;

use super::Network;

/// A `torrc` for a client of this network.
pub fn torrc(network: &Network, data_dir: &Path, socks: SocketAddr) -> String {
    let mut text = String::from("# A tor client of this network: tor -f THIS_FILE\n");
    text.push_str(&torrc_network(network));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "DataDirectory {}", quoted(data_dir));
    let _ = writeln!(text, "SocksPort {socks}");
    let _ = writeln!(text, "Log notice stdout");
    text
}

/// What the `torrc` of each node of this network has.
pub fn torrc_network(network: &Network) -> String {
    let mut text = String::new();
    if network.testing {
        text.push_str(TORRC_TESTING);
        let distinct = u8::from(!network.shared_subnets);
        let _ = writeln!(text, "EnforceDistinctSubnets {distinct}");
    }
    text + &dir_authority_lines(network)
}

/// What a network on private addresses needs, spelt out although `TestingTorNetwork` implies it. It
/// implies `EnforceDistinctSubnets 0` as well, which is said as the network has it.
const TORRC_TESTING: &str = "\
TestingTorNetwork 1
DirAllowPrivateAddresses 1
ExtendAllowPrivateAddresses 1
ClientRejectInternalAddresses 0
ClientDNSRejectInternalAddresses 0
";

/// The `DirAuthority` lines of a network.
pub fn dir_authority_lines(network: &Network) -> String {
    network.authorities.iter().map(dir_authority_line).collect()
}

fn dir_authority_line(authority: &DirAuthority) -> String {
    format!(
        "DirAuthority {} orport={} no-v2 v3ident={} {} {}\n",
        authority.nickname,
        authority.or_addr.port(),
        authority.v3_identity,
        authority.dir_addr,
        authority.rsa_id,
    )
}

/// An `arti.toml` for a client of this network. `folder` is where Arti keeps its state.
pub fn arti(network: &Network, folder: &Path, socks: SocketAddr) -> String {
    let mut text = String::from("# An Arti client of this network: arti proxy -c THIS_FILE\n");
    let _ = writeln!(text, "[proxy]\nsocks_listen = \"{socks}\"\n");
    let state = toml_text(&folder.join("state").to_string_lossy());
    let cache = toml_text(&folder.join("cache").to_string_lossy());
    let _ = writeln!(
        text,
        "[storage]\nstate_dir = {state}\ncache_dir = {cache}\n"
    );
    if network.testing {
        text.push_str(ARTI_TESTING);
    }
    if network.shared_subnets {
        text.push_str(ARTI_SHARED_SUBNETS);
    }
    text.push_str("[tor_network]\nfallback_caches = [\n");
    for authority in &network.authorities {
        push_cache(
            &mut text,
            &authority.rsa_id.to_string(),
            authority.ed25519_id,
            authority.or_addr.into(),
        );
    }
    for fallback in &network.fallbacks {
        push_cache(
            &mut text,
            &fallback.rsa.to_string(),
            fallback.ed25519,
            fallback.or,
        );
    }
    text.push_str("]\n\n[tor_network.authorities]\n");
    let idents = network
        .authorities
        .iter()
        .map(|a| format!("\"{}\"", a.v3_identity));
    let _ = writeln!(
        text,
        "v3idents = [{}]",
        idents.collect::<Vec<_>>().join(", ")
    );
    let ports = network
        .authorities
        .iter()
        .map(|a| format!("[\"{}\"]", a.dir_addr));
    let ports = ports.collect::<Vec<_>>().join(", ");
    for key in ["uploads", "downloads", "votes"] {
        let _ = writeln!(text, "{key} = [{ports}]");
    }
    text
}

/// What Arti needs for a network on loopback addresses, in a folder of any permissions.
const ARTI_TESTING: &str = "\
[storage.permissions]
dangerously_trust_everyone = true

[address_filter]
allow_local_addrs = true

";

/// Prefixes that no two addresses share.
const ARTI_SHARED_SUBNETS: &str = "\
[path_rules]
ipv4_subnet_family_prefix = 33
ipv6_subnet_family_prefix = 129

";

/// One line of `fallback_caches`; Arti wants both identities, so others are left out.
fn push_cache(text: &mut String, rsa: &str, ed25519: Option<Ed25519Id>, or: SocketAddr) {
    if let Some(ed) = ed25519 {
        let _ = writeln!(
            text,
            "    {{ rsa_identity = \"{rsa}\", ed_identity = \"{ed}\", orports = [\"{or}\"] }},"
        );
    }
}

/// A path in quotes as `torrc` reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A string of TOML's.
fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn torrc_has_an_authority_line() {
        let text = torrc(
            &example(),
            Path::new("/tmp/a b"),
            "127.0.0.1:9050".parse().unwrap(),
        );
        let line = format!(
            "DirAuthority auth1 orport=5000 no-v2 v3ident={} 127.1.0.1:5001 {}\n",
            "01".repeat(20),
            "11".repeat(20),
        );
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("DataDirectory \"/tmp/a b\"\n"), "{text}");
        assert!(text.contains("TestingTorNetwork 1\n"), "{text}");
        assert!(text.contains("EnforceDistinctSubnets 1\n"), "{text}");
        let shared = Network {
            shared_subnets: true,
            ..example()
        };
        assert!(torrc_network(&shared).contains("EnforceDistinctSubnets 0\n"));
    }

    #[test]
    fn arti_is_toml_with_both_identities() {
        let text = arti(
            &example(),
            Path::new("/tmp/x"),
            "127.0.0.1:9150".parse().unwrap(),
        );
        let table: toml::Table = text.parse().unwrap();
        let network = table["tor_network"].as_table().unwrap();
        assert_eq!(network["fallback_caches"].as_array().unwrap().len(), 3);
        assert_eq!(
            network["authorities"]["v3idents"].as_array().unwrap().len(),
            3
        );
        assert_eq!(
            table["address_filter"]["allow_local_addrs"].as_bool(),
            Some(true)
        );
    }
}
