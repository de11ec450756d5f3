//! Which lines a part of a vote may have, must have, and how often: `tor`'s tables of tokens.
//!
//! A vote that one authority refuses all must refuse, or they compute different consensuses. So
//! the count of each line, of its arguments and its object are looked at as `tor` does, for lines
//! that it knows; others pass.

use crate::item::{ARGS_MAX, Item, ItemError};

/// The arguments of a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Args {
    /// The line is one argument, whatever it says.
    Line,
    /// So many or more.
    AtLeast(usize),
    /// Just as many.
    Exactly(usize),
}

/// What a line must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    keyword: &'static str,
    args: Args,
    min: usize,
    max: usize,
    has_object: bool,
}

impl Rule {
    const fn new(keyword: &'static str, args: Args, min: usize, max: usize) -> Self {
        Rule {
            keyword,
            args,
            min,
            max,
            has_object: false,
        }
    }

    /// Exactly one.
    pub(super) const fn required(keyword: &'static str, args: Args) -> Self {
        Self::new(keyword, args, 1, 1)
    }

    /// One at most.
    pub(super) const fn once(keyword: &'static str, args: Args) -> Self {
        Self::new(keyword, args, 0, 1)
    }

    /// Any number.
    pub(super) const fn any(keyword: &'static str, args: Args) -> Self {
        Self::new(keyword, args, 0, usize::MAX)
    }

    /// It must have an object; without this it must have none.
    pub(super) const fn with_object(self) -> Self {
        Self {
            has_object: true,
            ..self
        }
    }
}

/// Rules, with the lines that were seen.
#[derive(Debug)]
pub(super) struct Rules {
    rules: &'static [Rule],
    seen: Vec<usize>,
}

impl Rules {
    pub(super) fn new(rules: &'static [Rule]) -> Self {
        Self {
            rules,
            seen: vec![0; rules.len()],
        }
    }

    /// Looks at a line.
    pub(super) fn check(&mut self, item: &Item<'_>) -> Result<(), ItemError> {
        let mut rules = self.rules.iter().zip(&mut self.seen);
        let Some((rule, seen)) = rules.find(|(rule, _)| rule.keyword == item.keyword) else {
            return Ok(());
        };
        *seen += 1;
        if *seen > rule.max {
            return Err(ItemError::Repeated(item.keyword.to_owned()));
        }
        if item.object.is_some() != rule.has_object {
            return Err(ItemError::WrongObject(item.keyword.to_owned()));
        }
        let (least, most) = match rule.args {
            Args::Line => return Ok(()),
            Args::AtLeast(least) => (least, ARGS_MAX),
            Args::Exactly(count) => (count, count),
        };
        let count = item.args().take(most + 1).count();
        match (least..=most).contains(&count) {
            true => Ok(()),
            false => Err(item.bad_argument(count.min(most))),
        }
    }

    /// Whether every line is there that must be.
    pub(super) fn finish(self) -> Result<(), ItemError> {
        let missing = self.rules.iter().zip(self.seen);
        let mut missing = missing.filter(|(rule, seen)| *seen < rule.min);
        match missing.next() {
            None => Ok(()),
            Some((rule, _)) => Err(ItemError::Missing(rule.keyword.to_owned())),
        }
    }
}
