//! Families of relays: `family` lines and their canonical form (dir-spec.txt sections 2.1.1
//! and 3.3).
//!
//! Two relays are of one family if each lists the other, by identity or by nickname. Members of
//! a form that we do not know are kept and match nobody.

use std::collections::BTreeSet;
use std::fmt;

use cepa_crypto::{RsaId, encoding};

/// Most members of a family; a descriptor of 20000 bytes cannot list more.
pub const MEMBERS_MAX: usize = 10_000;
/// Longest nickname (dir-spec.txt section 2.1.3).
pub const NICKNAME_LEN_MAX: usize = 19;

/// Whether a text is a nickname: 1 to 19 letters and digits.
pub fn is_nickname(text: &str) -> bool {
    (1..=NICKNAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A member of a family. The order is that of the canonical form's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FamilyMember {
    /// A relay by its RSA identity, `$` and 40 digits.
    Id(RsaId),
    /// A relay by its nickname, in lower case.
    Nickname(String),
    /// A form that we do not know.
    Other(String),
}

impl FamilyMember {
    /// Reads one word; every word is a member.
    pub fn parse(word: &str) -> Self {
        if is_nickname(word) {
            return Self::Nickname(word.to_ascii_lowercase());
        }
        match parse_id(word) {
            Some(id) => Self::Id(id),
            None => Self::Other(word.to_owned()),
        }
    }
}

impl fmt::Display for FamilyMember {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(out, "${id}"),
            Self::Nickname(word) | Self::Other(word) => out.write_str(word),
        }
    }
}

/// Reads `$HEX`, `$HEX=NICKNAME` or `$HEX~NICKNAME`; `tor` lets the `$` be missing.
fn parse_id(word: &str) -> Option<RsaId> {
    let word = word.strip_prefix('$').unwrap_or(word);
    let (hex, nickname) = (word.get(..40)?, word.get(40..)?);
    if !nickname.is_empty() && !is_nickname(nickname.strip_prefix(['=', '~'])?) {
        return None;
    }
    encoding::hex_array(hex).map(RsaId::from)
}

/// The members that a relay lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Family {
    members: BTreeSet<FamilyMember>,
}

impl Family {
    /// Reads the words of a `family` line; those beyond [`MEMBERS_MAX`] are dropped.
    pub fn parse(text: &str) -> Self {
        let words = text.split([' ', '\t']).filter(|word| !word.is_empty());
        Self {
            members: words.take(MEMBERS_MAX).map(FamilyMember::parse).collect(),
        }
    }

    /// Whether no member is listed.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members, sorted.
    pub fn members(&self) -> impl Iterator<Item = &FamilyMember> {
        self.members.iter()
    }

    /// Whether a relay is listed.
    pub fn contains(&self, id: &RsaId, nickname: &str) -> bool {
        self.members.contains(&FamilyMember::Id(*id))
            || self
                .members
                .contains(&FamilyMember::Nickname(nickname.to_ascii_lowercase()))
    }

    /// The canonical form with the listing relay itself as a member, as microdescriptors have
    /// it since consensus method 29.
    pub fn canonical_with(&self, own_id: RsaId) -> String {
        let own_id = FamilyMember::Id(own_id);
        let words: BTreeSet<String> = self
            .members
            .iter()
            .chain([&own_id])
            .map(FamilyMember::to_string)
            .collect();
        words.into_iter().collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, member) in self.members.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(out, "{separator}{member}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    #[test]
    fn the_canonical_form_is_sorted_and_unique() {
        let own: RsaId = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC".parse().unwrap();
        let text = format!("Zoe ${} abc ${B}=bee ${A}~x {A} !new Abc", B.to_lowercase());
        let family = Family::parse(&text);
        assert_eq!(
            family.canonical_with(own),
            format!("!new ${A} ${B} ${own} abc zoe")
        );
        assert!(family.contains(&own, "ZOE") && !family.contains(&own, "none"));
        assert!(family.contains(&A.parse().unwrap(), "none"));
    }

    #[test]
    fn bad_words_match_nobody() {
        for word in [
            "$AAAA",
            "$zzzz",
            &format!("${A}=bad-name"),
            &format!("${A}="),
        ] {
            assert!(
                matches!(FamilyMember::parse(word), FamilyMember::Other(_)),
                "{word}"
            );
        }
    }

    proptest! {
        #[test]
        fn encoded_families_parse(
            text in "([a-zA-Z0-9]{1,20} |\\$[A-F0-9]{40} |[!-~]{1,9} ){0,6}",
        ) {
            let family = Family::parse(&text);
            prop_assert_eq!(Family::parse(&family.to_string()), family);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}") {
            let _ = Family::parse(&text);
        }
    }
}
