//! A simulated world: real implementations of the two traits of the outside, in memory, on tokio's clock. With it
//! paused the real stages run through hours within milliseconds, and a seed makes a run the same each time.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

use std::time::Duration;

pub mod attendance;
pub mod checker;
pub mod cluster;
mod daemon;
pub mod engine;
pub mod freezer;
pub mod history;
pub mod node;
pub mod registry;
pub mod store;

/// Lets time pass; without any, not even other tasks get their turn.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
