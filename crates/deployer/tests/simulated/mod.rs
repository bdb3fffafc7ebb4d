//! A simulated world: real implementations of the two traits of the outside, in memory, on tokio's clock. With it
//! paused the real stages run through hours within milliseconds, and a seed makes a run the same each time.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod engine;
pub mod store;
