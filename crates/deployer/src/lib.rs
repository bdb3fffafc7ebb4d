//! The daemon, the command line and their edges.

pub mod ambient;
pub mod asking;
pub mod callback;
mod claims;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod docker;
pub mod engine;
mod failpoint;
pub mod happening;
pub mod http;
pub mod journal;
mod keep;
pub mod ledger;
pub mod presence;
pub mod publish;
pub mod pull;
pub mod restart;
pub mod situation;
#[cfg(test)]
mod stand_in;
pub mod status;
pub mod store;
pub mod supervision;
pub mod survey;
pub mod triggers;
pub mod turn;
pub mod update;
pub mod wire;
pub mod world;
