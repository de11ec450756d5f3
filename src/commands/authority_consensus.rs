//! `cepa authority consensus`: the consensus of some time, from an archive.

use cepa_netdoc::consensus::Flavour;

use crate::archive::{Archive, date};
use crate::args::ConsensusArgs;
use crate::error::{Failure, fail};
use crate::terminal;

/// Writes it to standard output.
pub(super) fn run(args: &ConsensusArgs) -> Result<(), Failure> {
    let Some(at) = date(&args.date) else {
        let expected = "expected YYYY-MM-DD, or YYYY-MM-DDTHH:MM, UTC";
        return fail("wrong date", &args.date, expected);
    };
    let flavour = Flavour::from_name(&args.flavour).unwrap_or(Flavour::Ns);
    match Archive::of(&args.archive).consensus(flavour, at) {
        Ok(text) => {
            terminal::write(&text);
            Ok(())
        }
        Err(error) => fail(
            format!(
                "no consensus that began at {} or within a day before",
                args.date
            ),
            args.archive.display(),
            error,
        ),
    }
}
