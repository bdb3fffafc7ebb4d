//! The daemon, the command line and their edges.

pub mod ambient;
pub mod docker;
pub mod engine;
mod failpoint;
pub mod happening;
pub mod journal;
mod keep;
pub mod ledger;
pub mod pull;
pub mod restart;
pub mod situation;
pub mod store;
pub mod survey;
pub mod update;
pub mod wire;
pub mod world;
