//! The decisions of deployer: pure functions and state machines.
//!
//! Nothing here waits, reads a clock, draws a random number, or speaks to anything outside; what is needed of
//! the world is passed in. The crate `deployer` carries the decisions out.

pub mod image;
pub mod ownership;
pub mod successor;
