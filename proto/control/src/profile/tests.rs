//! What profiles allow, by the commands that programs send.

use proptest::prelude::*;

use super::*;
use crate::line::LineReader;

fn command(line: &str) -> Command {
    let mut reader = LineReader::new();
    reader.trust();
    reader.push(line.as_bytes());
    reader.push(b"\r\n");
    Command::parse(&reader.next_command().unwrap().unwrap()).unwrap()
}

fn allows(profile: &str, line: &str) -> bool {
    Profile::built_in(profile)
        .unwrap()
        .check(&command(line))
        .is_ok()
}

#[test]
fn who_only_looks_changes_nothing() {
    let said = [
        "EXTENDCIRCUIT 0",
        "CLOSECIRCUIT 1",
        "SETCIRCUITPURPOSE 1 purpose=general",
        "ATTACHSTREAM 1 0",
        "REDIRECTSTREAM 1 a",
        "CLOSESTREAM 1 1",
        "MAPADDRESS a=b",
        "SETCONF DisableNetwork=1",
        "RESETCONF DisableNetwork",
        "SAVECONF",
        "+LOADCONF\r\nSocksPort 0\r\n.",
        "HSFETCH vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd",
        "SIGNAL NEWNYM",
    ];
    for line in said {
        assert!(!allows("nyx", line), "{line}");
        let is_browsers = allows("tor-browser", line);
        let may_be =
            line.contains("DisableNetwork") || ["SAVECONF", "SIGNAL NEWNYM"].contains(&line);
        assert_eq!(is_browsers, may_be, "{line}");
    }
    for line in [
        "GETINFO address-mappings/all config-text",
        "GETCONF SocksPort",
    ] {
        assert!(allows("nyx", line), "{line}");
    }
}

#[test]
fn programs_may_say_what_they_say() {
    let said = [
        ("onionshare", "GETCONF __owningcontrollerprocess"),
        ("onionshare", "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER"),
        ("onionshare", "GETINFO status/bootstrap-phase"),
        ("onionshare", "ADD_ONION NEW:ED25519-V3 Port=80,17605"),
        ("onionshare", "ADD_ONION NEW:BEST Port=1,1"),
        ("bitcoin-core", "PROTOCOLINFO 1"),
        ("bitcoin-core", "GETINFO net/listeners/socks"),
        (
            "bitcoin-core",
            "ADD_ONION NEW:ED25519-V3 Port=8333,127.0.0.1:8334 PoWDefensesEnabled=1",
        ),
        ("lnd", "ADD_ONION NEW:ED25519-V3 Port=9735,9735 "),
        ("lnd", "GETINFO onions/current"),
        ("ricochet", "SETCONF DisableNetwork=0 UseBridges=0 Bridge"),
        (
            "ricochet",
            "ADD_ONION NEW:ED25519-V3 Flags=DiscardPK,Detach Port=80,127.0.0.1:9999",
        ),
        ("tor-browser", "SETEVENTS CIRC STREAM"),
        (
            "tor-browser",
            "GETINFO ns/id/0000000000000000000000000000000000000000",
        ),
        ("tor-browser", "SIGNAL NEWNYM"),
        ("nyx", "GETINFO process/pid traffic/read"),
        ("nyx", "SETEVENTS BW DEBUG"),
        ("full", "SIGNAL HALT"),
        ("full", "ADD_ONION NEW:BEST Port=80,10.0.0.1:22"),
    ];
    for (profile, line) in said {
        assert!(allows(profile, line), "{profile}: {line}");
    }
}

#[test]
fn and_nothing_else() {
    let denied = [
        ("onionshare", "GETINFO version address"),
        ("onionshare", "ADD_ONION NEW:BEST Port=80,17605 Port=22,22"),
        ("onionshare", "ADD_ONION NEW:BEST Port=80,10.0.0.1:17605"),
        ("onionshare", "ADD_ONION NEW:BEST Port=80,unix:/run/x"),
        (
            "onionshare",
            "ADD_ONION NEW:BEST Flags=Detach Port=80,17605",
        ),
        ("bitcoin-core", "GETINFO version"),
        ("bitcoin-core", "SIGNAL NEWNYM"),
        ("lnd", "SETEVENTS HS_DESC"),
        ("ricochet", "SETCONF HiddenServiceDir=/x"),
        ("tor-browser", "ADD_ONION NEW:BEST Port=80"),
        ("tor-browser", "GETINFO config-text"),
        ("nyx", "SIGNAL RELOAD"),
        ("nyx", "SETCONF Log"),
        ("nyx", "TAKEOWNERSHIP"),
    ];
    for (profile, line) in denied {
        assert!(!allows(profile, line), "{profile}: {line}");
    }
    let denial = Profile::built_in("nyx")
        .unwrap()
        .check(&command("SIGNAL HALT"));
    let text = denial.unwrap_err().to_string();
    assert_eq!(text, "profile \"nyx\" does not allow command SIGNAL");
}

#[test]
fn one_signal_is_one_right() {
    assert!(allows("ricochet", "SIGNAL TERM"));
    assert!(allows("ricochet", "SIGNAL int"));
    assert!(!allows("ricochet", "SIGNAL HUP"));
}

#[test]
fn built_in_profiles_name_what_there_is() {
    use crate::event::EventKind;
    use crate::signal::Signal;
    for name in Profile::BUILT_IN {
        let profile = Profile::built_in(name).unwrap();
        assert_eq!(profile.name, name);
        let known = |allowed: &Allowed, is_known: &dyn Fn(&str) -> bool| match allowed {
            Allowed::All => true,
            Allowed::Only(words) => words.iter().all(|word| is_known(word)),
        };
        assert!(known(&profile.commands, &|word| CommandName::from_name(
            word
        )
        .is_some()));
        assert!(known(&profile.events, &|word| EventKind::from_name(word)
            .is_some()));
        assert!(known(&profile.signals, &|word| Signal::from_name(word).is_some()));
    }
    assert_eq!(Profile::built_in("nobody"), None);
}

#[test]
fn rules_for_targets_are_read() {
    let rule = |text: &str| text.parse::<TargetRule>();
    let unix = |path: &str| crate::command::OnionTarget::Unix(path.into());
    let tcp = |address: &str| crate::command::OnionTarget::Tcp(address.parse().unwrap());
    assert!(rule("127.0.0.1:80").unwrap().allows(&tcp("127.0.0.1:80")));
    assert!(!rule("127.0.0.1:80").unwrap().allows(&tcp("127.0.0.1:81")));
    assert!(rule("[::1]:80-90").unwrap().allows(&tcp("[::1]:85")));
    assert!(rule("127.0.0.1:*").unwrap().allows(&tcp("127.0.0.1:65535")));
    assert!(rule("unix:/run/a").unwrap().allows(&unix("/run/a")));
    assert!(!rule("unix:/run/a").unwrap().allows(&unix("/run/ab")));
    assert!(rule("unix:/run/a/*").unwrap().allows(&unix("/run/a/b")));
    assert!(!rule("unix:/run/a/*").unwrap().allows(&unix("/run/ab")));
    assert!(!rule("unix:/run/a/*").unwrap().allows(&unix("/run/a/../b")));
    for bad in [
        "",
        "80",
        "x:80",
        "127.0.0.1:x",
        "127.0.0.1:1-",
        "127.0.0.1:99999",
    ] {
        assert!(rule(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_star_stands_for_any_rest(start in "[a-z/]{0,8}", rest in "\\PC{0,8}") {
        let stars = Allowed::Only(vec![format!("{start}*")]);
        let word = format!("{start}{rest}");
        prop_assert!(stars.has(&word));
        prop_assert!(stars.has(&word.to_ascii_uppercase()));
        let exact = Allowed::Only(vec![start.clone()]);
        prop_assert_eq!(exact.has(&word), rest.is_empty());
    }
}
