//! A container engine as a trait, Docker's API behind it, and the mirror of what an engine has.
//!
//! This edge knows neither the store, nor hooks, nor any stage: it says what an engine has, does what it is told, and
//! decides nothing.

pub mod docker;
mod engine;
mod image;
pub mod mirror;
mod registry;

pub use engine::*;
pub use image::ImageSummary;
