//! A bar with an estimate on stderr; nothing where stderr is not a terminal.

use crate::checkpoint::hub::Step;
use crate::eval::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::time::Duration;

const TEMPLATE: &str = "{msg:<28} {bar:30} {percent:>3} %  {elapsed} spent, {eta} left";

const BYTES: &str =
    "{msg:<28} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {elapsed} spent, {eta} left";

fn bar(template: &str, message: String, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // indicatif hides the bar by itself where stderr is not a terminal.
    let bar = ProgressBar::new(total).with_style(style.progress_chars("━╸ "));
    bar.set_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

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
        let bar = bar(TEMPLATE, stage.to_owned(), total);
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

/// The bar of a download: bytes, and how long the rest will take.
pub(super) struct Fetched {
    bar: RefCell<Option<ProgressBar>>,
}

impl Fetched {
    pub(super) fn new() -> Self {
        Self {
            bar: RefCell::new(None),
        }
    }

    /// How far the download of `what` has come; after its last byte the bar goes.
    pub(super) fn show(&self, what: &str, step: Step) {
        let mut shown = self.bar.borrow_mut();
        let bar = shown.get_or_insert_with(|| {
            let bar = bar(BYTES, format!("fetching {what}"), step.total);
            // What an earlier run fetched took this one no time.
            bar.with_position(step.done)
        });
        bar.set_position(step.done);
        if step.done >= step.total {
            bar.finish_and_clear();
            *shown = None;
        }
    }
}
