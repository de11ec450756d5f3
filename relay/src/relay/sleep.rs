//! The sleep of a relay that has used up what it may carry.

use cepa_wire::Now;
use tracing::{info, warn};

use super::{Command, Relay};
use crate::accounting::{Accounting, AccountingConfig, Wakefulness};

impl Relay {
    /// So many bytes were moved that no link has carried: those of streams that leave here, and of
    /// our own requests.
    pub fn handle_other_traffic(&mut self, read_bytes: u64, written_bytes: u64, now: Now) {
        self.account(read_bytes, written_bytes, now);
    }

    /// What was used of what it may carry, if there is a bound.
    #[must_use]
    pub fn accounting(&self) -> Option<&Accounting> {
        self.accounting.as_ref()
    }

    /// Whether it works.
    #[must_use]
    pub fn wakefulness(&self) -> Wakefulness {
        self.wakefulness
    }

    /// Goes on from what an earlier run kept.
    pub(super) fn restore_accounting(&mut self, kept: Option<&str>, now: Now) {
        if let (Some(config), Some(kept)) = (self.config.accounting, kept) {
            self.accounting = Some(Accounting::new(config, Some(kept), now.wall));
        }
        self.account(0, 0, now);
    }

    /// The operator allows another amount; what was used stays used.
    pub(super) fn account_by(&mut self, config: Option<AccountingConfig>, now: Now) {
        match (config, &mut self.accounting) {
            (Some(config), Some(accounting)) => accounting.set_config(config, now.wall),
            (Some(config), none) => *none = Some(Accounting::new(config, None, now.wall)),
            (None, some) => *some = None,
        }
        self.account(0, 0, now);
    }

    /// Counts, and falls asleep or wakes.
    pub(super) fn account(&mut self, read_bytes: u64, written_bytes: u64, now: Now) {
        let mut next = Wakefulness::Awake;
        if let Some(accounting) = &mut self.accounting {
            accounting.add(read_bytes, written_bytes, now.wall);
            next = accounting.wakefulness();
            let kept = accounting.poll_keep(now.wall);
            self.commands.extend(kept.map(Command::KeepAccounting));
        }
        if next == self.wakefulness {
            return;
        }
        self.wakefulness = next;
        match (&self.accounting, next) {
            (Some(used), Wakefulness::Soft) => warn!(
                "hibernating: {used}; no new links and circuits until then; raise accounting_max, \
                 or lower bandwidth_rate so that it lasts"
            ),
            (Some(used), Wakefulness::Hard) => warn!(
                "hibernating: {used}; all links are closed until then; raise accounting_max, or \
                 lower bandwidth_rate so that it lasts"
            ),
            _ => info!("awake again: links and circuits are taken"),
        }
        self.commands.push_back(Command::Sleep(next));
        self.publisher.changed();
    }
}
