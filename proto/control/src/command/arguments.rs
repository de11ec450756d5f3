//! Positional and keyword arguments, as `tor` tells them apart.
//!
//! A command has at most so many positional words; what follows them are keyword arguments, if the
//! command has any. Texts are UTF-8 here, since options, names and addresses are.

use crate::refusal::Refusal;
use crate::text::{self, ARGUMENTS_MAX, Quotes, Style};

/// What arguments a command has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    /// Its name, for refusals.
    pub(super) command: &'static str,
    /// Positional words, at least.
    pub(super) needed: usize,
    /// Positional words, at most.
    pub(super) accepted: usize,
    /// Its keyword arguments.
    pub(super) keywords: Keywords,
}

/// What keyword arguments a command has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keywords {
    /// None.
    None,
    /// Any, of this style.
    Any(Style),
    /// `key=value` of these keys, without quotes.
    Only(&'static [&'static str]),
}

/// `key=value` and nothing else.
pub(super) const PLAIN: Style = Style {
    may_omit_keys: false,
    may_omit_values: false,
    quotes: Quotes::None,
};

/// `key=value` or `word`.
pub(super) const WORDS: Style = Style {
    may_omit_values: true,
    ..PLAIN
};

/// `key=value`, `key="value"` or `key`.
pub(super) const SETTINGS: Style = Style {
    may_omit_values: true,
    quotes: Quotes::C,
    ..PLAIN
};

/// The arguments of one command.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// The positional words.
    pub(super) words: Vec<String>,
    /// The keyword arguments; the value of a bare word is empty.
    pub(super) pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Reads the arguments that follow the keyword of a command.
    pub(super) fn parse(body: &[u8], syntax: Syntax) -> Result<Arguments, Refusal> {
        let command = syntax.command;
        let body = std::str::from_utf8(body).map_err(|_| Refusal::Keywords(command))?;
        // `tor` reads no further than a NUL, and no quoted value can have one.
        if body.contains('\0') {
            return Err(Refusal::Keywords(command));
        }
        let mut arguments = Arguments::default();
        let mut rest = body.trim_ascii();
        while !rest.is_empty() && arguments.words.len() < syntax.accepted {
            // Only a space parts words; a tab within one is part of it.
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            arguments.words.push(word.trim_ascii().to_owned());
            rest = after.trim_ascii_start();
        }
        if arguments.words.len() < syntax.needed {
            let needed = syntax.needed;
            return Err(Refusal::TooFewArguments { command, needed });
        }
        if rest.is_empty() {
            return Ok(arguments);
        }
        let (style, known) = match syntax.keywords {
            Keywords::None => {
                let accepted = syntax.accepted;
                return Err(Refusal::TooManyArguments { command, accepted });
            }
            Keywords::Any(style) => (style, None),
            Keywords::Only(known) => (PLAIN, Some(known)),
        };
        let pairs = text::read_pairs(rest.as_bytes(), style);
        for pair in pairs.ok_or(Refusal::Keywords(command))? {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
            let key = text(&pair.key).map_err(|_| Refusal::Keywords(command))?;
            let value = text(&pair.value).map_err(|_| Refusal::Keywords(command))?;
            if known.is_some_and(|known| !known.iter().any(|one| one.eq_ignore_ascii_case(&key))) {
                let keyword = key;
                return Err(Refusal::Keyword { command, keyword });
            }
            arguments.pairs.push((key, value));
        }
        Ok(arguments)
    }

    /// The words of a command that takes as many as there are.
    pub(super) fn words(command: &'static str, body: &[u8]) -> Result<Vec<String>, Refusal> {
        let syntax = Syntax {
            command,
            needed: 0,
            accepted: ARGUMENTS_MAX,
            keywords: Keywords::None,
        };
        Arguments::parse(body, syntax).map(|arguments| arguments.words)
    }

    /// The positional word at `index`; empty if it is not there.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The value of the first keyword argument of that name.
    pub(super) fn value(&self, keyword: &str) -> Option<&str> {
        self.values(keyword).next()
    }

    /// The values of all keyword arguments of that name.
    pub(super) fn values(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(keyword))
            .map(|(_, value)| value.as_str())
    }
}
