//! A container engine as a trait, and Docker's API behind it.
//!
//! This edge knows neither the store, nor hooks, nor any stage: it says what an engine has, does what it is told, and
//! decides nothing.

pub mod docker;
mod engine;

pub use engine::*;
