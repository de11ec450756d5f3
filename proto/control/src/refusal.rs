//! Why a command is refused: `tor`'s codes and texts (control-spec 4), which programs parse.
//!
//! Each variant is one answer; strings in it are the controller's own words, given back.

/// A refusal, with `tor`'s text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 510: no command of that name. Names with `+` and those without are different ones.
    #[error("Unrecognized command \"{0}\"")]
    Command(String),
    /// 511: the command was once one.
    #[error("{0} is obsolete.")]
    Obsolete(&'static str),
    /// 510: the credential's profile does not allow it; the log names the rule.
    #[error("Command filtered")]
    Profile,
    /// 514: before authentication.
    #[error("Authentication required.")]
    AuthenticationRequired,
    /// 512: too few arguments.
    #[error("Bad arguments to {command}: Need at least {needed} argument(s)")]
    TooFewArguments {
        /// The command's name.
        command: &'static str,
        /// How many it needs.
        needed: usize,
    },
    /// 512: too many arguments.
    #[error("Bad arguments to {command}: Cannot accept more than {accepted} argument(s)")]
    TooManyArguments {
        /// The command's name.
        command: &'static str,
        /// How many it takes.
        accepted: usize,
    },
    /// 512: keyword arguments that cannot be read.
    #[error("Bad arguments to {0}: Cannot parse keyword argument(s)")]
    Keywords(&'static str),
    /// 512: a keyword that the command does not have.
    #[error("Bad arguments to {command}: Unrecognized keyword argument \"{keyword}\"")]
    Keyword {
        /// The command's name.
        command: &'static str,
        /// The keyword.
        keyword: String,
    },
    /// 512: a mistake that `tor` words for this command alone.
    #[error("{0}")]
    Syntax(&'static str),
    /// 512: an address to map from or to that is none.
    #[error("syntax error: invalid address '{0}'")]
    Address(String),
    /// 512: a mapping that cannot be.
    #[error("syntax error: invalid address mapping '{from}={to}': {why}")]
    Mapping {
        /// What was to be mapped.
        from: String,
        /// What it was to be mapped to.
        to: String,
        /// What is wrong with it.
        why: String,
    },
    /// 512: no onion address.
    #[error("Invalid v3 address \"{0}\"")]
    OnionAddress(String),
    /// 512: an unknown flag.
    #[error("Invalid 'Flags' argument: \"{0}\"")]
    Flag(String),
    /// 512: a port that is no number of 16 bits.
    #[error("Cannot parse port \"{0}\"")]
    Port(String),
    /// 512: a hop that is no number above zero.
    #[error("Bad value hop={0}")]
    Hop(String),
    /// 513: PROTOCOLINFO of a version that is no number.
    #[error("No such version \"{0}\"")]
    Version(String),
    /// 513: an argument that is no onion address.
    #[error("Invalid argument \"{0}\"")]
    Argument(String),
    /// 513: a kind of key that ADD_ONION does not have.
    #[error("Invalid key type")]
    OnionKeyType,
    /// 513: AUTHCHALLENGE of another method, or with a nonce that is not hexadecimal.
    #[error("{0}")]
    Challenge(&'static str),
    /// 513: a value that an option cannot have.
    #[error("Unacceptable option value: {0}")]
    OptionValue(String),
    /// 515: wrong password, cookie or answer.
    #[error("Authentication failed: {0}")]
    Authentication(&'static str),
    /// 515: no cookie to prove the knowledge of.
    #[error("Cookie authentication is disabled")]
    CookieDisabled,
    /// 550: a service of this key is already here.
    #[error("Onion address collision")]
    OnionCollision,
    /// 551: the secret is neither quoted nor hexadecimal.
    #[error(
        "Invalid hexadecimal encoding.  Maybe you tried a plain text password?  If so, the \
         standard requires that you put it in double quotes."
    )]
    Hexadecimal,
    /// 551: it could be done, but not now.
    #[error("{0}")]
    Unable(String),
    /// 552: GETINFO of a key that is not known.
    #[error("Unrecognized key \"{0}\"")]
    Key(String),
    /// 552: GETCONF of an option that is not known.
    #[error("Unrecognized configuration key \"{0}\"")]
    ConfigKey(String),
    /// 552: SETCONF or RESETCONF of an option that is not known.
    #[error("Unrecognized option: Unknown option '{0}'.  Failing.")]
    Option(String),
    /// 552: an event that is not known.
    #[error("Unrecognized event \"{0}\"")]
    Event(String),
    /// 552: a feature that is not known.
    #[error("Unrecognized feature \"{0}\"")]
    Feature(String),
    /// 552: a signal that is not known.
    #[error("Unrecognized signal code \"{0}\"")]
    Signal(String),
    /// 552: no such circuit.
    #[error("Unknown circuit \"{0}\"")]
    Circuit(String),
    /// 552: no such stream.
    #[error("Unknown stream \"{0}\"")]
    Stream(String),
    /// 552: an end reason that is none.
    #[error("Unrecognized reason \"{0}\"")]
    Reason(String),
    /// 552: a purpose that is none.
    #[error("Unknown purpose \"{0}\"")]
    Purpose(String),
    /// 552: no answer to whether a descriptor is to be kept.
    #[error("Unknown cache request \"{0}\"")]
    Cache(String),
    /// 552: no such relay.
    #[error("No such router \"{0}\"")]
    Router(String),
    /// 552: no such relay to fetch from or post to.
    #[error("Server \"{0}\" not found")]
    Server(String),
    /// 552: a kind of client key that is not known.
    #[error("Unrecognized key type \"{0}\"")]
    ClientKeyType(String),
    /// 552: no onion service of this connection, and no detached one.
    #[error("Unknown Onion Service id")]
    OnionService,
    /// 552: it makes no sense here, in words of the command.
    #[error("{0}")]
    Unrecognized(String),
    /// 553: an option that cannot change while the program runs.
    #[error("Transition not allowed: {0}")]
    Transition(String),
    /// 553: it cannot be stored.
    #[error("{0}")]
    Store(String),
    /// 554: a descriptor that cannot be read.
    #[error("{0}")]
    Descriptor(&'static str),
    /// 555: the stream or circuit is not in a state for it.
    #[error("{0}")]
    State(&'static str),
}

impl Refusal {
    /// The code before the text (control-spec 4).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Command(_) | Refusal::Profile => 510,
            Refusal::Obsolete(_) => 511,
            Refusal::TooFewArguments { .. }
            | Refusal::TooManyArguments { .. }
            | Refusal::Keywords(_)
            | Refusal::Keyword { .. }
            | Refusal::Syntax(_)
            | Refusal::Address(_)
            | Refusal::Mapping { .. }
            | Refusal::OnionAddress(_)
            | Refusal::Flag(_)
            | Refusal::Port(_)
            | Refusal::Hop(_) => 512,
            Refusal::Version(_)
            | Refusal::Argument(_)
            | Refusal::OnionKeyType
            | Refusal::Challenge(_)
            | Refusal::OptionValue(_) => 513,
            Refusal::AuthenticationRequired => 514,
            Refusal::Authentication(_) | Refusal::CookieDisabled => 515,
            Refusal::OnionCollision => 550,
            Refusal::Hexadecimal | Refusal::Unable(_) => 551,
            Refusal::Transition(_) | Refusal::Store(_) => 553,
            Refusal::Descriptor(_) => 554,
            Refusal::State(_) => 555,
            _ => 552,
        }
    }
}
