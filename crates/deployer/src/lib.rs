//! The daemon, the command line and their edges.

pub mod docker;
pub mod engine;
pub mod store;
pub mod wire;
