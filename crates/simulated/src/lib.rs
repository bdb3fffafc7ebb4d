//! The simulated world: an engine, a registry and a store in memory, on tokio's clock, which behave as the real ones do and go
//! wrong as those can, and a history of everything that happens in it. With the clock paused the real stages run through
//! hours within milliseconds, and a seed makes a run the same each time.
//!
//! It implements the traits of `deployer-engine` and `deployer-store`, for the tests of whoever works with these, and
//! must know nothing of the agent: whether the stages are right is judged by what they do to this world. What drives the
//! stages, and the checker, are in `crates/agent/tests/simulated`.

#![allow(missing_docs, reason = "what happens has names that say it all; what does not is explained")]

pub mod ambient;
pub mod engine;
pub mod history;
pub mod registry;
pub mod store;
