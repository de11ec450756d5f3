//! Master keys that are kept elsewhere: made by `tor --keygen` and by `cepa relay keygen`, each
//! used by a relay of the other program; signing keys that are renewed; folders that can't be
//! written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cepa::status::{Question, Subject};
use rustix::process::Signal;

use crate::support::documents::consensus;
use crate::support::fetch::document;
use crate::support::network::CEPA;
use crate::support::processes::send;
use crate::support::space::run;
use crate::support::{Steps, until};
use crate::tor::is_tor_here;
use crate::world::World;

const MASTER: &str = "ed25519_master_id_secret_key";
const SIGNING: [&str; 2] = ["ed25519_signing_secret_key", "ed25519_signing_cert"];
/// How long an authority may take to have another descriptor.
const PUBLISHED_MAX: Duration = Duration::from_secs(60);
const RENEWED: &str = "the renewed signing key is in use";
const DAY_SECS: u64 = 86_400;
/// What a relay of ours says when its signing key ends soon.
const ENDS: &str = "the signing key ends in";

#[test]
fn a_master_key_may_be_kept_elsewhere() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args = "--authorities 1 --relays 2 --exits 1 --clients 0";
    let args: Vec<_> = args.split_whitespace().collect();
    let world = World::up(dir.path(), "", &args);
    let mut steps = Steps::default();
    steps.step("of tor's, used and renewed by us", || {
        ours_with_theirs(&world, dir.path());
    });
    steps.step("of ours, used by tor", || {
        theirs_with_ours(&world, dir.path());
    });
    steps.finish(|| world.network.show_logs());
}

/// Moves a file from one folder to another, as somebody does with a medium in between.
fn take(names: &[&str], from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(to, mode).unwrap();
    for name in names {
        std::fs::rename(from.join(name), to.join(name)).unwrap();
    }
}

fn lines(world: &World, name: &str, text: &str) -> Vec<String> {
    let log = std::fs::read_to_string(world.folder(name).join("log")).unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

/// A descriptor of the authority's, from its first line to its end.
fn descriptor(world: &World, nickname: &str) -> Option<String> {
    let all = document(world.dirs()[0], "/tor/server/all")?;
    let mut routers = all.split("\nrouter ");
    let own = routers.find(|one| one.trim_start_matches("router ").starts_with(nickname));
    own.map(str::to_owned)
}

/// Until when a relay's signing key is good, as it says itself.
fn signing_until(folder: &Path) -> u64 {
    let text = cepa::status::ask(folder, Question::about(Subject::Metrics)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let name = "tor_relay_signing_cert_expiry_timestamp ";
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().trim().parse().unwrap()
}

fn keygen(args: &[&str], dir: &Path) -> String {
    let mut command = Command::new(CEPA);
    let command = command.args(["relay", "keygen"]).args(args).arg("--dir");
    let output = command.arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ours_with_theirs(world: &World, dir: &Path) {
    let (folder, master) = (world.folder("offline"), dir.join("master"));
    std::fs::create_dir(&folder).unwrap();
    let mut made = Command::new("tor");
    made.args(["--quiet", "--keygen", "--no-passphrase", "-f", "/dev/null"]);
    made.args(["--ignore-missing-torrc", "--SigningKeyLifetime", "10 days"]);
    run(made
        .arg("--DataDirectory")
        .arg(&folder)
        .stdin(Stdio::null()));
    let keys = folder.join("keys");
    take(&[MASTER], &keys, &master);

    let relay = world.relay("offline", 91, "");
    let before = signing_until(&folder);
    let told = lines(world, "offline", ENDS);
    println!("{told:?}");
    assert!(
        told.len() == 1 && told[0].contains("keygen --renew"),
        "{told:?}"
    );
    assert!(!keys.join(MASTER).exists());
    println!("{}", keygen(&["--renew", "--days", "90"], &master));
    take(&SIGNING, &master, &keys);
    send(relay.pid(), Signal::HUP);
    until(PUBLISHED_MAX, "the renewed key in use", || {
        (lines(world, "offline", RENEWED).len() == 1).then_some(())
    });
    assert_eq!(signing_until(&folder), before + 80 * DAY_SECS);
    // Its links are believed, by which it is found to be running.
    until(PUBLISHED_MAX, "the consensus with it", || {
        let seen = consensus(world.dirs()[0])?;
        (seen.relays > world.relays("cepa").len()).then_some(())
    });

    drop(relay);
    let kept = ReadOnly::new(keys);
    let _again = world.relay("offline", 91, "");
    assert_eq!(lines(world, "offline", "not kept"), [""; 0]);
    assert_eq!(
        lines(world, "offline", ENDS).len(),
        1,
        "it is good for long"
    );
    drop(kept);
}

/// A folder that nobody can write, until this ends.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: PathBuf) -> Self {
        run(Command::new("mount").arg("--bind").args([&path, &path]));
        let options = "remount,ro,bind";
        run(Command::new("mount").args(["-o", options]).arg(&path));
        ReadOnly(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn theirs_with_ours(world: &World, dir: &Path) {
    let master = dir.join("ours");
    let said = keygen(&["--days", "20"], &master);
    let id = said.split("ed25519 = \"").nth(1).unwrap();
    let id = id.split('"').next().unwrap();
    let keys = world.folder("theirs").join("keys");
    let public = "ed25519_master_id_public_key";
    std::fs::create_dir_all(world.folder("theirs")).unwrap();
    take(&[SIGNING[0], SIGNING[1], public], &master, &keys);
    let _relay = world.tor_relay("theirs", 92, "OfflineMasterKey 1\n");
    let found = until(PUBLISHED_MAX, "a descriptor of tor's", || {
        descriptor(world, "theirs")
    });
    let line = format!("master-key-ed25519 {id}");
    assert!(found.lines().any(|one| one == line), "{line}: {found}");
}
