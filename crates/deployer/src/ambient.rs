//! The machine's own clock, and chance from the operating system.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use deployer_core::ambient::Ambient;

/// The machine's clock, and numbers seeded by the operating system.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn system() -> Ambient {
    let wall = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    Ambient::chosen(wall, RandomState::new().build_hasher().finish())
}
