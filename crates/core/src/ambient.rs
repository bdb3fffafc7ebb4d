//! The clock on the wall and random numbers, passed in so that a test can choose both.
//!
//! Waiting uses tokio's clock, which a test can pause; this one is for what is shown to people.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Where the time and the random numbers come from.
pub struct Ambient {
    wall: Box<dyn Fn() -> i64 + Send + Sync>,
    random: Mutex<u64>,
}

impl Ambient {
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
