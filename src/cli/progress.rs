//! A bar with an estimate on stderr; nothing where stderr is not a terminal.

use crate::eval::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::time::Duration;

const TEMPLATE: &str = "{msg:<28} {bar:30} {percent:>3} %  {elapsed} spent, {eta} left";

/// The bar of the current stage.
pub(super) struct Bar {
    bar: RefCell<ProgressBar>,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self {
            bar: RefCell::new(ProgressBar::hidden()),
        }
    }

    /// Takes the bar off the terminal, so that text can be written.
    pub(super) fn clear(&self) {
        self.bar.borrow().finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: u64) {
        self.clear();
        let style = ProgressStyle::with_template(TEMPLATE);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        // indicatif hides the bar by itself where stderr is not a terminal.
        let bar = ProgressBar::new(total).with_style(style.progress_chars("━╸ "));
        bar.set_message(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar.replace(bar);
    }

    fn advance(&self, units: u64) {
        self.bar.borrow().inc(units);
    }

    fn resume(&self, units: u64) {
        let bar = self.bar.borrow();
        bar.inc(units);
        bar.reset_eta();
    }
}

impl std::ops::Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
