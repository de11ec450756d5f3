//! Programs of the shell's in the place of transports.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A program of the shell's that does this.
fn script(folder: &Path, text: &str) -> Wanted {
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let line = format!("obfs4 exec {}", path.display());
    Wanted {
        plugin: line.parse().unwrap(),
        end: End::Client,
        variables: vec![("TOR_PT_MANAGED_TRANSPORT_VER", "1".to_owned())],
        own: None,
    }
}

fn name() -> TransportName {
    "obfs4".parse().unwrap()
}

const SERVES: &str = "echo VERSION 1; echo CMETHOD obfs4 socks5 127.0.0.1:9; echo CMETHODS DONE";

#[tokio::test]
async fn a_program_serves_until_its_input_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let text = format!("{SERVES}\ncat\ntouch {}", gone.display());
    let (mut transports, _told) = Transports::new();
    transports.set(vec![script(folder.path(), &text)]);
    let method = transports.method(&name()).await.unwrap();
    assert!(matches!(method, Method::Client(..)), "{method:?}");
    let unknown = transports.method(&"obfs3".parse().unwrap()).await;
    assert!(matches!(unknown, Err(TransportError::Unknown(_))));
    transports.finish().await;
    assert!(gone.exists(), "it ended by itself");
}

#[tokio::test]
async fn one_that_dies_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before");
    let before = before.display();
    let text = format!("test -e {before} || {{ touch {before}; exit 3; }}\n{SERVES}\ncat");
    let (mut transports, _told) = Transports::new();
    transports.set(vec![script(folder.path(), &text)]);
    let first = transports.method(&name()).await.unwrap_err();
    assert!(first.to_string().contains("exit status: 3"), "{first}");
    let mut state = transports.states().remove(0);
    let serves = |state: &State| matches!(state, State::Serving(_));
    assert!(state.wait_for(serves).await.is_ok());
    transports.finish().await;
}

#[tokio::test]
async fn one_that_lies_floods_or_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let flood = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo VERSION 7; cat";
    for (text, why) in [
        ("echo CMETHODS DONE; cat", "out of turn"),
        ("echo ENV-ERROR no such folder; cat", "no such folder"),
        (flood, "version 7"),
    ] {
        let (mut transports, _told) = Transports::new();
        transports.set(vec![script(folder.path(), text)]);
        let told = transports.method(&name()).await.unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
        transports.finish().await;
    }
    let mut wanted = script(folder.path(), "");
    wanted.plugin = "obfs4 exec /nowhere/at/all".parse().unwrap();
    let (mut transports, _told) = Transports::new();
    transports.set(vec![wanted]);
    let told = transports.method(&name()).await.unwrap_err().to_string();
    assert!(told.contains("cannot be started"), "{told}");
    transports.finish().await;
}
