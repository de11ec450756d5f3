//! What the service manager that started this process is told (sd_notify(3) of systemd): that it
//! serves, reads its configuration again, stops, and still lives. Without such a manager
//! (`NOTIFY_SOCKET`) nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The ports are open, or the configuration was read again.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again; [`ready`] follows.
pub fn reloading() {
    // Type=notify-reload asks for the time, and refuses the message without it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("no time for the service manager: {error}"),
    }
}

/// The process stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Who must hear from the loop of a role, and how often.
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// The one of this process's unit (`WatchdogSec`), if it has one. Must be called within a
    /// runtime.
    pub fn new() -> Self {
        // Half of the time, as sd_watchdog_enabled(3) recommends: one that is late does no harm.
        let period = sd_notify::watchdog_enabled().map(|period| period / 2);
        Watchdog(
            period
                .filter(|period| *period > Duration::ZERO)
                .map(|period| {
                    let mut due = interval(period);
                    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    due
                }),
        )
    }

    /// Tells it, again and again, for as long as this is awaited. Cancel-safe.
    pub async fn feed(&mut self) -> std::convert::Infallible {
        let Some(due) = &mut self.0 else {
            return std::future::pending().await;
        };
        loop {
            due.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
