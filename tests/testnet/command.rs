//! Networks that are there for one command: `cepa testnet up -- COMMAND`.

use std::process::{Command, Output};

use crate::support::network::CEPA;

/// A small network with an onion service.
const ARGS: [&str; 8] = [
    "testnet",
    "up",
    "net",
    "--authorities=1",
    "--relays=4",
    "--exits=1",
    "--interval=10",
    "--onion-services=1",
];
/// Fetches what a client and an onion service have, says so, and ends with a code of its own.
const SCRIPT: &str = r#"
page() { curl --silent --show-error --fail --max-time 60 --socks5-hostname "$CEPA_SOCKS" "$1"; }
test "$CEPA_SOCKS" = "$CEPA_SOCKS_1" && test -f "$CEPA_DIR/testnet.json" || exit 1
grep -q '^\[\[authority\]\]' "$CEPA_NETWORK" || exit 2
one=$(page "$CEPA_PAGE") || exit 3
two=$(page "http://$CEPA_ONION_1/") || exit 4
test -n "$one" && test "$one" = "$two" || exit 5
echo "all is there: $0 $1"
exit 23
"#;

fn up(folder: &std::path::Path, options: &[&str], command: &[&str]) -> Output {
    let mut cepa = Command::new(CEPA);
    cepa.args(ARGS).args(options).arg("--").args(command);
    cepa.current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_is_run_in_a_network_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let done = up(dir.path(), &[], &["sh", "-c", SCRIPT, "a", "b c"]);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(23), "{said}");
    assert_eq!(text(&done.stdout), "all is there: a b c\n");
    assert!(said.contains("ready in "), "{said}");

    // The network has ended each time: its folder and its ports can be taken.
    let killed = up(dir.path(), &[], &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.code(), Some(128 + 15));
    let missing = up(dir.path(), &[], &["./no-such-program"]);
    let said = text(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        said.contains("error: ./no-such-program: cannot run the command"),
        "{said}"
    );
    // Whatever the command has started: the output is at its end only when all have ended.
    let late = up(
        dir.path(),
        &["--timeout=8"],
        &["sh", "-c", "sleep 1000 & sleep 1000"],
    );
    let said = text(&late.stderr);
    assert_eq!(late.status.code(), Some(1));
    assert!(said.contains("--timeout"), "{said}");
}
