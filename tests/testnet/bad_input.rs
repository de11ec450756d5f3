//! What bad input gets: one clear line, exit code 1, and nothing overwritten.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use cepa::ports::Block;

use crate::network::CEPA;

/// The one line of an error, which exits with 1.
fn error_of(args: &[&str]) -> String {
    let output = Command::new(CEPA).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

/// A port for a relay that does not come to listen at it.
const UNUSED: u16 = 9;

/// The configuration of a relay at 127.0.0.1, and its path.
fn relay(dir: &Path, port: u16, extra: &str) -> String {
    let network = "[[authority]]\nnickname = \"auth1\"\n\
        v3_ident = \"0101010101010101010101010101010101010101\"\n\
        rsa = \"0202020202020202020202020202020202020202\"\n\
        or = \"127.1.0.1:1\"\ndir = \"127.1.0.1:2\"\n";
    std::fs::write(dir.join("network.toml"), network).unwrap();
    let text = format!(
        "nickname = \"relay1\"\naddress = \"127.0.0.1\"\nor_port = {port}\n\
         data_dir = \"data\"\nnetwork = \"network.toml\"\ntesting = true\n{extra}"
    );
    let path = dir.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = relay(
        dir.path(),
        UNUSED,
        "exit_policy = [\n\"accept everything\"]\n",
    );
    let error = error_of(&["relay", "--config", &config]);
    assert!(
        error.contains("relay.toml line 8") && error.contains("accept *:80"),
        "{error}"
    );
}

#[test]
fn a_wrong_policy_is_told_whole_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        "exit_policy = [\n\"accept *:443-80\",\n\"accept *:65536\",\n\"accept localhost:80\"]\n";
    let config = relay(dir.path(), UNUSED, lines);
    let output = Command::new(CEPA)
        .args(["relay", "--config", &config])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let expected = [
        (8, "*:443-80", "LOW"),
        (9, "*:65536", "65535"),
        (10, "localhost:80", "names"),
    ];
    assert_eq!(errors.len(), expected.len(), "{text}");
    for (error, (line, entry, allowed)) in errors.iter().zip(expected) {
        let place = format!("relay.toml line {line}");
        let told = [place.as_str(), entry, allowed]
            .iter()
            .all(|part| error.contains(part));
        assert!(told, "{error}");
    }
    assert!(!dir.path().join("data").exists(), "no keys are made");
}

#[test]
fn all_wrong_lines_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "workrs = 2\ndir_port = \"http\"\nfamily = [\"x y\"]\n[log]\nlevel = \"loud\"\n";
    let config = relay(dir.path(), UNUSED, lines);
    let output = Command::new(CEPA)
        .args(["relay", "--config", &config])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    for (line, words) in [
        (7, ["workrs", "expected one of"]),
        (8, ["\"http\"", "u16"]),
        (9, ["wrong family \"x y\"", "expected"]),
        (11, ["loud", "expected one of"]),
    ] {
        let place = format!("relay.toml line {line}: ");
        let told = text.lines().find(|one| one.contains(&place));
        let told = told.unwrap_or_else(|| panic!("line {line}: {text}"));
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = error_of(&["client", "--network", "/nowhere/network.toml"]);
    assert!(error.contains("/nowhere/network.toml"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let config = relay(dir.path(), port, "");
    let error = error_of(&["relay", "--config", &config]);
    assert!(
        error.contains(&format!("127.0.0.1:{port}")) && error.contains("taken"),
        "{error}"
    );

    let (block, ()) = Block::first_free(None, |_| Ok(())).unwrap();
    // Within a block that nobody else has meanwhile.
    let base = block.base() + 100;
    let taken = format!("127.1.0.1:{base}");
    let holder = std::net::TcpListener::bind(&taken);
    let folder = dir.path().join("net");
    let folder = folder.to_str().unwrap();
    let error = error_of(&["testnet", "up", folder, "--base-port", &base.to_string()]);
    assert!(error.contains(&taken), "{error} {holder:?}");
}

#[test]
fn a_readable_key_and_a_used_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = relay(dir.path(), UNUSED, "");
    let keys = dir.path().join("data/keys");
    std::fs::create_dir_all(&keys).unwrap();
    let key = keys.join("secret_id_key");
    std::fs::write(&key, "secret").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = error_of(&["relay", "--config", &config]);
    assert!(error.contains("secret_id_key"), "{error}");
    assert_eq!(std::fs::read(&key).unwrap(), b"secret");

    let lock = cepa::folder::Folder::open(&dir.path().join("data")).unwrap();
    let error = error_of(&["relay", "--config", &config]);
    let pid = std::process::id().to_string();
    assert!(
        error.contains("used by another cepa") && error.contains(&pid),
        "{error}"
    );
    drop(lock);
}

#[test]
fn metrics_for_others_need_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let config = relay(dir.path(), UNUSED, "metrics = \"0.0.0.0:9\"\n");
    let error = error_of(&["relay", "--config", &config]);
    assert!(error.contains("relay.toml line 7"), "{error}");
    assert!(error.contains("metrics_policy = "), "{error}");
}
