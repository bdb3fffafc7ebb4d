//! The successor of a container is what its user asked for, on the new image.

mod comparable;
mod config;
mod engine_model;
mod host;
mod network;
mod property;
