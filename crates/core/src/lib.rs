//! The decisions of deployer: pure functions and state machines.
//!
//! Nothing here waits, reads a clock, draws a random number, or speaks to anything outside; what is needed of
//! the world is passed in. The other crates carry the decisions out, and none of them is known here.

pub mod ambient;
pub mod asking;
pub mod availability;
pub mod backoff;
pub mod deed;
pub mod dirty;
pub mod doctor;
pub mod gate;
pub mod healthcheck;
pub mod image;
pub mod keys;
pub mod leftovers;
pub mod node;
pub mod ownership;
pub mod plain;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod project;
pub mod queue;
pub mod record;
pub mod registry;
pub mod replacement;
pub mod rollback;
pub mod room;
pub mod slot;
pub mod store;
pub mod successor;
pub mod trouble;
pub mod webhook;
