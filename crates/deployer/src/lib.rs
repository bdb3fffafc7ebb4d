//! The one binary: the command line, the settings, the local API, and the daemon that opens the edges and owns every task.
//!
//! All other crates meet here and nowhere else. What is to be done is decided in `deployer_core` and done in
//! `deployer_agent`; neither belongs here.

mod ambient;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod log;
pub mod status;
