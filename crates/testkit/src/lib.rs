//! Real processes for the tests of deployer: a registry, images, containers, the daemon itself, and a sampler that
//! sees whether a service answered all the while.
//!
//! Nothing here is a stand-in: images are pushed by `docker push` to CNCF Distribution, containers run on the engine
//! that the `docker` command talks to. Every process is owned by a guard that ends it by its pid, and every container,
//! image, network and volume belongs to a [`Scene`] that removes it, also when the test panics.
//!
//! The kit must not know deployer's own crates: it sees what an operator sees, which is the binary, its files and its
//! output.
//!
//! # Panics
//!
//! The kit is for tests: whatever it cannot do ends the test with a message that says what was tried and what the
//! other side said. Only where a test wants to look at a failure does a function return it.

#![allow(clippy::disallowed_methods, reason = "the kit is where tests wait: its sleeps lie between two looks")]

mod authority;
mod cluster;
mod compose;
mod config;
mod container;
mod daemon;
mod directory;
mod engine;
mod etcd;
mod forward;
mod host;
pub mod http;
mod image;
mod interposer;
mod network;
mod owner;
mod port;
mod process;
mod registry;
mod relay;
mod sampler;
mod scene;
mod wait;

pub use authority::{Authority, Issued};
pub use cluster::{Cluster, ClusterOptions, Node};
pub use compose::Compose;
pub use config::{Hook, write_config};
pub use container::{Container, RunningContainer};
pub use daemon::{CliOutput, Daemon, DaemonBuilder};
pub use engine::{Engine, docker, try_docker};
pub use etcd::{Etcd, EtcdCluster, EtcdOptions};
pub use forward::Forward;
pub use host::{FullDisk, Host};
pub use image::{AppImage, Behaviour, LocalImage};
pub use interposer::{Interposer, Mishap};
pub use network::Cut;
pub use port::free_port;
pub use process::Process;
pub use registry::{Access, Notification, Registry, RegistryOptions};
pub use relay::Relay;
pub use sampler::{Sample, Sampler, Samples};
pub use scene::Scene;
pub use wait::wait_until;
