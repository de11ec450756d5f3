//! Who may speak: NULL, COOKIE, SAFECOOKIE and HASHEDPASSWORD (control-spec 3.5, 3.21, 3.24, 5.1).
//!
//! ```text
//!           AUTHENTICATE with the right secret
//! Stranger ------------------------------------> Trusted
//!    |  \                                           ^
//!    |   AUTHCHALLENGE --> Challenged --------------+
//!    |                         |   AUTHENTICATE with the right answer
//!    +--- any other command, --+--> closed
//!         any wrong secret
//! ```
//!
//! A stranger may say PROTOCOLINFO and AUTHCHALLENGE once each, AUTHENTICATE, and QUIT. Secrets are
//! compared in constant time. Each credential has a profile, which rules what comes after it.

mod cookie;
mod password;

use std::sync::Arc;

use cepa_crypto::digest::ct_eq;
use cepa_crypto::encoding::hex_upper;
use zeroize::Zeroizing;

use crate::command::{Command, CommandName, Proof};
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::text::c_quote;

pub use cookie::{COOKIE_LEN, Challenge, Cookie, NONCE_LEN};
pub use password::{BadHashedPassword, HashedPassword};

/// Commands of a stranger that cannot be read, at most, before his connection is closed.
pub const MISTAKES_MAX: u32 = 3;

const WRONG_PASSWORD: &str =
    "Password did not match HashedControlPassword value from configuration";
const WRONG_BARE_PASSWORD: &str = "Password did not match HashedControlPassword value from \
    configuration. Maybe you tried a plain text password? If so, the standard requires that you \
    put it in double quotes.";
const WRONG_BOTH: &str = "Password did not match HashedControlPassword *or* authentication cookie.";

/// Which secrets open a listener, and what for.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The cookie, the file in which it lies, and what it is good for.
    pub cookie: Option<(Cookie, String, Arc<Profile>)>,
    /// Passwords, and what each is good for.
    pub passwords: Vec<(HashedPassword, Arc<Profile>)>,
    /// What everyone may do where there is neither.
    pub without: Arc<Profile>,
}

impl Credentials {
    /// The methods, as PROTOCOLINFO tells them.
    fn methods(&self) -> String {
        match (&self.cookie, self.passwords.is_empty()) {
            (None, true) => "NULL".to_owned(),
            (None, false) => "HASHEDPASSWORD".to_owned(),
            (Some((_, path, _)), is_alone) => {
                let password = if is_alone { "" } else { ",HASHEDPASSWORD" };
                let path = c_quote(path.as_bytes());
                format!("COOKIE,SAFECOOKIE{password} COOKIEFILE={path}")
            }
        }
    }

    /// The profile of the credential that this proves.
    fn check(&self, proof: &Proof) -> Result<Arc<Profile>, Refusal> {
        let (secret, is_quoted) = match proof {
            Proof::Empty => (&[][..], false),
            Proof::Quoted(secret) => (secret.as_slice(), true),
            Proof::Hex(secret) => (secret.as_slice(), false),
        };
        if self.cookie.is_none() && self.passwords.is_empty() {
            return Ok(Arc::clone(&self.without));
        }
        if let Some((cookie, _, profile)) = &self.cookie
            && cookie.matches(secret)
        {
            return Ok(Arc::clone(profile));
        }
        // Each is tried, so that time does not tell which of them matched.
        let mut matched = None;
        for (password, profile) in &self.passwords {
            if password.matches(secret) {
                matched = Some(Arc::clone(profile));
            }
        }
        let mistake = match (&self.cookie, self.passwords.is_empty()) {
            (Some(_), true) if secret.len() != COOKIE_LEN => {
                "Wrong length on authentication cookie."
            }
            (Some(_), true) => "Authentication cookie did not match expected value.",
            (Some(_), false) => WRONG_BOTH,
            (None, _) if is_quoted => WRONG_PASSWORD,
            (None, _) => WRONG_BARE_PASSWORD,
        };
        matched.ok_or(Refusal::Authentication(mistake))
    }
}

/// What a connection has proved.
enum State {
    Stranger,
    /// AUTHCHALLENGE was answered; the next command must prove the knowledge of the cookie.
    Challenged(Zeroizing<[u8; 32]>),
    Trusted,
}

/// What becomes of a connection.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It stays as it is.
    Stay,
    /// From now on it may do what this profile says.
    Trusted(Arc<Profile>),
    /// It is closed behind the reply.
    Close,
}

/// What an answer needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The version, which must look like one of `tor`: programs compare it.
    pub version: &'a str,
    /// Fresh random bytes for AUTHCHALLENGE.
    pub nonce: &'a [u8; NONCE_LEN],
}

/// The authentication of one connection.
pub struct Authenticator {
    credentials: Arc<Credentials>,
    state: State,
    has_asked_info: bool,
    mistakes: u32,
}

impl Authenticator {
    /// For a fresh connection to a listener with these credentials.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>) -> Authenticator {
        Authenticator {
            credentials,
            state: State::Stranger,
            has_asked_info: false,
            mistakes: 0,
        }
    }

    /// Whether it may say more than a stranger.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self.state, State::Trusted)
    }

    /// Takes a command, as it was named and as it was read. `None` leaves it to the caller: the
    /// connection is trusted, and the command has nothing to do with authentication.
    pub fn handle(
        &mut self,
        keyword: &str,
        command: &Result<Command, Refusal>,
        facts: Facts<'_>,
    ) -> Option<(Reply, Verdict)> {
        let name = CommandName::from_name(keyword);
        let may_say = match (&self.state, name) {
            (State::Trusted, _) | (_, Some(CommandName::Authenticate | CommandName::Quit)) => true,
            (State::Stranger, Some(CommandName::ProtocolInfo)) => !self.has_asked_info,
            (State::Stranger, Some(CommandName::AuthChallenge)) => true,
            _ => false,
        };
        if !may_say {
            return Some((Refusal::AuthenticationRequired.into(), Verdict::Close));
        }
        let answer = match command {
            Ok(Command::Quit) => Ok((Reply::new(250, "closing connection"), Verdict::Close)),
            Ok(Command::ProtocolInfo) => Ok((self.protocol_info(facts.version), Verdict::Stay)),
            Ok(Command::AuthChallenge(nonce)) => self.challenge(nonce, facts.nonce),
            Ok(Command::Authenticate(proof)) => self.authenticate(proof),
            Err(refusal) => Err(refusal.clone()),
            Ok(_) => return None,
        };
        Some(answer.unwrap_or_else(|refusal| {
            let verdict = self.verdict(name, &refusal);
            (refusal.into(), verdict)
        }))
    }

    /// Whether a refused command costs the connection.
    fn verdict(&mut self, name: Option<CommandName>, refusal: &Refusal) -> Verdict {
        let is_unreadable = matches!(
            refusal,
            Refusal::Keywords(_) | Refusal::TooFewArguments { .. }
        );
        let is_proof = matches!(
            name,
            Some(CommandName::Authenticate | CommandName::AuthChallenge)
        );
        if is_unreadable && !self.is_trusted() {
            self.mistakes += 1;
        }
        let is_stranger = !self.is_trusted();
        let closes = if is_unreadable {
            self.mistakes >= MISTAKES_MAX
        } else {
            is_proof || is_stranger
        };
        if closes {
            Verdict::Close
        } else {
            Verdict::Stay
        }
    }

    fn protocol_info(&mut self, version: &str) -> Reply {
        self.has_asked_info = true;
        Reply::new(250, "PROTOCOLINFO 1")
            .line(250, format!("AUTH METHODS={}", self.credentials.methods()))
            .line(250, format!("VERSION Tor={}", c_quote(version.as_bytes())))
            .line(250, "OK")
    }

    fn challenge(
        &mut self,
        client_nonce: &[u8],
        server_nonce: &[u8; NONCE_LEN],
    ) -> Result<(Reply, Verdict), Refusal> {
        let (cookie, _, _) = self
            .credentials
            .cookie
            .as_ref()
            .ok_or(Refusal::CookieDisabled)?;
        let challenge = Challenge::new(cookie, client_nonce, server_nonce);
        let reply = format!(
            "AUTHCHALLENGE SERVERHASH={} SERVERNONCE={}",
            hex_upper(&challenge.server_hash),
            hex_upper(server_nonce)
        );
        self.state = State::Challenged(challenge.client_hash);
        Ok((Reply::new(250, reply), Verdict::Stay))
    }

    fn authenticate(&mut self, proof: &Proof) -> Result<(Reply, Verdict), Refusal> {
        let profile = match &self.state {
            State::Challenged(expected) => {
                let answer = match proof {
                    Proof::Empty => &[][..],
                    Proof::Quoted(answer) | Proof::Hex(answer) => answer.as_slice(),
                };
                let mistake = if answer.len() != expected.len() {
                    Some("Wrong length for safe cookie response.")
                } else if !ct_eq(answer, expected.as_slice()) {
                    Some("Safe cookie response did not match expected value.")
                } else {
                    None
                };
                let cookie = self.credentials.cookie.as_ref();
                let profile = cookie.map(|(_, _, profile)| Arc::clone(profile));
                match (mistake, profile) {
                    (Some(mistake), _) => return Err(Refusal::Authentication(mistake)),
                    (None, profile) => profile.ok_or(Refusal::CookieDisabled)?,
                }
            }
            State::Stranger | State::Trusted => self.credentials.check(proof)?,
        };
        self.state = State::Trusted;
        Ok((Reply::ok(), Verdict::Trusted(profile)))
    }
}

#[cfg(test)]
mod tests;
