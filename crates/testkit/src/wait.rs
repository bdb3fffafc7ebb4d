//! Waiting on a condition with a deadline, the only way a test may let time pass.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks. Short against anything a container does, long against what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` returns `Ok` and hands that out; `Err` says what was seen instead.
///
/// # Panics
///
/// At the deadline, with `what` was waited for and what was seen last.
#[track_caller]
pub fn wait_until<T, Seen: Display>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, Seen>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => panic!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
