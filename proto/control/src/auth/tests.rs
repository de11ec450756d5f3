//! Authentication as `tor` 0.4.9.11 was seen to do it, code by code and text by text.

use cepa_crypto::Rng;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, prop_assume, proptest};

use super::*;
use crate::line::LineReader;

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
const COOKIE: [u8; COOKIE_LEN] = [9; COOKIE_LEN];

/// Which secrets a test's listener has.
#[derive(Clone, Copy)]
struct With {
    cookie: bool,
    password: bool,
}

const NULL: With = With {
    cookie: false,
    password: false,
};
const COOKIE_ONLY: With = With {
    cookie: true,
    password: false,
};
const PASSWORD_ONLY: With = With {
    cookie: false,
    password: true,
};
const BOTH: With = With {
    cookie: true,
    password: true,
};

fn named(name: &str) -> Arc<Profile> {
    Arc::new(Profile::built_in(name).unwrap())
}

fn authenticator(with: With) -> Authenticator {
    let mut credentials = Credentials::default();
    if with.cookie {
        let cookie = Cookie::from_bytes(&COOKIE).unwrap();
        credentials.cookie = Some((cookie, "/a b/\"cookie".to_owned(), named("full")));
    }
    if with.password {
        let password = HashedPassword::new(b"bar", &mut Rng::from_seed([1; 32]));
        credentials.passwords.push((password, named("nyx")));
    }
    Authenticator::new(Arc::new(credentials))
}

/// What a line is answered, and `*` behind it if the connection is closed, `-` if it was none of
/// authentication's.
fn say(authenticator: &mut Authenticator, line: &str) -> String {
    let mut reader = LineReader::new();
    reader.push(line.as_bytes());
    reader.push(b"\r\n");
    let raw = reader.next_command().unwrap().unwrap();
    let facts = Facts {
        version: "0.4.9.11",
        nonce: &NONCE,
    };
    let command = Command::parse(&raw);
    match authenticator.handle(&raw.keyword, &command, facts) {
        None => "-".to_owned(),
        Some((reply, verdict)) => {
            let text = String::from_utf8(reply.encode()).unwrap();
            let mark = if matches!(verdict, Verdict::Close) {
                "*"
            } else {
                ""
            };
            format!("{}{mark}", text.trim_end().replace("\r\n", "|"))
        }
    }
}

/// Says lines on one connection to a fresh listener, up to its end; the last answer.
fn last(with: With, lines: &[&str]) -> String {
    let mut authenticator = authenticator(with);
    let mut answer = String::new();
    for line in lines {
        assert!(!answer.ends_with('*'), "closed before {line}: {answer}");
        answer = say(&mut authenticator, line);
    }
    answer
}

const REQUIRED: &str = "514 Authentication required.*";
const HEX: &str = "551 Invalid hexadecimal encoding.  Maybe you tried a plain text password?  \
    If so, the standard requires that you put it in double quotes.*";

#[test]
fn strangers_may_say_little() {
    for line in ["GETINFO version", "FOO", "", "SETCIRCUITPURPOSE", "GET"] {
        assert_eq!(last(NULL, &[line]), REQUIRED, "{line}");
    }
    assert_eq!(last(NULL, &["PROTOCOLINFO 1", "PROTOCOLINFO 1"]), REQUIRED);
    assert_eq!(
        last(BOTH, &["AUTHCHALLENGE SAFECOOKIE 00", "PROTOCOLINFO"]),
        REQUIRED
    );
    let challenge = "AUTHCHALLENGE SAFECOOKIE 00";
    assert_eq!(last(BOTH, &[challenge, challenge]), REQUIRED);
    assert_eq!(last(NULL, &["quit now"]), "250 closing connection*");
    assert_eq!(
        last(NULL, &["PROTOCOLINFO x"]),
        "513 No such version \"x\"*"
    );
}

#[test]
fn protocolinfo_tells_the_methods() {
    let info = |with| last(with, &["PROTOCOLINFO 1"]);
    let path = r#" COOKIEFILE="/a b/\"cookie""#;
    let text = |methods: &str| {
        format!("250-PROTOCOLINFO 1|250-AUTH METHODS={methods}|250-VERSION Tor=\"0.4.9.11\"|250 OK")
    };
    assert_eq!(info(NULL), text("NULL"));
    assert_eq!(info(PASSWORD_ONLY), text("HASHEDPASSWORD"));
    assert_eq!(info(COOKIE_ONLY), text(&format!("COOKIE,SAFECOOKIE{path}")));
    assert_eq!(
        info(BOTH),
        text(&format!("COOKIE,SAFECOOKIE,HASHEDPASSWORD{path}"))
    );
}

#[test]
fn right_secrets_are_taken() {
    let cookie = "09".repeat(COOKIE_LEN);
    let cookie = format!("AUTHENTICATE {cookie}");
    for (with, line) in [
        (NULL, "AUTHENTICATE"),
        (NULL, "AUTHENTICATE \"x\""),
        (COOKIE_ONLY, &cookie),
        (BOTH, &cookie),
        (BOTH, "AUTHENTICATE \"bar\""),
        (BOTH, r#"authenticate  "b\ar" "#),
        (PASSWORD_ONLY, "AUTHENTICATE 626172"),
    ] {
        let mut authenticator = authenticator(with);
        assert_eq!(say(&mut authenticator, line), "250 OK", "{line}");
        assert!(authenticator.is_trusted());
        assert_eq!(say(&mut authenticator, "GETINFO version"), "-");
        assert_eq!(
            say(&mut authenticator, "FOO"),
            "510 Unrecognized command \"FOO\""
        );
        assert_eq!(
            say(&mut authenticator, "PROTOCOLINFO x"),
            "513 No such version \"x\""
        );
    }
}

#[test]
fn wrong_secrets_close() {
    let wrong_cookie = "515 Authentication failed: Wrong length on authentication cookie.*";
    let wrong_bytes =
        "515 Authentication failed: Authentication cookie did not match expected value.*";
    let zeros = format!("AUTHENTICATE {}", "00".repeat(COOKIE_LEN));
    let wrong = |mistake: &str| format!("515 Authentication failed: {mistake}*");
    assert_eq!(last(COOKIE_ONLY, &["AUTHENTICATE"]), wrong_cookie);
    assert_eq!(last(COOKIE_ONLY, &["AUTHENTICATE \"\""]), wrong_cookie);
    assert_eq!(last(COOKIE_ONLY, &[&zeros]), wrong_bytes);
    assert_eq!(last(BOTH, &[&zeros]), wrong(WRONG_BOTH));
    assert_eq!(last(BOTH, &["AUTHENTICATE"]), wrong(WRONG_BOTH));
    assert_eq!(
        last(PASSWORD_ONLY, &["AUTHENTICATE \"x\""]),
        wrong(WRONG_PASSWORD)
    );
    assert_eq!(
        last(PASSWORD_ONLY, &["AUTHENTICATE 00"]),
        wrong(WRONG_BARE_PASSWORD)
    );
    assert_eq!(last(PASSWORD_ONLY, &["AUTHENTICATE bar"]), HEX);
    assert_eq!(last(PASSWORD_ONLY, &["AUTHENTICATE 123"]), HEX);
    let many = "512 Too many arguments to AUTHENTICATE.*";
    assert_eq!(last(BOTH, &["AUTHENTICATE 62 6172"]), many);
    assert_eq!(last(BOTH, &["AUTHENTICATE \"bar\"x"]), many);
    let keyword = "512 AUTHENTICATE does not accept keyword arguments.*";
    assert_eq!(last(BOTH, &["AUTHENTICATE a=b"]), keyword);
    // One who is in may prove himself again, and is out if he cannot.
    let again = ["AUTHENTICATE \"bar\"", "AUTHENTICATE \"baz\""];
    assert_eq!(last(BOTH, &again), wrong(WRONG_BOTH));
}

#[test]
fn unreadable_secrets_may_be_sent_again_but_not_for_ever() {
    let unreadable = "512 Bad arguments to AUTHENTICATE: Cannot parse keyword argument(s)";
    let mut authenticator = authenticator(NULL);
    assert_eq!(say(&mut authenticator, "AUTHENTICATE \"x"), unreadable);
    assert_eq!(
        say(&mut authenticator, "AUTHCHALLENGE"),
        "512 Bad arguments to AUTHCHALLENGE: Need at least 1 argument(s)"
    );
    assert_eq!(
        say(&mut authenticator, "AUTHENTICATE \"x"),
        format!("{unreadable}*")
    );
}

#[test]
fn challenges_are_refused_with_tors_texts() {
    let challenge = |with, rest: &str| last(with, &[&format!("AUTHCHALLENGE {rest}")]);
    let disabled = "515 Cookie authentication is disabled*";
    assert_eq!(challenge(NULL, "SAFECOOKIE 1234"), disabled);
    let method = "513 AUTHCHALLENGE only supports SAFECOOKIE authentication*";
    assert_eq!(challenge(BOTH, "FOO"), method);
    let number = "512 Wrong number of arguments for AUTHCHALLENGE*";
    assert_eq!(challenge(BOTH, "SAFECOOKIE"), number);
    assert_eq!(challenge(BOTH, "SAFECOOKIE 12 34"), number);
    assert_eq!(challenge(BOTH, "SAFECOOKIE \"\" x"), number);
    let nonce = "513 Invalid base16 client nonce*";
    assert_eq!(challenge(BOTH, "SAFECOOKIE 123"), nonce);
    assert_eq!(challenge(BOTH, "SAFECOOKIE zz"), nonce);
    let unreadable = "512 Bad arguments to AUTHCHALLENGE: Cannot parse keyword argument(s)";
    assert_eq!(challenge(BOTH, "SAFECOOKIE \"abc"), unreadable);
    let length = "515 Authentication failed: Wrong length for safe cookie response.*";
    let lines = ["AUTHCHALLENGE safecookie \"abc\"", "AUTHENTICATE \"bar\""];
    assert_eq!(last(BOTH, &lines), length);
    let zeros = format!("AUTHENTICATE {}", "00".repeat(32));
    let wrong = "515 Authentication failed: Safe cookie response did not match expected value.*";
    assert_eq!(
        last(BOTH, &["AUTHCHALLENGE SAFECOOKIE \"\"", &zeros]),
        wrong
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn who_knows_the_cookie_can_prove_it(nonce: Vec<u8>) {
        let cookie = Cookie::from_bytes(&COOKIE).unwrap();
        let ours = Challenge::new(&cookie, &nonce, &NONCE);
        let mut authenticator = authenticator(BOTH);
        let line = format!("AUTHCHALLENGE SAFECOOKIE {}", hex_upper(&nonce));
        prop_assume!(!nonce.is_empty());
        let expected = format!(
            "250 AUTHCHALLENGE SERVERHASH={} SERVERNONCE={}",
            hex_upper(&ours.server_hash),
            hex_upper(&NONCE)
        );
        prop_assert_eq!(say(&mut authenticator, &line), expected);
        let answer = format!("AUTHENTICATE {}", hex_upper(&*ours.client_hash));
        prop_assert_eq!(say(&mut authenticator, &answer), "250 OK");
        prop_assert!(authenticator.is_trusted());
    }

    #[test]
    fn nobody_gets_in_without_a_secret(lines in prop::collection::vec("[ -~]{0,40}", 1..6)) {
        let mut authenticator = authenticator(BOTH);
        for line in lines {
            let line = if line.starts_with('+') { "x".to_owned() } else { line };
            let answer = say(&mut authenticator, &line);
            prop_assert!(!authenticator.is_trusted());
            if answer.ends_with('*') {
                break;
            }
        }
    }
}
