//! `max_memory` (`MaxMemInQueues` of `tor`), of relays and clients alike.

use cepa_limits::memory::default_max_bytes;
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// Least bytes of `max_memory`: the links of a small relay alone take some.
const MAX_MEMORY_MIN: u64 = 32 << 20;

/// What the file says, or what suits the machine.
pub(super) fn max_memory(
    source: &Source,
    written: Option<&Spanned<u64>>,
) -> Result<usize, Failure> {
    let Some(bytes) = written else {
        return Ok(machine_memory());
    };
    let expected = "33554432 (32 MiB) or more bytes; leave it out for what suits the machine";
    source.expect(bytes, "max_memory", expected, |bytes| {
        *bytes >= MAX_MEMORY_MIN
    })?;
    Ok(usize::try_from(*bytes.get_ref()).unwrap_or(usize::MAX))
}

/// What suits the machine.
pub(super) fn machine_memory() -> usize {
    default_max_bytes(machine_bytes())
}

/// The memory of this machine; `None` if the system does not tell.
fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert!(machine_bytes().is_none_or(|bytes| bytes > 64 << 20));
        assert!((256 << 20..=8 << 30).contains(&machine_memory()));
    }
}
