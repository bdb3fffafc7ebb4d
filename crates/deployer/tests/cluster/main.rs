//! Three hosts, each with its engine and its daemon, over an etcd of three members.

mod absence;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod crowd;
mod engines;
mod fleet;
mod outages;
mod persons;
mod rollouts;
mod trouble;
mod twins;
