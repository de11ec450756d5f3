//! Who a node is and whose: its nickname, how to reach its operator, its family.

use super::NodeTable;
use crate::config::source::Source;
use crate::error::Failure;

/// Members of a family, at most.
const FAMILY_MAX: usize = 1000;

/// Checks nickname, contact and family.
pub(super) fn check(source: &Source, table: &NodeTable) -> Result<(), Failure> {
    source.expect(
        &table.nickname,
        "nickname",
        "1 to 19 letters and digits",
        |name| is_nickname(name),
    )?;
    if let Some(contact) = &table.contact {
        source.expect(contact, "contact", "one line of text", |text| is_line(text))?;
    }
    for member in &table.family {
        let expected = "$ and 40 hexadecimal digits, or a nickname";
        source.expect(member, "family", expected, |name| is_family_member(name))?;
    }
    if let Some(member) = table.family.get(FAMILY_MAX) {
        return Err(source.wrong(member, "family", "at most 1000 relays"));
    }
    Ok(())
}

/// 40 hexadecimal digits, `$` before them or not, or a nickname.
fn is_family_member(text: &str) -> bool {
    let digits = text.strip_prefix('$').unwrap_or(text);
    match digits.len() {
        40 => digits.parse::<cepa_crypto::RsaId>().is_ok(),
        _ => is_nickname(text),
    }
}

/// 1 to 19 letters and digits (dir-spec 2.1.1).
pub fn is_nickname(name: &str) -> bool {
    (1..=19).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_line(text: &str) -> bool {
    text.len() <= 1000 && !text.chars().any(char::is_control)
}
