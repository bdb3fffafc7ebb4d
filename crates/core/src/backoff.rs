//! Waiting times between tries, as numbers.

use std::time::Duration;

use crate::asking;

/// A doubling wait with a floor and a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// A tag that the registry does not show yet: 0.5 to 60 s. Distribution sends its notification before it moves the tag,
    /// so that the first answer is often a few milliseconds too early; a cache in front of a registry may take minutes.
    pub const NOT_THERE_YET: Self = Self { first: Duration::from_millis(500), longest: Duration::from_secs(60) };
    /// A tag that shows an older version: a minute, each time.
    pub const SECOND_THOUGHT: Self = Self { first: asking::SECOND_THOUGHT, longest: asking::SECOND_THOUGHT };
    /// A registry that fails, limits us, or refuses: 5 s to 5 min.
    pub const REGISTRY: Self = Self { first: Duration::from_secs(5), longest: Duration::from_secs(300) };
    /// A container that cannot be replaced as it is, looked at again should the cause have gone: 1 to 30 min.
    pub const REFUSAL: Self = Self { first: Duration::from_secs(60), longest: Duration::from_secs(1800) };
    /// A connection to the engine or store that broke: 0.2 to 10 s.
    pub const CONNECTION: Self = Self { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

    /// The wait after `failures` failures in a row (at least one), lengthened by up to a fifth by `random`,
    /// any number, so that many nodes do not try in step.
    pub fn wait(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        wait + wait.mul_f64((random % 1000) as f64 / 5000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u128> = (1..=9).map(|n| Backoff::NOT_THERE_YET.wait(n, 0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(Backoff::REGISTRY.wait(u32::MAX, 0).as_secs(), 300);
        assert_eq!(Backoff::REGISTRY.wait(9, 999).as_secs(), 359, "jitter is at most a fifth");
    }
}
