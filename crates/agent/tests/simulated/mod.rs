//! Machines and clusters in the simulated world of `deployer-simulated`, on which the real stages run, and the checker that
//! judges what came of it.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

pub mod attendance;
pub mod checker;
pub mod cluster;
mod daemon;
pub mod freezer;
pub mod node;
