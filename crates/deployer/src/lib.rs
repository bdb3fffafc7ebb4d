//! The daemon, the command line and their edges.

pub mod engine;
pub mod store;
