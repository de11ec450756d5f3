//! A progress line a stage: a bar while a person watches, plain lines otherwise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// The stages on their way.
pub(super) struct Progress {
    name: &'static str,
    wanted: usize,
    /// None where nobody watches.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing shown yet.
    pub(super) fn new() -> Self {
        Self {
            name: "",
            wanted: 0,
            bar: None,
        }
    }

    /// Ends the stage before, and starts one that is over at `wanted`.
    pub(super) fn stage(&mut self, name: &'static str, wanted: usize) {
        self.finish();
        (self.name, self.wanted) = (name, wanted);
        if terminal::is_watched() {
            let bar = ProgressBar::new(wanted as u64).with_message(name);
            // The template is ours: a wrong one is noticed by the test below.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    /// Says how far the stage is.
    pub(super) fn reached(&self, count: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(count as u64);
        }
    }

    /// Ends the stage.
    pub(super) fn finish(&mut self) {
        match self.bar.take() {
            Some(bar) => bar.finish(),
            None if self.wanted > 0 => {
                terminal::complain(&format!("{} {}/{}", self.name, self.wanted, self.wanted));
            }
            None => {}
        }
        self.wanted = 0;
    }
}

const TEMPLATE: &str = "{spinner} {msg:16} {pos}/{len} ({elapsed})";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
