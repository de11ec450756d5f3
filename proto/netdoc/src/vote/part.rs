//! How a vote is cut into parts: the header, an entry for each relay, the footer.

use memchr::memmem;

use crate::item::Limits;
use crate::vote::VOTE_BYTES_MAX;

/// Bounds of one part: header, entry or footer. The header of a vote has about 50 lines.
pub(super) const LIMITS: Limits = Limits {
    bytes_max: VOTE_BYTES_MAX,
    items_max: 16_384,
};

/// The keyword of the line that ends what is signed.
pub(super) const SIGNATURE: &str = "directory-signature";

/// Where the part that starts at `from` ends: at the next entry, the footer, or the end of `text`.
pub(super) fn next_part(text: &str, from: usize) -> usize {
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    let end = memmem::find(rest, b"\nr ").map_or(rest.len(), |at| at + 1);
    let part = rest.get(..end).unwrap_or_default();
    // Both start alike.
    let footer = memmem::find_iter(part, b"\ndirectory-").find(|at| {
        let line = part.get(at + 1..).unwrap_or_default();
        line.starts_with(b"directory-footer") || line.starts_with(SIGNATURE.as_bytes())
    });
    from + footer.map_or(end, |at| at + 1)
}
