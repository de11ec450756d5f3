//! What processes have used so far, by the kernel's own accounting (proc(5)).

use std::time::Duration;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::Process;

use crate::error::Failure;

/// What a process, or several, have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Time on a processor, for itself and in the kernel on its behalf.
    pub(super) cpu: Duration,
    /// Memory that is resident now, shared pages of its program included.
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// The resident memory in millions of bytes.
    pub(super) fn resident_mb(&self) -> f64 {
        self.resident_bytes as f64 / 1e6
    }
}

/// What a process has used.
pub(super) fn of(pid: u32) -> Result<Usage, Failure> {
    let wrong = |error| Failure::new("cannot be accounted for", format!("process {pid}"), error);
    let stat = i32::try_from(pid)
        .map_err(|_| procfs::ProcError::NotFound(None))
        .and_then(Process::new)
        .and_then(|process| process.stat())
        .map_err(wrong)?;
    let ticks = u32::try_from(stat.utime + stat.stime).unwrap_or(u32::MAX);
    let ticks_per_second = u32::try_from(procfs::ticks_per_second()).unwrap_or(u32::MAX);
    Ok(Usage {
        cpu: Duration::from_secs(1) * ticks / ticks_per_second.max(1),
        resident_bytes: stat.rss_bytes().get(),
    })
}

/// The processor time of several processes in all.
pub(super) fn cpu_of(pids: &[u32]) -> Result<Duration, Failure> {
    pids.iter().map(|pid| of(*pid).map(|used| used.cpu)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_for_this_process() {
        let before = of(std::process::id()).unwrap();
        assert!(before.resident_bytes > 100_000, "{before:?}");
        let mut sum = 0_u64;
        while of(std::process::id()).unwrap().cpu == before.cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_of(&[std::process::id()]).unwrap() > before.cpu);
        assert!(of(u32::MAX).is_err());
    }
}
