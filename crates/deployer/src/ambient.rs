//! The clock on the wall and random numbers, passed in so that a test can choose both.
//!
//! Waiting uses tokio's clock, which a test can pause; this one is for what is shown to people.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the time and the random numbers come from.
pub struct Ambient {
    wall: Box<dyn Fn() -> i64 + Send + Sync>,
    random: Mutex<u64>,
}

impl Ambient {
    /// The machine's clock, and numbers seeded by the operating system.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn system() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let wall = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        Self { wall: Box::new(wall), random: Mutex::new(seed | 1) }
    }

    /// A clock and a seed that somebody chose.
    pub fn chosen(wall: impl Fn() -> i64 + Send + Sync + 'static, seed: u64) -> Self {
        Self { wall: Box::new(wall), random: Mutex::new(seed | 1) }
    }

    /// Unix seconds, for display only.
    pub fn now(&self) -> i64 {
        (self.wall)()
    }

    /// A number that need not be secret (xorshift64*, Vigna 2014).
    pub fn random(&self) -> u64 {
        let mut state = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// As many random hexadecimal digits.
    pub fn hex(&self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            // Writing to a string cannot fail.
            let _ = write!(text, "{:016x}", self.random());
        }
        text.truncate(digits);
        text
    }
}
