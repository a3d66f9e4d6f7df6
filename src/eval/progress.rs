//! What long work tells about itself.

use std::cell::Cell;

/// Listens to long work: so many units of a total are done.
pub trait Progress {
    /// A stage begins; `total` units of work lie ahead.
    fn begin(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// `units` were done by an earlier run: they say nothing of this one's speed.
    fn resume(&self, units: u64) {
        self.advance(units);
    }
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
}

/// Work whose own units are worth a fixed number of units of a larger stage.
pub struct Share<'a> {
    stage: &'a dyn Progress,
    worth: u64,
    total: u64,
    done: Cell<u64>,
}

impl<'a> Share<'a> {
    /// `total` units of the inner work advance `stage` by `worth`.
    pub fn new(stage: &'a dyn Progress, worth: u64, total: u64) -> Self {
        Self {
            stage,
            worth,
            total: total.max(1),
            done: Cell::new(0),
        }
    }
}

impl Progress for Share<'_> {
    fn begin(&self, _stage: &str, _total: u64) {}

    fn advance(&self, units: u64) {
        let before = self.done.get();
        let after = (before + units).min(self.total);
        self.done.set(after);
        let told = |done: u64| done * self.worth / self.total;
        self.stage.advance(told(after) - told(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Cell<u64>);

    impl Progress for Count {
        fn begin(&self, _stage: &str, _total: u64) {}
        fn advance(&self, units: u64) {
            self.0.set(self.0.get() + units);
        }
    }

    #[test]
    fn a_share_advances_its_stage_by_exactly_its_worth() {
        let count = Count(Cell::new(0));
        let share = Share::new(&count, 100, 7);
        (0..9).for_each(|_| share.advance(1));
        assert_eq!(count.0.get(), 100);
    }
}
