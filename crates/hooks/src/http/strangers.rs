//! Requests without the right secret: counted, and told of now and then. A line for each would let anybody fill the
//! log of a machine that is reachable from outside.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How long further refusals are only counted after one was told of.
const SILENCE_SECONDS: u64 = 60;

/// The refusals of one route.
#[derive(Debug)]
pub struct Strangers {
    untold: AtomicU64,
    told_at: AtomicI64,
}

impl Strangers {
    /// None yet.
    pub fn new() -> Self {
        Self { untold: AtomicU64::new(0), told_at: AtomicI64::new(i64::MIN) }
    }

    /// Counts one at `now` in Unix seconds. If it is time to tell of them: how many there were since the last time.
    pub fn meet(&self, now: i64) -> Option<u64> {
        self.untold.fetch_add(1, Ordering::Relaxed);
        let told_at = self.told_at.load(Ordering::Relaxed);
        // The distance, not the difference: a clock that was set back must not silence them for long.
        if now.abs_diff(told_at) < SILENCE_SECONDS {
            return None;
        }
        let is_mine = self.told_at.compare_exchange(told_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then(|| self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_after_a_minute_with_their_number() {
        let strangers = Strangers::new();
        let told: Vec<Option<u64>> = [1000, 1000, 1030, 1059, 1060, 1061, 1121, 500, 501]
            .into_iter()
            .map(|second| strangers.meet(second))
            .collect();
        assert_eq!(told, [Some(1), None, None, None, Some(4), None, Some(2), Some(1), None]);
    }
}
