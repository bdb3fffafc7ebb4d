//! The store as a trait, with the embedded one and etcd behind it.
//!
//! This edge knows keys and values as text and bytes only, and neither the engine, nor hooks, nor any stage. What keys
//! mean, and which transaction is right, is the business of `deployer_core`.

pub mod embedded;
pub mod etcd;
pub mod mirror;
pub mod news;
mod store;
pub mod unopened;

pub use store::*;
