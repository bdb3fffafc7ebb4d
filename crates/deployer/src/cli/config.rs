//! `deployer config check`.

use super::{Ended, say};
use crate::config::{Config, Flags};

/// Reads the configuration and prints what came out of it.
pub fn check(flags: &Flags) -> Result<(), Ended> {
    let config = Config::load(flags).map_err(|error| Ended::Mistake(error.to_string()))?;
    say::line(config.to_string().trim_end())
}
