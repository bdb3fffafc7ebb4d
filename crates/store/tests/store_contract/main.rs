//! What every store promises, asked of each store in the same words, and what only one of them has to show.

mod contract;
mod embedded;
mod etcd;
mod etcd_access;
mod etcd_outage;
mod mirror;
mod mirror_outage;
mod outage;
mod simulation;
