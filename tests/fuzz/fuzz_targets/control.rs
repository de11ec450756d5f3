//! The bytes of a controller at the control port (control-spec), before and after authentication.

#![no_main]

use cepa_control::auth::{Authenticator, Credentials, Facts, HashedPassword, Verdict};
use cepa_control::command::Command;
use cepa_control::line::LineReader;
use cepa_control::profile::Profile;

/// `foo`, of control-spec 5.1.
const PASSWORD: &str = "16:660537E3E1CD49996044A3BF558097A981F539FEA2F9DA662B4626C1C2";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says how the rest is cut into reads, and whether there is a password.
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let mut credentials = Credentials::default();
    if step % 2 == 1 {
        let password = HashedPassword::parse(PASSWORD).expect("a constant of this file");
        credentials.passwords.push((password, Profile::default().into()));
    }
    let nyx = Profile::built_in("nyx").expect("a built-in profile");
    let mut authenticator = Authenticator::new(credentials.into());
    let mut reader = LineReader::new();
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        reader.push(piece);
        loop {
            let raw = match reader.next_command() {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(_) => return,
            };
            let command = Command::parse(&raw);
            let facts = Facts { version: "0.4.9.11", nonce: &[0; 32] };
            match authenticator.handle(&raw.keyword, &command, facts) {
                Some((reply, verdict)) => {
                    assert!(reply.encode().ends_with(b"\r\n"));
                    match verdict {
                        Verdict::Stay => {}
                        Verdict::Trusted(_) => reader.trust(),
                        Verdict::Close => return,
                    }
                }
                // What was read is written and read back the same.
                None => {
                    let command = command.expect("a refusal is always answered");
                    let _ = nyx.check(&command);
                    let mut again = LineReader::new();
                    again.trust();
                    again.push(&command.encode());
                    let raw = again.next_command().expect("as long").expect("a whole command");
                    assert_eq!(Command::parse(&raw), Ok(command));
                }
            }
        }
    }
});
