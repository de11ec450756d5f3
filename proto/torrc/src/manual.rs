//! `docs/torrc.md`, made of the table.

use std::fmt::Write as _;

use crate::names;
use crate::option::Fate;
use crate::table;

/// How many options are meant, accepted and refused.
pub fn counts() -> [usize; 3] {
    let all = names::all();
    [Fate::Meant, Fate::Accepted, Fate::Refused]
        .map(|fate| all.iter().filter(|option| option.fate == fate).count())
}

/// The document.
pub fn document() -> String {
    let [meant, accepted, refused] = counts();
    let all = meant + accepted + refused;
    let mut text = format!(
        "# torrc\n\n\
         <!-- Made of proto/torrc/src/table by its test: CEPA_WRITE=1 writes it. -->\n\n\
         `cepa tor`, or the same program by the name `tor`, reads a torrc and the command line of \
         `tor`.\n`cepa config FILE` prints the configuration of ours that a torrc is.\n\n\
         Of the {all} options of `tor` 0.4.9.15, {meant} are **meant** as `tor` means them, \
         {accepted} are **accepted**\nbecause they have no meaning here (a line at info says so), \
         and {refused} are **refused** with their line and\nthe reason, unless they say what is so \
         anyway. None is ignored silently. {} names that `tor`\npasses over as obsolete are passed \
         over, too.\n\n\
         | option | type | | what it is here, or why it is nothing |\n|---|---|---|---|\n",
        table::OBSOLETE.len()
    );
    for option in names::all() {
        let fate = match option.fate {
            Fate::Meant => "meant",
            Fate::Accepted => "accepted",
            Fate::Refused => "refused",
        };
        let (name, kind, why) = (option.name, option.kind.name(), option.why);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {fate} | {why} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/torrc.md");

    #[test]
    fn the_document_is_that_of_the_table() {
        if std::env::var_os("CEPA_WRITE").is_some() {
            std::fs::write(DOCUMENT, document()).unwrap();
        }
        let there = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
        assert!(
            there == document(),
            "write it anew: CEPA_WRITE=1 cargo test -p cepa-torrc"
        );
    }
}
