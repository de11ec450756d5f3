//! The control port of a client, driven by stem as users' programs drive that of `tor`.

use std::time::Duration;

use cepa_control::auth::HashedPassword;
use cepa_crypto::Rng;

use crate::support::client::{Client, wait_for};
use crate::support::network::Network;
use crate::support::processes::start_relay;
use crate::support::{fetch, server, stem, until};

#[test]
fn stem_drives_a_client() {
    let Some(mut stem) = stem::python("testnet/control.py") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &[]);
    let web = server::start();
    let mut rng = Rng::from_seed([7; 32]);
    let mut hash = |password: &[u8]| HashedPassword::new(password, &mut rng).encode();
    let config = format!(
        "[control]\nlisten = [\"auto\", \"unix:control.sock\"]\nwrite_to_file = \"control.port\"\n\
         [[control.passwords]]\nhash = \"{}\"\n\
         [[control.passwords]]\nhash = \"{}\"\nprofile = \"nyx\"\n",
        hash(b"se cret"),
        hash(b"looker"),
    );
    let file = network.summary.network.clone();
    let socks = network.local(0);
    let mut client = Client::start(&file, dir.path(), "controlled", socks, &config);
    let written = std::fs::read_to_string(dir.path().join("control.port")).unwrap();
    let port = written
        .lines()
        .find_map(|line| line.strip_prefix("PORT=127.0.0.1:"));
    let stem = stem
        .args([port.unwrap(), "se cret"])
        .args([socks.port().to_string(), web.port().to_string()])
        .arg(dir.path().join("controlled/control_auth_cookie"))
        .arg(dir.path().join("control.sock"))
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stem.stdout);
    let complaint = String::from_utf8_lossy(&stem.stderr);
    if !stem.status.success() {
        network.show_logs();
    }
    assert!(stem.status.success(), "{said}{complaint}");
    assert_eq!(said.trim(), "stem is content");
    until(
        Duration::from_secs(10),
        "the end of an owned client",
        || client.process.0.try_wait().unwrap(),
    );
}

#[test]
fn stem_looks_at_a_relay() {
    let Some(mut stem) = stem::python("testnet/control_relay.py") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &["--clients", "0"]);
    let (toml, port) = (network.summary.network.display(), network.spare(0));
    let text = format!(
        "nickname = \"looked\"\naddress = \"127.101.0.1\"\nor_port = {port}\n\
         data_dir = \"looked\"\nnetwork = \"{toml}\"\ntesting = true\n\
         exit_policy = [\"accept *:*\"]\ncontact = \"a@example.org\"\n\
         accounting_max = 1000000000\n\
         [control]\nlisten = [\"auto\"]\nwrite_to_file = \"looked.port\"\n"
    );
    let config = network.folder.join("looked.toml");
    std::fs::write(&config, text).unwrap();
    let mut relay = start_relay(None, &config);
    wait_for(&mut relay.0, "published");
    let dir = network.nodes("authority")[0].dir.unwrap();
    until(
        Duration::from_secs(60),
        "a consensus with the relay",
        || {
            let text = fetch::document(dir, "/tor/status-vote/current/consensus-microdesc")?;
            text.contains("\nr looked ").then_some(())
        },
    );
    let written = network.folder.join("looked.port");
    let written = std::fs::read_to_string(written).unwrap();
    let control = written.trim().rsplit(':').next().unwrap();
    let output = stem.args([control, "looked", &port.to_string()]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "stem is content", "{complaint}");
}
